/**
 * Changes of the desired tables: a plain value whose cost is that of the changes, not of the tables. compile makes it, the
 * reconciler applies it.
 */
import { isDeepStrictEqual } from "node:util";
import { MAPS, type MapName, type TableMaps, type Tables } from "./tables.js";

/** Entries that are new or have changed, and keys that are gone. No key is in both. */
export interface EntryChanges<K, V> {
	put: Map<K, V>;
	remove: Set<K>;
}

/** The fields of Tables that are no maps. */
export type TableValues = Omit<Tables, MapName>;

export type MapChanges = {
	[T in MapName]: TableMaps[T] extends Map<infer K, infer V> ? EntryChanges<K, V> : never;
};

export type TableChanges =
	| {
			/** These are complete tables; everything else is removed. */
			whole: true;
			values: TableValues;
			maps: MapChanges;
			/** Maps that stay, and of which there are changes all the same; default: none. */
			kept?: readonly MapName[];
	  }
	| {
			whole: false;
			/** Those that differ. */
			values: Partial<TableValues>;
			maps: MapChanges;
	  };

export function noEntries<K, V>(): EntryChanges<K, V> {
	return { put: new Map(), remove: new Set() };
}

export function noMaps(): MapChanges {
	return Object.fromEntries(MAPS.map((name) => [name, noEntries()])) as unknown as MapChanges;
}

/** The tables as changes that say all of it. The maps are those of the tables. */
export function wholeChanges(tables: Tables): TableChanges {
	const maps = Object.fromEntries(
		MAPS.map((name) => [name, { put: tables[name], remove: new Set() }]),
	) as unknown as MapChanges;
	return { whole: true, values: valuesOf(tables), maps };
}

function valuesOf(tables: Tables): TableValues {
	const values: Partial<Tables> = { ...tables };
	for (const name of MAPS) delete values[name];
	return values as TableValues;
}

/** Those of `now` that differ. */
export function changedValues(before: TableValues, now: TableValues): Partial<TableValues> {
	return Object.fromEntries(
		Object.entries(now).filter(
			([key, value]) => !isDeepStrictEqual(before[key as keyof TableValues], value),
		),
	);
}

export function putEntry<K, V>(changes: EntryChanges<K, V>, key: K, value: V): void {
	changes.put.set(key, value);
	changes.remove.delete(key);
}

export function removeEntry<K, V>(changes: EntryChanges<K, V>, key: K): void {
	changes.put.delete(key);
	changes.remove.add(key);
}

/** Changes the map; calls back with each key. */
export function takeEntries<K, V>(
	map: Map<K, V>,
	{ put, remove }: EntryChanges<K, V>,
	each: (key: K) => void = () => {},
): void {
	for (const key of remove) if (map.delete(key)) each(key);
	for (const [key, value] of put) {
		map.set(key, value);
		each(key);
	}
}

/** The first changes become those of both, one after the other. `more` is not whole. */
export function addEntries<K, V>(changes: EntryChanges<K, V>, more: EntryChanges<K, V>): void {
	for (const key of more.remove) removeEntry(changes, key);
	for (const [key, value] of more.put) putEntry(changes, key, value);
}

/** True: taking these in changes nothing. */
export function isEmpty({ whole, values, maps }: TableChanges): boolean {
	if (whole || Object.keys(values).length > 0) return false;
	return MAPS.every((name) => maps[name].put.size === 0 && maps[name].remove.size === 0);
}
