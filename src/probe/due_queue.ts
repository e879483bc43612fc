/**
 * A queue of keys by due time: a binary heap that knows where each key is. Keys are small numbers that lie close
 * together, so it takes 16 bytes for each. Putting a key again replaces its time.
 */
import { grown } from "../columns/grow.js";

export class DueQueue {
	/** Keys, the first one due first. */
	#heap: Int32Array = new Int32Array(0);
	#count = 0;
	/** By key: its place in the heap + 1; 0: it is not in it. */
	#places: Int32Array = new Int32Array(0);
	/** By key: when it is due. */
	#at: Float64Array = new Float64Array(0);

	set(key: number, at: number): void {
		if (at === Number.POSITIVE_INFINITY) {
			this.delete(key);
			return;
		}
		this.#places = grown(this.#places, key + 1);
		this.#at = grown(this.#at, key + 1);
		let place = this.#places[key]! - 1;
		if (place < 0) {
			place = this.#count++;
			this.#heap = grown(this.#heap, this.#count);
			this.#put(place, key);
		}
		this.#at[key] = at;
		this.#rise(place);
		this.#sink(this.#places[key]! - 1);
	}

	delete(key: number): void {
		const place = (this.#places[key] ?? 0) - 1;
		if (place < 0) return;
		this.#places[key] = 0;
		const last = this.#heap[--this.#count]!;
		if (last === key) return;
		this.#put(place, last);
		this.#rise(place);
		this.#sink(this.#places[last]! - 1);
	}

	/** When the first entry is due; undefined: the queue is empty. */
	get first(): number | undefined {
		return this.#count === 0 ? undefined : this.#at[this.#heap[0]!];
	}

	/** Removes and returns the first entry if it is due by `until`. */
	take(until: number): { key: number; at: number } | undefined {
		const { first } = this;
		if (first === undefined || first > until) return undefined;
		const key = this.#heap[0]!;
		this.delete(key);
		return { key, at: first };
	}

	#put(place: number, key: number): void {
		this.#heap[place] = key;
		this.#places[key] = place + 1;
	}

	#rise(from: number): void {
		const [heap, at] = [this.#heap, this.#at];
		const key = heap[from]!;
		let place = from;
		while (place > 0) {
			const parent = (place - 1) >> 1;
			if (at[heap[parent]!]! <= at[key]!) break;
			this.#put(place, heap[parent]!);
			place = parent;
		}
		this.#put(place, key);
	}

	#sink(from: number): void {
		const [heap, at, count] = [this.#heap, this.#at, this.#count];
		const key = heap[from]!;
		let place = from;
		for (;;) {
			let child = 2 * place + 1;
			if (child >= count) break;
			if (child + 1 < count && at[heap[child + 1]!]! < at[heap[child]!]!) child++;
			if (at[heap[child]!]! >= at[key]!) break;
			this.#put(place, heap[child]!);
			place = child;
		}
		this.#put(place, key);
	}
}
