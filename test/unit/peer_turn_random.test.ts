/**
 * Properties of the state machine of a peer's paths, whatever the network and the events. Beside it
 * stands an obvious ledger: which answers the direct path has brought since it failed last.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { ProbedPeer } from "../../src/compile/compile.js";
import { paceOf } from "../../src/probe/pace.js";
import { isProven, type Request } from "../../src/probe/path/path_state.js";
import {
	newPeer,
	noPath,
	type PeerState,
	type Policy,
	pathKey,
} from "../../src/probe/peer/peer_state.js";
import { PeerStates } from "../../src/probe/peer/peer_states.js";
import { advance, dueAt, type Event } from "../../src/probe/peer/peer_turn.js";
import type { Way } from "../../src/probe/request.js";
import {
	choice,
	type End,
	HYBRID,
	PaperPeer,
	randomOf,
	SMALL,
	type Wire,
} from "../tools/paper_peer.js";

const pace = fc
	.record({
		failoverTime: fc.constantFrom(300, 1000, 5000),
		holdTime: fc.constantFrom(1, 5, 20),
		holdTimeMax: fc.constantFrom(20, 300),
	})
	.map(paceOf);

const policy: fc.Arbitrary<Policy> = fc.oneof(
	{ weight: 4, arbitrary: fc.constant(HYBRID) },
	{
		weight: 1,
		arbitrary: fc
			.record({
				mode: fc.constantFrom("hybrid", "hybrid", "encap", "noEncap"),
				unverified: fc.boolean(),
				family: fc.constantFrom(4, 6),
				direct: fc.option(
					fc.tuple(fc.constantFrom("direct", "routed"), fc.constantFrom(1280, 1500, 9000)),
				),
				tunnel: fc.option(fc.constantFrom(1250, 1430, 8930)),
			})
			.map(
				({ mode, unverified, family, direct, tunnel }): Policy => ({
					mode,
					family,
					verified: mode === "hybrid" && !unverified,
					direct: direct === null || mode === "encap" ? undefined : choice(direct[0], direct[1]),
					tunnel: tunnel === null || mode === "noEncap" ? undefined : choice("vxlan", tunnel),
				}),
			),
	},
);

/** What the direct path has shown since it failed last, and what it is taken on the strength of. */
class Ledger {
	/** Longest request answered, both ways direct. */
	longest = 0;
	answers = 0;
	failedAt = Number.NEGATIVE_INFINITY;
	readonly #asked = new Map<number, Request>();

	note(
		before: PeerState,
		event: Event,
		after: PeerState,
		requests: readonly Request[],
		now: number,
	) {
		for (const request of requests) this.#asked.set(request.sequence, request);
		const answered = event.kind === "answer" ? this.#asked.get(event.answer.sequence) : undefined;
		const anew = pathKey(before.policy.direct) !== pathKey(after.policy.direct);
		if (anew || (after.direct.phase === "failed" && before.direct.phase !== "failed")) {
			this.longest = 0;
			this.answers = 0;
			if (!anew) this.failedAt = now;
		} else if (answered?.there === "direct" && answered.back === "direct") {
			this.longest = Math.max(this.longest, answered.length);
			this.answers++;
		}
	}
}

function check(
	ledger: Ledger,
	before: PeerState,
	after: PeerState,
	requests: readonly Request[],
	now: number,
	{ holdMax }: { holdMax: number },
): void {
	const { policy, direct, tunnel, use } = after;
	assert.ok(["direct", "tunnel", "down"].includes(use));
	const waits = now < after.announcement.waitUntil && after.announcement.takes !== true;
	if (policy.direct !== undefined && !policy.verified)
		assert.ok(use === "direct" || (waits && use === "tunnel"), "direct, or the peer's word is due");
	else if (policy.mode === "noEncap") assert.equal(use, "direct");
	else if (policy.direct === undefined) assert.notEqual(use, "direct");
	else if (use === "direct") {
		assert.ok(isProven(direct), "proven");
		assert.ok(direct.size > 0 && ledger.longest >= direct.size, "its size was answered");
		assert.ok(ledger.answers >= 4, "and small ones");
		if (before.use !== "direct")
			assert.ok(now - ledger.failedAt >= Math.min(after.hold, now), "after the hold time");
	}
	assert.ok(after.hold >= 0 && after.hold <= holdMax);
	for (const path of [direct, tunnel]) {
		assert.ok(path.size >= 0 && path.size <= path.full);
		assert.ok(path.asked.length <= 1000, `${path.asked.length} outstanding`);
		assert.equal(new Set(path.asked.map(({ sequence }) => sequence)).size, path.asked.length);
		if (path.full === 0) assert.equal(path.asked.length, 0);
	}
	for (const request of requests) {
		const { length, answerLength, there, back, purpose } = request;
		const full = purpose === "there" || purpose === "back" ? direct.full : after[there].full;
		assert.ok(length >= SMALL[policy.family], "at least what a request is");
		assert.ok(length <= full, `${purpose} of ${length} bytes on a path of ${full}`);
		assert.equal(answerLength, length);
		if (there !== back) assert.ok(purpose === "there" || purpose === "back");
		assert.equal(request.at, now);
	}
}

interface Spell {
	until: number;
	/** By way and direction. */
	links: Record<`${Way} ${End}`, { limit: number; loss: number }>;
	roundTrip: number;
	packets: number;
	copies: number;
	event: Event["kind"];
}

const link = fc.oneof(
	{ weight: 3, arbitrary: fc.constant({ limit: 9000, loss: 0 }) },
	{ weight: 1, arbitrary: fc.constant({ limit: 0, loss: 0 }) },
	{
		weight: 1,
		arbitrary: fc.record({
			limit: fc.constantFrom(1200, 1279, 1280, 1333, 1400, 9000),
			loss: fc.constantFrom(0, 2, 20, 60),
		}),
	},
);

const spells: fc.Arbitrary<Spell[]> = fc
	.array(
		fc.record({
			time: fc.constantFrom(150, 700, 2500, 8000, 40_000),
			links: fc.record({
				"direct there": link,
				"direct back": link,
				"tunnel there": link,
				"tunnel back": link,
			}),
			roundTrip: fc.constantFrom(0.1, 0.1, 3, 90, 700),
			packets: fc.constantFrom(0, 5, 800),
			copies: fc.constantFrom(1, 1, 2),
			event: fc.constantFrom<Event["kind"]>("tick", "traffic", "greeting"),
		}),
		{ minLength: 2, maxLength: 12 },
	)
	.map((spells) => {
		let until = 0;
		return spells.map(({ time, ...spell }) => {
			until += time;
			return { ...spell, until };
		});
	});

function wireOf(spells: readonly Spell[], seed: number): Wire {
	const random = randomOf(seed);
	const at = (now: number) => spells.find(({ until }) => now < until) ?? spells.at(-1)!;
	return {
		passes(way, end, length, now) {
			const { limit, loss } = at(now).links[`${way} ${end}`];
			return length <= limit && (loss === 0 || random() * 100 >= loss);
		},
		roundTrip: (_way, now) => at(now).roundTrip,
		copies: (now) => at(now).copies,
		traffic: (now) => ({ packets: at(now).packets, large: at(now).packets / 3 }),
	};
}

t.test("in any network: direct only after a fresh proof", async () => {
	let returns = 0;
	fc.assert(
		fc.property(spells, policy, pace, fc.nat(1000), (spells, policy, pace, seed) => {
			const peer = new PaperPeer(wireOf(spells, seed), { policy, pace, seed });
			const ledger = new Ledger();
			peer.onTurn = (before, event, requests) => {
				ledger.note(before, event, peer.state, requests, peer.now);
				check(ledger, before, peer.state, requests, peer.now, pace);
				if (before.use === "tunnel" && peer.state.use === "direct") returns++;
			};
			for (const { until, event } of spells) {
				peer.run(until);
				const { turns, now } = peer;
				peer.tell({ kind: event } as Event);
				peer.run(now + 1);
				assert.ok(peer.turns - turns < 200, "no spinning");
			}
			const seconds = peer.now / 1000;
			// Steps of the paper, answers and their copies, and what is due.
			assert.ok(peer.turns < 400 * (seconds + 2), `${peer.turns} turns in ${seconds} s`);
			assert.ok(peer.requests.length < 200 * (seconds + 2));
		}),
		{ numRuns: 150 },
	);
	assert.ok(returns > 30, `${returns} times direct`);
});

t.test("a peer that sends is not down", async () => {
	fc.assert(
		fc.property(spells, fc.nat(1000), (spells, seed) => {
			const peer = new PaperPeer(
				{ ...wireOf(spells, seed), traffic: () => ({ packets: 100, large: 0 }), hears: () => true },
				{ seed },
			);
			peer.run(spells.at(-1)?.until ?? 0);
			assert.equal(peer.first("down"), -1);
		}),
		{ numRuns: 60 },
	);
});

t.test("without loss, the best path is used, at its full size", async () => {
	fc.assert(
		fc.property(
			spells,
			fc.constantFrom(0, 1300, 1400, 9000),
			fc.constantFrom(0, 1300, 1400, 9000),
			fc.nat(1000),
			(spells, direct, tunnel, seed) => {
				const last = spells.at(-1)!;
				const now = last.until;
				const limits = { direct, tunnel };
				const wire = wireOf(spells, seed);
				const peer = new PaperPeer(
					{
						...wire,
						passes: (way, end, length, at) =>
							at < now ? wire.passes(way, end, length, at) : length <= limits[way],
						traffic: () => ({ packets: 100, large: 50 }),
						hears: (at) => at < now || direct + tunnel > 0,
						roundTrip: () => 0.2,
						copies: () => 1,
					},
					{ seed },
				);
				peer.run(now + 500_000);
				const size = { direct: Math.min(1500, direct), tunnel: Math.min(1450, tunnel) };
				const { state } = peer;
				if (direct > 0) assert.equal(state.direct.size, size.direct);
				// Which is seldom asked with while nothing takes it.
				if (state.use === "tunnel") assert.equal(state.tunnel.size, size.tunnel);
				const best = size.direct === 1500 || size.direct > size.tunnel ? "direct" : "tunnel";
				if (direct + tunnel > 0) assert.equal(state.use, best);
				else assert.notEqual(state.use, "direct");
			},
		),
		{ numRuns: 25 },
	);
});

type Order =
	| { kind: "wait"; time: number }
	| { kind: "due" }
	| { kind: "answer"; pick: number; counts: number[]; roundTrip: number }
	| { kind: "unknown"; sequence: number }
	| { kind: "event"; event: Event };

const order: fc.Arbitrary<Order> = fc.oneof(
	{ weight: 6, arbitrary: fc.constant<Order>({ kind: "due" }) },
	{
		weight: 2,
		arbitrary: fc.record({
			kind: fc.constant("wait" as const),
			time: fc.constantFrom(0, 1, 30, 400, 4000, 1e6),
		}),
	},
	{
		weight: 8,
		arbitrary: fc.record({
			kind: fc.constant("answer" as const),
			pick: fc.nat(5),
			counts: fc.array(fc.constantFrom(0, 1, 40, 5000, 2 ** 31, 2 ** 32 - 1), {
				minLength: 4,
				maxLength: 4,
			}),
			roundTrip: fc.constantFrom(0, 0.05, 50, 5000),
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({ kind: fc.constant("unknown" as const), sequence: fc.nat(2 ** 32 - 1) }),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			kind: fc.constant("event" as const),
			event: fc.oneof<fc.Arbitrary<Event>[]>(
				fc.constant<Event>({ kind: "traffic" }),
				fc.constant<Event>({ kind: "greeting" }),
				fc.record({ kind: fc.constant("totals" as const), sent: fc.nat(9), received: fc.nat(9) }),
				fc.record({ kind: fc.constant("policy" as const), policy }),
			),
		}),
	},
);

/** The family of a peer's Pods is part of its index. */
function ofFamily(event: Event, family: Policy["family"]): Event {
	return event.kind === "policy" ? { ...event, policy: { ...event.policy, family } } : event;
}

/** States in rows are what they were as objects; what a path that does not exist would be is nobody's question. */
function checkAtRest(states: PeerStates, row: number, peer: ProbedPeer, state: PeerState): void {
	const existing = ({ direct, tunnel, ...rest }: PeerState) => ({
		...rest,
		direct: direct.full === 0 ? noPath("direct") : direct,
		tunnel: tunnel.full === 0 ? noPath("tunnel") : tunnel,
	});
	states.write(row, state);
	assert.deepEqual(states.read(row, peer), existing(state), "as it was written");
	assert.deepEqual(states.take(row, peer), existing(state), "in the object for all");
	assert.deepEqual(states.policy(row, peer), state.policy);
	assert.equal(states.hold(row), state.hold);
}

/** A peer for which these are the rules. */
function peerOf({ family, direct, tunnel }: Policy): ProbedPeer {
	return {
		...{ index: 4, node: "n2", family, source: "", destination: "", direct, tunnel },
		...{ lacks: { direct: "", tunnel: "" }, candidate: true },
	};
}

t.test("any events: pure and never stuck", async () => {
	fc.assert(
		fc.property(
			fc.array(order, { minLength: 20, maxLength: 300 }),
			policy,
			pace,
			(orders, first, pace) => {
				let state = newPeer(first, 77, 0);
				let now = 0;
				const states = new PeerStates();
				const [row, other] = [states.add(state), states.add(newPeer(HYBRID, 5, 0))];
				const ledger = new Ledger();
				const open: number[] = [];
				for (const order of orders) {
					let event: Event = { kind: "tick" };
					if (order.kind === "wait") now += order.time;
					else if (order.kind === "due") {
						const due = dueAt(state, pace);
						if (Number.isFinite(due)) now = Math.max(now, due);
					} else if (order.kind === "event") event = ofFamily(order.event, first.family);
					else {
						const [sent = 0, sentLarge = 0, received = 0, receivedLarge = 0] =
							order.kind === "answer" ? order.counts : [];
						const sequence =
							order.kind === "answer" ? (open.at(-1 - order.pick) ?? -1) : order.sequence;
						const announced = order.kind === "answer" ? order.pick % 16 : 0;
						const roundTrip = order.kind === "answer" ? order.roundTrip : 1;
						event = {
							kind: "answer",
							answer: { announced, sequence, roundTrip, sent, sentLarge, received, receivedLarge },
						};
					}
					const copy = structuredClone(state);
					const turn = advance(state, event, now, pace);
					assert.deepEqual(state, copy, "what was given is as it was");
					assert.deepEqual(advance(copy, structuredClone(event), now, pace), turn, "the same");
					for (const { sequence } of turn.requests) open.push(sequence);
					ledger.note(state, event, turn.state, turn.requests, now);
					check(ledger, state, turn.state, turn.requests, now, pace);
					state = turn.state;
					// What is due now is done in a few turns.
					let turns = 0;
					for (; dueAt(state, pace) <= now; turns++) {
						const more = advance(state, { kind: "tick" }, now, pace);
						assert.notDeepEqual(more.state, state, "a turn that is due does something");
						assert.ok(turns < 5, "again and again at the same time");
						for (const { sequence } of more.requests) open.push(sequence);
						ledger.note(state, { kind: "tick" }, more.state, more.requests, now);
						check(ledger, state, more.state, more.requests, now, pace);
						state = more.state;
					}
					checkAtRest(states, row, peerOf(state.policy), state);
					const due = dueAt(state, pace);
					assert.ok(!Number.isNaN(due));
					const asks = state.direct.full > 0 || state.tunnel.full > 0;
					assert.equal(Number.isFinite(due), asks, "who can be asked is");
				}
				const untouched = newPeer(HYBRID, 5, 0);
				assert.deepEqual(states.read(other, peerOf(HYBRID)), untouched, "one row is one peer's");
				states.remove(row);
				assert.equal(states.add(newPeer(first, 78, 1)), row, "its place is used again");
				checkAtRest(states, row, peerOf(first), newPeer(first, 78, 1));
			},
		),
		{ numRuns: 200 },
	);
});
