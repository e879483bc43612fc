/**
 * A simulated peer: the state machine of its paths (src/probe) in a network that the test defines, in
 * simulated time. Does the work of Fairway's core and of the prober in the simplest way.
 *
 *   here ──there──▶ peer      for each path (direct, tunnel) and direction:
 *   here ◀──back─── peer      a packet of some length passes, or is lost
 */
import assert from "node:assert/strict";
import type { PathChoice } from "../../src/compile/peer_path.js";
import { type Pace, paceOf } from "../../src/probe/pace.js";
import type { Phase, Request } from "../../src/probe/path/path_state.js";
import {
	newPeer,
	type PeerState,
	type Policy,
	pathKey,
	type Use,
} from "../../src/probe/peer/peer_state.js";
import { advance, dueAt, type Event } from "../../src/probe/peer/peer_turn.js";
import { smallLength, type Way } from "../../src/probe/request.js";
import { describe } from "../../src/probe/words.js";

export type End = "there" | "back";

export interface Wire {
	/** Whether a packet passes. Lengths are those of Pod packets, without tunnel headers. */
	passes(way: Way, end: End, length: number, now: number): boolean;
	/** Round trip of a request in milliseconds. */
	roundTrip?(way: Way, now: number): number;
	/** Pod packets a second to the peer, and how many of them are full-size. */
	traffic?(now: number): { packets: number; large: number };
	/** Whether packets of the peer's Pods arrive. Default: if anything passes. */
	hears?(now: number): boolean;
	/** How often a request is answered, at different times. Default: once. */
	copies?(now: number): number;
}

/** A pseudo-random generator of numbers from 0 to 1, by seed. */
export function randomOf(seed: number): () => number {
	let state = seed >>> 0 || 1;
	return () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let x = Math.imul(state ^ (state >>> 15), 1 | state);
		x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
		return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
	};
}

export function choice(path: PathChoice["path"], mtu: number): PathChoice {
	const remote = "192.168.1.2";
	return { path, outerFamily: 4, port: 0, local: "", remote, mtu, reason: "" };
}

export const HYBRID: Policy = {
	mode: "hybrid",
	verified: true,
	family: 4,
	direct: choice("direct", 1500),
	tunnel: choice("geneve", 1450),
};

export const PACE = paceOf({ failoverTime: 1000, holdTime: 5, holdTimeMax: 300 });

/** Traffic with a full-size packet in four. */
export const BUSY = () => ({ packets: 1000, large: 250 });
export const IDLE = () => ({ packets: 0, large: 0 });

export interface Moment {
	at: number;
	use: Use;
	phase: Phase;
	/** Size of the direct path. */
	size: number;
}

/** The interval for sending Pod packets and reading counters. */
const STEP_MS = 10;
const TOTALS_MS = 1000;

const ARROWS: Readonly<Record<Phase, readonly Phase[]>> = {
	unproven: ["proving"],
	proving: ["proven", "failed"],
	proven: ["suspect", "failed"],
	suspect: ["proven", "failed"],
	failed: ["proving"],
};

export class PaperPeer {
	state: PeerState;
	now = 0;
	readonly pace: Pace;
	readonly wire: Wire;
	/** Changes of the path in use, of the direct path's phase and of its size. */
	readonly moments: Moment[] = [];
	readonly requests: (Request & { answered: boolean })[] = [];
	turns = 0;
	late = 0;
	/** Called after each turn. */
	onTurn: (before: PeerState, event: Event, requests: readonly Request[]) => void = () => undefined;
	readonly #events: { at: number; event: Event }[] = [];
	readonly #random: () => number;
	#counts = { sent: 0, sentLarge: 0, received: 0, receivedLarge: 0 };
	#totals = { sent: 0, received: 0 };
	#due = 0;
	#stepAt = 0;
	#totalsAt = 0;
	#fraction = { packets: 0, large: 0 };

	constructor(
		wire: Wire,
		{
			policy = HYBRID,
			pace = PACE,
			seed = 1,
			hold = 0,
		}: {
			policy?: Policy;
			pace?: Pace;
			seed?: number;
			hold?: number;
		} = {},
	) {
		this.wire = wire;
		this.pace = pace;
		this.#random = randomOf(seed);
		this.state = { ...newPeer(policy, seed * 7919 + 1, 0), hold };
		this.#note();
	}

	/** Runs until this time, ms. */
	run(until: number): this {
		for (;;) {
			const first = this.#events[0];
			const next = Math.min(this.#due, this.#stepAt, first?.at ?? Number.POSITIVE_INFINITY);
			if (next > until) break;
			this.now = Math.max(this.now, next);
			if (this.#stepAt <= next) this.#step();
			else if (first !== undefined && first.at <= next) {
				this.#events.shift();
				this.tell(first.event);
			} else this.tell({ kind: "tick" });
		}
		this.now = until;
		return this;
	}

	/** Handles an event now. */
	tell(event: Event): void {
		const before = freeze(this.state);
		const { state, requests, answer } = advance(before, event, this.now, this.pace);
		this.turns++;
		if (answer === "late") this.late++;
		this.state = state;
		for (const request of requests) this.#carry(request);
		const due = dueAt(state, this.pace);
		assert.ok(!Number.isNaN(due), "a time to be due");
		// Like the prober.
		this.#due = Math.max(due, this.now + 1);
		for (const way of ["direct", "tunnel"] as const) {
			const [from, to] = [before[way].phase, state[way].phase];
			const arrow =
				from === to ||
				ARROWS[from].includes(to) ||
				pathKey(before.policy[way]) !== pathKey(state.policy[way]);
			assert.ok(arrow, `${way} ${from} to ${to} at ${this.now}`);
		}
		this.#note();
		this.onTurn(before, event, requests);
	}

	/** Restarts the peer's core. */
	restart(): void {
		this.#counts = { ...this.#counts, received: 0, receivedLarge: 0 };
	}

	/** The current sentence. */
	words(): string {
		return describe(this.state, "n2", this.now);
	}

	/** When packets first used this path, at or after `from`. */
	first(use: Use, from = 0): number {
		return this.moments.find((moment) => moment.at >= from && moment.use === use)?.at ?? -1;
	}

	/** The paths that packets used, one after another: "direct geneve direct". */
	uses(from = 0): string {
		const uses = this.moments.filter(({ at }) => at >= from).map(({ use }) => use);
		return uses.filter((use, i) => use !== uses[i - 1]).join(" ");
	}

	/** Requests a minute in this period. */
	rate(from: number, to: number): number {
		return (this.requests.filter(({ at }) => at >= from && at < to).length * 60_000) / (to - from);
	}

	#carry(request: Request): void {
		const { there, back, length, answerLength, sequence } = request;
		const entry = { ...request, answered: false };
		this.requests.push(entry);
		const { sent, sentLarge } = this.#counts;
		const { wire, now } = this;
		if (!wire.passes(there, "there", length, now)) return;
		const trip = (wire.roundTrip?.(there, now) ?? 0.2) * (1 + 0.2 * this.#random());
		const { received, receivedLarge } = this.#counts;
		if (!wire.passes(back, "back", answerLength, now)) return;
		entry.answered = true;
		for (let copy = 0; copy < (wire.copies?.(now) ?? 1); copy++)
			this.#later(now + trip * (1 + copy), {
				kind: "answer",
				answer: {
					announced: 0,
					sequence,
					roundTrip: trip,
					sent,
					sentLarge,
					received,
					receivedLarge,
				},
			});
	}

	#later(at: number, event: Event): void {
		const index = this.#events.findIndex((other) => other.at > at);
		this.#events.splice(index < 0 ? this.#events.length : index, 0, { at, event });
	}

	#step(): void {
		const { now, wire } = this;
		this.#stepAt = now + STEP_MS;
		const { packets, large } = wire.traffic?.(now) ?? IDLE();
		const share = this.#fraction;
		share.packets += (packets * STEP_MS) / 1000;
		share.large += (large * STEP_MS) / 1000;
		for (; share.packets >= 1; share.packets--) {
			const isLarge = share.large >= 1;
			if (isLarge) share.large--;
			this.#totals.sent++;
			if (this.state.use !== "direct") continue;
			const counts = this.#counts;
			counts.sent++;
			if (isLarge) counts.sentLarge++;
			// As large as the MTU that Pods are told.
			const length = isLarge ? this.state.direct.size || 1500 : 100;
			if (!wire.passes("direct", "there", length, now)) continue;
			counts.received++;
			if (isLarge) counts.receivedLarge++;
		}
		if (now < this.#totalsAt) return;
		this.#totalsAt = now + TOTALS_MS;
		const anything = (["direct", "tunnel"] as const).some((way) =>
			wire.passes(way, "back", 100, now),
		);
		if (packets > 0 && (wire.hears?.(now) ?? anything)) this.#totals.received++;
		this.tell({ kind: "totals", ...this.#totals });
	}

	#note(): void {
		const { use, direct } = this.state;
		const last = this.moments.at(-1);
		const { phase, size } = direct;
		if (last?.use !== use || last.phase !== phase || last.size !== size)
			this.moments.push({ at: this.now, use, phase, size });
	}
}

export const SMALL = { 4: smallLength(4), 6: smallLength(6) } as const;

/** Freezes a value, to detect changes. */
function freeze<T>(value: T): T {
	if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
		Object.freeze(value);
		for (const inner of Object.values(value)) freeze(inner);
	}
	return value;
}
