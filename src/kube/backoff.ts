/** Growing pauses after failures, with jitter: all agents see the API fail at the same moment. */
import type { Clock } from "./clock.js";

export interface BackoffOptions {
	/** ms after the first failure; each further one doubles it. */
	first: number;
	/** ms at most. */
	last: number;
}

export class Backoff {
	readonly #clock: Pick<Clock, "random">;
	readonly #options: BackoffOptions;
	#failures = 0;

	constructor(clock: Pick<Clock, "random">, options: BackoffOptions) {
		this.#clock = clock;
		this.#options = options;
	}

	/** ms to wait after one more failure: half of the pause to all of it. */
	next(): number {
		const { first, last } = this.#options;
		const pause = Math.min(last, first * 2 ** Math.min(this.#failures, 20));
		this.#failures++;
		return pause * (0.5 + this.#clock.random() / 2);
	}

	reset(): void {
		this.#failures = 0;
	}
}
