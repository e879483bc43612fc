/** The store's records of one kind by key, with the file that each stands in. */
import { isDeepStrictEqual } from "node:util";

export interface RecordTable<R> {
	readonly size: number;
	has(key: string): boolean;
	get(key: string): R | undefined;
	/** Undefined: its source has none. */
	fileOf(key: string): string | undefined;
	/** Returns whether that is something else than before. */
	put(key: string, record: R, file?: string): boolean;
	/** Returns whether it was there. */
	delete(key: string): boolean;
	/** Keys added or removed meanwhile may or may not be among them. */
	keys(): IterableIterator<string>;
}

interface Entry<R> {
	record: R;
	file: string | undefined;
}

/** As objects: of one that says the same as before the former stays. */
export class ObjectTable<R> implements RecordTable<R> {
	readonly #entries = new Map<string, Entry<R>>();

	get size(): number {
		return this.#entries.size;
	}

	has(key: string): boolean {
		return this.#entries.has(key);
	}

	get(key: string): R | undefined {
		return this.#entries.get(key)?.record;
	}

	fileOf(key: string): string | undefined {
		return this.#entries.get(key)?.file;
	}

	put(key: string, record: R, file?: string): boolean {
		const before = this.#entries.get(key);
		const same = before !== undefined && isDeepStrictEqual(before.record, record);
		if (same && before.file === file) return false;
		this.#entries.set(key, { record: same ? before.record : record, file });
		return true;
	}

	delete(key: string): boolean {
		return this.#entries.delete(key);
	}

	keys(): IterableIterator<string> {
		return this.#entries.keys();
	}
}

/**
 * As JSON texts, a fifth of what many small objects take; a record is made when somebody asks for it, a new object
 * each time. For kinds that consist of text, numbers and lists, where undefined and absent mean the same.
 */
export class PackedTable<R extends object> implements RecordTable<R> {
	readonly #texts = new Map<string, string>();
	readonly #files = new Map<string, string>();

	get size(): number {
		return this.#texts.size;
	}

	has(key: string): boolean {
		return this.#texts.has(key);
	}

	get(key: string): R | undefined {
		const text = this.#texts.get(key);
		return text === undefined ? undefined : JSON.parse(text);
	}

	fileOf(key: string): string | undefined {
		return this.#files.get(key);
	}

	put(key: string, record: R, file?: string): boolean {
		const text = JSON.stringify(record);
		if (this.#texts.get(key) === text && this.#files.get(key) === file) return false;
		this.#texts.set(key, text);
		if (file === undefined) this.#files.delete(key);
		else this.#files.set(key, file);
		return true;
	}

	delete(key: string): boolean {
		this.#files.delete(key);
		return this.#texts.delete(key);
	}

	keys(): IterableIterator<string> {
		return this.#texts.keys();
	}
}
