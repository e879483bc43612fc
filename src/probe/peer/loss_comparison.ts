/**
 * The loss of the direct path against the loss of the tunnel: whether only the direct one loses packets.
 *
 *  1. suspected   by lost requests, or by the peer's count of Pod packets: both paths are probed alike
 *  2. step        sends the requests that are due, and decides when the last answers have had their time
 *
 * Part of a peer's turn (peer_turn.ts).
 */
import { isProven } from "../path/path_state.js";
import { type Asker, timeoutOf } from "../path/path_turn.js";
import type { PeerState } from "./peer_state.js";

/**
 * Requests per path: `requests` decide if the tunnel loses none of them; otherwise `more` decide if it
 * loses at most `share` of the direct path's loss. Equal paths differ this much by chance in about one of
 * a thousand cases.
 */
const COMPARED = { requests: 36, more: 90, loss: 0.1, share: 1 / 5 };
/** Until the next comparison; doubles while they find nothing. */
const COMPARE_PAUSE_MS = { first: 5000, most: 60_000 };

/** Begins a comparison, unless there is no choice of paths, or the last one was a short time ago. */
export function suspectLoss(state: PeerState, { now, pace }: Asker): void {
	if (now < state.compareAfter || state.comparison !== undefined) return;
	if (!state.policy.verified || state.tunnel.full === 0) return;
	const timeout = Math.max(...[state.direct, state.tunnel].map((path) => timeoutOf(path, pace)));
	state.comparison = {
		requests: COMPARED.requests,
		timeout,
		nextAt: now,
		direct: { asked: 0, answered: 0 },
		tunnel: { asked: 0, answered: 0 },
	};
}

/** Returns the share of requests that the direct path has lost, when it loses more than the tunnel. */
export function stepComparison(state: PeerState, asker: Asker): number | undefined {
	const { comparison, direct, tunnel } = state;
	const { now, pace } = asker;
	if (comparison === undefined || now < comparison.nextAt) return undefined;
	// Another rule decided first; earlier requests do not count as a second failure.
	if (!isProven(direct)) {
		state.comparison = undefined;
		return undefined;
	}
	if (comparison.direct.asked < comparison.requests) {
		for (const path of [direct, tunnel]) {
			asker.ask(path, "compare", 0);
			comparison[path.way].asked++;
		}
		const last = comparison.direct.asked === comparison.requests;
		comparison.nextAt = now + (last ? comparison.timeout : pace.burst);
		return undefined;
	}
	const { asked } = comparison.direct;
	const loss = 1 - comparison.direct.answered / asked;
	const other = 1 - comparison.tunnel.answered / asked;
	const worse = loss >= COMPARED.loss && other <= loss * COMPARED.share;
	if (worse && other > 0 && asked < COMPARED.more) {
		comparison.requests = COMPARED.more;
		return undefined;
	}
	state.comparison = undefined;
	state.comparePause = worse
		? COMPARE_PAUSE_MS.first
		: Math.min(2 * state.comparePause, COMPARE_PAUSE_MS.most);
	state.compareAfter = now + state.comparePause;
	return worse ? loss : undefined;
}
