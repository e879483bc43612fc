/**
 * Asks a peer on every combination of ways and sizes, whatever the mode: the raw measurements of
 * `fairway check`.
 */
import type { ProbedPeer } from "../compile/compile.js";
import type { Question } from "./path_state.js";
import { smallLength, type Way } from "./question.js";
import type { SurveyCell } from "./survey.js";

/** Sequence numbers from here on belong to surveys. */
export const SURVEY_SEQUENCE = 0x80000000;

/** Questions of each combination, and how far apart; then so long is waited. */
const TIMES = 5;
const GAP_MS = 60;
const WAIT_MS = 700;
/** Peers at once: the answers of all of them come at once as well. */
const PEERS = 32;

type Asked = Pick<Question, "sequence" | "there" | "back" | "length" | "answerLength" | "hello">;

export class Surveyor {
	readonly #send: (peer: ProbedPeer, question: Asked) => void;
	readonly #waiting = new Map<number, SurveyCell>();
	readonly #timers = new Set<NodeJS.Timeout>();
	#sequence = 0;
	#running = 0;
	#queue: (() => void)[] = [];

	constructor(send: (peer: ProbedPeer, question: Asked) => void) {
		this.#send = send;
	}

	async ask(peer: ProbedPeer): Promise<SurveyCell[]> {
		while (this.#running >= PEERS) await new Promise<void>((go) => this.#queue.push(go));
		this.#running++;
		try {
			const cells = cellsOf(peer);
			const asked: number[] = [];
			for (let time = 0; time < TIMES; time++) {
				for (const cell of cells) asked.push(this.#askOne(peer, cell));
				await this.#pause(GAP_MS);
			}
			await this.#pause(WAIT_MS);
			for (const sequence of asked) this.#waiting.delete(sequence);
			return cells;
		} finally {
			this.#running--;
			this.#queue.shift()?.();
		}
	}

	answered(sequence: number, roundTripMs: number): void {
		const cell = this.#waiting.get(sequence);
		if (cell === undefined) return;
		this.#waiting.delete(sequence);
		cell.answered++;
		cell.roundTripMs = Math.min(cell.roundTripMs ?? roundTripMs, roundTripMs);
	}

	close(): void {
		for (const timer of this.#timers) clearTimeout(timer);
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

	#pause(ms: number): Promise<void> {
		return new Promise((resolve) => {
			const timer = setTimeout(() => {
				this.#timers.delete(timer);
				resolve();
			}, ms);
			this.#timers.add(timer);
		});
	}
}

/** Answers are never longer than their questions. */
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
