/**
 * The states of peers at rest: a row of numbers each (columns/rows.ts), which takes a seventh of the memory of
 * objects and costs a garbage collection nothing. A state is an object only during its turn.
 *
 * The rules for its paths follow from the peer and are not stored, except for the mode that they were made with.
 */
import { Rows } from "../../columns/rows.js";
import type { ProbedPeer } from "../../compile/compile.js";
import type { Config } from "../../config/config.js";
import type { PathState } from "../path/path_state.js";
import { PathStates } from "../path/path_states.js";
import {
	type Comparison,
	type Counts,
	floorOf,
	newPeer,
	noPath,
	type PeerState,
	type Policy,
	type Use,
} from "./peer_state.js";

const MODES: readonly Config["trafficEncapMode"][] = ["encap", "hybrid", "noEncap"];
const USES: readonly Use[] = ["direct", "tunnel", "down"];
/** What a peer may announce. */
const SAID = [undefined, false, true] as const;

const Flag = { VERIFIED: 1, DIRECT: 2, TUNNEL: 4, HEARD: 8, ENDING: 16, COUNTS: 32, LARGE: 64 };

const NO_PATHS = { direct: noPath("direct"), tunnel: noPath("tunnel") };

/** Doubles, then words, then bytes. */
const DOUBLES = 14;
const WORDS = 18;
const COUNTS = 5;
const SIZE = 192;

export class PeerStates {
	readonly #rows = new Rows(SIZE);
	readonly #paths = new PathStates();
	readonly #comparisons = new Map<number, Comparison>();
	readonly #taken = blank();

	/** Stores a state. Returns its row. */
	add(state: PeerState): number {
		const row = this.#rows.add();
		this.write(row, state);
		return row;
	}

	remove(row: number): void {
		const { words } = this.#rows.piece(row);
		const w = this.#words(row);
		for (const at of [w, w + 1]) if (words[at] !== 0) this.#paths.remove(words[at]! - 1);
		this.#comparisons.delete(row);
		this.#rows.remove(row);
	}

	/** The rules that a state was made with. @param peer as it was then */
	policy(row: number, { family, direct, tunnel }: ProbedPeer): Policy {
		const { bytes } = this.#rows.piece(row);
		const b = this.#bytes(row);
		const flags = bytes[b]!;
		return {
			mode: MODES[bytes[b + 1]!]!,
			verified: (flags & Flag.VERIFIED) !== 0,
			family,
			direct: (flags & Flag.DIRECT) !== 0 ? direct : undefined,
			tunnel: (flags & Flag.TUNNEL) !== 0 ? tunnel : undefined,
		};
	}

	/** A new object. @param peer as it was when the state was written */
	read(row: number, peer: ProbedPeer): PeerState {
		return this.#read(row, peer, blank());
	}

	/** The same in an object that all calls share, valid until the next one: some of thousands of peers are always due. */
	take(row: number, peer: ProbedPeer): PeerState {
		return this.#read(row, peer, this.#taken);
	}

	#read(row: number, peer: ProbedPeer, into: Blank): PeerState {
		const { doubles, words, bytes } = this.#rows.piece(row);
		const d = this.#rows.start(row) >> 3;
		const [w, b] = [this.#words(row), this.#bytes(row)];
		const flags = bytes[b]!;
		const { state, announcement, there, back } = into;
		const policy = this.policy(row, peer);
		state.policy = policy;
		state.direct = this.#path(words[w]!, policy, into.direct);
		state.tunnel = this.#path(words[w + 1]!, policy, into.tunnel);
		state.use = USES[bytes[b + 2]!]!;
		state.announcement = announcement;
		announcement.sends = SAID[bytes[b + 3]!];
		announcement.ending = (flags & Flag.ENDING) !== 0;
		announcement.sendsUntil = doubles[d]!;
		announcement.takes = SAID[bytes[b + 4]!];
		announcement.heard = (flags & Flag.HEARD) !== 0;
		announcement.waitUntil = doubles[d + 1]!;
		state.sequence = words[w + 2]!;
		// Signed.
		state.seed = words[w + 3]! | 0;
		state.trafficAt = doubles[d + 2]!;
		state.receivedAt = doubles[d + 3]!;
		state.sentTotal = doubles[d + 4]!;
		state.receivedTotal = doubles[d + 5]!;
		const [hasCounts, hasLarge] = [(flags & Flag.COUNTS) !== 0, (flags & Flag.LARGE) !== 0];
		state.counts = hasCounts ? readCounts(words, w + 8, doubles[d + 12]!) : undefined;
		state.largeCounts = hasLarge ? readCounts(words, w + 8 + COUNTS, doubles[d + 13]!) : undefined;
		state.comparison = this.#comparisons.get(row);
		state.compareAfter = doubles[d + 6]!;
		state.comparePause = doubles[d + 7]!;
		state.searchAfter = doubles[d + 8]!;
		state.hold = doubles[d + 9]!;
		state.directSince = doubles[d + 10]!;
		state.oneWayAt = doubles[d + 11]!;
		state.there = there;
		there.asked = words[w + 4]!;
		there.answered = words[w + 5]!;
		state.back = back;
		back.asked = words[w + 6]!;
		back.answered = words[w + 7]!;
		return state;
	}

	/** Reads only how long its direct path must be healthy, ms. */
	hold(row: number): number {
		return this.#rows.piece(row).doubles[(this.#rows.start(row) >> 3) + 9]!;
	}

	write(row: number, state: PeerState): void {
		const { doubles, words, bytes } = this.#rows.piece(row);
		const d = this.#rows.start(row) >> 3;
		const [w, b] = [this.#words(row), this.#bytes(row)];
		const { policy, announcement, counts, largeCounts, comparison } = state;
		words[w] = this.#writePath(words[w]!, state.direct);
		words[w + 1] = this.#writePath(words[w + 1]!, state.tunnel);
		words[w + 2] = state.sequence;
		words[w + 3] = state.seed;
		words[w + 4] = state.there.asked;
		words[w + 5] = state.there.answered;
		words[w + 6] = state.back.asked;
		words[w + 7] = state.back.answered;
		doubles[d] = announcement.sendsUntil;
		doubles[d + 1] = announcement.waitUntil;
		doubles[d + 2] = state.trafficAt;
		doubles[d + 3] = state.receivedAt;
		doubles[d + 4] = state.sentTotal;
		doubles[d + 5] = state.receivedTotal;
		doubles[d + 6] = state.compareAfter;
		doubles[d + 7] = state.comparePause;
		doubles[d + 8] = state.searchAfter;
		doubles[d + 9] = state.hold;
		doubles[d + 10] = state.directSince;
		doubles[d + 11] = state.oneWayAt;
		if (counts !== undefined) {
			writeCounts(words, w + 8, counts);
			doubles[d + 12] = counts.at;
		}
		if (largeCounts !== undefined) {
			writeCounts(words, w + 8 + COUNTS, largeCounts);
			doubles[d + 13] = largeCounts.at;
		}
		bytes[b] =
			(policy.verified ? Flag.VERIFIED : 0) |
			(policy.direct === undefined ? 0 : Flag.DIRECT) |
			(policy.tunnel === undefined ? 0 : Flag.TUNNEL) |
			(announcement.heard ? Flag.HEARD : 0) |
			(announcement.ending ? Flag.ENDING : 0) |
			(counts === undefined ? 0 : Flag.COUNTS) |
			(largeCounts === undefined ? 0 : Flag.LARGE);
		bytes[b + 1] = MODES.indexOf(policy.mode);
		bytes[b + 2] = USES.indexOf(state.use);
		bytes[b + 3] = SAID.indexOf(announcement.sends);
		bytes[b + 4] = SAID.indexOf(announcement.takes);
		if (comparison !== undefined) this.#comparisons.set(row, comparison);
		else if (this.#comparisons.size > 0) this.#comparisons.delete(row);
	}

	#words(row: number): number {
		return (this.#rows.start(row) >> 2) + 2 * DOUBLES;
	}

	#bytes(row: number): number {
		return this.#rows.start(row) + 8 * DOUBLES + 4 * WORDS;
	}

	/** @param reference row + 1; 0: there is no such path */
	#path(reference: number, policy: Policy, into: PathState): PathState {
		if (reference === 0) return Object.assign(into, NO_PATHS[into.way]);
		const full = policy[into.way]?.mtu ?? 0;
		return this.#paths.read(reference - 1, full, floorOf(into.way, policy), into);
	}

	#writePath(reference: number, path: PeerState["direct"]): number {
		if (path.full === 0) {
			if (reference !== 0) this.#paths.remove(reference - 1);
			return 0;
		}
		const row = reference === 0 ? this.#paths.add() : reference - 1;
		this.#paths.write(row, path);
		return row + 1;
	}
}

/** A state to fill in, with all its parts, because a turn may have replaced them. */
interface Blank extends Pick<PeerState, "direct" | "tunnel" | "announcement" | "there" | "back"> {
	state: PeerState;
}

function blank(): Blank {
	const policy = { mode: "encap", verified: false, family: 4 } as const;
	const state = newPeer({ ...policy, direct: undefined, tunnel: undefined }, 1, 0);
	const { direct, tunnel, announcement, there, back } = state;
	return { state, direct, tunnel, announcement, there, back };
}

function readCounts(words: Uint32Array, at: number, time: number): Counts & { at: number } {
	return {
		sequence: words[at]!,
		sent: words[at + 1]!,
		sentLarge: words[at + 2]!,
		received: words[at + 3]!,
		receivedLarge: words[at + 4]!,
		at: time,
	};
}

function writeCounts(words: Uint32Array, at: number, counts: Counts): void {
	words[at] = counts.sequence;
	words[at + 1] = counts.sent;
	words[at + 2] = counts.sentLarge;
	words[at + 3] = counts.received;
	words[at + 4] = counts.receivedLarge;
}
