/** How two maps or values differ: the obvious way, which compares everything. Pure. */
import { isDeepStrictEqual } from "node:util";

export interface MapDifference<K, V> {
	/** Entries that are new or have changed. */
	put: [K, V][];
	remove: K[];
}

/** Compares values by content. */
export function diffMap<K, V>(
	actual: ReadonlyMap<K, V>,
	wanted: ReadonlyMap<K, V>,
): MapDifference<K, V> {
	const put: [K, V][] = [];
	const remove: K[] = [];
	for (const [key, value] of wanted)
		if (!actual.has(key) || !sameValue(actual.get(key), value)) put.push([key, value]);
	for (const key of actual.keys()) if (!wanted.has(key)) remove.push(key);
	return { put, remove };
}

/** Fast for the usual case: flat objects of numbers and text that are equal. */
export function sameValue(a: unknown, b: unknown): boolean {
	if (a === b) return true;
	if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
	const left = a as Record<string, unknown>;
	const right = b as Record<string, unknown>;
	const keys = Object.keys(left);
	if (keys.length !== Object.keys(right).length) return false;
	for (const key of keys) {
		const [x, y] = [left[key], right[key]];
		if (x !== y && !(typeof x === "object" && isDeepStrictEqual(x, y))) return false;
		if (x === undefined && !(key in right)) return false;
	}
	return true;
}
