/**
 * How long a change of a Service's endpoints takes until the last write: from what caused it, where an EndpointSlice
 * says when that was, else from when the agent heard of it. Pure but for the clock that is given.
 */
export interface TimedSlice {
	/** When what it says was caused, ms since the epoch; absent: it does not say. */
	triggered?: number;
}

export class ServiceLatency {
	readonly #observe: (seconds: number) => void;
	readonly #started: number;
	/** The youngest trigger of each Service that was seen. */
	readonly #seen = new Map<string, number>();
	/** When the first change was heard of that no apply has begun with. */
	#heard: number | undefined;
	/** The same, for changes in the apply that is under way or will be repeated. */
	#applied: number | undefined;
	#isFirst = true;

	/** @param started ms since the epoch: what was caused earlier says nothing of this agent */
	constructor(started: number, observe: (seconds: number) => void) {
		this.#started = started;
		this.#observe = observe;
	}

	/** Something may have changed. Times are ms since the epoch. */
	heard(now: number): void {
		this.#heard ??= now;
	}

	/** An apply takes in what was heard of. */
	began(): void {
		this.#applied ??= this.#heard;
		this.#heard = undefined;
	}

	/**
	 * It is all in force.
	 *
	 * @param changed keys of Services
	 * @param slicesOf undefined: the Service is no more
	 */
	inForce(
		changed: Iterable<string>,
		slicesOf: (key: string) => readonly TimedSlice[] | undefined,
		now: number,
	): void {
		const heard = this.#applied;
		this.#applied = undefined;
		for (const key of changed) {
			const slices = slicesOf(key);
			const seen = this.#seen.get(key) ?? this.#started;
			const youngest = slices?.reduce((most, { triggered = 0 }) => Math.max(most, triggered), 0);
			if (slices === undefined) this.#seen.delete(key);
			else if (youngest !== undefined && youngest > seen) this.#seen.set(key, youngest);
			// The first apply has all Services there are, none of which has changed just now.
			if (this.#isFirst) continue;
			const caused = youngest !== undefined && youngest > seen ? youngest : heard;
			// Clocks of other machines may be ahead.
			if (caused !== undefined) this.#observe(Math.max(0, now - caused) / 1000);
		}
		this.#isFirst = false;
	}
}
