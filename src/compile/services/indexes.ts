/** Indexes of an array, the lowest free one first: so little of a large array is ever in use. */
export class Indexes {
	/** Nonzero: taken. May be shared with an owner that keeps a state of each index there. */
	readonly #taken: Uint8Array;
	readonly #first: number;
	/** None below is free. */
	#hint: number;

	constructor(taken: Uint8Array, first: number) {
		this.#taken = taken;
		this.#first = first;
		this.#hint = first;
	}

	/** The lowest free one; undefined: there is none. It stays free until its byte says otherwise. */
	lowest(): number | undefined {
		while (this.#hint < this.#taken.length && this.#taken[this.#hint] !== 0) this.#hint++;
		return this.#hint < this.#taken.length ? this.#hint : undefined;
	}

	/** Its byte was cleared. */
	freed(index: number): void {
		if (index >= this.#first && index < this.#hint) this.#hint = index;
	}
}
