/**
 * The paths to one peer in one family of Pod packets: what is known of each, and which of them
 * packets take. Plain data; `advance` (peer_turn.ts) makes the next state of it.
 */
import type { PathChoice } from "../compile/peer_path.js";
import type { Config } from "../config/config.js";
import type { Family } from "../tables/prefix.js";
import { copyPath, newPath, type PathState } from "./path_state.js";
import type { Way } from "./question.js";

/** What packets take. `down`: no path answers, and the peer did answer before. */
export type Use = Way | "down";

/** What the Nodes and the mode allow. */
export interface Policy {
	mode: Config["trafficEncapMode"];
	/** The direct path is taken only while it is proven. */
	verified: boolean;
	family: Family;
	/** What probes are to find out about; undefined: there is no such path, or it is not to be probed. */
	direct: PathChoice | undefined;
	tunnel: PathChoice | undefined;
}

/** Pod packets that went directly and that came, modulo 2^32, as an answer told. */
export interface Counts {
	sequence: number;
	sent: number;
	sentLarge: number;
	received: number;
	receivedLarge: number;
}

/** Both paths asked alike for a while, to see whether losses are the direct one's alone. */
export interface Comparison {
	/** To be asked on each path. */
	questions: number;
	/** What is waited for the last answers, ms. */
	timeout: number;
	nextAt: number;
	direct: { asked: number; answered: number };
	tunnel: { asked: number; answered: number };
}

/** One direction alone: the other way went through the tunnel. */
export interface OneWay {
	asked: number;
	answered: number;
}

export interface PeerState {
	policy: Policy;
	direct: PathState;
	tunnel: PathState;
	use: Use;
	/** Of the last question. */
	sequence: number;
	/** State of the jitter. */
	seed: number;

	/** When traffic to the peer was last seen, and when any of its packets was, ms. */
	trafficAt: number;
	receivedAt: number;
	sentTotal: number;
	receivedTotal: number;

	/** What the next ones are compared with; `at`: when they were told, ms. Large packets may be few. */
	counts: (Counts & { at: number }) | undefined;
	largeCounts: (Counts & { at: number }) | undefined;
	comparison: Comparison | undefined;
	/** Suspicions of loss and of size are not followed up again before, ms. */
	compareAfter: number;
	/** How long a comparison is not made again after one that found nothing, ms. */
	comparePause: number;
	searchAfter: number;

	/** What the direct path has to stay good for before it is taken again, ms. */
	hold: number;
	/** When the direct path was last taken, ms. */
	directSince: number;

	/** The direct path's directions, each by itself; asked when it does not work. */
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

/** As deep as `advance` changes it. */
export function copyPeer(peer: PeerState): PeerState {
	return {
		policy: peer.policy,
		direct: copyPath(peer.direct),
		tunnel: copyPath(peer.tunnel),
		use: peer.use,
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

/** An IPv6 packet of this size goes over every link (RFC 8200, 5); IPv4 may have less (RFC 791). */
const FLOOR = { direct: { 4: 1280, 6: 1280 }, tunnel: { 4: 576, 6: 1280 } } as const;

export function pathFor(way: Way, policy: Policy, now: number): PathState {
	const choice = policy[way];
	const full = choice?.mtu ?? 0;
	return newPath(way, pathKey(choice), full, Math.min(full, FLOOR[way][policy.family]), now);
}

/** What makes a path another one. */
export function pathKey(choice: PathChoice | undefined): string {
	if (choice === undefined) return "";
	const { path, local, remote, port, mtu } = choice;
	return `${path} ${local} ${remote} ${port} ${mtu}`;
}
