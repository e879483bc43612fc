/** Who may hand up how much: each Pod a share of its own, and nobody what is another's. */
import t, { type Test } from "tap";
import {
	Action,
	DropReasonName,
	EventCounter,
	Limit,
	SlowPathBucket,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { fresh, fromHost, fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside, gateway, geneve4 } = world;

/** Its TTL ends here: it goes up to be answered. */
const ending = (pod: world.Pod, port: number, length = 0): Input =>
	fromPod(
		pod,
		build.ip(
			{ source: pod[4], destination: outside[4], ttl: 1 },
			build.udp(port, 2, Buffer.alloc(length)),
		),
	);
const endingFromWire = (port: number): Input =>
	fromWire(build.ip({ source: outside[4], destination: podA[4], ttl: 1 }, build.udp(port, 2)));
/** Does not fit into the tunnel. */
const bigFromHost = (port: number): Input =>
	fromHost(
		build.ip(
			{ source: gateway[4], destination: geneve4.pod[4] },
			build.udp(port, 2, Buffer.alloc(1450)),
		),
	);

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	const start = (rate: number) => fresh(dataPath, { config: { slowPathRate: rate } });
	/** How many of the packets went up. */
	const sent = (packets: Input[]): number => {
		const before = dataPath.event(EventCounter.SLOW_PATH);
		for (const { hook, packet, context } of packets)
			dataPath.run(hook, packet, { ...context, now: 0n });
		return Number(dataPath.event(EventCounter.SLOW_PATH) - before);
	};
	const many = (count: number, make: (index: number) => Input) =>
		Array.from({ length: count }, (_, index) => make(index + 1));
	/** A machine that is slow earns some tokens meanwhile. */
	const near = (t: Test, is: number, wanted: number, what: string) =>
		t.ok(is >= wanted && is < wanted * 1.5, `${what}: ${is}, wanted ${wanted} and little more`);

	t.test(
		"a Pod that floods has its share and what is common, the others their shares",
		async (t) => {
			await start(40);
			near(
				t,
				sent(many(400, (port) => ending(podA, port))),
				Limit.SLOW_PATH_SHARE + 40,
				"the flood",
			);
			near(t, sent(many(400, (port) => ending(podB, port))), Limit.SLOW_PATH_SHARE, "another Pod");
			t.ok(dataPath.event(EventCounter.SLOW_PATH_REFUSED_POD) >= 400n);
			t.equal(dataPath.event(EventCounter.SLOW_PATH_REFUSED_WIRE), 0n);
		},
	);

	t.test(
		"strangers take nothing from Pods and from the Node, nor the other way round",
		async (t) => {
			await start(40);
			near(t, sent(many(200, endingFromWire)), 10, "the wire");
			near(t, sent(many(400, (port) => ending(podA, port))), Limit.SLOW_PATH_SHARE + 40, "a Pod");
			near(t, sent(many(200, bigFromHost)), 10, "the Node");
			t.ok(dataPath.event(EventCounter.SLOW_PATH_REFUSED_WIRE) >= 150n);
			t.ok(dataPath.event(EventCounter.SLOW_PATH_REFUSED_HOST) >= 150n);
		},
	);

	t.test("without a common rate a Pod still has its share", async (t) => {
		await start(0);
		near(t, sent(many(200, (port) => ending(podA, port))), Limit.SLOW_PATH_SHARE, "the Pod");
		t.equal(sent(many(20, endingFromWire)), 0);
	});

	t.test(
		"a CPU with an older clock than the bucket's last refill gets no full bucket",
		async (t) => {
			const tables = await start(1000);
			const { index } = tables.endpoint(podA[4])!;
			// As another CPU has left it that took tokens a moment later.
			const later = process.hrtime.bigint() + 1_000_000_000n;
			for (const bucket of [SlowPathBucket.COMMON, SlowPathBucket.COMMON + index])
				dataPath.writeSlowPathBucket(bucket, later);
			t.equal(sent(many(40, (port) => ending(podA, port))), 0);
		},
	);

	for (const family of [4, 6] as const)
		t.test(
			`a Pod that scans a prefix on the link makes few neighbours: IPv${family}`,
			async (t) => {
				await start(1000);
				const prefix = family === 4 ? "192.168.1." : "fd00:192:168:1::";
				const probe = (pod: world.Pod, host: number) =>
					fromPod(
						pod,
						build.ip({ source: pod[family], destination: `${prefix}${host}` }, build.udp(host, 2)),
					);
				const gone = (packets: Input[]): number => {
					let count = 0;
					for (const { hook, packet, context } of packets) {
						const { verdict } = dataPath.run(hook, packet, { ...context, now: 0n });
						if (verdict.action === Action.WIRE_NEIGHBOUR) count++;
						else t.equal(DropReasonName[verdict.dropReason], "neighbour_rate");
					}
					return count;
				};
				const scan = (pod: world.Pod) => many(100, (index) => probe(pod, 100 + index));
				near(t, gone(scan(podA)), Limit.NEIGHBOUR_RATE, "the scan");
				near(t, gone(scan(podB)), Limit.NEIGHBOUR_RATE, "another Pod");
				const toGateway = fromPod(
					podA,
					build.ip({ source: podA[family], destination: outside[family] }, build.udp(1, 2)),
				);
				const { verdict } = dataPath.run(toGateway.hook, toGateway.packet, {
					...toGateway.context,
					now: 0n,
				});
				t.equal(DropReasonName[verdict.dropReason], "none", "a gateway is nobody's choice");
			},
		);

	t.test("what must not be answered costs nothing", async (t) => {
		await start(0);
		const quoted = build.ip({ source: outside[4], destination: podA[4] }, build.udp(1, 2));
		const error = fromPod(
			podA,
			build.ip({ source: podA[4], destination: outside[4], ttl: 1 }, build.unreachable(quoted)),
		);
		t.equal(sent(many(100, () => error)), 0);
		near(
			t,
			sent(many(200, (port) => ending(podA, port))),
			Limit.SLOW_PATH_SHARE,
			"the share is whole",
		);
	});
}
