/** How many requests may leave: their answers must be taken before they count as missed. */

/** Requests a second, and in one turn. */
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

	/** A peer's turn may spend more than there is; the next ones wait for it. */
	spend(): void {
		this.#tokens--;
	}

	refill(now: number): void {
		const gained = ((now - this.#at) * RATE.requests) / 1000;
		this.#tokens = Math.min(RATE.burst, this.#tokens + gained);
		this.#at = now;
	}
}
