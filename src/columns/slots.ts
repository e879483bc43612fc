/**
 * The hash table behind an index: ids by hash, with open addressing. What an id stands for, and its hash, the owner
 * knows.
 */

const FIRST = 64;

export class Slots {
	/** Id + 1; 0: empty. A power of two of them, at most two thirds in use. */
	#slots: Int32Array = new Int32Array(FIRST);
	#used = 0;
	readonly #hashOf: (id: number) => number;

	constructor(hashOf: (id: number) => number) {
		this.#hashOf = hashOf;
	}

	/** The first id with this hash for which `is` holds; -1: there is none. */
	find(hash: number, is: (id: number) => boolean): number {
		const mask = this.#slots.length - 1;
		for (let at = hash & mask; ; at = (at + 1) & mask) {
			const slot = this.#slots[at]!;
			if (slot === 0) return -1;
			if (is(slot - 1)) return slot - 1;
		}
	}

	/** Adds an id that is not in the table. */
	add(hash: number, id: number): void {
		if ((this.#used + 1) * 3 > this.#slots.length * 2) this.#resize();
		this.#used++;
		this.#enter(hash, id);
	}

	/** Removes an id that is in the table, while its hash is still known. */
	remove(id: number): void {
		const slots = this.#slots;
		const mask = slots.length - 1;
		let hole = this.#hashOf(id) & mask;
		while (slots[hole] !== id + 1) hole = (hole + 1) & mask;
		this.#used--;
		// Following ids without a gap move up, unless their home is behind the hole.
		for (let at = (hole + 1) & mask; slots[at] !== 0; at = (at + 1) & mask) {
			const home = this.#hashOf(slots[at]! - 1) & mask;
			if (((at - home) & mask) < ((at - hole) & mask)) continue;
			slots[hole] = slots[at]!;
			hole = at;
		}
		slots[hole] = 0;
	}

	#enter(hash: number, id: number): void {
		const mask = this.#slots.length - 1;
		let at = hash & mask;
		while (this.#slots[at] !== 0) at = (at + 1) & mask;
		this.#slots[at] = id + 1;
	}

	#resize(): void {
		const before = this.#slots;
		this.#slots = new Int32Array(before.length * 2);
		for (const slot of before) if (slot !== 0) this.#enter(this.#hashOf(slot - 1), slot - 1);
	}
}
