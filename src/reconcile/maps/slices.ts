/**
 * Splits long work on the event loop into short pieces that yield to others in between: the prober fails
 * over on the same loop.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { BpfMap } from "#native";

/** Duration of a piece. */
const PIECE_MS = 3;
/** What one call reads of a map: decoding an entry costs some 10 µs, one of 128 CPUs has 10 KB. */
const SLICE = { bytes: 256 * 1024, entries: 512 };

/** Yields to the loop whenever a piece has taken long enough. */
export class Pieces {
	#until = performance.now() + PIECE_MS;

	/** Call often; most calls do nothing. */
	async turn(): Promise<void> {
		if (performance.now() < this.#until) return;
		await nextTurn();
		this.#until = performance.now() + PIECE_MS;
	}
}

/**
 * The entries of a map, one slice at a time, yielding to the loop in between. Entries that are added or
 * removed meanwhile may be missed or seen twice.
 *
 * @param valueBytes size of one entry's value, of all CPUs together
 */
export async function* slicesOf(
	map: BpfMap,
	valueBytes = map.info.valueSize,
): AsyncGenerator<{ keys: Buffer; values: Buffer }> {
	const pieces = new Pieces();
	const room = Math.max(1, Math.min(SLICE.entries, Math.floor(SLICE.bytes / (valueBytes || 1))));
	let cursor: Buffer | null = null;
	do {
		const slice: ReturnType<BpfMap["slice"]> = map.slice(cursor, room);
		yield slice;
		cursor = slice.next ?? null;
		await pieces.turn();
	} while (cursor !== null);
}
