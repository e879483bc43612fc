/**
 * The numbers of an index: dense, with that of what went given again; and what has a hash is found by it. What a number
 * stands for, and its hash, the class that extends this knows.
 */
import { grown } from "./grow.js";
import { Slots } from "./slots.js";

export abstract class Numbers {
	/** 1: it is in use. */
	#used: Uint8Array = new Uint8Array(0);
	#count = 0;
	#next = 0;
	readonly #free: number[] = [];
	readonly #slots = new Slots((id) => this.hashOf(id));

	/** Of what a number in use stands for. */
	protected abstract hashOf(id: number): number;

	get size(): number {
		return this.#count;
	}

	/** Numbers are below this. */
	get end(): number {
		return this.#next;
	}

	has(id: number): boolean {
		return this.#used[id] === 1;
	}

	/** Numbers in use; what is added or removed meanwhile may or may not be among them. */
	*ids(): Generator<number, void> {
		for (let id = 0; id < this.#next; id++) if (this.#used[id] === 1) yield id;
	}

	/** The first number with this hash for which `is` holds; -1: there is none. */
	protected findBy(hash: number, is: (id: number) => boolean): number {
		return this.#slots.find(hash, is);
	}

	/** A number for something with this hash. @param keep stores what it stands for, before it can be found */
	protected take(hash: number, keep: (id: number) => void): number {
		const id = this.#free.pop() ?? this.#next++;
		this.#used = grown(this.#used, id + 1);
		keep(id);
		this.#used[id] = 1;
		this.#count++;
		this.#slots.add(hash, id);
		return id;
	}

	/** False: it was not in use. */
	protected release(id: number): boolean {
		if (this.#used[id] !== 1) return false;
		this.#slots.remove(id);
		this.#used[id] = 0;
		this.#count--;
		this.#free.push(id);
		return true;
	}
}
