/**
 * Entries that are no longer used. Each is removed one round later, when no program can still hold it, and its id
 * is free one more round later: an id reused in the round of its removal would be removed after it was written.
 */
import type { PolicyTableName, WriteTable } from "./policy_tables.js";

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
	sweep(): void {
		const items = this.#items;
		this.#items = [];
		for (const { table, key } of items) this.#write(7, table, key, undefined);
		for (const { free } of this.#removed) free?.();
		this.#removed = items.filter(({ free }) => free !== undefined);
	}
}
