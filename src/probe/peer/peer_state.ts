/**
 * The paths to one peer for one family of Pod packets: the state of each, and which one packets take.
 * Plain data; `advance` (peer_turn.ts) computes the next state.
 */
import type { ProbedPath } from "../../compile/peer.js";
import type { Config } from "../../config/config.js";
import type { Family } from "../../tables/prefix.js";
import { copyPath, newPath, type PathState } from "../path/path_state.js";
import type { Way } from "../request.js";
import { type Announcement, newAnnouncement } from "./announcement.js";

/** The path in use. `down`: no path answers, and the peer has answered before. */
export type Use = Way | "down";

/** The paths that the Nodes and the mode allow. */
export interface Policy {
	mode: Config["trafficEncapMode"];
	/** The direct path is taken only while it is proven. */
	verified: boolean;
	family: Family;
	/** The paths to probe; undefined: there is no such path, or it must not be probed. */
	direct: ProbedPath | undefined;
	tunnel: ProbedPath | undefined;
}

/** Pod packets sent directly and received, modulo 2^32, as reported by an answer. */
export interface Counts {
	sequence: number;
	sent: number;
	sentLarge: number;
	received: number;
	receivedLarge: number;
}

/** A comparison: both paths are probed alike, to see whether only the direct one loses packets. */
export interface Comparison {
	/** Requests for each path. */
	requests: number;
	/** How long to wait for the last answers, ms. */
	timeout: number;
	nextAt: number;
	direct: { asked: number; answered: number };
	tunnel: { asked: number; answered: number };
}

/** A test of one direction: the other direction uses the tunnel. */
export interface OneWay {
	asked: number;
	answered: number;
}

export interface PeerState {
	policy: Policy;
	direct: PathState;
	tunnel: PathState;
	use: Use;
	announcement: Announcement;
	/** Sequence number of the last request. */
	sequence: number;
	/** State of the jitter. */
	seed: number;

	/** When traffic to the peer, and when any of its packets, was last seen, ms. */
	trafficAt: number;
	receivedAt: number;
	sentTotal: number;
	receivedTotal: number;

	/** The counts to compare the next ones with; `at`: when they were reported, ms. */
	counts: (Counts & { at: number }) | undefined;
	largeCounts: (Counts & { at: number }) | undefined;
	comparison: Comparison | undefined;
	/** Suspected loss and suspected size problems are ignored until then, ms. */
	compareAfter: number;
	/** The pause after a comparison that found nothing, ms. */
	comparePause: number;
	searchAfter: number;

	/** How long the direct path must be healthy before it is used again, ms. */
	hold: number;
	/** When the direct path was last put into use, ms. */
	directSince: number;

	/** Tests of the direct path's two directions, made while it does not work. */
	oneWayAt: number;
	there: OneWay;
	back: OneWay;
}

export function newPeer(policy: Policy, seed: number, now: number): PeerState {
	return {
		policy,
		direct: pathFor("direct", policy, now),
		tunnel: pathFor("tunnel", policy, now),
		use: policy.mode === "noEncap" || (policy.direct && !policy.verified) ? "direct" : "tunnel",
		announcement: newAnnouncement(),
		sequence: seed & 0x7fffffff,
		seed: seed | 1,
		trafficAt: Number.NEGATIVE_INFINITY,
		receivedAt: Number.NEGATIVE_INFINITY,
		sentTotal: 0,
		receivedTotal: 0,
		counts: undefined,
		largeCounts: undefined,
		comparison: undefined,
		compareAfter: now,
		comparePause: 2500,
		searchAfter: now,
		hold: 0,
		directSince: now,
		oneWayAt: now,
		there: { asked: 0, answered: 0 },
		back: { asked: 0, answered: 0 },
	};
}

/** A copy, as deep as `advance` changes it. */
export function copyPeer(peer: PeerState): PeerState {
	return {
		policy: peer.policy,
		direct: copyPath(peer.direct),
		tunnel: copyPath(peer.tunnel),
		use: peer.use,
		// Replaced, never changed.
		announcement: peer.announcement,
		sequence: peer.sequence,
		seed: peer.seed,
		trafficAt: peer.trafficAt,
		receivedAt: peer.receivedAt,
		sentTotal: peer.sentTotal,
		receivedTotal: peer.receivedTotal,
		counts: peer.counts,
		largeCounts: peer.largeCounts,
		comparison: peer.comparison && copyComparison(peer.comparison),
		compareAfter: peer.compareAfter,
		comparePause: peer.comparePause,
		searchAfter: peer.searchAfter,
		hold: peer.hold,
		directSince: peer.directSince,
		oneWayAt: peer.oneWayAt,
		there: { asked: peer.there.asked, answered: peer.there.answered },
		back: { asked: peer.back.asked, answered: peer.back.answered },
	};
}

function copyComparison(comparison: Comparison): Comparison {
	return {
		...comparison,
		direct: { ...comparison.direct },
		tunnel: { ...comparison.tunnel },
	};
}

/** Every link carries IPv6 packets of this size (RFC 8200, 5); IPv4 links may carry less (RFC 791). */
const FLOOR = { direct: { 4: 1280, 6: 1280 }, tunnel: { 4: 576, 6: 1280 } } as const;

/** A path without proof. */
export function pathFor(way: Way, policy: Policy, now: number): PathState {
	return newPath(way, policy[way]?.mtu ?? 0, floorOf(way, policy), now);
}

/** The state of a path that does not exist. */
export function noPath(way: Way): PathState {
	return newPath(way, 0, 0, Number.NEGATIVE_INFINITY);
}

/** The smallest size of a search. */
export function floorOf(way: Way, policy: Policy): number {
	return Math.min(policy[way]?.mtu ?? 0, FLOOR[way][policy.family]);
}

/** A key that identifies a path; a path with another key starts without proof. */
export function pathKey(choice: ProbedPath | undefined): string {
	if (choice === undefined) return "";
	const { path, local, remote, port, mtu } = choice;
	return [path, local, remote, port, mtu].join(" ");
}
