/**
 * Long work on the event loop in short pieces, with turns for everybody else between: the prober
 * leaves paths on the same loop.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { BpfMap } from "#native";

/** A piece is over when it has taken so long. */
const PIECE_MS = 3;
/** What one call reads of a map: decoding an entry costs some 10 µs, one of 128 CPUs has 10 KB. */
const SLICE = { bytes: 256 * 1024, entries: 512 };

/** Gives the loop a turn whenever a piece has taken long enough. */
export class Pieces {
	#until = performance.now() + PIECE_MS;

	/** To be called often; most calls do nothing. */
	async turn(): Promise<void> {
		if (performance.now() < this.#until) return;
		await nextTurn();
		this.#until = performance.now() + PIECE_MS;
	}
}

/**
 * The entries of a map, a slice at a time, with turns of the loop between. Entries that come or go
 * meanwhile may be missed or seen twice.
 *
 * @param valueBytes what one entry's value takes, of all CPUs
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
