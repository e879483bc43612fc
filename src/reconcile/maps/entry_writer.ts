/**
 * Writes pending entries in batches, with turns of the event loop between. What the kernel took is pending no longer;
 * what it refused stays pending, and is a problem of the pass.
 */
import type { Steps } from "../../loop/turns.js";
import type { EntryFailure, Table } from "./agent_tables.js";

/** Entries of one write: some 2 ms. */
export const BATCH = 512;
/** Entries that are looked at between two steps. */
const EVERY = 2048;

export type Key = number | string;
/** Undefined: it goes. */
export type Entries<V, K extends Key = Key> = Map<K, V | undefined>;

export class EntryWriter {
	#failures: EntryFailure<unknown>[] = [];
	#writes = 0;

	/** Begins a new pass. */
	begin(): void {
		this.#failures = [];
		this.#writes = 0;
	}

	/** Writes of this pass that the kernel took. */
	get writes(): number {
		return this.#writes;
	}

	/** Counts writes of this pass that were made elsewhere. */
	wrote(count: number): void {
		this.#writes += count;
	}

	/** Notes refusals of writes that were made elsewhere. */
	refused(failures: readonly EntryFailure<unknown>[]): void {
		this.#failures.push(...failures);
	}

	/**
	 * Writes entries, puts before removals. What was written is removed from `entries`; returns what was refused.
	 *
	 * @param may whether it may be written now
	 */
	*put<V, E, K extends Key>(
		table: Table<K, E>,
		entries: Entries<V, K>,
		encode: (value: V) => E,
		may: (key: K, value: V | undefined) => boolean = () => true,
	): Steps<EntryFailure<K>[]> {
		const failures: EntryFailure<K>[] = [];
		let looked = 0;
		for (const removes of [false, true]) {
			let batch: [K, V | undefined][] = [];
			const flush = () => {
				const refused = removes
					? table.remove(batch.map(([key]) => key))
					: table.put(batch.map(([key, value]): [K, E] => [key, encode(value!)]));
				failures.push(...refused);
				const failed = new Set(refused.map(({ key }) => key));
				for (const [key] of batch) if (!failed.has(key)) entries.delete(key);
				this.#writes += batch.length - failed.size;
				batch = [];
			};
			// What was written goes meanwhile, all of which the loop has passed.
			for (const [key, value] of entries) {
				if (++looked % EVERY === 0) yield;
				if ((value === undefined) !== removes || !may(key, value)) continue;
				batch.push([key, value]);
				if (batch.length < BATCH) continue;
				flush();
				yield;
			}
			if (batch.length > 0) flush();
		}
		this.#failures.push(...failures);
		return failures;
	}

	/** A full map refuses thousands alike: the first is shown with a count of the rest. */
	problems(): string[] {
		const [first, ...rest] = this.#failures;
		const problems: string[] = [];
		if (first !== undefined)
			problems.push(
				rest.length === 0 ? first.message : `${first.message} (and ${rest.length} more)`,
			);
		return problems;
	}
}

export function plain<V>(value: V): V {
	return value;
}
