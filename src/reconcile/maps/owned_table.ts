/**
 * One of the agent's tables: what its map holds, what it should hold, and the writes that are pending.
 *
 * What counts as held is only what the kernel accepted, so an entry whose write failed stays pending.
 */
import type { Steps } from "../../loop/turns.js";
import { Delta } from "../../tables/delta.js";
import { DenseMap } from "../../tables/dense_map.js";
import { sameValue } from "../../tables/diff.js";
import type { EntryFailure, Table } from "./agent_tables.js";

/** Entries of one write: some 2 ms. */
const BATCH = 512;

/** What became of some entries. */
export interface Batch<K, V> {
	/** With what was held before and is held now; undefined: none. */
	entries: { key: K; before: V | undefined; now: V | undefined }[];
	failures: EntryFailure<K>[];
}

/** Maps desired values to the map's values and back, where another writer owns a part of the value. */
export interface Form<K, V> {
	/** As it is written. */
	write(key: K, value: V): V;
	/** As it is compared with the desired value. */
	read(key: K, value: V): V;
}

export class OwnedTable<K, V> {
	readonly #table: Table<K, V>;
	readonly #form: Form<K, V> | undefined;
	readonly #delta: Delta<K, V>;
	/** For a large array: only entries below this index were ever in use. */
	#used: number | undefined;

	/** @param held default: what the map holds */
	constructor(table: Table<K, V>, held: Map<K, V> = table.read(), form?: Form<K, V>) {
		this.#table = table;
		this.#form = form;
		if (form !== undefined) for (const [key, value] of held) held.set(key, form.read(key, value));
		this.#delta = new Delta(held);
	}

	/** What the map holds is still to be read, in slices. */
	static unread<K, V>(table: Table<K, V>): OwnedTable<K, V> {
		return new OwnedTable(table, new Map());
	}

	/** The same of an array whose entries in use lie close together. */
	static unreadArray<V>(table: Table<number, V>): OwnedTable<number, V> {
		return new OwnedTable(table, new DenseMap<V>());
	}

	/**
	 * From now on, reads stop at the highest index ever written here. Foreign entries beyond it have no effect: the
	 * core never looks them up.
	 */
	readOnlyUsed(): void {
		this.#used = 0;
		for (const key of this.held.keys()) this.#use(key);
	}

	/** What the map holds. */
	get held(): ReadonlyMap<K, V> {
		return this.#delta.actual;
	}

	/** Sets the desired content; see `Delta.want`. */
	want(wanted: ReadonlyMap<K, V>): Steps<void> {
		return this.#delta.want(wanted);
	}

	/** Checks a key whose desired value may have changed. */
	check(key: K): void {
		this.#delta.check(key);
	}

	/** Writes what is new or has changed, a batch between two yields. */
	*put(): Generator<Batch<K, V>, void> {
		for (const keys of batches(this.#delta.keysToPut())) {
			// Meanwhile another call may have written the entry, or its desired value may have changed.
			const entries = keys
				.filter((key) => this.#delta.lacks(key))
				.map((key): [K, V] => [key, this.#delta.wanted(key)!]);
			if (entries.length > 0) yield this.#write(entries);
		}
	}

	/**
	 * Writes intermediate values, a batch between two yields. An entry stays pending until it has its desired value.
	 *
	 * @param next the value to write, from the held and the desired one; a value that is held already is not written
	 */
	*approach(next: (held: V | undefined, wanted: V) => V): Generator<Batch<K, V>, void> {
		for (const keys of batches(this.#delta.keysToPut())) {
			const entries = keys.flatMap((key): [K, V][] => {
				if (!this.#delta.lacks(key)) return [];
				const held = this.held.get(key);
				const value = next(held, this.#delta.wanted(key)!);
				return value === held ? [] : [[key, value]];
			});
			if (entries.length > 0) yield this.#write(entries);
		}
	}

	/** Removes entries that are no longer desired, a batch between two yields. */
	*remove(): Generator<Batch<K, V>, void> {
		for (const keys of batches(this.#delta.keysToRemove())) {
			const failures = this.#table.remove(keys);
			const failed = new Set(failures.map(({ key }) => key));
			const entries = keys.map((key) => ({ key, before: this.held.get(key), now: undefined }));
			for (const key of keys) if (!failed.has(key)) this.#delta.drop(key);
			yield { entries, failures };
		}
	}

	/** Writes this entry now. */
	write(key: K, value: V): EntryFailure<K>[] {
		const { failures } = this.#write([[key, value]]);
		this.#delta.check(key);
		return failures;
	}

	/** Reads the map again, in slices. Returns how many entries others have changed. */
	async readAgain(): Promise<number> {
		if (!(await this.#table.hasChanged(this.#used))) return 0;
		return this.read(this.#used);
	}

	/**
	 * Reads the map in slices. Returns how many entries are others than what was held.
	 *
	 * @param most entries; of an array: those below this index
	 */
	async read(most?: number): Promise<number> {
		let differing = 0;
		const seen = new Set<K>();
		for await (const slice of this.#table.readInSlices(most))
			for (const [key, raw] of slice) {
				const value = this.#form?.read(key, raw) ?? raw;
				seen.add(key);
				if (sameValue(this.held.get(key), value)) continue;
				this.#delta.hold(key, value);
				differing++;
			}
		for (const key of this.held.keys()) if (!seen.has(key) && this.#delta.drop(key)) differing++;
		return differing;
	}

	#use(key: K): void {
		if (this.#used !== undefined) this.#used = Math.max(this.#used, Number(key) + 1);
	}

	#write(entries: [K, V][]): Batch<K, V> {
		const before = entries.map(([key]) => this.held.get(key));
		for (const [key] of entries) this.#use(key);
		const form = this.#form;
		const written =
			form === undefined
				? entries
				: entries.map(([key, value]): [K, V] => [key, form.write(key, value)]);
		const failures = this.#table.put(written);
		const failed = new Set(failures.map(({ key }) => key));
		for (const [key, value] of entries) if (!failed.has(key)) this.#delta.hold(key, value);
		return {
			entries: entries.map(([key, now], i) => ({ key, before: before[i], now })),
			failures,
		};
	}
}

function* batches<K>(keys: Iterable<K>): Generator<readonly K[], void> {
	let batch: K[] = [];
	for (const key of keys) {
		batch.push(key);
		if (batch.length < BATCH) continue;
		yield batch;
		batch = [];
	}
	if (batch.length > 0) yield batch;
}
