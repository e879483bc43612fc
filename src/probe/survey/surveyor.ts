/**
 * Probes peers over every combination of ways and sizes, whatever the mode: the raw measurements of
 * `fairway check`.
 *
 *  1. a client asks for a peer: it joins the survey of that peer if there is one, else one is queued
 *  2. PEERS peers at a time are probed, in rounds, with a budget of their own, so that the prober's
 *     budget remains for the paths in use
 *  3. WAIT_MS after the last round all clients get the cells
 *  4. a peer whose clients have all gone is probed no longer
 */
import type { ProbedPeer } from "../../compile/compile.js";
import { peerKey } from "../../tables/paths.js";
import type { Request } from "../path/path_state.js";
import { smallLength, type Way } from "../request.js";
import type { SurveyCell } from "./survey.js";

/** Sequence numbers from here on belong to surveys. */
export const SURVEY_SEQUENCE = 0x80000000;

/** Probes of each combination, the interval between them, and the wait for the last answers. */
const TIMES = 5;
const GAP_MS = 60;
const WAIT_MS = 700;
/** Peers at a time. */
const PEERS = 64;
/** Probes a second, and at once: 50 peers a second, a tenth of a core. */
const RATE = { probes: 2000, burst: 32 };
const TURN_MS = 5;

type Asked = Pick<Request, "sequence" | "there" | "back" | "length" | "answerLength" | "hello">;

interface Client {
	done: (cells: SurveyCell[]) => void;
	failed: (reason: unknown) => void;
}

interface Job {
	key: string;
	peer: ProbedPeer;
	cells: SurveyCell[];
	clients: Set<Client>;
	/** Sequence numbers of the probes sent so far. */
	sequences: number[];
	/** When its next round is due, ms. */
	at: number;
}

export interface SurveyProgress {
	/** Peers, counted once for each family, since the last time that there was nothing to do. */
	done: number;
	total: number;
}

export class Surveyor {
	readonly #send: (peer: ProbedPeer, request: Asked) => void;
	readonly #clock: () => number;
	/** One for each peer, in the order in which they are probed. */
	readonly #jobs = new Map<string, Job>();
	readonly #waiting = new Map<number, SurveyCell>();
	#sequence = 0;
	#done = 0;
	#total = 0;
	#tokens = RATE.burst;
	#tokensAt: number;
	#timer: NodeJS.Timeout | undefined;
	#closed = false;

	/** @param clock milliseconds, monotonic */
	constructor(send: (peer: ProbedPeer, request: Asked) => void, clock: () => number) {
		this.#send = send;
		this.#clock = clock;
		this.#tokensAt = clock();
	}

	get progress(): SurveyProgress {
		return { done: this.#done, total: this.#total };
	}

	/** Rejects with the signal's reason when that aborts. */
	ask(peer: ProbedPeer, signal?: AbortSignal): Promise<SurveyCell[]> {
		if (signal?.aborted === true) return Promise.reject(signal.reason);
		return new Promise((resolve, reject) => {
			const job = this.#join(peer);
			const leave = () => client.failed(signal?.reason);
			const client: Client = {
				done: (cells) => {
					signal?.removeEventListener("abort", leave);
					resolve(cells);
				},
				failed: (reason) => {
					job.clients.delete(client);
					if (job.clients.size === 0) this.#end(job);
					reject(reason);
				},
			};
			job.clients.add(client);
			signal?.addEventListener("abort", leave, { once: true });
		});
	}

	answered(sequence: number, roundTripMs: number): void {
		const cell = this.#waiting.get(sequence);
		if (cell === undefined) return;
		this.#waiting.delete(sequence);
		cell.answered++;
		cell.roundTripMs = Math.min(cell.roundTripMs ?? roundTripMs, roundTripMs);
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#timer);
	}

	#join(peer: ProbedPeer): Job {
		const key = peerKey(peer);
		const known = this.#jobs.get(key);
		if (known !== undefined) return known;
		if (this.#jobs.size === 0) this.#done = this.#total = 0;
		const cells = cellsOf(peer);
		const job = { key, peer, cells, clients: new Set<Client>(), sequences: [], at: this.#clock() };
		this.#jobs.set(key, job);
		this.#total++;
		if (!this.#closed) this.#timer ??= setTimeout(() => this.#turn(), 0);
		return job;
	}

	#turn(): void {
		const now = this.#clock();
		const gained = ((now - this.#tokensAt) * RATE.probes) / 1000;
		this.#tokens = Math.min(RATE.burst, this.#tokens + gained);
		this.#tokensAt = now;
		let active = 0;
		for (const job of this.#jobs.values()) {
			if (++active > PEERS) break;
			this.#advance(job, now);
		}
		this.#timer =
			this.#jobs.size === 0 || this.#closed ? undefined : setTimeout(() => this.#turn(), TURN_MS);
	}

	/** As far as time and budget allow. */
	#advance(job: Job, now: number): void {
		const { cells, sequences } = job;
		const all = TIMES * cells.length;
		while (job.at <= now) {
			if (sequences.length === all) {
				this.#end(job);
				for (const client of job.clients) client.done(cells);
				return;
			}
			if (this.#tokens < 1) return;
			this.#tokens--;
			const cell = cells[sequences.length % cells.length] as SurveyCell;
			sequences.push(this.#askOne(job.peer, cell));
			if (sequences.length === all) job.at = now + WAIT_MS;
			else if (sequences.length % cells.length === 0) job.at = now + GAP_MS;
		}
	}

	#end(job: Job): void {
		for (const sequence of job.sequences) this.#waiting.delete(sequence);
		if (this.#jobs.delete(job.key)) this.#done++;
	}

	#askOne(peer: ProbedPeer, cell: SurveyCell): number {
		this.#sequence = (this.#sequence + 1) % SURVEY_SEQUENCE;
		const sequence = SURVEY_SEQUENCE + this.#sequence;
		const { there, back, length, answerLength } = cell;
		this.#waiting.set(sequence, cell);
		cell.asked++;
		this.#send(peer, { sequence, there, back, length, answerLength, hello: false });
		return sequence;
	}
}

/** Answers are never longer than their probes. */
function cellsOf({ family, direct, tunnel }: ProbedPeer): SurveyCell[] {
	const small = smallLength(family);
	const cells: SurveyCell[] = [];
	const add = (there: Way, back: Way, length: number, answerLength = length) =>
		cells.push({ there, back, length, answerLength, asked: 0, answered: 0, roundTripMs: null });
	if (direct !== undefined) {
		add("direct", "direct", small);
		add("direct", "direct", direct.mtu);
	}
	if (tunnel !== undefined) {
		add("tunnel", "tunnel", small);
		add("tunnel", "tunnel", tunnel.mtu);
	}
	if (direct !== undefined && tunnel !== undefined) {
		add("direct", "tunnel", small);
		add("direct", "tunnel", direct.mtu, small);
		add("tunnel", "direct", small);
		add("tunnel", "direct", tunnel.mtu);
	}
	return cells;
}
