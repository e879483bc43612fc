/** The states of paths at rest: a row of numbers each (columns/rows.ts), and maps of what only few paths have. */
import { Rows } from "../../columns/rows.js";
import type { Cause, PathState, Phase, Request } from "./path_state.js";
import type { SizeSearch } from "./size_search.js";

const PHASES: readonly Phase[] = ["unproven", "proving", "proven", "suspect", "failed"];
const CAUSES: readonly Cause[] = ["", "silent", "loss", "size", "peer"];
const NOTHING_ASKED: readonly Request[] = [];

/** Doubles, then words, then bytes. */
const DOUBLES = 11;
const WORDS = 8;
const SIZE = 128;

export class PathStates {
	readonly #rows = new Rows(SIZE);
	/** Requests without an answer. */
	readonly #asked = new Map<number, readonly Request[]>();
	readonly #searches = new Map<number, SizeSearch>();

	add(): number {
		return this.#rows.add();
	}

	remove(row: number): void {
		this.#rows.remove(row);
		this.#asked.delete(row);
		this.#searches.delete(row);
	}

	/** @param full, floor what follows from the path itself */
	read(row: number, full: number, floor: number, into: PathState): PathState {
		const { doubles, words, bytes } = this.#rows.piece(row);
		const start = this.#rows.start(row);
		const d = start >> 3;
		const w = (start >> 2) + 2 * DOUBLES;
		const b = start + 8 * DOUBLES + 4 * WORDS;
		into.full = full;
		into.floor = floor;
		into.phase = PHASES[bytes[b]!]!;
		into.phaseAt = doubles[d]!;
		into.cause = CAUSES[bytes[b + 1]!]!;
		into.causeLoss = doubles[d + 1]!;
		into.nextAt = doubles[d + 2]!;
		into.fullAt = doubles[d + 3]!;
		into.backoff = doubles[d + 4]!;
		into.asked = this.#asked.get(row) ?? NOTHING_ASKED;
		into.size = words[w]!;
		into.sizeAt = doubles[d + 5]!;
		into.search = this.#searches.get(row);
		into.searchedAt = doubles[d + 6]!;
		into.grownAt = doubles[d + 7]!;
		into.fullHits = words[w + 1]!;
		into.fullMisses = words[w + 2]!;
		into.fullAnsweredAt = doubles[d + 8]!;
		into.sizeMisses = words[w + 3]!;
		into.hits = words[w + 4]!;
		into.tries = words[w + 5]!;
		into.misses = words[w + 6]!;
		into.outcomes = words[w + 7]!;
		into.outcomeCount = bytes[b + 2]!;
		into.answeredAt = doubles[d + 9]!;
		into.roundTrip = doubles[d + 10]!;
		into.everAnswered = bytes[b + 3] === 1;
		return into;
	}

	write(row: number, path: PathState): void {
		const { doubles, words, bytes } = this.#rows.piece(row);
		const start = this.#rows.start(row);
		const d = start >> 3;
		const w = (start >> 2) + 2 * DOUBLES;
		const b = start + 8 * DOUBLES + 4 * WORDS;
		doubles[d] = path.phaseAt;
		doubles[d + 1] = path.causeLoss;
		doubles[d + 2] = path.nextAt;
		doubles[d + 3] = path.fullAt;
		doubles[d + 4] = path.backoff;
		doubles[d + 5] = path.sizeAt;
		doubles[d + 6] = path.searchedAt;
		doubles[d + 7] = path.grownAt;
		doubles[d + 8] = path.fullAnsweredAt;
		doubles[d + 9] = path.answeredAt;
		doubles[d + 10] = path.roundTrip;
		words[w] = path.size;
		words[w + 1] = path.fullHits;
		words[w + 2] = path.fullMisses;
		words[w + 3] = path.sizeMisses;
		words[w + 4] = path.hits;
		words[w + 5] = path.tries;
		words[w + 6] = path.misses;
		words[w + 7] = path.outcomes;
		bytes[b] = PHASES.indexOf(path.phase);
		bytes[b + 1] = CAUSES.indexOf(path.cause);
		bytes[b + 2] = path.outcomeCount;
		bytes[b + 3] = path.everAnswered ? 1 : 0;
		if (path.asked.length > 0) this.#asked.set(row, path.asked);
		else if (this.#asked.size > 0) this.#asked.delete(row);
		if (path.search !== undefined) this.#searches.set(row, path.search);
		else if (this.#searches.size > 0) this.#searches.delete(row);
	}
}
