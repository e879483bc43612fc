/** The parts of the slow path that need no kernel: rate limits, and fragments that wait. */
import t from "tap";
import { finishTransportChecksum } from "../../src/forwarder/checksum.js";
import { parse } from "../../src/forwarder/packet.js";
import { HeldFragments } from "../../src/slowpath/held_fragments.js";
import { RateLimit } from "../../src/slowpath/rate_limit.js";
import { UnresolvedPackets } from "../../src/slowpath/unresolved_packets.js";
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

interface Waiting {
	name: string;
	datagram: string;
}

function waitingRoom(limits: { share?: number; most?: number } = {}) {
	const state = {
		now: 0,
		known: new Set<string>(),
		released: [] as string[],
		expired: [] as string[],
		rounds: 0,
		lookUps: 0,
	};
	const held = new HeldFragments<Waiting, true, true>({
		context: () => {
			state.rounds++;
			return true;
		},
		find: ({ datagram }) => {
			state.lookUps++;
			return state.known.has(datagram) || undefined;
		},
		release: ({ name }) => state.released.push(name),
		onExpired: ({ name }) => state.expired.push(name),
		clock: () => state.now,
		...limits,
	});
	const hold = (name: string, datagram = name, source = "Pod 1", isStranger = false) =>
		held.hold({ name, datagram }, datagram, source, isStranger);
	/** A round at this time. */
	const at = (now: number) => {
		state.now = now;
		held.retry();
	};
	return { state, held, hold, at };
}

t.test("a fragment waits for its first one", async (t) => {
	const { state, held, hold, at } = waitingRoom();
	t.teardown(() => held.close());
	hold("a");
	hold("b");
	at(5);
	t.equal(held.size, 2);
	state.known.add("a");
	at(100);
	t.same(state.released, ["a"]);
	t.equal(held.size, 1);
	at(2001);
	t.equal(held.size, 0);
	t.same(state.expired, ["b"]);
});

t.test("fragments of a datagram take one look-up, with pauses that double", async (t) => {
	const { state, held, hold, at } = waitingRoom();
	t.teardown(() => held.close());
	for (const name of ["a", "b", "c"]) hold(name, "datagram");
	for (let now = 0; now <= 2000; now++) at(now);
	t.equal(state.lookUps, 11, "after 5, 15, 35, 75, 155, 315, 635 and each 320 ms more");
	state.known.add("datagram");
	at(3000);
	t.same(state.released, ["a", "b", "c"], "in the order in which they came");
});

t.test("a round reads what it needs once, and is bounded", async (t) => {
	const { state, held, hold, at } = waitingRoom();
	t.teardown(() => held.close());
	for (let i = 0; i < 1000; i++) hold(`${i}`, `${i}`, `Pod ${i % 100}`);
	for (const looked of [256, 512, 768, 1000, 1000]) {
		at(5);
		t.equal(state.lookUps, looked);
	}
	t.equal(state.rounds, 5);
});

t.test("who has too many loses its own oldest", async (t) => {
	const { state, held, hold } = waitingRoom({ share: 2, most: 3 });
	t.teardown(() => held.close());
	hold("a");
	hold("b", "b", "Pod 2");
	hold("c");
	hold("d");
	t.same(state.expired, ["a"]);
	for (const [i, name] of ["v", "w", "x", "y"].entries()) hold(name, name, `192.0.2.${i}`, true);
	t.same(state.expired, ["a", "v"], "strangers have one share together");
	for (const name of ["e", "f"]) hold(name);
	t.same(state.expired, ["a", "v", "c", "d"], "and Pods nothing to fear from them");
	t.equal(held.size, 6);
});

t.test("it tries again by itself", async (t) => {
	const { state, held, hold } = waitingRoom();
	t.teardown(() => held.close());
	// The timer does not keep a process alive; this does.
	const alive = setInterval(() => {
		state.now += 5;
	}, 1);
	hold("a");
	state.known.add("a");
	while (held.size > 0) await new Promise((resolve) => setImmediate(resolve));
	clearInterval(alive);
	t.same(state.released, ["a"]);
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

t.test(
	"packets that wait for a next hop are its own, one for each flow, and for a while",
	async (t) => {
		let now = 0;
		const waiting = new UnresolvedPackets<string>({ patience: 5000, share: 2, clock: () => now });
		t.teardown(() => waiting.close());
		const eth0 = (address: string) => ({ address, ifindex: 2 });
		waiting.hold("a1", 1, "a", eth0("192.0.2.1"));
		waiting.hold("a2", 1, "a", eth0("192.0.2.1"));
		waiting.hold("b1", 1, "b", eth0("192.0.2.2"));
		t.same(waiting.take(eth0("192.0.2.9")), []);
		t.same(waiting.take(eth0("192.0.2.1")), ["a2"], "the last one of the flow");
		t.same(waiting.take(eth0("192.0.2.1")), [], "once");
		waiting.hold("c1", 1, "c", eth0("192.0.2.3"));
		waiting.hold("d1", 2, "d", eth0("192.0.2.2"));
		waiting.hold("e1", 1, "e", eth0("192.0.2.3"));
		t.equal(waiting.size, 3);
		t.same(
			waiting.take(eth0("192.0.2.2")),
			["d1"],
			"a Pod's oldest flow made room for its own next",
		);
		now = 5001;
		t.same(waiting.take(eth0("192.0.2.3")), [], "who waited so long is not told");
		t.equal(waiting.size, 0);
	},
);

t.test("a link-local next hop is one host's on its own link", async (t) => {
	const waiting = new UnresolvedPackets<string>();
	t.teardown(() => waiting.close());
	waiting.hold("a", 1, "a", { address: "fe80::1", ifindex: 2 });
	waiting.hold("b", 1, "b", { address: "2001:db8::1", ifindex: 2 });
	t.same(waiting.take({ address: "fe80::1", ifindex: 3 }), []);
	t.same(waiting.take({ address: "fe80::1", ifindex: undefined }), []);
	t.same(waiting.take({ address: "fe80::1", ifindex: 2 }), ["a"]);
	t.same(waiting.take({ address: "2001:db8::1", ifindex: undefined }), ["b"]);
});
