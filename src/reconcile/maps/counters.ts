/**
 * The per-CPU counters of the programs, summed over the CPUs by the addon. The cost of an entry grows with
 * the number of CPUs, so counters of many peers are read in pieces.
 */
import type { BpfMap } from "#native";
import { Turns } from "../../loop/turns.js";
import { u32 } from "../../tables/codec.js";
import {
	DropReason,
	DropReasonName,
	EventCounterName,
	PeerCounter,
} from "../../tables/generated.js";

export interface Counters {
	/** Packets by reason ("spoofed_mac"), including zeros. */
	drops: Record<string, bigint>;
	/** By event ("untracked"). */
	events: Record<string, bigint>;
}

/** By index in peers: peer id * 2 + (1 for IPv6). */
export type PeerCounters = ReadonlyMap<number, PeerCounter>;

/** Peers per call: some 4 ms with 128 CPUs and cold caches. */
const PEERS_A_CALL = 64;

export function readCounters(map: (name: string) => BpfMap): Counters {
	return {
		drops: named(map("drops"), DropReasonName, DropReason.NONE),
		events: named(map("events"), EventCounterName),
	};
}

/** Sum over all CPUs for one peer. Zeros for an index that the map does not have. */
export function readPeerCounter(map: BpfMap, index: number): PeerCounter {
	return PeerCounter.decode(sumsOf(map, [index]));
}

/** The same for many peers, yielding to the event loop in between. */
export async function readPeerCounters(
	map: () => BpfMap,
	indexes: Iterable<number>,
): Promise<PeerCounters> {
	const all = [...indexes];
	const counters = new Map<number, PeerCounter>();
	const turns = new Turns();
	for (let from = 0; from < all.length; from += PEERS_A_CALL) {
		const some = all.slice(from, from + PEERS_A_CALL);
		// Looked up again after each turn, because the map may have been replaced.
		const sums = sumsOf(map(), some);
		for (const [i, index] of some.entries())
			counters.set(index, PeerCounter.decode(sums, i * PeerCounter.size));
		if (turns.due) await turns.pass();
	}
	return counters;
}

function named(
	map: BpfMap,
	names: Readonly<Record<number, string>>,
	without?: number,
): Record<string, bigint> {
	const numbers = Object.keys(names)
		.map(Number)
		.filter((number) => number !== without && number < map.info.maxEntries);
	const sums = sumsOf(map, numbers);
	return Object.fromEntries(
		numbers.map((number, i) => [names[number], sums.readBigUInt64LE(i * 8)]),
	);
}

/** The concatenated values of these indexes, each summed over the CPUs. */
function sumsOf(map: BpfMap, indexes: readonly number[]): Buffer {
	const keys = Buffer.alloc(indexes.length * 4);
	for (const [i, index] of indexes.entries()) u32.write(keys, i * 4, index);
	return Buffer.from(map.sums(keys).buffer);
}
