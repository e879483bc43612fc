/**
 * Probes the peers and keeps the state of their paths: the state machine (peer_turn.ts) with a clock, a
 * raw socket and the ring `probe_events`.
 *
 *  1. runs the state machines of the peers that are due
 *  2. takes events from the core: answers, greetings, beginning traffic
 *  3. sends requests, at a limited rate
 *  4. tells the agent when another path must be used, which then compiles
 */
import { randomInt } from "node:crypto";
import type { PathVerdict, ProbedPeer } from "../compile/compile.js";
import type { Config } from "../config/config.js";
import { atOnce, inTurns, type Steps } from "../loop/turns.js";
import type { AdoptedPath } from "../reconcile/maps/adopted_paths.js";
import type { EntryChanges } from "../tables/changes.js";
import { ProbeEvent, ProbeRecord } from "../tables/generated.js";
import { peerKey } from "../tables/paths.js";
import { Budget } from "./budget.js";
import { DueQueue } from "./due_queue.js";
import { type Pace, paceOf } from "./pace.js";
import { lossOf, type PathState, type Request } from "./path/path_state.js";
import { adopt } from "./peer/adoption.js";
import { policyOf, samePolicy } from "./peer/peer_policy.js";
import { PeerRecords, type Probed } from "./peer/peer_records.js";
import { newPeer, type PeerState, type Policy } from "./peer/peer_state.js";
import { advanceOwn, dueAt, type Event, isActive } from "./peer/peer_turn.js";
import { probesDecide, saysTheSame, verdictOf } from "./peer/peer_verdict.js";
import { requestPacket } from "./request.js";
import { Schedule, SLACK_MS } from "./schedule.js";
import type { PathSurvey, SurveyCell } from "./survey/survey.js";
import { SURVEY_SEQUENCE, Surveyor, type SurveyProgress } from "./survey/surveyor.js";
import { describe, proofOf } from "./words.js";

export interface ProberOptions {
	/** Sends an IP packet as it is; the buffer is reused afterwards. */
	send(packet: Buffer): void;
	/** Total packets to and from a peer, on both paths. */
	totals(index: number): { sent: number; received: number };
	/** By index in peers: the paths in use when the agent started. Each is taken out when it is used. */
	adopted: Map<number, AdoptedPath>;
	/** Hold times of direct paths that have failed, ms; by "NODE/FAMILY", as returned by `holds`. */
	holds: Readonly<Record<string, number>>;
	/** This verdict has changed: what the packets of one peer depend on. Cheap work only. */
	onVerdict?: (index: number) => void;
	/** Verdicts have changed: for everything else that depends on them. */
	onChange(): void;
	/** Monotonic milliseconds. */
	clock?: () => number;
}

/** Facts about the path in use to a peer. */
export interface PathFacts {
	/** Why this path is used, if probes decide it: a sentence. */
	words: string | undefined;
	/** The result of probes: a clause. */
	proof: string | undefined;
	roundTripMs: number | null;
	/** Share of recent probes, 0 to 1. */
	loss: number | null;
	probes: ProbeCounters;
}

/** Counters of all peers or of one, since the agent started. */
export interface ProbeCounters {
	sent: number;
	answered: number;
	/** Answered after the time-out. */
	late: number;
}

/** How often a peer's counters are read while something depends on them. */
const TOTALS_MS = { often: 1000, seldom: 3000 };
/** New peers are probed this far apart, all within the maximum. */
const SPREAD = { peerMs: 1, mostMs: 3000 };
/** Minimum time between notifications: an apply takes some 30 ms with a thousand peers. */
const TOLD_MS = 100;
/** Idle paths are less urgent. */
const IDLE_TURNS = 3;

export class Prober {
	readonly counters: ProbeCounters = { sent: 0, answered: 0, late: 0 };
	readonly #options: Required<ProberOptions>;
	readonly #peers = new PeerRecords();
	readonly #due = new DueQueue();
	/** Peers that are not probed before the next start. */
	readonly #added = new Set<number>();
	readonly #surveyor: Surveyor;
	/** Buffer for every request: the longest IP packet. */
	readonly #room = Buffer.alloc(65_535);
	#pace: Pace;
	readonly #schedule: Schedule;
	readonly #budget: Budget;
	#telling: NodeJS.Timeout | undefined;
	#toldAt = Number.NEGATIVE_INFINITY;
	/** Takes the indexes of peers whose verdicts change meanwhile. */
	#configuring: number[] | undefined;

	constructor(config: Config["probes"], options: ProberOptions) {
		this.#options = { clock: () => performance.now(), onVerdict: () => {}, ...options };
		this.#pace = paceOf(config);
		const { clock } = this.#options;
		this.#budget = new Budget(clock());
		this.#schedule = new Schedule({
			clock,
			first: () => this.#due.first,
			run: (now) => this.#run(now),
		});
		this.#surveyor = new Surveyor((peer, request) => this.#send(peer, request), clock);
	}

	/**
	 * Takes another set of peers with their paths, with turns of the event loop between; peers that remain keep their
	 * state. Returns the indexes of peers whose verdict has changed by it.
	 *
	 * @param whole peers that are not put were removed
	 */
	change(
		changes: EntryChanges<number, ProbedPeer>,
		whole: boolean,
		config: Config,
	): Promise<number[]> {
		return inTurns(this.#changeSteps(changes, whole, config));
	}

	/** The same for exactly these peers, at once. Returns whether a verdict has changed. */
	configure(peers: readonly ProbedPeer[], config: Config): boolean {
		const put = new Map(peers.map((peer) => [peer.index, peer]));
		return atOnce(this.#changeSteps({ put, remove: new Set() }, true, config)).length > 0;
	}

	*#changeSteps(
		{ put, remove }: EntryChanges<number, ProbedPeer>,
		whole: boolean,
		config: Config,
	): Steps<number[]> {
		const now = this.#options.clock();
		this.#pace = paceOf(config.probes);
		const gone = whole ? [...this.#peers.indexes()].filter((index) => !put.has(index)) : remove;
		for (const index of gone) {
			this.#peers.delete(index);
			this.#due.delete(index);
			this.#added.delete(index);
		}
		const changed: number[] = [];
		for (const peer of put.values()) {
			const known = this.#peers.peer(peer.index);
			yield;
			this.#configuring = changed;
			const policy = policyOf(peer, config);
			if (known?.node !== peer.node) {
				this.#add(peer, policy, now);
			} else {
				const isSame = samePolicy(this.#peers.policy(peer.index)!, policy);
				const probed = isSame ? undefined : this.#peers.get(peer.index);
				this.#peers.setPeer(peer);
				if (probed !== undefined)
					this.#advance({ ...probed, peer }, { kind: "policy", policy }, now);
			}
			this.#configuring = undefined;
		}
		this.#schedule.arm();
		return changed;
	}

	/** Peers, by "NODE/FAMILY", whose direct path the mode may use once it is proven. */
	candidates(): Set<string> {
		return new Set([...this.#peers.peers()].filter(({ candidate }) => candidate).map(peerKey));
	}

	/** Starts to probe all peers. Call when the core and the kernel have what these need to send and answer requests. */
	start(): void {
		const now = this.#options.clock();
		let number = 0;
		for (const index of this.#added)
			this.#due.set(index, now + Math.min(number++ * SPREAD.peerMs, SPREAD.mostMs));
		this.#added.clear();
		this.#schedule.start();
	}

	/** The verdict by index in peers; the same object as long as its content is the same. */
	get(index: number): PathVerdict | undefined {
		return this.#peers.verdict(index);
	}

	/** One peer without its sentence, which costs time: `fairway status` adds up thousands. */
	countersOf(index: number): Readonly<ProbeCounters> | undefined {
		return this.#peers.counters(index);
	}

	/** The current facts for `fairway peers`. */
	facts(index: number): PathFacts | undefined {
		const probed = this.#peers.get(index);
		if (probed === undefined) return undefined;
		const { state, peer } = probed;
		const path = state.use === "direct" ? state.direct : state.tunnel;
		return {
			words: probesDecide(state) ? describe(state, peer.node, this.#options.clock()) : undefined,
			proof: path.everAnswered ? proofOf(path) : undefined,
			roundTripMs: path.roundTrip === 0 ? null : Math.round(path.roundTrip * 1000) / 1000,
			loss: lossOf(path) ?? null,
			probes: this.#peers.counters(index)!,
		};
	}

	/** Hold times, for the next agent. */
	holds(): Record<string, number> {
		const holds: Record<string, number> = {};
		for (const peer of this.#peers.peers()) {
			const hold = this.#peers.hold(peer.index);
			if (hold > 0) holds[peerKey(peer)] = hold;
		}
		return holds;
	}

	/**
	 * What works to these Nodes, probed now; all Nodes by default. Takes a second for up to 50 paths,
	 * and one more for each further 50. Rejects with the signal's reason when that aborts.
	 */
	async survey(nodes?: readonly string[], signal?: AbortSignal): Promise<PathSurvey[]> {
		const chosen = [...this.#peers.peers()].filter(({ node }) => nodes?.includes(node) ?? true);
		return Promise.all(
			chosen.map(async (peer) => {
				const { direct, tunnel } = this.#peers.get(peer.index)!.state;
				const before = direct.everAnswered || tunnel.everAnswered;
				const cells: SurveyCell[] = await this.#surveyor.ask(peer, signal);
				return {
					node: peer.node,
					family: peer.family,
					transportAddress: peer.direct?.remote ?? peer.tunnel?.remote ?? "",
					direct:
						peer.direct?.path === "direct" || peer.direct?.path === "routed"
							? { kind: peer.direct.path, mtu: peer.direct.mtu }
							: { none: peer.lacks.direct },
					tunnel:
						peer.tunnel?.path === "geneve" || peer.tunnel?.path === "vxlan"
							? { kind: peer.tunnel.path, mtu: peer.tunnel.mtu }
							: { none: peer.lacks.tunnel },
					cells,
					answers: before || cells.some(({ answered }) => answered > 0),
				};
			}),
		);
	}

	/** Progress of the surveys under way, or of the last ones. */
	surveyProgress(): SurveyProgress {
		return this.#surveyor.progress;
	}

	/** Takes a record of the ring `probe_events`. */
	take(bytes: Buffer): void {
		this.#schedule.tookAnswer();
		const record = ProbeRecord.decode(bytes);
		const now = this.#options.clock();
		if (record.event === ProbeEvent.ANSWERED && record.sequence >= SURVEY_SEQUENCE) {
			this.counters.answered++;
			this.#surveyor.answered(record.sequence, Number(record.roundTrip) / 1e6);
			return;
		}
		const probed = this.#peers.get(record.index);
		if (probed === undefined) return;
		switch (record.event) {
			case ProbeEvent.ANSWERED: {
				const { sequence, sentPackets, sentLarge, receivedPackets, receivedLarge } = record;
				const answer = {
					announced: record.announced,
					sequence,
					sent: sentPackets,
					sentLarge,
					received: receivedPackets,
					receivedLarge,
					roundTrip: Number(record.roundTrip) / 1e6,
				};
				this.#advance(probed, { kind: "answer", answer }, now);
				break;
			}
			case ProbeEvent.GREETED:
				this.#advance(probed, { kind: "greeting" }, now);
				break;
			case ProbeEvent.TRAFFIC:
				this.#advance(probed, { kind: "traffic" }, now);
				break;
			default:
		}
		this.#schedule.arm();
	}

	close(): void {
		this.#schedule.close();
		clearTimeout(this.#telling);
		this.#surveyor.close();
	}

	#add(peer: ProbedPeer, policy: Policy, now: number): void {
		const state = newPeer(policy, randomInt(1, 2 ** 31), now);
		state.hold = Math.min(this.#options.holds[peerKey(peer)] ?? 0, this.#pace.holdMax);
		const adopted = this.#options.adopted.get(peer.index);
		this.#options.adopted.delete(peer.index);
		if (adopted !== undefined) adopt(state, adopted, now, this.#pace);
		this.#peers.add(peer, state, verdictOf(state, peer.node, now));
		this.#due.delete(peer.index);
		this.#added.add(peer.index);
		this.#configuring?.push(peer.index);
	}

	#advance({ peer, row, state }: Probed, event: Event, now: number): void {
		const { requests, answer } = advanceOwn(state, event, now, this.#pace);
		const answered = answer === "taken" || answer === "late" ? 1 : 0;
		const late = answer === "late" ? 1 : 0;
		this.#peers.write(row, state, { sent: requests.length, answered, late });
		this.counters.answered += answered;
		this.counters.late += late;
		for (const request of requests) {
			this.#budget.spend();
			this.#send(peer, request);
		}
		// Never twice in the same turn.
		const due = Math.max(dueAt(state, this.#pace), now + 1);
		// Less urgent work is done together: with few requests, waking up is most of the cost.
		const grid = isActive(state, now, this.#pace) ? this.#pace.turn : IDLE_TURNS * this.#pace.turn;
		const { index, node } = peer;
		this.#due.set(index, isCalm(state) ? Math.ceil(due / grid) * grid : due);
		if (saysTheSame(this.#peers.verdict(index)!, state)) return;
		this.#peers.setVerdict(index, verdictOf(state, node, now));
		if (this.#configuring !== undefined) {
			this.#configuring.push(index);
			return;
		}
		this.#options.onVerdict(index);
		this.#tellOfChange(now);
	}

	/** Notifies at once, but combines many changes: with many peers an apply is long. */
	#tellOfChange(now: number): void {
		if (this.#telling !== undefined) return;
		const wait = this.#toldAt + TOLD_MS - now;
		const tell = () => {
			this.#telling = undefined;
			this.#toldAt = this.#options.clock();
			this.#options.onChange();
		};
		if (wait <= 0) tell();
		else this.#telling = setTimeout(tell, wait);
	}

	#send(
		{ source, destination }: ProbedPeer,
		request: Omit<Request, "at" | "purpose" | "missed">,
	): void {
		this.counters.sent++;
		this.#options.send(requestPacket({ source, destination, ...request }, this.#room));
	}

	#run(now: number): void {
		this.#budget.refill(now);
		while (this.#budget.has) {
			const due = this.#due.take(now + SLACK_MS);
			const probed = due && this.#peers.get(due.key);
			if (probed === undefined) break;
			const at = Math.max(now, due?.at ?? now);
			this.#advance(probed, this.#timePasses(probed, at), at);
		}
	}

	/** Reads counters: active peers are probed more often, and a peer that sends is not down. */
	#timePasses({ peer, row, state }: Probed, now: number): Event {
		const inDoubt = state.tunnel.phase === "suspect" || state.direct.phase === "suspect";
		// Answers report direct packets as well.
		const isNew = this.#peers.sent(row) < 20;
		const often = inDoubt || state.use !== "direct" || isNew;
		const fresh = now - this.#peers.totalsAt(row) < (often ? TOTALS_MS.often : TOTALS_MS.seldom);
		if (fresh || !(inDoubt || isActive(state, now, this.#pace) || isNew)) return { kind: "tick" };
		this.#peers.setTotalsAt(row, now);
		const { sent, received } = this.#options.totals(peer.index);
		return { kind: "totals", sent, received };
	}
}

/** True if no answer is outstanding and no path is in doubt. */
function isCalm({ direct, tunnel, comparison }: PeerState): boolean {
	return comparison === undefined && isCalmPath(direct) && isCalmPath(tunnel);
}

function isCalmPath({ phase, search, asked }: PathState): boolean {
	return (
		phase !== "suspect" &&
		phase !== "proving" &&
		search === undefined &&
		asked.every(({ missed }) => missed)
	);
}
