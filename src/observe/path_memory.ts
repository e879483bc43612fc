/**
 * Facts about paths that survive a restart of the agent, in `RUN_DIR/paths.json`. Written soon after a change
 * and when the agent stops; an unreadable file counts as missing.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { PathEvent } from "../api/messages/paths.js";
import { Turns } from "../loop/turns.js";
import type { PathKind } from "../tables/paths.js";

/** By "NODE/FAMILY". */
export interface PathRecords {
	version: 1;
	ages: Record<string, { path: PathKind; since: number; changes: number }>;
	/** For how long a direct path that has failed is not tried again, ms. */
	holds: Record<string, number>;
	events: PathEvent[];
}

const WRITE_MS = 1000;
/** Entries between two looks at the clock. */
const PIECE = 64;

/** The remembered facts, not copied. */
export interface PathRecordsNow {
	ages: Iterable<readonly [peer: string, age: PathRecords["ages"][string]]>;
	holds: PathRecords["holds"];
	events: readonly PathEvent[];
}

export class PathMemory {
	readonly #file: string;
	readonly #collect: () => PathRecordsNow;
	readonly #onError: (error: unknown) => void;
	#timer: NodeJS.Timeout | undefined;
	#saving: Promise<void> | undefined;
	/** Counts the immediate writes: a write in slices that began before one of them is outdated. */
	#written = 0;

	/** @param collect returns the records when the file is written */
	constructor(file: string, collect: () => PathRecordsNow, onError: (error: unknown) => void) {
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
		this.#timer ??= setTimeout(() => {
			this.#timer = undefined;
			// One at a time: changes made meanwhile go into the next write.
			if (this.#saving !== undefined) this.changed();
			else
				this.#saving = this.save().finally(() => {
					this.#saving = undefined;
				});
		}, WRITE_MS).unref();
	}

	/** Writes the file now: at the end of the process. */
	write(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#written++;
		try {
			mkdirSync(dirname(this.#file), { recursive: true });
			writeFileSync(`${this.#file}.new`, [...pieces(this.#collect())].join(""));
			renameSync(`${this.#file}.new`, this.#file);
		} catch (error) {
			this.#onError(error);
		}
	}

	/**
	 * The same in slices, with turns of the event loop between: many peers take tens of milliseconds. Never rejects.
	 */
	async save(): Promise<void> {
		const written = this.#written;
		const beside = `${this.#file}.next`;
		try {
			const text: string[] = [];
			const turns = new Turns();
			for (const piece of pieces(this.#collect())) {
				text.push(piece);
				if (turns.due) await turns.pass();
			}
			await mkdir(dirname(this.#file), { recursive: true });
			await writeFile(beside, text);
			if (written === this.#written) renameSync(beside, this.#file);
			else rmSync(beside, { force: true });
		} catch (error) {
			this.#onError(error);
		}
	}
}

/** The file's text. */
function* pieces({ ages, holds, events }: PathRecordsNow): Generator<string> {
	yield `{"version":1,"holds":${JSON.stringify(holds)},"ages":{`;
	let text: string[] = [];
	let separator = "";
	for (const [peer, age] of ages) {
		text.push(`${separator}${JSON.stringify(peer)}:${JSON.stringify(age)}`);
		separator = ",";
		if (text.length < PIECE) continue;
		yield text.join("");
		text = [];
	}
	yield `${text.join("")}},"events":[`;
	for (let from = 0; from < events.length; from += PIECE) {
		const some = events.slice(from, from + PIECE).map((event) => JSON.stringify(event));
		yield `${from === 0 ? "" : ","}${some.join()}`;
	}
	yield "]}";
}

function isMapping<T extends object>(value: T | undefined): value is T {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
