/** How often is asked and how long is waited, in milliseconds; all of it follows from the configuration. */
import type { Config } from "../config/config.js";

export interface Pace {
	/** Between questions on the path that carries traffic; a tunnel is asked a third as often. */
	watch: number;
	/** What is not in doubt is asked together, so often. */
	turn: number;
	/** Between questions once one was missed, and for proving. */
	burst: number;
	/** An answer is missed after three round trips, within these. */
	timeoutMin: number;
	timeoutMax: number;
	/** A peer that is silent on every path for so long is down. */
	downAfter: number;
	/** What the first return to the direct path has to wait for, and the most. */
	hold: number;
	holdMax: number;
	/** Between questions on a path without traffic, small ones and full-size ones. */
	idle: number;
	idleFull: number;
	/** Full-size questions under traffic, where no full-size packet is seen to arrive. */
	full: number;
	/** A path that carries less than its full size is tried with it again; without traffic as if it did. */
	raise: number;
	/** A path that carries nothing of use is not searched again before. */
	searchAgain: number;
	/** Between questions on a path that does not answer: the first, and the most with traffic and without. */
	retry: number;
	retryActive: number;
	retryIdle: number;
	/** Traffic counts as going on for so long after its last packet. */
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

/** How long a proof is believed that an agent finds when it starts: longer than an idle path waits. */
export function proofLife({ idle }: Pace): number {
	return idle * 2.5;
}
