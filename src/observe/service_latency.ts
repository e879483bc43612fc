/**
 * How long a change of a Service's endpoints takes until its last write: from the time of its cause, where an
 * EndpointSlice states it, otherwise from the time when the agent received it. Pure: times are arguments.
 */
export interface TimedSlice {
	/** Time of the change that caused it, ms since the epoch; absent: not stated. */
	triggered?: number;
}

export class ServiceLatency {
	readonly #observe: (seconds: number) => void;
	readonly #started: number;
	/** The latest trigger time seen of each Service. */
	readonly #seen = new Map<string, number>();
	/** When the first change that is not part of an apply yet was received. */
	#heard: number | undefined;
	/** The same, for the changes that are part of the apply that runs or will be retried. */
	#applied: number | undefined;
	#isFirst = true;

	/** @param started ms since the epoch: changes with an earlier cause are not measured */
	constructor(started: number, observe: (seconds: number) => void) {
		this.#started = started;
		this.#observe = observe;
	}

	/** A change was received. Times are ms since the epoch. */
	heard(now: number): void {
		this.#heard ??= now;
	}

	/** An apply has begun, with all changes received so far. */
	began(): void {
		this.#applied ??= this.#heard;
		this.#heard = undefined;
	}

	/**
	 * The changes of the apply are in force.
	 *
	 * @param changed keys of Services
	 * @param slicesOf undefined: the Service was deleted
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
			// The first apply takes in all Services, none of which has just changed.
			if (this.#isFirst) continue;
			const caused = youngest !== undefined && youngest > seen ? youngest : heard;
			// Clocks of other machines may be ahead.
			if (caused !== undefined) this.#observe(Math.max(0, now - caused) / 1000);
		}
		this.#isFirst = false;
	}
}
