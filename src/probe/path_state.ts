/**
 * What is known of one path to a peer. Plain data; src/probe/path_turn.ts says what becomes of it.
 *
 *   unproven ──answer──▶ proving ──both sizes, for the hold time──▶ proven ◀──answer── suspect
 *      ▲                    │ silent, or lossy                         └─────missed────▶  │
 *   (new path)              ▼                                                             │ silent
 *                         failed ◀────────────────────────────────────────────────────────┘
 */
import type { Way } from "./question.js";
import type { SizeSearch } from "./size_search.js";

export type Phase = "unproven" | "proving" | "proven" | "suspect" | "failed";

/** Why a path failed, or is not good enough. */
export type Cause = "" | "silent" | "loss" | "size" | "peer";

/** What a question is asked for. */
export type Purpose = "small" | "full" | "search" | "compare" | "there" | "back";

/** Lengths are of IP packets. */
export interface Question {
	sequence: number;
	/** When it was ordered, ms. */
	at: number;
	there: Way;
	back: Way;
	length: number;
	answerLength: number;
	purpose: Purpose;
	hello: boolean;
	/** Its answer did not come in time; it may still be late. */
	missed: boolean;
}

export interface PathState {
	readonly way: Way;
	/** Which path this is; another one starts without proof. */
	key: string;
	/** What the device can carry, and what is asked for; 0: there is no such path. */
	full: number;
	/** A search does not go below this. */
	floor: number;

	phase: Phase;
	/** When the phase began, ms. */
	phaseAt: number;
	cause: Cause;
	/** Share of lost questions when the cause is loss. */
	causeLoss: number;

	/** The next small question, and the next full-size one. */
	nextAt: number;
	fullAt: number;
	backoff: number;
	asked: readonly Question[];

	/** Largest size that is proven; 0: none. */
	size: number;
	/** When that was last shown, by a question or by Pod packets. */
	sizeAt: number;
	search: SizeSearch | undefined;
	/** When the last search began, ms. */
	searchedAt: number;
	/** When it was last found to carry its full size again, ms. */
	grownAt: number;
	/** Full-size questions one after another: answered, missed. */
	fullHits: number;
	fullMisses: number;
	/** When one was last answered, ms. */
	fullAnsweredAt: number;
	/** Missed ones that were as long as `size`, where that is less than the full size. */
	sizeMisses: number;

	/** Small questions since the proof began: answered and missed. */
	hits: number;
	tries: number;
	/** Missed one after another. */
	misses: number;
	/** Of the last 32 small questions, a bit each, the latest the lowest. */
	outcomes: number;
	outcomeCount: number;
	/** When an answer last came, ms. */
	answeredAt: number;
	/** Smoothed, ms; 0: not known. */
	roundTrip: number;
	everAnswered: boolean;
}

export function newPath(
	way: Way,
	key: string,
	full: number,
	floor: number,
	now: number,
): PathState {
	return {
		way,
		key,
		full,
		floor,
		phase: "unproven",
		phaseAt: now,
		cause: "",
		causeLoss: 0,
		nextAt: now,
		fullAt: now,
		backoff: 0,
		asked: [],
		size: 0,
		sizeAt: Number.NEGATIVE_INFINITY,
		search: undefined,
		searchedAt: Number.NEGATIVE_INFINITY,
		grownAt: Number.NEGATIVE_INFINITY,
		fullHits: 0,
		fullMisses: 0,
		fullAnsweredAt: Number.NEGATIVE_INFINITY,
		sizeMisses: 0,
		hits: 0,
		tries: 0,
		misses: 0,
		outcomes: 0,
		outcomeCount: 0,
		answeredAt: Number.NEGATIVE_INFINITY,
		roundTrip: 0,
		everAnswered: false,
	};
}

/** Written out, not spread: V8 copies it in half the time, and gives it no shape of its own. */
export function copyPath(path: PathState): PathState {
	return {
		way: path.way,
		key: path.key,
		full: path.full,
		floor: path.floor,
		phase: path.phase,
		phaseAt: path.phaseAt,
		cause: path.cause,
		causeLoss: path.causeLoss,
		nextAt: path.nextAt,
		fullAt: path.fullAt,
		backoff: path.backoff,
		asked: path.asked,
		size: path.size,
		sizeAt: path.sizeAt,
		search: path.search,
		searchedAt: path.searchedAt,
		grownAt: path.grownAt,
		fullHits: path.fullHits,
		fullMisses: path.fullMisses,
		fullAnsweredAt: path.fullAnsweredAt,
		sizeMisses: path.sizeMisses,
		hits: path.hits,
		tries: path.tries,
		misses: path.misses,
		outcomes: path.outcomes,
		outcomeCount: path.outcomeCount,
		answeredAt: path.answeredAt,
		roundTrip: path.roundTrip,
		everAnswered: path.everAnswered,
	};
}

/** True while packets may take the path on the strength of its proof. */
export function isProven({ phase }: Pick<PathState, "phase">): boolean {
	return phase === "proven" || phase === "suspect";
}

/** Share of the recent questions that were missed; undefined: too few to say. */
export function lossOf({ outcomes, outcomeCount }: PathState, of = 32): number | undefined {
	const count = Math.min(outcomeCount, of);
	if (count < 4) return undefined;
	return 1 - ones(outcomes, count) / count;
}

export function recentlyAnswered({ outcomes, outcomeCount }: PathState): {
	answered: number;
	asked: number;
} {
	return { answered: ones(outcomes, outcomeCount), asked: outcomeCount };
}

/** Among the lowest `count` bits. */
function ones(bits: number, count: number): number {
	let sum = 0;
	for (let bit = 0; bit < count; bit++) sum += (bits >>> bit) & 1;
	return sum;
}
