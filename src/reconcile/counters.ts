/** The per-CPU counters of the programs, summed. */
import { type BpfMap, possibleCpus } from "#native";
import { u32 } from "../tables/codec.js";
import { DropReason, DropReasonName, EventCounterName, PeerCounter } from "../tables/generated.js";

export interface Counters {
	/** Packets by reason ("spoofed_mac"), those of zero included. */
	drops: Record<string, bigint>;
	/** By event ("untracked"). */
	events: Record<string, bigint>;
	/** By index in peers: peer id * 2 + (1 for IPv6); of every peer there is. */
	peers: Map<number, PeerCounter>;
}

export function readCounters(
	map: (name: string) => BpfMap,
	peerIndexes: Iterable<number>,
): Counters {
	const peers = new Map<number, PeerCounter>();
	const peerCounters = map("peer_counters");
	for (const index of peerIndexes) peers.set(index, readPeerCounter(peerCounters, index));
	return {
		drops: named(map("drops"), DropReasonName, DropReason.NONE),
		events: named(map("events"), EventCounterName),
		peers,
	};
}

/** The counters of one index of peers, of all CPUs. */
export function readPeerCounter(map: BpfMap, index: number): PeerCounter {
	const sum: PeerCounter = PeerCounter.decode(Buffer.alloc(PeerCounter.size));
	for (const value of perCpu(map, index, PeerCounter.size)) {
		const counter = PeerCounter.decode(value);
		for (const field of Object.keys(sum) as (keyof PeerCounter)[]) sum[field] += counter[field];
	}
	return sum;
}

function named(
	map: BpfMap,
	names: Readonly<Record<number, string>>,
	without?: number,
): Record<string, bigint> {
	const counts: Record<string, bigint> = {};
	for (const [number, name] of Object.entries(names)) {
		const index = Number(number);
		if (index === without || index >= map.info.maxEntries) continue;
		let sum = 0n;
		for (const value of perCpu(map, index, 8)) sum += value.readBigUInt64LE();
		counts[name] = sum;
	}
	return counts;
}

function* perCpu(map: BpfMap, index: number, size: number): Generator<Buffer> {
	const values = map.lookup(u32.encode(index));
	if (values === undefined) return;
	const stride = Math.ceil(size / 8) * 8;
	for (let cpu = 0; cpu < possibleCpus(); cpu++)
		yield values.subarray(cpu * stride, cpu * stride + size);
}
