/**
 * What a peer's answers announce: whether its Pod packets may come without a tunnel, and whether it takes
 * such packets of this Node. Plain data, and functions that compute its next state. Pure.
 *
 * A change of mode loses no packet: a Node announces that it will send untunnelled packets, and sends the first only
 * when the peer has announced that it takes them. Packets sent before the Node announces the end are still taken for
 * a while.
 */
import type { PathVerdict } from "../../compile/peer_path.js";
import { PeerFlag, ProbeFlag } from "../../tables/generated.js";

export interface Announcement {
	/** The peer's Pod packets come without a tunnel, too; undefined: it announces nothing. */
	sends: boolean | undefined;
	/** It has announced the end; packets in flight are taken until `sendsUntil`. */
	ending: boolean;
	/** When it counts as ended, unless it announces the contrary, ms. */
	sendsUntil: number;
	/** The peer takes untunnelled packets of this Node; undefined: it announces nothing. */
	takes: boolean | undefined;
	/** Some answer has come since the agent started. */
	heard: boolean;
	/** Where no proof is required, the time until which its announcement is awaited, ms. */
	waitUntil: number;
}

/** What a Node has sent is with its peer by then, whatever queue it was in. */
const ON_ITS_WAY_MS = 2000;
/** With a peer that does not answer a change of mode is in force after this. */
export const WAIT_MS = 1200;

export function newAnnouncement(): Announcement {
	return {
		sends: undefined,
		ending: false,
		sendsUntil: Number.POSITIVE_INFINITY,
		takes: undefined,
		heard: false,
		waitUntil: Number.NEGATIVE_INFINITY,
	};
}

/** The announcement that an earlier agent stored in `peers`. @param inTunnel packets to the peer took the tunnel */
export function adoptedAnnouncement(flags: number, inTunnel: boolean, now: number): Announcement {
	const fresh = newAnnouncement();
	const onlyTunnelled = (flags & PeerFlag.TUNNELLED_ONLY) !== 0;
	const waitUntil = inTunnel ? now + WAIT_MS : fresh.waitUntil;
	if (flags & PeerFlag.ANNOUNCED) {
		const ending = (flags & PeerFlag.ENDING) !== 0;
		const sendsUntil = ending ? now + ON_ITS_WAY_MS : fresh.sendsUntil;
		return { ...fresh, sends: !onlyTunnelled, ending, sendsUntil, waitUntil };
	}
	// The earlier agent took its untunnelled packets: so does this one, until the peer announces otherwise.
	return onlyTunnelled
		? { ...fresh, waitUntil }
		: { ...fresh, sends: true, sendsUntil: now + ON_ITS_WAY_MS, waitUntil };
}

/** @param flags ProbeFlag, of the answering core; 0: of a version that announces nothing */
export function hear(before: Announcement, flags: number, now: number): Announcement {
	if ((flags & ProbeFlag.ANNOUNCES) === 0)
		return { ...newAnnouncement(), heard: true, waitUntil: before.waitUntil };
	const sends = (flags & ProbeFlag.SENDS_UNTUNNELLED) !== 0;
	const takes = (flags & ProbeFlag.TAKES_UNTUNNELLED) !== 0;
	const ends = before.sends === true && !sends;
	return {
		sends: sends || ends,
		ending: ends,
		sendsUntil: ends ? Math.min(before.sendsUntil, now + ON_ITS_WAY_MS) : Number.POSITIVE_INFINITY,
		takes,
		heard: true,
		waitUntil: before.waitUntil,
	};
}

/** The state when nothing but time has passed. */
export function passed(before: Announcement, now: number): Announcement {
	if (now < before.sendsUntil) return before;
	// Nothing is known about a peer that has not answered since.
	const sends = before.heard ? false : undefined;
	return { ...before, sends, ending: false, sendsUntil: Number.POSITIVE_INFINITY };
}

/**
 * This Node begins to send untunnelled packets. The peer's last announcement may be outdated: a new one is
 * awaited, for WAIT_MS at most.
 */
export function begin(before: Announcement, now: number): Announcement {
	if (before.takes === undefined) return before;
	return { ...before, takes: false, waitUntil: now + WAIT_MS };
}

/** How the peer's untunnelled packets are treated. */
export function untunnelledOf({ sends, ending }: Announcement): PathVerdict["untunnelled"] {
	if (sends === undefined) return undefined;
	if (!sends) return "refused";
	return ending ? "ending" : "taken";
}

/** Untunnelled packets may go to the peer. @param verified only while probes prove the direct path */
export function mayGoUntunnelled(
	{ takes, heard, waitUntil }: Announcement,
	verified: boolean,
	now: number,
): boolean {
	if (takes !== undefined) return takes || (!verified && now >= waitUntil);
	return heard || now >= waitUntil;
}
