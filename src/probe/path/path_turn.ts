/**
 * The state machine of one path: which requests are due, and how answers and silence change its state.
 * Works on a copy made by `advance`; has no clock and does no I/O.
 *
 *  1. expire    requests that were not answered in time
 *  2. step      requests that the phase needs
 *  3. answered  an answer has arrived
 */
import type { Pace } from "../pace.js";
import { type Cause, lossOf, type PathState, type Purpose, type Request } from "./path_state.js";
import { sizeDoubts } from "./size_doubt.js";
import { searchAnswered, searchStep, startSearch } from "./size_search.js";

/** What a path uses of its peer's turn. */
export interface Asker {
	readonly now: number;
	readonly pace: Pace;
	/** Varies a time, so that Nodes do not probe in step. */
	jitter(time: number): number;
	ask(path: PathState, purpose: Purpose, length: number): void;
}

/** Facts beyond the path, from its peer's turn. */
export interface Situation {
	/** Traffic goes to the peer, and takes this path. */
	watched: boolean;
	/** Traffic goes to the peer. */
	active: boolean;
	/** The other path is in doubt, so this one is probed as often, for comparison. */
	companion: boolean;
	/** Packets arrive from the peer. */
	heard: boolean;
	/** How long a proof must last, ms. */
	hold: number;
}

/** Answered small requests for a first proof, and for a proof after a failure. */
const HITS = { first: 4, again: 30 };
/** Full-size requests: answered for a proof, missed for a search. */
const FULL = 2;
/** Consecutive misses after which a path is silent. */
export const SILENT = 4;
/** A proof starts again if this many requests, and more than this share, are lost. */
const LOST_IN_PROOF = { requests: 2, share: 0.05 };
/** How many full-size requests Pod packets can replace. */
const SHOWN = 3;
/** Minimum time between searches; a lossy path would be searched all the time. */
const SEARCH_GAP_MS = 2000;
/** How long after its request an answer is accepted, late or not. */
const LATE_MS = 3000;

export function timeoutOf({ roundTrip }: PathState, pace: Pace): number {
	if (roundTrip === 0) return pace.timeoutMax;
	const most = Math.max(pace.timeoutMax, 2 * roundTrip);
	return Math.min(most, Math.max(pace.timeoutMin, 3 * roundTrip));
}

// -------------------------------------------------------------- 1. expire

export function expire(path: PathState, { now, pace }: Asker): void {
	const timeout = timeoutOf(path, pace);
	// The same computation as in dueAt, so that everything due is done.
	if (!path.asked.some(({ at, missed }) => now >= at + (missed ? LATE_MS : timeout))) return;
	const left: Request[] = [];
	for (const request of path.asked) {
		if (now >= request.at + LATE_MS) continue;
		if (request.missed || now < request.at + timeout) {
			left.push(request);
			continue;
		}
		left.push({ ...request, missed: true });
		missed(path, request, now);
	}
	path.asked = left;
}

function missed(path: PathState, { purpose, length }: Request, now: number): void {
	switch (purpose) {
		case "small":
		case "compare":
			record(path, false);
			path.misses++;
			if (path.phase === "proving") path.tries++;
			if (path.phase === "proven") enter(path, "suspect", now);
			break;
		case "full":
			// A longer one was a trial, not a loss.
			if (length <= path.size) record(path, false);
			if (length <= path.size && length < path.full) path.sizeMisses++;
			else if (length === path.full) {
				path.fullMisses++;
				path.fullHits = 0;
			}
			// A single one may be lost by chance.
			if (length === path.size && sizeDoubts(path) === 1) path.fullAt = now;
			break;
		default:
	}
}

function record(path: PathState, answered: boolean): void {
	path.outcomes = ((path.outcomes << 1) | (answered ? 1 : 0)) >>> 0;
	path.outcomeCount = Math.min(32, path.outcomeCount + 1);
}

// -------------------------------------------------------------- 2. step

export function enter(path: PathState, phase: PathState["phase"], now: number): void {
	path.phase = phase;
	path.phaseAt = now;
	path.nextAt = now;
}

export function fail(path: PathState, cause: Cause, { now, pace }: Asker): void {
	enter(path, "failed", now);
	path.cause = cause;
	path.backoff = pace.retry;
	path.nextAt = now + pace.retry;
	path.search = undefined;
	path.size = 0;
	path.hits = 0;
	path.tries = 0;
}

export function step(path: PathState, asker: Asker, situation: Situation): void {
	switch (path.phase) {
		case "unproven":
		case "failed":
			seek(path, asker, situation);
			break;
		case "proving":
			prove(path, asker, situation);
			break;
		case "proven":
			watch(path, asker, situation);
			break;
		case "suspect":
			small(path, asker, path.misses > SILENT ? 2 * asker.pace.burst : asker.pace.burst);
			break;
	}
	if (path.search !== undefined) search(path, asker);
}

/** Probes a path that does not answer, with growing intervals. */
function seek(path: PathState, asker: Asker, situation: Situation): void {
	const { active, companion } = situation;
	const { now, pace } = asker;
	// Small requests are answered, but a search that found nothing is too costly to repeat soon.
	const againAt = path.searchedAt + pace.searchAgain;
	if (path.cause === "size" && now < againAt) {
		path.nextAt = againAt;
		return;
	}
	if (path.answeredAt > path.phaseAt) {
		beginProof(path, now);
		prove(path, asker, { ...situation, hold: Number.POSITIVE_INFINITY });
		return;
	}
	const most = companion ? pace.burst : active ? pace.retryActive : pace.retryIdle;
	path.nextAt = Math.min(path.nextAt, now + 1.2 * most);
	if (now < path.nextAt) return;
	asker.ask(path, "small", 0);
	path.backoff = Math.min(most, Math.max(pace.retry, path.backoff * 2));
	path.nextAt = now + asker.jitter(path.backoff);
}

export function beginProof(path: PathState, now: number): void {
	enter(path, "proving", now);
	path.hits = 1;
	path.tries = 1;
	path.misses = 0;
	path.size = 0;
	path.fullHits = 0;
	path.fullMisses = 0;
	path.sizeMisses = 0;
	path.fullAt = now;
	path.search = undefined;
}

function prove(path: PathState, asker: Asker, { hold, heard }: Situation): void {
	const { now, pace } = asker;
	const lost = path.tries - path.hits;
	const lossy = lost >= LOST_IN_PROOF.requests && lost / path.tries > LOST_IN_PROOF.share;
	// The tunnel is the last resort: it must be silent for longer, and so must the peer.
	const gone = path.way === "direct" || (now - path.answeredAt >= pace.downAfter && !heard);
	if (path.misses >= SILENT && gone) {
		fail(path, path.cause || "silent", asker);
		return;
	}
	// The path must be healthy for the whole hold time.
	if (lossy && hold > 0) beginProof(path, now);
	const whole = Number.isFinite(hold) ? Math.min(2000, Math.max(pace.burst, hold / 5)) : pace.full;
	if (path.search === undefined && path.size === 0) provenSize(path, asker, pace.burst);
	else if (path.search === undefined) watchSize(path, asker, whole);
	const enough = path.hits >= (hold === 0 ? HITS.first : HITS.again);
	if (enough && path.size > 0 && now - path.phaseAt >= hold) {
		enter(path, "proven", now);
		path.cause = "";
		path.nextAt = now + asker.jitter(pace.burst);
		path.fullAt = now + asker.jitter(pace.full);
		return;
	}
	const gap = Number.isFinite(hold) ? Math.min(500, Math.max(pace.burst, hold / 40)) : pace.burst;
	small(path, asker, gap);
}

/** Sends full-size requests until two are answered, or two are missed and a search starts. */
function provenSize(path: PathState, asker: Asker, gap: number): void {
	const { now } = asker;
	if (path.fullHits >= FULL) {
		path.size = path.full;
		path.sizeAt = now;
		return;
	}
	// Not while small requests are lost as well.
	if (path.fullMisses >= FULL && path.misses === 0) {
		searchSoon(path, now);
		return;
	}
	if (now < path.fullAt) return;
	asker.ask(path, "full", path.full);
	path.fullAt = now + gap;
}

function watch(path: PathState, asker: Asker, situation: Situation): void {
	const { pace } = asker;
	const { watched, active, companion } = situation;
	const whole = path.size === path.full;
	const often = path.way === "direct" ? pace.watch : 3 * pace.watch;
	small(path, asker, companion ? pace.burst : watched ? often : pace.idle);
	const full = !active ? pace.idleFull : whole ? (watched ? pace.full : pace.idleFull) : pace.raise;
	if (path.search === undefined) watchSize(path, asker, full);
}

function watchSize(path: PathState, asker: Asker, gap: number): void {
	const { now, pace } = asker;
	const whole = path.size === path.full;
	if (!whole && path.fullHits >= FULL) {
		path.size = path.full;
		path.sizeAt = now;
		path.grownAt = now;
	} else if (path.misses === 0 && sizeDoubts(path) >= FULL) {
		if (path.size > path.floor) searchSoon(path, now);
		else fail(path, "size", asker);
		return;
	}
	path.fullAt = Math.min(path.fullAt, now + 1.2 * gap);
	if (now < path.fullAt) return;
	// Arriving large Pod packets are good evidence, though not complete.
	const shown = now - path.sizeAt < 0.5 * gap && now - path.fullAnsweredAt < SHOWN * gap;
	if (whole && path.fullMisses === 0 && shown) {
		path.fullAt = path.sizeAt + asker.jitter(gap);
		return;
	}
	const doubtful = sizeDoubts(path) > 0;
	asker.ask(path, "full", path.size);
	if (!whole && !doubtful) {
		asker.ask(path, "full", path.full);
		// The path may have become wider, but not to its full size.
		if (path.size + 1 < path.full) asker.ask(path, "full", path.size + 1);
	}
	path.fullAt = now + asker.jitter(doubtful ? pace.burst : gap);
}

function searchSoon(path: PathState, now: number): void {
	if (now >= path.searchedAt + SEARCH_GAP_MS) beginSearch(path, now);
	else path.fullAt = path.searchedAt + SEARCH_GAP_MS;
}

export function beginSearch(path: PathState, now: number): void {
	path.search = startSearch(path.floor, path.full, now);
	path.searchedAt = now;
	path.fullMisses = 0;
	path.sizeMisses = 0;
	path.fullHits = 0;
}

function search(path: PathState, asker: Asker): void {
	const { now, pace } = asker;
	if (path.search === undefined) return;
	const before = path.search;
	const timing = { gap: pace.burst, timeout: timeoutOf(path, pace) };
	const { search: after, ask, done } = searchStep(before, now, timing);
	for (const length of ask) asker.ask(path, "search", length);
	path.search = done ? undefined : after;
	// After the first volley, the size is known to be smaller, though not exactly.
	const narrowed = after.fails <= path.full;
	if (!done && !narrowed) return;
	// It may still be the previous size.
	if (done || path.size === 0 || path.size >= after.fails)
		path.size = Math.max(after.works, path.floor);
	path.sizeAt = now;
	// If small requests are lost as well, the size is not the cause.
	if (after.works === 0 && path.way === "direct")
		fail(path, path.misses > 0 ? path.cause || "silent" : "size", asker);
	if (done) path.fullAt = now + asker.jitter(pace.raise);
}

function small(path: PathState, asker: Asker, gap: number): void {
	const { now } = asker;
	path.nextAt = Math.min(path.nextAt, now + 1.2 * gap);
	if (now < path.nextAt) return;
	asker.ask(path, "small", 0);
	path.nextAt = now + asker.jitter(gap);
}

// -------------------------------------------------------------- 3. answered

/** Handles an answer that used the path in both directions. */
export function answered(path: PathState, request: Request, roundTrip: number, now: number): void {
	path.answeredAt = now;
	path.everAnswered = true;
	path.roundTrip =
		path.roundTrip === 0 ? roundTrip : path.roundTrip + (roundTrip - path.roundTrip) / 8;
	switch (request.purpose) {
		case "small":
		case "compare":
			if (request.missed) path.outcomes = withLate(path);
			else record(path, true);
			path.misses = 0;
			if (path.phase === "proving") {
				path.hits++;
				if (!request.missed) path.tries++;
			}
			if (path.phase === "suspect") enter(path, "proven", now);
			break;
		case "full":
			if (request.length <= path.size) {
				if (request.missed) path.outcomes = withLate(path);
				else record(path, true);
			}
			if (request.length < path.full) {
				if (request.length > path.size && path.size > 0) beginSearch(path, now);
				if (request.length === path.size) {
					path.sizeMisses = 0;
					path.sizeAt = now;
				}
				break;
			}
			path.fullHits++;
			path.fullMisses = 0;
			path.fullAnsweredAt = now;
			if (path.size === path.full) path.sizeAt = now;
			else path.fullAt = now;
			break;
		case "search":
			if (path.search !== undefined) path.search = searchAnswered(path.search, request.length);
			break;
		default:
	}
}

/** A missed answer has arrived late: corrects the latest miss. */
function withLate({ outcomes, outcomeCount }: PathState): number {
	for (let bit = 0; bit < outcomeCount; bit++)
		if (((outcomes >>> bit) & 1) === 0) return (outcomes | (1 << bit)) >>> 0;
	return outcomes;
}

/** True if the direct path's loss should be compared with the tunnel's. */
export function isLossy(path: PathState): boolean {
	return (lossOf(path, 20) ?? 0) >= 0.15;
}
