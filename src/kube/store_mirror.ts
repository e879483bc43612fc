/**
 * Mirrors one kind of objects in the store.
 *
 * An object that becomes invalid is reported by name and keeps its last valid content, unless it is a new object of
 * the same name (another uid): then the former one is removed.
 */
import { isStandIn, type Reading, readObject } from "../cluster/kinds.js";
import type { RecordTable } from "../cluster/record_table.js";
import {
	type Kind,
	type Records,
	recordTable,
	type Store,
	type StoreWriter,
} from "../cluster/store.js";
import { Turns } from "../loop/turns.js";
import { Faults } from "./faults.js";
import type { Mirror } from "./mirror.js";

/** A part of a kind; other mirrors keep the rest. */
export interface Part<K extends Kind> {
	/** "others": for messages. */
	name: string;
	has: (record: Records[K]) => boolean;
}

export class StoreMirror<K extends Kind> implements Mirror {
	readonly #store: Store;
	readonly #kind: K;
	readonly #part: Part<K> | undefined;
	readonly #onChange: () => void;
	/** Its list is complete for the kind. */
	readonly #isSynced: boolean;
	readonly #faults: Faults;
	/** The list being read: usable records; `#unusable` has the others. */
	#list: RecordTable<Records[K]>;
	#unusable = new Map<string, Reading<K>>();

	/**
	 * @param part undefined: all of the kind, which is synced with the first list
	 * @param onChange the store has this kind as the API has it
	 */
	constructor(
		store: Store,
		kind: K,
		part?: Part<K> & { isSynced?: boolean },
		onChange: () => void = () => undefined,
	) {
		this.#store = store;
		this.#kind = kind;
		this.#faults = new Faults(kind);
		this.#list = recordTable(kind);
		this.#part = part;
		this.#isSynced = part?.isSynced ?? true;
		this.#onChange = onChange;
	}

	/** Removes all mirrored records from the store, in slices. */
	async clear(): Promise<void> {
		const turns = new Turns();
		const kind = this.#kind;
		this.#faults.clear();
		const gone = (await this.#keysWithout(() => false, turns)).values();
		for (let isDone = false; !isDone; ) {
			this.#store.update((writer) => {
				isDone = true;
				for (const key of gone) {
					if (this.#isOwn(this.#store.get(kind, key))) writer.remove(kind, key);
					isDone = !turns.due;
					if (!isDone) break;
				}
				if (isDone) writer.report(this.#source, []);
			});
			if (!isDone) await turns.pass();
		}
	}

	get #source(): string {
		return `kubernetes ${this.#kind}${this.#part === undefined ? "" : ` ${this.#part.name}`}`;
	}

	/** Keys of the store's records that belong to this part, less some. Those of other parts may be a hundred thousand. */
	async #keysWithout(isExcepted: (key: string) => boolean, turns: Turns): Promise<string[]> {
		const keys: string[] = [];
		for (const key of this.#store.keys(this.#kind)) {
			if (turns.due) await turns.pass();
			if (!isExcepted(key) && this.#isOwn(this.#store.get(this.#kind, key))) keys.push(key);
		}
		return keys;
	}

	#isOwn(record: Records[K] | undefined): boolean {
		return record !== undefined && (this.#part?.has(record) ?? true);
	}

	begin(): void {
		this.#list = recordTable(this.#kind);
		this.#unusable = new Map();
	}

	list(object: unknown): void {
		const reading = readObject(this.#kind, object);
		const { key } = reading;
		if ("record" in reading) {
			this.#unusable.delete(key);
			this.#list.put(key, reading.record as Records[K]);
			return;
		}
		this.#list.delete(key);
		this.#unusable.set(key, reading as Reading<K>);
	}

	unlist(object: unknown): void {
		const { key } = readObject(this.#kind, object);
		this.#list.delete(key);
		this.#unusable.delete(key);
	}

	async end(): Promise<void> {
		const turns = new Turns();
		const kind = this.#kind;
		const [listed, unusable] = [this.#list, this.#unusable];
		this.begin();
		this.#faults.clear();
		const instead = new Map<string, Records[K]>();
		const gone: string[] = [];
		for (const [key, reading] of unusable) {
			const before = this.#store.get(kind, key);
			const record = this.#resolve(reading, before);
			if (record !== undefined) instead.set(key, record);
			else if (this.#isOwn(before)) gone.push(key);
		}
		const isListed = (key: string) => listed.has(key) || unusable.has(key);
		for (const key of await this.#keysWithout(isListed, turns)) gone.push(key);
		const changes = changesOf(gone, listed, instead);
		const take = (writer: StoreWriter, isDue: () => boolean): boolean => {
			for (const [key, record] of changes) {
				const before = this.#store.get(kind, key);
				const goes = record === undefined ? this.#isOwn(before) : isAnother(record, before);
				if (goes) writer.remove(kind, key);
				if (record !== undefined) writer.put(kind, key, record);
				if (isDue()) return false;
			}
			return true;
		};
		// There are many Pods, and each change of one is valid by itself; a list of any other kind appears at once.
		if (kind === "Pod")
			for (let isDone = false; !isDone; ) {
				this.#store.update((writer) => {
					isDone = take(writer, () => turns.due);
				});
				if (!isDone) await turns.pass();
			}
		this.#store.update((writer) => {
			take(writer, () => false);
			if (this.#isSynced) writer.setSynced(kind, true);
			writer.report(this.#source, this.#faults.problems());
		});
		this.#onChange();
	}

	change(object: unknown): void {
		const kind = this.#kind;
		const reading = readObject(kind, object);
		const { key } = reading;
		const before = this.#store.get(kind, key);
		const faultBefore = this.#faults.get(key);
		const record = this.#resolve(reading, before);
		this.#store.update((writer) => {
			if (record === undefined || isAnother(record, before)) writer.remove(kind, key);
			if (record !== undefined) writer.put(kind, key, record);
			if (this.#faults.get(key) !== faultBefore)
				writer.report(this.#source, this.#faults.problems());
		});
	}

	remove(object: unknown): void {
		const kind = this.#kind;
		const reading = readObject(kind, object);
		const { key } = reading;
		const before = this.#store.get(kind, key);
		// A late event about an object whose name another one has now.
		if (before !== undefined && isAnother(uidOf(reading), before)) return;
		// The object has moved to the part that another mirror keeps.
		if (before !== undefined && !this.#isOwn(before)) return;
		this.#store.update((writer) => {
			writer.remove(kind, key);
			if (this.#faults.delete(key)) writer.report(this.#source, this.#faults.problems());
		});
	}

	/** The record of an object that is in force after this reading. */
	#resolve(reading: Reading<K>, before: Records[K] | undefined): Records[K] | undefined {
		const { kind, key } = reading;
		if ("record" in reading) {
			this.#faults.delete(key);
			return reading.record as Records[K];
		}
		if ("skipped" in reading) {
			this.#faults.set(key, `Cannot accept ${kind} ${key}: ${reading.skipped}`);
			return undefined;
		}
		const known = before !== undefined && !isStandIn(before) && !isAnother(uidOf(reading), before);
		const stays = known ? before : undefined;
		const named = key === "" ? `${kind} without a usable name` : `${kind} ${key}`;
		const rest = stays === undefined ? "" : "; what it said before stays in force";
		this.#faults.set(key, `Cannot accept ${named}: ${reading.fault}${rest}`);
		return stays ?? (reading.instead as Records[K] | undefined);
	}
}

/** Removals first: an address that one object has given up may be another's now. In slices. */
function changesOf<R>(
	gone: readonly string[],
	listed: RecordTable<R>,
	instead: ReadonlyMap<string, R>,
): { [Symbol.iterator](): Iterator<[key: string, record: R | undefined]> } {
	function* all(): Generator<[string, R | undefined]> {
		for (const key of gone) yield [key, undefined];
		for (const key of listed.keys()) yield [key, listed.get(key)];
		yield* instead;
	}
	const steps = all();
	return { [Symbol.iterator]: () => ({ next: () => steps.next() }) };
}

interface Identified {
	uid?: string;
}

function uidOf<K extends Kind>(reading: Reading<K>): Identified {
	if ("record" in reading) return reading.record;
	return "fault" in reading ? (reading as Identified) : {};
}

/** Both have a uid, and the uids differ. */
function isAnother(a: Identified, b: Identified | undefined): boolean {
	return a.uid !== undefined && b?.uid !== undefined && a.uid !== b.uid;
}
