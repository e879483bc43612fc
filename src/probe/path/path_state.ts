/**
 * The state of one path to a peer. Plain data; src/probe/path/path_turn.ts computes its changes.
 *
 *   unproven ──answer──▶ proving ──both sizes, for the hold time──▶ proven ◀──answer── suspect
 *      ▲                    │ silent, or lossy                         └─────missed────▶  │
 *   (new path)              ▼                                                             │ silent
 *                         failed ◀────────────────────────────────────────────────────────┘
 */
import type { Way } from "../request.js";
import type { SizeSearch } from "./size_search.js";

export type Phase = "unproven" | "proving" | "proven" | "suspect" | "failed";

/** Why a path failed or is not good enough. */
export type Cause = "" | "silent" | "loss" | "size" | "peer";

/** The purpose of a request. */
export type Purpose = "small" | "full" | "search" | "compare" | "there" | "back";

/** A probe request. Lengths are those of IP packets. */
export interface Request {
	sequence: number;
	/** When it was requested, ms. */
	at: number;
	there: Way;
	back: Way;
	length: number;
	answerLength: number;
	purpose: Purpose;
	hello: boolean;
	/** True: no answer in time; a late one may still arrive. */
	missed: boolean;
}

export interface PathState {
	readonly way: Way;
	/** The device's MTU, which is the full size; 0: there is no such path. */
	full: number;
	/** The smallest size of a search. */
	floor: number;

	phase: Phase;
	/** When the phase began, ms. */
	phaseAt: number;
	cause: Cause;
	/** Share of lost requests if the cause is loss. */
	causeLoss: number;

	/** When the next small and the next full-size request are due. */
	nextAt: number;
	fullAt: number;
	backoff: number;
	asked: readonly Request[];

	/** Largest size that is proven; 0: none. */
	size: number;
	/** When that was last shown, by a request or by Pod packets. */
	sizeAt: number;
	search: SizeSearch | undefined;
	/** When the last search began, ms. */
	searchedAt: number;
	/** When the path last regained its full size, ms. */
	grownAt: number;
	/** Consecutive full-size requests that were answered, and missed. */
	fullHits: number;
	fullMisses: number;
	/** When a full-size request was last answered, ms. */
	fullAnsweredAt: number;
	/** Missed requests of length `size`, if that is below the full size. */
	sizeMisses: number;

	/** Small requests since the proof began: answered and missed. */
	hits: number;
	tries: number;
	/** Consecutive misses. */
	misses: number;
	/** The last 32 small requests, one bit each; the latest is the lowest bit. */
	outcomes: number;
	outcomeCount: number;
	/** When the last answer arrived, ms. */
	answeredAt: number;
	/** Smoothed round trip, ms; 0: unknown. */
	roundTrip: number;
	everAnswered: boolean;
}

export function newPath(way: Way, full: number, floor: number, now: number): PathState {
	return {
		way,
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

/** Written out instead of spread: V8 copies it twice as fast, without a hidden class of its own. */
export function copyPath(path: PathState): PathState {
	return {
		way: path.way,
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

/** True while the path's proof allows packets to take it. */
export function isProven({ phase }: Pick<PathState, "phase">): boolean {
	return phase === "proven" || phase === "suspect";
}

/** True if it carries packets of the size that its devices allow. */
export function isWhole({ size, full }: Pick<PathState, "size" | "full">): boolean {
	return size === full;
}

/** Share of recent requests that were missed; undefined: too few. */
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

/** The number of ones among the lowest `count` bits. */
function ones(bits: number, count: number): number {
	let sum = 0;
	for (let bit = 0; bit < count; bit++) sum += (bits >>> bit) & 1;
	return sum;
}
