/**
 * The desired tables. Taking a set of changes in costs as much as the changes, and observers get each changed
 * key.
 */
import type { Steps } from "../loop/turns.js";
import type { EntryChanges, TableChanges } from "../tables/changes.js";
import { DenseMap } from "../tables/dense_map.js";
import type { Peer } from "../tables/generated.js";
import { DENSE_MAPS, MAPS, type MapName, SERVICE_MAPS, type Tables } from "../tables/tables.js";

/** Entries between two yields: some 0.2 ms. */
const STEP = 256;

/** Tables that a pass can write without the others. */
const ALONE: ReadonlySet<MapName> = new Set([
	"peerPaths",
	"peers",
	"peerAddresses",
	"peerGateways",
	"routes",
	"hostRoutes",
	...SERVICE_MAPS,
]);

/** Numbers of entries, by table of Services. */
export type ServiceEntries = Record<
	"ports" | "frontends" | "backends" | "slots" | "sourceRanges",
	number
>;

export class Wanted {
	readonly #onKey: (table: MapName, key: number | string) => void;
	/** Not taken in yet. */
	readonly #coming = new Set<TableChanges>();
	#tables: Tables | undefined;
	/** The highest index of peers since the last whole changes. */
	highestIndex = -1;

	/** @param onKey the desired value of this key has changed, in the same map as before */
	constructor(onKey: (table: MapName, key: number | string) => void) {
		this.#onKey = onKey;
	}

	/** Undefined: there were no desired tables yet. */
	get tables(): Tables | undefined {
		return this.#tables;
	}

	/** Entries that the tables of Services are to have. */
	get serviceEntries(): ServiceEntries {
		const tables = this.#tables;
		return {
			ports: tables?.services.size ?? 0,
			frontends: tables?.frontends.size ?? 0,
			backends: tables?.backends.size ?? 0,
			slots: tables?.serviceSlots.size ?? 0,
			sourceRanges: tables?.serviceRanges.size ?? 0,
		};
	}

	/** Announces changes that a later `take` takes in. */
	expect(changes: TableChanges): void {
		this.#coming.add(changes);
	}

	/** The first changes must be whole; their maps belong to this from now on. */
	*take(changes: TableChanges): Steps<void> {
		if (changes.whole) {
			const before = this.#tables;
			const kept = new Set(before === undefined ? [] : changes.kept);
			const tables = { ...changes.values } as Tables;
			for (const name of MAPS)
				tables[name] = (kept.has(name) ? before![name] : changes.maps[name].put) as never;
			for (const name of DENSE_MAPS) {
				if (kept.has(name)) continue;
				const dense = new DenseMap<unknown>();
				let taken = 0;
				for (const [index, value] of tables[name]) {
					dense.set(index, value);
					// No path changes between the copy of its peer and the end.
					if (++taken % STEP === 0 && name !== "peers") yield;
				}
				tables[name] = dense as never;
				// What changes a path now finds the copy.
				Object.assign(changes.maps[name], { put: dense });
			}
			this.#tables = tables;
			for (const name of kept) yield* this.#takeMap(name, tables[name], changes.maps[name]);
			this.highestIndex = -1;
			for (const index of tables.peers.keys()) this.#see(index);
		} else {
			if (this.#tables === undefined)
				throw new Error("Cannot change the tables: expected complete ones first");
			// Readers of the former tables may go on.
			this.#tables = { ...this.#tables, ...changes.values };
			for (const index of changes.maps.peers.put.keys()) this.#see(index);
			for (const name of MAPS) yield* this.#takeMap(name, this.#tables[name], changes.maps[name]);
		}
		this.#coming.delete(changes);
	}

	/** Another path for a peer; what is coming for that peer has it as well. */
	putPath(index: number, peer: Peer): void {
		const isItsOwn = (known: Peer | undefined) => known?.nodeHash === peer.nodeHash;
		for (const peers of [
			...(this.#tables === undefined ? [] : [this.#tables.peers]),
			...[...this.#coming].map(({ maps }) => maps.peers.put),
		])
			if (isItsOwn(peers.get(index))) peers.set(index, peer);
	}

	#see(index: number): void {
		if (index > this.highestIndex) this.highestIndex = index;
	}

	*#takeMap(name: MapName, map: Tables[MapName], changes: unknown): Steps<void> {
		const { put, remove } = changes as EntryChanges<number | string, unknown>;
		const entries = map as Map<number | string, unknown>;
		let taken = 0;
		for (const key of remove) {
			if (entries.delete(key)) this.#onKey(name, key);
			if (++taken % STEP === 0) yield;
		}
		for (const [key, value] of put) {
			entries.set(key, value);
			this.#onKey(name, key);
			if (++taken % STEP === 0) yield;
		}
	}
}

/** Nothing but the tables of peers and Services, and the kernel's routes to fairway0. */
export function concernsTablesOnly({ whole, values, maps }: TableChanges): boolean {
	if (whole || Object.keys(values).length > 0) return false;
	return MAPS.every(
		(name) => ALONE.has(name) || (maps[name].put.size === 0 && maps[name].remove.size === 0),
	);
}
