/** Values that many records share: each is kept once, under a number, as long as a record uses it. */
export class Pool<T> {
	readonly #ids = new Map<string, number>();
	readonly #values: (T | undefined)[] = [];
	readonly #texts: (string | undefined)[] = [];
	readonly #users: number[] = [];
	readonly #free: number[] = [];

	get size(): number {
		return this.#ids.size;
	}

	/**
	 * Its number, with one more user.
	 *
	 * @param text the same for equal values only
	 */
	take(text: string, make: () => T): number {
		const known = this.#ids.get(text);
		if (known !== undefined) {
			this.#users[known]!++;
			return known;
		}
		const id = this.#free.pop() ?? this.#values.length;
		this.#ids.set(text, id);
		this.#values[id] = make();
		this.#texts[id] = text;
		this.#users[id] = 1;
		return id;
	}

	release(id: number): void {
		if (--this.#users[id]! > 0) return;
		this.#ids.delete(this.#texts[id]!);
		this.#values[id] = undefined;
		this.#texts[id] = undefined;
		this.#free.push(id);
	}

	/** The value of a number in use. */
	at(id: number): T {
		return this.#values[id]!;
	}
}
