/**
 * Which backend a new flow gets: each of the set alike, the client's own while that is young enough.
 *
 * The bounds are those that a chi-square of fair draws exceeds once in a million runs.
 */
import t from "tap";
import { forward } from "../../src/forwarder/forwarder.js";
import { Action, DropReason, Hook, Limit } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { type ServicePort, serviceOf, setBackends } from "./services.js";
import { fresh, fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const UDP = 17;
/** By degrees of freedom: p = 1e-6. */
const BOUND: Readonly<Record<number, number>> = { 3: 30.66, 9: 44.81 };
const SECONDS = 30;
const NS_PER_SECOND = 1_000_000_000n;
const FLOW_SLOTS = 32_768;

/** How far the counts are from each other, were they meant to be alike. */
function chiSquare(counts: readonly number[]): number {
	const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
	return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => dataPath.close());

	t.test("a bias of a tenth is found", (t) => {
		const fair = new Array<number>(10).fill(1000);
		t.equal(chiSquare(fair), 0);
		t.ok(chiSquare([...fair.slice(0, 5), ...fair.slice(5).map((n) => n * 0.8)]) > BOUND[9]!);
		t.end();
	});

	for (const family of [4, 6] as const) {
		/** The backend that a Pod's new flow to a Service gets. */
		const drawn = (service: ServicePort, port: number): number => {
			const ends = { source: world.podA[family], destination: service.clusterIP };
			const { packet, context } = fromPod(
				world.podA,
				build.ip(ends, build.udp(port, service.port)),
			);
			const now = process.hrtime.bigint();
			return dataPath.run(Hook.FROM_POD, packet, { ...context, now }).verdict.backend;
		};
		/** The same of a client outside, by the NodePort. */
		const drawnOutside = (service: ServicePort, client: string): number => {
			const ends = { source: client, destination: world.nodeAddress[family] };
			const { packet, context } = fromWire(build.ip(ends, build.udp(1000, service.nodePort)));
			const now = process.hrtime.bigint();
			return dataPath.run(Hook.FROM_WIRE, packet, { ...context, now }).verdict.backend;
		};

		t.test(`IPv${family}: 10,000 flows spread alike over ten backends`, async (t) => {
			const service = serviceOf("mixed", family, UDP);
			const ids = service.backends.slice(0, 10).map(({ id }) => id);
			const tables = await fresh(dataPath);
			setBackends(tables, service, ids, []);
			dataPath.write(tables);
			const counts = new Map(ids.map((id) => [id, 0]));
			for (let port = 1; port <= 10_000; port++) {
				const id = drawn(service, port);
				counts.set(id, (counts.get(id) ?? 0) + 1);
			}
			t.same([...counts.keys()], ids, "nothing but the set");
			const spread = chiSquare([...counts.values()]);
			t.ok(spread < BOUND[9]!, `chi-square ${spread.toFixed(1)}`);
		});

		t.test(`IPv${family}: without a choice, the forwarder decides for each backend`, async (t) => {
			const tables = await fresh(dataPath);
			const decide = (name: string, port = serviceOf(name, family, UDP).port) => {
				const ends = {
					source: world.podA[family],
					destination: serviceOf(name, family, UDP).clusterIP,
				};
				const { packet, context } = fromPod(world.podA, build.ip(ends, build.udp(7, port)));
				const now = process.hrtime.bigint();
				return forward(Hook.FROM_POD, packet, { ...context, now }, tables);
			};
			const mixed = serviceOf("mixed", family, UDP);
			const { backends = [], service, peer, path, steps } = decide("mixed");
			t.same(
				backends.map(({ backend }) => backend.address),
				mixed.backends.map(({ address }) => address),
			);
			t.match(service, { index: mixed.index, set: "cluster" });
			t.equal(service?.backend, undefined, "none of them is the one");
			t.same([peer, path], [Limit.NO_PEER, 0], "what differs is not said");
			t.ok(
				steps.some(({ stage }) => stage === "set"),
				"what they share is",
			);
			const toPeer = backends.find(({ backend }) => backend.address === world.direct.pod[family]);
			t.equal(toPeer?.decision.peer, world.direct.id);

			const { backends: none, service: self, action } = decide("self");
			t.equal(none, undefined, "a single backend needs no choice");
			t.equal(self?.backend?.address, world.podA[family]);
			t.equal(action, Action.ENDPOINT);

			const refused = decide("mixed", 81);
			t.equal(refused.dropReason, DropReason.SERVICE_UNKNOWN_PORT);
			t.equal(refused.backends, undefined);
		});

		t.test(`IPv${family}: session affinity`, async (t) => {
			const service = serviceOf("sticky", family, UDP);
			const { index, backends } = service;
			const ids = backends.map(({ id }) => id);
			const tables = await fresh(dataPath);
			tables.services.set(index, { ...tables.services.get(index)!, affinity: SECONDS });
			dataPath.write(tables);
			const clients = Array.from({ length: 1200 }, (_, i) =>
				family === 4
					? `198.51.${100 + (i >> 8)}.${i & 255}`
					: `2001:db8:51::${(i + 1).toString(16)}`,
			);
			const age = (client: string, backend: number, ns: bigint) =>
				dataPath.writeAffinity(client, index, {
					used: process.hrtime.bigint() - ns,
					backend,
				});
			const life = BigInt(SECONDS) * NS_PER_SECOND;

			const first = drawn(service, 1);
			t.ok(ids.includes(first));
			const others = Array.from({ length: 50 }, (_, i) => drawn(service, 2 + i));
			t.ok(
				others.every((id) => id === first),
				"the client's next flows go where its first one went",
			);
			t.equal(dataPath.affinity(world.podA[family], index)?.backend, first);

			const pod = world.podA[family];
			age(pod, first, life - 10n * NS_PER_SECOND);
			t.equal(drawn(service, 100), first, "also the one before it expires");
			const since = dataPath.affinity(pod, index)!.used;
			t.ok(
				process.hrtime.bigint() - since < 10n * NS_PER_SECOND,
				"it counts from its last new flow",
			);

			const counts = new Map(ids.map((id) => [id, 0]));
			for (const client of clients) {
				age(client, ids[0]!, life + NS_PER_SECOND / 10n);
				const id = drawnOutside(service, client);
				counts.set(id, (counts.get(id) ?? 0) + 1);
			}
			const spread = chiSquare([...counts.values()]);
			t.same([...counts.keys()], ids);
			t.ok(
				spread < BOUND[3]!,
				`after it has expired, the draw is new: chi-square ${spread.toFixed(1)}`,
			);

			const left = ids.slice(1);
			setBackends(tables, service, left, []);
			dataPath.write(tables);
			age(pod, ids[0]!, 0n);
			t.ok(left.includes(drawn(service, 101)), "a backend that has left the set is nobody's");
			const foreign = serviceOf("mixed", family, UDP).backends[1]!.id;
			age(pod, foreign, 0n);
			t.ok(left.includes(drawn(service, 102)), "nor is another Service's");
		});
	}
}
