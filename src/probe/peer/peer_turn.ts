/**
 * The state machine of a peer's paths: from a state, an event and the time it computes the next state
 * and the requests to send now. Pure and deterministic; the given state is not changed.
 *
 *  1. the event      an answer, traffic, a greeting, counts, another policy; or only time
 *  2. expire         requests that were not answered in time
 *  3. paths          each sends the requests that are due
 *  4. comparison     loss of the direct path against loss of the tunnel
 *  5. one way        the direction in which a failed direct path fails
 *  6. judge          a silent path has failed if the other one answers, or after some time
 *  7. choose         the path that packets take
 */

import type { Pace } from "../pace.js";
import { isProven, type PathState, type Purpose, type Request } from "../path/path_state.js";
import {
	type Asker,
	answered,
	expire,
	fail,
	isLossy,
	SILENT,
	type Situation,
	step,
	timeoutOf,
} from "../path/path_turn.js";
import { suspectGrowth, suspectSize } from "../path/size_doubt.js";
import { smallLength } from "../request.js";
import { begin, hear, mayGoUntunnelled, passed, WAIT_MS } from "./announcement.js";
import { stepComparison, suspectLoss } from "./loss_comparison.js";
import { isUnverified, useOf } from "./path_choice.js";
import {
	type Counts,
	copyPeer,
	type PeerState,
	type Policy,
	pathFor,
	pathKey,
} from "./peer_state.js";
import { comparePodPackets } from "./pod_packets.js";

export type Event =
	| { kind: "tick" }
	| { kind: "answer"; answer: Answer }
	/** Traffic to the peer has begun. */
	| { kind: "traffic" }
	/** The peer has sent a request and said that it is new. */
	| { kind: "greeting" }
	/** Total packets sent to and received from the peer, on both paths. */
	| { kind: "totals"; sent: number; received: number }
	| { kind: "policy"; policy: Policy };

export interface Answer extends Counts {
	/** ProbeFlag, of the peer's core. */
	announced: number;
	/** Round trip by the core's clock, ms. */
	roundTrip: number;
}

export interface Turn {
	state: PeerState;
	requests: Request[];
	/** How the event, if it was an answer, was handled: in time, late, or for no known request. */
	answer: "taken" | "late" | "unknown" | undefined;
}

const SEARCH_PAUSE_MS = 1000;
const ONE_WAY = { requests: 3, pauseMs: 30_000, pauseActiveMs: 10_000 };
/** After the direct path has been healthy for this long, earlier failures are forgotten. */
const FORGIVEN_MS = 600_000;

export function advance(before: PeerState, event: Event, now: number, pace: Pace): Turn {
	return advanceOwn(copyPeer(before), event, now, pace);
}

/** The same, but the given state becomes the next one. */
export function advanceOwn(own: PeerState, event: Event, now: number, pace: Pace): Turn {
	const turn = new PeerTurn(own, now, pace);
	turn.take(event);
	turn.settle(event.kind);
	return { state: turn.state, requests: turn.requests, answer: turn.answer };
}

/** The time of the next `advance` that has work to do without an event, ms. */
export function dueAt(state: PeerState, pace: Pace): number {
	const { direct, tunnel, comparison } = state;
	let due = Number.POSITIVE_INFINITY;
	for (const path of [direct, tunnel]) {
		if (path.full === 0) continue;
		due = Math.min(due, path.nextAt);
		if (path.search !== undefined) due = Math.min(due, path.search.nextAt);
		else if (path.phase === "proving" || path.phase === "proven") due = Math.min(due, path.fullAt);
		const timeout = timeoutOf(path, pace);
		for (const { missed, at } of path.asked) if (!missed) due = Math.min(due, at + timeout);
	}
	if (comparison !== undefined) due = Math.min(due, comparison.nextAt);
	const { sendsUntil, waitUntil } = state.announcement;
	due = Math.min(due, sendsUntil);
	if (state.use === "tunnel" && isUnverified(state)) due = Math.min(due, waitUntil);
	if (asksOneWay(state)) due = Math.min(due, state.oneWayAt);
	return due;
}

export function isActive({ trafficAt }: PeerState, now: number, { active }: Pace): boolean {
	return now - trafficAt < active;
}

/** True if the direct path fails while the tunnel works, so that the failing direction can be found. */
function asksOneWay({ direct, tunnel }: PeerState): boolean {
	return direct.full > 0 && tunnel.full > 0 && !isProven(direct) && isProven(tunnel);
}

class PeerTurn implements Asker {
	readonly now: number;
	readonly pace: Pace;
	readonly state: PeerState;
	readonly requests: Request[] = [];
	answer: Turn["answer"];

	constructor(state: PeerState, now: number, pace: Pace) {
		this.now = now;
		this.pace = pace;
		this.state = state;
	}

	// ------------------------------------------------------------ 1. the event

	take(event: Event): void {
		const { state, now } = this;
		switch (event.kind) {
			case "answer":
				this.takeAnswer(event.answer);
				break;
			case "traffic":
				this.trafficBegins();
				break;
			case "greeting":
				this.askAtOnce();
				break;
			case "totals":
				if (event.sent !== state.sentTotal) state.trafficAt = now;
				if (event.received !== state.receivedTotal) state.receivedAt = now;
				state.sentTotal = event.sent;
				state.receivedTotal = event.received;
				break;
			case "policy":
				this.takePolicy(event.policy);
				break;
			case "tick":
		}
	}

	/** The path may not have been probed for a long time. */
	private trafficBegins(): void {
		const { state, now, pace } = this;
		const before = isActive(state, now, pace);
		state.trafficAt = now;
		if (before) return;
		this.askAtOnce();
	}

	private askAtOnce(): void {
		const { direct, tunnel } = this.state;
		for (const path of [direct, tunnel]) {
			if (path.full === 0) continue;
			path.nextAt = this.now;
			path.backoff = 0;
		}
	}

	private takePolicy(policy: Policy): void {
		const { state, now } = this;
		if (pathKey(state.policy.direct) !== pathKey(policy.direct)) {
			state.direct = pathFor("direct", policy, now);
			state.comparison = undefined;
			state.hold = 0;
		}
		if (pathKey(state.policy.tunnel) !== pathKey(policy.tunnel))
			state.tunnel = pathFor("tunnel", policy, now);
		if (state.policy.mode === "encap" && policy.mode !== "encap")
			state.announcement = begin(state.announcement, now);
		state.policy = policy;
		// A peer that has never answered does not run Fairway, or is down.
		if (isUnverified(state) && state.use === "tunnel" && state.announcement.heard)
			state.announcement = { ...state.announcement, waitUntil: now + WAIT_MS };
	}

	private takeAnswer(answer: Answer): void {
		const { state, now } = this;
		const path = [state.direct, state.tunnel].find(({ asked }) =>
			asked.some(({ sequence }) => sequence === answer.sequence),
		);
		const request = path?.asked.find(({ sequence }) => sequence === answer.sequence);
		if (path === undefined || request === undefined) {
			this.answer = "unknown";
			return;
		}
		this.answer = request.missed ? "late" : "taken";
		state.announcement = hear(state.announcement, answer.announced, now);
		path.asked = path.asked.filter((one) => one !== request);
		if (request.purpose === "there" || request.purpose === "back")
			state[request.purpose].answered++;
		else answered(path, request, answer.roundTrip, now);
		if (request.purpose === "compare" && state.comparison !== undefined)
			state.comparison[path.way].answered++;
		const { lossy, missingLarge } = comparePodPackets(state, answer, now);
		if (lossy) suspectLoss(state, this);
		if (missingLarge) this.suspectSize();
	}

	/** From now on, one missed full-size request starts a search. */
	private suspectSize(): void {
		const { state, now } = this;
		if (now < state.searchAfter) return;
		state.searchAfter = now + SEARCH_PAUSE_MS;
		for (const path of [state.direct, state.tunnel]) suspectSize(path, now);
	}

	// ------------------------------------------------------------ 2. to 7.

	settle(kind: Event["kind"]): void {
		const { state } = this;
		state.announcement = passed(state.announcement, this.now);
		// After an answer, others may still be queued, so requests expire only on other events.
		if (kind !== "answer") for (const path of [state.direct, state.tunnel]) expire(path, this);
		if (state.direct.phase === "proven" && isLossy(state.direct)) suspectLoss(state, this);
		const inDoubt = state.direct.phase === "suspect";
		if (state.direct.full > 0) step(state.direct, this, this.situation(state.direct, false));
		// The same link may limit both paths.
		if (state.direct.search !== undefined && state.direct.searchedAt === this.now)
			suspectSize(state.tunnel, this.now);
		if (state.tunnel.full > 0) step(state.tunnel, this, this.situation(state.tunnel, inDoubt));
		// The limit may have been lifted for both.
		if (state.tunnel.grownAt === this.now) suspectGrowth(state.direct, this.now);
		if (state.direct.grownAt === this.now) suspectGrowth(state.tunnel, this.now);
		this.compare();
		this.askOneWay();
		this.judge();
		this.choose();
		this.hurry();
	}

	/** Only the peer's announcement is missing, which its next answer brings: probes follow each other quickly. */
	private hurry(): void {
		const { state, now, pace } = this;
		const { direct, policy } = state;
		const isNew = policy.verified ? now - direct.phaseAt < WAIT_MS : isUnverified(state);
		if (state.use !== "tunnel" || !isNew || (policy.verified && !isProven(direct))) return;
		if (mayGoUntunnelled(state.announcement, policy.verified, now)) return;
		direct.nextAt = Math.min(direct.nextAt, now + pace.burst);
	}

	private situation(path: PathState, companion: boolean): Situation {
		const { state, now, pace } = this;
		const active = isActive(state, now, pace);
		const taken = state.use === path.way || (state.use === "down" && path.way === "tunnel");
		return {
			active,
			watched: active && taken,
			companion,
			heard: this.hears(),
			hold: path.way === "direct" ? state.hold : 0,
		};
	}

	private compare(): void {
		const { state } = this;
		const loss = stepComparison(state, this);
		if (loss === undefined || state.direct.phase === "failed") return;
		this.directFails("loss");
		state.direct.causeLoss = loss;
	}

	private askOneWay(): void {
		const { state, now, pace } = this;
		if (!asksOneWay(state) || now < state.oneWayAt) return;
		if (state.there.asked >= ONE_WAY.requests) {
			state.there = { asked: 0, answered: 0 };
			state.back = { asked: 0, answered: 0 };
		}
		this.ask(state.direct, "there", 0);
		this.ask(state.direct, "back", 0);
		state.there.asked++;
		state.back.asked++;
		const pause = isActive(state, now, pace) ? ONE_WAY.pauseActiveMs : ONE_WAY.pauseMs;
		state.oneWayAt = now + (state.there.asked < ONE_WAY.requests ? pace.burst : this.jitter(pause));
	}

	private judge(): void {
		const { state, now, pace } = this;
		const { direct, tunnel } = state;
		const silent = ({ phase, misses }: PathState) => phase === "suspect" && misses >= SILENT;
		const forLong = ({ phaseAt }: PathState) => now - phaseAt >= pace.downAfter;
		if (silent(direct)) {
			// Both were probed at the same time and alike, so the cause is neither the peer nor this Node.
			if (tunnel.full > 0 && tunnel.answeredAt >= direct.phaseAt) this.directFails("silent");
			else if (forLong(direct)) {
				fail(direct, tunnel.full > 0 ? "peer" : "silent", this);
				if (silent(tunnel) && !this.hears()) fail(tunnel, "peer", this);
			}
		}
		if (silent(tunnel) && forLong(tunnel) && !this.hears()) fail(tunnel, "peer", this);
	}

	private hears(): boolean {
		const { state, now, pace } = this;
		return now - state.receivedAt < pace.downAfter;
	}

	private directFails(cause: "silent" | "loss"): void {
		const { state, now, pace } = this;
		fail(state.direct, cause, this);
		const forgiven = state.hold === 0 || now - state.directSince > FORGIVEN_MS;
		state.hold = forgiven ? pace.hold : Math.min(2 * state.hold, pace.holdMax);
		state.oneWayAt = now;
		state.there = { asked: 0, answered: 0 };
		state.back = { asked: 0, answered: 0 };
	}

	private choose(): void {
		const { state, now } = this;
		const before = state.use;
		state.use = useOf(state, now);
		if (state.use === "direct" && before !== "direct") state.directSince = now;
		// Its size may have been tested long ago.
		if (state.use === "tunnel" && before === "direct") state.tunnel.fullAt = now;
	}

	// ------------------------------------------------------------ Asker

	jitter(time: number): number {
		// Marsaglia's xorshift: good enough to keep Nodes from probing in step.
		let x = this.state.seed;
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		this.state.seed = x | 0 || 1;
		return time * (0.85 + 0.3 * ((x >>> 0) / 2 ** 32));
	}

	ask(path: PathState, purpose: Purpose, length: number): void {
		const { state, now } = this;
		state.sequence = (state.sequence + 1) & 0x7fffffff;
		const size = length || smallLength(state.policy.family);
		const request: Request = {
			sequence: state.sequence,
			at: now,
			there: purpose === "back" ? "tunnel" : path.way,
			back: purpose === "there" ? "tunnel" : path.way,
			length: size,
			answerLength: size,
			purpose,
			hello: !path.everAnswered,
			missed: false,
		};
		path.asked = [...path.asked, request];
		this.requests.push(request);
	}
}
