/** Runs one operation at a time for each key, in order of request. */
export class KeyedLock {
	readonly #tails = new Map<string, Promise<unknown>>();

	async run<T>(key: string, work: () => Promise<T>): Promise<T> {
		const before = this.#tails.get(key);
		const tail = (before ?? Promise.resolve()).then(work, work);
		this.#tails.set(key, tail);
		try {
			return await tail;
		} finally {
			if (this.#tails.get(key) === tail) this.#tails.delete(key);
		}
	}

	/** True while an operation with this key runs or waits. */
	isHeld(key: string): boolean {
		return this.#tails.has(key);
	}
}
