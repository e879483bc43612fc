/**
 * Pod packets as probes: every answer reports how many had been sent directly when its request left, and
 * how many of them have arrived. Works on the copy of the state made by `advance`.
 */
import type { Counts, PeerState } from "./peer_state.js";

/**
 * The number of Pod packets between two answers that is enough to judge loss, and of missing large
 * packets. The latter is small: TCP that is stuck sends one at a time, and a request costs little.
 */
const ENOUGH = { packets: 30, large: 2 };
/** How long counts are accumulated if they are not enough. */
const COUNT_MS = 1000;
const LARGE_COUNT_MS = 5000;
const LOSSY = 0.92;

export interface PodPackets {
	/** More are missing than a healthy path loses. */
	lossy: boolean;
	/** Large packets are missing. */
	missingLarge: boolean;
}

/** Compares packets sent directly since the last counts with those that arrived. */
export function comparePodPackets(
	state: PeerState,
	{ sequence, sent, sentLarge, received, receivedLarge }: Counts,
	now: number,
): PodPackets {
	const found = { lossy: false, missingLarge: false };
	const counts = { sequence, sent, sentLarge, received, receivedLarge, at: now };
	const { counts: before = counts, largeCounts: largeBefore = counts } = state;
	state.counts ??= counts;
	state.largeCounts ??= counts;
	if (isBefore(sequence, before.sequence) || isBefore(sequence, largeBefore.sequence)) return found;

	const went = (sent - before.sent) >>> 0;
	const came = (received - before.received) >>> 0;
	if (went > 0) state.trafficAt = now;
	if (went >= ENOUGH.packets || now - before.at >= COUNT_MS) {
		state.counts = counts;
		found.lossy = isConclusive(went, came) && went >= ENOUGH.packets && came < LOSSY * went;
	}

	const wentLarge = (sentLarge - largeBefore.sentLarge) >>> 0;
	const cameLarge = (receivedLarge - largeBefore.receivedLarge) >>> 0;
	if (wentLarge < ENOUGH.large && now - largeBefore.at < LARGE_COUNT_MS) return found;
	state.largeCounts = counts;
	const { direct } = state;
	if (!isConclusive(wentLarge, cameLarge) || direct.phase !== "proven") return found;
	const arrived = cameLarge >= LOSSY * wentLarge;
	found.missingLarge = wentLarge - cameLarge >= ENOUGH.large && !arrived;
	if (arrived && wentLarge > 0 && direct.size === direct.full) direct.sizeAt = now;
	return found;
}

/** Sequence numbers are 31 bits wide and wrap (RFC 1982, serial number arithmetic). */
function isBefore(sequence: number, other: number): boolean {
	return (sequence - other) << 1 < 0;
}

/** True if neither Node has restarted its counts from zero. */
function isConclusive(went: number, came: number): boolean {
	return went < 2 ** 31 && came <= 2 * went + 1000;
}
