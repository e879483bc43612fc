/** Typed arrays that grow. Their memory is outside V8's heap: the garbage collector does not scan it. */

export type Column = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array;

/** The array itself if it has room for `length` elements, else a longer copy; new elements are zero. */
export function grown<C extends Column>(column: C, length: number): C {
	if (length <= column.length) return column;
	// Untouched pages are not resident, and each copy leaves garbage behind: so the room doubles.
	const room = Math.max(length, 2 * column.length, 64);
	const longer = new (column.constructor as new (length: number) => C)(room);
	longer.set(column);
	return longer;
}

/** Random in each process, so that no tenant can choose names or addresses that all collide in a table. */
export const SEED = (Math.random() * 2 ** 32) >>> 0;

/** Spreads the bits of a hash (the end of MurmurHash3). */
export function mix(hash: number): number {
	let h = hash ^ (hash >>> 16);
	h = Math.imul(h, 0x85ebca6b);
	h ^= h >>> 13;
	h = Math.imul(h, 0xc2b2ae35);
	return (h ^ (h >>> 16)) >>> 0;
}
