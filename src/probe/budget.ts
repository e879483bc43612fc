/** The rate limit of requests: the agent has to read their answers before they count as missed. */

/** Requests a second, and at most at once. */
const RATE = { requests: 3000, burst: 60 };

export class Budget {
	#tokens = RATE.burst;
	/** When it was last refilled, ms. */
	#at: number;

	constructor(now: number) {
		this.#at = now;
	}

	get has(): boolean {
		return this.#tokens > 0;
	}

	/** May exceed the budget, because a peer's turn is not split; the next turns wait until it is refilled. */
	spend(): void {
		this.#tokens--;
	}

	refill(now: number): void {
		const gained = ((now - this.#at) * RATE.requests) / 1000;
		this.#tokens = Math.min(RATE.burst, this.#tokens + gained);
		this.#at = now;
	}
}
