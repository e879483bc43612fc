/** Entries whose keys are indexes that lie close together: a quarter of the memory of a Map's. */

const CHUNK_BITS = 10;
const CHUNK = 1 << CHUNK_BITS;

/** A Map by index, in the order of indexes; no value is undefined. */
export class DenseMap<V> implements Map<number, V> {
	readonly #chunks: (V | undefined)[][] = [];
	#size = 0;
	readonly [Symbol.toStringTag] = "DenseMap";

	constructor(entries: Iterable<readonly [number, V]> = []) {
		for (const [index, value] of entries) this.set(index, value);
	}

	get size(): number {
		return this.#size;
	}

	get(index: number): V | undefined {
		return this.#chunks[index >>> CHUNK_BITS]?.[index & (CHUNK - 1)];
	}

	has(index: number): boolean {
		return this.get(index) !== undefined;
	}

	set(index: number, value: V): this {
		const at = index >>> CHUNK_BITS;
		while (this.#chunks.length <= at) this.#chunks.push([]);
		const chunk = this.#chunks[at]!;
		if (chunk[index & (CHUNK - 1)] === undefined) this.#size++;
		chunk[index & (CHUNK - 1)] = value;
		return this;
	}

	delete(index: number): boolean {
		if (!this.has(index)) return false;
		this.#chunks[index >>> CHUNK_BITS]![index & (CHUNK - 1)] = undefined;
		this.#size--;
		return true;
	}

	clear(): void {
		this.#chunks.length = 0;
		this.#size = 0;
	}

	*entries(): MapIterator<[number, V]> {
		for (const [at, chunk] of this.#chunks.entries())
			for (let low = 0; low < chunk.length; low++) {
				const value = chunk[low];
				if (value !== undefined) yield [at * CHUNK + low, value];
			}
	}

	*keys(): MapIterator<number> {
		for (const [index] of this.entries()) yield index;
	}

	*values(): MapIterator<V> {
		for (const [, value] of this.entries()) yield value;
	}

	[Symbol.iterator](): MapIterator<[number, V]> {
		return this.entries();
	}

	forEach(each: (value: V, index: number, map: Map<number, V>) => void): void {
		for (const [index, value] of this.entries()) each(value, index, this);
	}
}
