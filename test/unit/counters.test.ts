/** Reading counters: in pieces, whatever the number of peers and CPUs. */
import t from "tap";
import type { BpfMap } from "#native";
import { readPeerCounters } from "../../src/reconcile/maps/counters.js";
import { flowsInUse } from "../../src/reconcile/maps/flow_count.js";
import { FlowCount, PeerCounter } from "../../src/tables/generated.js";

/** Counts the calls between two turns of the event loop; each takes `ms`. */
function slowCalls(ms: number) {
	let run = 0;
	const seen = { most: 0, total: 0 };
	return {
		seen,
		call() {
			if (run === 0) setImmediate(() => (run = 0));
			run++;
			seen.total++;
			seen.most = Math.max(seen.most, run);
			const end = performance.now() + ms;
			while (performance.now() < end);
		},
	};
}

t.test("10,000 peer counters: the event loop runs between calls of the addon", async (t) => {
	const calls = slowCalls(2);
	const words = PeerCounter.size / 8;
	let keysACall = 0;
	const map = {
		sums: (keys: Buffer) => {
			calls.call();
			keysACall = Math.max(keysACall, keys.length / 4);
			const sums = new BigUint64Array((keys.length / 4) * words);
			for (let i = 0; i * 4 < keys.length; i++) sums[i * words] = BigInt(keys.readUInt32LE(i * 4));
			return sums;
		},
	} as unknown as BpfMap;
	const indexes = Array.from({ length: 10_000 }, (_, index) => index);
	const counters = await readPeerCounters(() => map, indexes);
	t.equal(counters.size, 10_000);
	t.equal(counters.get(9_999)?.directPackets, 9_999n);
	t.ok(calls.seen.most <= 2, `${calls.seen.most} calls of 2 ms without a turn`);
	// 64 entries of 128 CPUs are two cache lines each: 16,384 lines from another CPU's memory.
	t.ok(keysACall <= 64);
});

t.test("flows in use are the sum of what each Pod has, and the Node", async (t) => {
	const values = Buffer.concat([3, 0, 5].map((flows) => FlowCount.encode({ flows, spare: 1 })));
	const counts = { entries: () => ({ keys: Buffer.alloc(12), values }) } as unknown as BpfMap;
	t.equal(flowsInUse(counts), 8);
});
