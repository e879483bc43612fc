/**
 * The schedule of the prober: due work runs in turns, some milliseconds apart, and each turn first takes the answers
 * that have arrived.
 */

/** Ring records taken in one turn of the event loop. */
export const RECORDS_A_TURN = 64;
/** Work that is due this soon is done in the same turn. */
export const SLACK_MS = 2;
/** Minimum time between turns: with many peers, waking up costs more than the work. */
const TURN_MS = 10;

export interface ScheduleOptions {
	/** Monotonic milliseconds. */
	clock: () => number;
	/** When the first of the work is due, ms; undefined: there is none. */
	first: () => number | undefined;
	/** Does what is due. */
	run: (now: number) => void;
}

export class Schedule {
	readonly #options: ScheduleOptions;
	#timer: NodeJS.Timeout | undefined;
	#timerAt = Number.POSITIVE_INFINITY;
	#ranAt = Number.NEGATIVE_INFINITY;
	#immediate: NodeJS.Immediate | undefined;
	/** Records taken since the timer fired. */
	#taken = 0;
	#started = false;
	#closed = false;

	constructor(options: ScheduleOptions) {
		this.#options = options;
	}

	/** No turn runs before this call. */
	start(): void {
		this.#started = true;
		this.arm();
	}

	/** Call when the time of the first work due may have changed. */
	arm(): void {
		const { clock, first: firstDue } = this.#options;
		const first = firstDue();
		if (!this.#started || this.#closed || first === undefined) return;
		if (this.#immediate !== undefined) return;
		const at = Math.max(first, this.#ranAt + TURN_MS);
		if (at >= this.#timerAt) return;
		clearTimeout(this.#timer);
		this.#timerAt = at;
		this.#timer = setTimeout(
			() => {
				this.#timerAt = Number.POSITIVE_INFINITY;
				// The awaited answer has usually arrived meanwhile.
				const first = firstDue();
				if (first !== undefined && first <= clock() + SLACK_MS) this.#runAfterAnswers();
				else this.arm();
			},
			Math.max(1, Math.ceil(at - clock())),
		);
	}

	/** A record of the ring was taken. */
	tookAnswer(): void {
		this.#taken++;
	}

	close(): void {
		this.#closed = true;
		clearTimeout(this.#timer);
		if (this.#immediate !== undefined) clearImmediate(this.#immediate);
	}

	/** Takes queued answers first: if they seem late, the agent was late, not they. */
	#runAfterAnswers(): void {
		this.#taken = 0;
		this.#immediate = setImmediate(() => {
			if (this.#taken < RECORDS_A_TURN) this.#run();
			else this.#runAfterAnswers();
		});
	}

	#run(): void {
		this.#immediate = undefined;
		this.#timerAt = Number.POSITIVE_INFINITY;
		const now = this.#options.clock();
		this.#ranAt = now;
		this.#options.run(now);
		this.arm();
	}
}
