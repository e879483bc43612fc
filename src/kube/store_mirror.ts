/**
 * Mirrors one kind of objects in the store.
 *
 * An object that cannot be used is reported by name, and what it said before stays, unless it is
 * another object now (another uid): then what was there before is gone.
 */
import { isDeepStrictEqual } from "node:util";
import { isStandIn, type Reading, readObject } from "../cluster/kinds.js";
import type { Problem } from "../cluster/snapshot.js";
import type { Kind, Records, Store } from "../cluster/store.js";
import { Turns } from "../loop/turns.js";
import type { Mirror } from "./mirror.js";

/** Of one kind; more are counted. */
const PROBLEMS_MAX = 20;

export class StoreMirror<K extends Kind> implements Mirror {
	readonly #store: Store;
	readonly #kind: K;
	readonly #onChange: () => void;
	/** What is wrong, by key. */
	readonly #faults = new Map<string, string>();
	/** Of the list that is coming; undefined for objects that cannot be used. */
	#list = new Map<string, Reading<K>>();

	/** @param onChange the store has this kind as the API has it */
	constructor(store: Store, kind: K, onChange: () => void = () => undefined) {
		this.#store = store;
		this.#kind = kind;
		this.#onChange = onChange;
	}

	begin(): void {
		this.#list = new Map();
	}

	list(object: unknown): void {
		const reading = readObject(this.#kind, object);
		this.#list.set(reading.key, reading);
	}

	unlist(object: unknown): void {
		this.#list.delete(readObject(this.#kind, object).key);
	}

	async end(): Promise<void> {
		const turns = new Turns();
		const kind = this.#kind;
		const listed = this.#list;
		this.#list = new Map();
		this.#faults.clear();
		const put: [key: string, record: Records[K], another: boolean][] = [];
		const gone: string[] = [];
		for (const [key, reading] of listed) {
			if (turns.due) await turns.pass();
			const before = this.#store.get(kind, key);
			const record = this.#resolve(reading, before);
			if (record === undefined) {
				if (before !== undefined) gone.push(key);
			} else if (!isDeepStrictEqual(record, before))
				put.push([key, record, isAnother(record, before)]);
		}
		for (const key of this.#store.keys(kind)) if (!listed.has(key)) gone.push(key);
		// Removals first: what one object has left, another may have now.
		this.#store.update((writer) => {
			for (const key of gone) writer.remove(kind, key);
			for (const [key, record, another] of put) {
				if (another) writer.remove(kind, key);
				writer.put(kind, key, record);
			}
			writer.setSynced(kind, true);
			writer.report(`kubernetes ${kind}`, this.#problems());
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
				writer.report(`kubernetes ${kind}`, this.#problems());
		});
	}

	remove(object: unknown): void {
		const kind = this.#kind;
		const reading = readObject(kind, object);
		const { key } = reading;
		const before = this.#store.get(kind, key);
		// A late word about an object whose name another one has now.
		if (before !== undefined && isAnother(uidOf(reading), before)) return;
		this.#store.update((writer) => {
			writer.remove(kind, key);
			if (this.#faults.delete(key)) writer.report(`kubernetes ${kind}`, this.#problems());
		});
	}

	/** What is in force of an object from now on. */
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

	#problems(): Problem[] {
		const all = [...this.#faults].sort(([a], [b]) => (a < b ? -1 : 1));
		const problems: Problem[] = all.slice(0, PROBLEMS_MAX).map(([, message]) => ({ message }));
		if (all.length > PROBLEMS_MAX)
			problems.push({
				message: `Cannot accept more than those: expected usable ${this.#kind} objects, got ${all.length} others`,
			});
		return problems;
	}
}

interface Identified {
	uid?: string;
}

function uidOf<K extends Kind>(reading: Reading<K>): Identified {
	if ("record" in reading) return reading.record;
	return "fault" in reading ? (reading as Identified) : {};
}

/** Both say who they are, and differ. */
function isAnother(a: Identified, b: Identified | undefined): boolean {
	return a.uid !== undefined && b?.uid !== undefined && a.uid !== b.uid;
}
