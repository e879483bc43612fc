/**
 * How large maps are: what depends on the cluster's size, and the memory that it takes.
 *
 * Per-CPU memory is taken for every CPU that the machine might ever have (hot-plug: 128 and more on
 * virtual machines with four), and charged to the agent's memory cgroup.
 */
import type { MapInfo } from "#native";
import { Limit, PeerCounter } from "../../tables/generated.js";

/** What peer_counters may take whatever the number of peers: a small machine never makes it anew. */
const FREE_BYTES = 8 * 1024 * 1024;
const SLOTS_LEAST = 64;

/** Peer slots, a power of two, for ids below `ids` on a machine of so many possible CPUs. */
export function peerSlotsFor(ids: number, cpus: number): number {
	const bytes = 2 * PeerCounter.size * cpus;
	const free = 2 ** Math.floor(Math.log2(FREE_BYTES / bytes));
	const needed = 2 ** Math.ceil(Math.log2(Math.max(1, ids)));
	return Math.min(Limit.PEERS_MAX, Math.max(SLOTS_LEAST, free, needed));
}

/** BPF_MAP_TYPE_* and flags of linux/bpf.h. */
const MapType = { HASH: 1, ARRAY: 2, PERCPU_ARRAY: 6, LRU_HASH: 9, LPM_TRIE: 11, RINGBUF: 27 };
const BPF_F_NO_PREALLOC = 1;

/** struct htab_elem before key and value, and struct bucket (kernel/bpf/hashtab.c). */
const HASH_ENTRY = 48;
const HASH_BUCKET = 16;
const POINTER = 8;

export type SizedMap = Pick<MapInfo, "type" | "flags" | "keySize" | "valueSize" | "maxEntries">;

/**
 * Bytes that the kernel takes for a map when it is made, for so many possible CPUs. Entries that are
 * allocated one by one (LPM tries, BPF_F_NO_PREALLOC) come on top.
 */
export function mapBytes({ type, flags, keySize, valueSize, maxEntries }: SizedMap, cpus: number) {
	const value = round8(valueSize);
	switch (type) {
		case MapType.ARRAY:
			return maxEntries * value;
		case MapType.PERCPU_ARRAY:
			return maxEntries * (POINTER + cpus * value);
		case MapType.HASH:
		case MapType.LRU_HASH: {
			const buckets = HASH_BUCKET * 2 ** Math.ceil(Math.log2(maxEntries));
			// A hash has a spare entry for each CPU.
			const entries =
				flags & BPF_F_NO_PREALLOC ? 0 : maxEntries + (type === MapType.HASH ? cpus : 0);
			return buckets + entries * (HASH_ENTRY + round8(keySize) + value);
		}
		case MapType.RINGBUF:
			return maxEntries;
		default:
			return 0;
	}
}

export interface MapMemory {
	/** Bytes of all maps together. */
	total: number;
	/** Of the total, bytes in per-CPU maps, for all possible CPUs. */
	perCpu: number;
	/** By map. */
	maps: Record<string, number>;
}

export function mapMemory(all: ReadonlyMap<string, SizedMap>, cpus: number): MapMemory {
	const maps = Object.fromEntries([...all].map(([name, map]) => [name, mapBytes(map, cpus)]));
	const sum = (bytes: number[]) => bytes.reduce((total, one) => total + one, 0);
	return {
		total: sum(Object.values(maps)),
		perCpu: sum([...all.values()].map((map) => mapBytes(map, cpus) - mapBytes(map, 0))),
		maps,
	};
}

function round8(bytes: number): number {
	return Math.ceil(bytes / 8) * 8;
}
