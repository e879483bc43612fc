/**
 * Facts about paths that survive a restart of the agent, in `RUN_DIR/paths.json`. Written soon after a change
 * and when the agent stops; an unreadable file counts as missing.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { PathEvent } from "../api/messages.js";
import type { PathKind } from "../tables/paths.js";

/** By "NODE/FAMILY". */
export interface PathRecords {
	version: 1;
	ages: Record<string, { path: PathKind; since: number; changes: number }>;
	/** What a direct path that has failed is held back for, ms. */
	holds: Record<string, number>;
	events: PathEvent[];
}

const WRITE_MS = 1000;

export class PathMemory {
	readonly #file: string;
	readonly #collect: () => Omit<PathRecords, "version">;
	readonly #onError: (error: unknown) => void;
	#timer: NodeJS.Timeout | undefined;

	/** @param collect returns the records when the file is written */
	constructor(
		file: string,
		collect: () => Omit<PathRecords, "version">,
		onError: (error: unknown) => void,
	) {
		this.#file = file;
		this.#collect = collect;
		this.#onError = onError;
	}

	static read(file: string): PathRecords {
		const nothing: PathRecords = { version: 1, ages: {}, holds: {}, events: [] };
		try {
			const records = JSON.parse(readFileSync(file, "utf8")) as Partial<PathRecords>;
			if (records.version !== 1) return nothing;
			const { ages, holds, events } = records;
			return {
				version: 1,
				ages: isMapping(ages) ? ages : {},
				holds: isMapping(holds) ? holds : {},
				events: Array.isArray(events) ? events : [],
			};
		} catch {
			return nothing;
		}
	}

	changed(): void {
		this.#timer ??= setTimeout(() => this.write(), WRITE_MS).unref();
	}

	write(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		try {
			mkdirSync(dirname(this.#file), { recursive: true });
			writeFileSync(`${this.#file}.new`, JSON.stringify({ version: 1, ...this.#collect() }));
			renameSync(`${this.#file}.new`, this.#file);
		} catch (error) {
			this.#onError(error);
		}
	}
}

function isMapping<T extends object>(value: T | undefined): value is T {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
