/**
 * Entries that are no longer used. Each is removed one round later, when no program can still hold it, and its id
 * is free one more round later: an id reused in the round of its removal would be removed after it was written.
 */
import type { Steps } from "../loop/turns.js";
import type { PolicyTableName, WriteTable } from "./policy_tables.js";

/** Entries between two steps. */
const EVERY = 256;

interface Item {
	table: PolicyTableName;
	key: number;
	free: (() => void) | undefined;
}

export class Garbage {
	readonly #write: WriteTable;
	#items: Item[] = [];
	/** Removed in the round before. */
	#removed: Item[] = [];

	constructor(write: WriteTable) {
		this.#write = write;
	}

	get isEmpty(): boolean {
		return this.#items.length === 0;
	}

	/** @param free its id */
	add(table: PolicyTableName, key: number, free?: () => void): void {
		this.#items.push({ table, key, free });
	}

	/** A round begins. */
	*sweep(): Steps<void> {
		const items = this.#items;
		this.#items = [];
		const freed = this.#removed;
		this.#removed = [];
		for (const [i, { free }] of freed.entries()) {
			free?.();
			if (i % EVERY === 0) yield;
		}
		for (const [i, item] of items.entries()) {
			this.#write(7, item.table, item.key, undefined);
			if (item.free !== undefined) this.#removed.push(item);
			if (i % EVERY === 0) yield;
		}
	}
}
