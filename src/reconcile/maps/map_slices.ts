/**
 * Reads the kernel's maps in slices, with turns of the event loop in between (loop/turns.ts): the prober fails
 * over on the same loop.
 */
import type { BpfMap } from "#native";
import { Turns } from "../../loop/turns.js";

/** What one call reads of a map: decoding an entry costs some 10 µs, one of 128 CPUs has 10 KB. */
const SLICE = { bytes: 256 * 1024, entries: 512 };

/**
 * The entries of a map, one slice at a time, yielding to the loop in between. Entries that are added or
 * removed meanwhile may be missed or seen twice.
 *
 * @param valueBytes size of one entry's value, of all CPUs together
 * @param most entries; an array's come in the order of their indexes
 */
export async function* mapSlices(
	map: BpfMap,
	valueBytes = map.info.valueSize,
	most = Number.POSITIVE_INFINITY,
): AsyncGenerator<{ keys: Buffer; values: Buffer }> {
	const turns = new Turns();
	const room = Math.max(1, Math.min(SLICE.entries, Math.floor(SLICE.bytes / (valueBytes || 1))));
	const keyBytes = map.info.keySize;
	let cursor: Buffer | null = null;
	let left = most;
	while (left > 0) {
		const slice: ReturnType<BpfMap["slice"]> = map.slice(cursor, Math.min(room, left));
		yield slice;
		left -= slice.keys.length / keyBytes;
		cursor = slice.next ?? null;
		if (cursor === null) return;
		if (turns.due) await turns.pass();
	}
}
