/** The parts of the slow path that need no kernel: rate limits, and fragments that wait. */
import t from "tap";
import { finishTransportChecksum } from "../../src/forwarder/checksum.js";
import { parse } from "../../src/forwarder/packet.js";
import { HeldFragments } from "../../src/slowpath/held_fragments.js";
import { RateLimit } from "../../src/slowpath/rate_limit.js";
import * as build from "../packet/builder.js";

t.test("a destination has its burst, then its rate", async (t) => {
	const limit = new RateLimit({ rate: 10, burst: 3 });
	const taken = (now: number, tries: number, destination = "a") =>
		Array.from({ length: tries }, () => limit.take(destination, now)).filter(Boolean).length;
	t.equal(taken(0, 10), 3);
	t.equal(taken(0, 10, "b"), 3, "another has its own");
	t.equal(taken(99, 10), 0);
	t.equal(taken(201, 10), 2);
	t.equal(taken(100_000, 10), 3, "no more than the burst");
});

t.test("memory of destinations is bounded", async (t) => {
	const limit = new RateLimit({ rate: 1, burst: 1, destinations: 2 });
	t.ok(limit.take("a", 0));
	t.ok(limit.take("b", 0));
	t.notOk(limit.take("a", 0));
	t.ok(limit.take("c", 0), "b is forgotten, which was used longest ago");
	t.ok(limit.take("b", 0));
	t.ok(limit.take("a", 0), "and now a");
});

function waitingRoom(most = 256) {
	const state = { now: 0, known: new Set<string>(), expired: [] as string[] };
	const held = new HeldFragments<string>({
		attempt: (fragment) => state.known.has(fragment),
		onExpired: (fragment) => state.expired.push(fragment),
		clock: () => state.now,
		most,
	});
	return { state, held };
}

t.test("a fragment waits for its first one", async (t) => {
	const { state, held } = waitingRoom();
	t.teardown(() => held.close());
	held.hold("a");
	held.hold("b");
	held.retry();
	t.equal(held.size, 2);
	state.known.add("a");
	held.retry();
	t.equal(held.size, 1);
	state.now = 2001;
	held.retry();
	t.equal(held.size, 0);
	t.same(state.expired, ["b"]);
});

t.test("too many: the oldest makes room", async (t) => {
	const { state, held } = waitingRoom(2);
	t.teardown(() => held.close());
	for (const fragment of ["a", "b", "c"]) held.hold(fragment);
	t.equal(held.size, 2);
	t.same(state.expired, ["a"]);
});

t.test("it tries again by itself", async (t) => {
	const { state, held } = waitingRoom();
	t.teardown(() => held.close());
	// The timer does not keep a process alive; this does.
	const alive = setInterval(() => {}, 1000);
	held.hold("a");
	state.known.add("a");
	while (held.size > 0) await new Promise((resolve) => setImmediate(resolve));
	clearInterval(alive);
	t.same(state.expired, []);
});

t.test("an unfinished checksum is finished, a finished one stays", async (t) => {
	for (const segment of [build.udp(1, 2, Buffer.alloc(33, 7)), build.tcp(1, 2)]) {
		for (const [source, destination] of [
			["10.244.1.2", "10.244.2.2"],
			["fd00::1", "fd00::2"],
		] as const) {
			const macs = { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" };
			const whole = build.frame(macs, build.ip({ source, destination }, segment));
			const finished = parse(Buffer.from(whole))!;
			finishTransportChecksum(finished);
			t.same(finished.frame, whole);

			const unfinished = parse(Buffer.from(whole))!;
			const offset = unfinished.l4 + (unfinished.key.protocol === 6 ? 16 : 6);
			const length = unfinished.length - (unfinished.l4 - unfinished.l3);
			const addresses = whole.subarray(
				unfinished.l4 - (source.includes(":") ? 32 : 8),
				unfinished.l4,
			);
			let sum = unfinished.key.protocol + length;
			for (let i = 0; i < addresses.length; i += 2) sum += addresses.readUInt16BE(i);
			while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
			unfinished.frame.writeUInt16BE(sum, offset);
			finishTransportChecksum(unfinished);
			t.same(unfinished.frame, whole);
		}
	}
});
