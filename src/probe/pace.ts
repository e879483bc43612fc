/** Probe intervals and time-outs in milliseconds, all derived from the configuration. */
import type { Config } from "../config/config.js";

export interface Pace {
	/** Interval on the path that carries traffic; a tunnel is probed a third as often. */
	watch: number;
	/** Interval of the common turns in which paths that are not in doubt are probed together. */
	turn: number;
	/** Interval after a missed answer, and for a proof. */
	burst: number;
	/** An answer is missed after three round trips, within these limits. */
	timeoutMin: number;
	timeoutMax: number;
	/** A peer that is silent on every path for this long is down. */
	downAfter: number;
	/** Hold time of the first return to the direct path, and its maximum. */
	hold: number;
	holdMax: number;
	/** Interval on an idle path, for small and for full-size requests. */
	idle: number;
	idleFull: number;
	/** Interval of full-size requests under traffic, if no full-size packet is seen to arrive. */
	full: number;
	/** Interval for trying a narrow path with its full size; an idle path uses `idle`. */
	raise: number;
	/** Minimum time before a path without a useful size is searched again. */
	searchAgain: number;
	/** Interval on a path that does not answer: initial, and maximum with and without traffic. */
	retry: number;
	retryActive: number;
	retryIdle: number;
	/** Traffic counts as active for this long after its last packet. */
	active: number;
}

export function paceOf({ failoverTime, holdTime, holdTimeMax }: Config["probes"]): Pace {
	return {
		watch: failoverTime * 0.45,
		turn: failoverTime * 0.2,
		burst: Math.max(20, failoverTime * 0.03),
		timeoutMin: Math.max(40, failoverTime * 0.05),
		timeoutMax: failoverTime / 5,
		downAfter: failoverTime * 2.5,
		hold: holdTime * 1000,
		holdMax: Math.max(holdTime, holdTimeMax) * 1000,
		idle: 120_000,
		idleFull: 600_000,
		full: 20_000,
		raise: 10_000,
		searchAgain: 60_000,
		retry: 200,
		retryActive: Math.max(1000, failoverTime),
		retryIdle: 30_000,
		active: 5000,
	};
}

/** How long an agent trusts a proof that it finds at start: longer than the interval of an idle path. */
export function proofLife({ idle }: Pace): number {
	return idle * 2.5;
}
