/** What a reconciler would want after these changes: tables of paper. */
import { type EntryChanges, type TableChanges, takeEntries } from "../../src/tables/changes.js";
import { MAPS, type Tables } from "../../src/tables/tables.js";

/** `tables` undefined: the changes must be whole. The tables given stay as they are. */
export function takeIn(tables: Tables | undefined, changes: TableChanges): Tables {
	if (tables === undefined && !changes.whole) throw new Error("the first changes are not whole");
	const after = { ...tables, ...changes.values } as Tables;
	for (const name of MAPS) {
		const stays = !changes.whole || changes.kept?.includes(name);
		const before = !stays ? [] : ((tables?.[name] ?? []) as Iterable<[never, never]>);
		const map = new Map<never, never>(before);
		takeEntries(map, changes.maps[name] as unknown as EntryChanges<never, never>);
		after[name] = map as never;
	}
	return after;
}
