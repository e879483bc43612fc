/**
 * Lets a few pieces of work run at a time, in order of request.
 *
 * The kernel creates interfaces one at a time, under one lock. Thirty Pods that are attached all at once are all ready
 * at the end; a few at a time, half of them are ready after half of the time.
 */
export class Slots {
	readonly #most: number;
	readonly #holdMs: number;
	#taken = 0;
	readonly #waiting: (() => void)[] = [];

	/**
	 * @param most pieces of work at a time
	 * @param holdMs work that takes longer frees its slot, since it may wait for something that never comes
	 */
	constructor(most: number, holdMs: number) {
		this.#most = most;
		this.#holdMs = holdMs;
	}

	async run<T>(work: () => Promise<T>): Promise<T> {
		if (this.#taken < this.#most) this.#taken++;
		else await new Promise<void>((go) => this.#waiting.push(go));
		let isHeld = true;
		const release = (): void => {
			if (!isHeld) return;
			isHeld = false;
			clearTimeout(timer);
			const next = this.#waiting.shift();
			if (next === undefined) this.#taken--;
			else next();
		};
		const timer = setTimeout(release, this.#holdMs);
		try {
			return await work();
		} finally {
			release();
		}
	}
}
