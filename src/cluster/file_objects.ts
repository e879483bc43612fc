/**
 * Which file speaks for an object, when several name it, and what it says.
 *
 *  1. the oldest `metadata.creationTimestamp` counts, then the uid; without one the file that had
 *     the object before, then the first by name
 *  2. what cannot be understood leaves what the same file said before
 *  3. all others are refused by name
 *  4. what a lab wrote back of a Pod adds to what the Pod's own file says
 *
 * A change costs what the files say that have changed.
 */
import { ALL_KINDS, isStandIn, type Reading } from "./kinds.js";
import { type PodObject, withWrittenBack } from "./pod_object.js";
import { olderFirst } from "./seniority.js";
import type { Problem } from "./snapshot.js";
import type { Kind, Records } from "./store.js";

interface Holder {
	record: Records[Kind];
	file: string;
}

/** What a file says first of a name. */
interface Said {
	readonly file: string;
	readonly reading: Reading;
}

const NOBODY: readonly Said[] = Object.freeze([]);

export const STAYS = "what it said before stays in force";

export class FileObjects {
	readonly #files = new Map<string, readonly Reading[]>();
	/** By name, "KIND KEY": nearly always one, for which a Map would cost 200 bytes. */
	readonly #named = new Map<string, readonly Said[]>();
	readonly #holders = new Map<string, Holder>();
	/** By name, and by file under `file\0`. */
	readonly #problems = new Map<string, Problem[]>();
	/** Names, and "KIND \0FILE", that something says of which nothing was ever understood. */
	readonly #unknown = new Set<string>();

	/**
	 * Something of this kind was never understood, so what is not here may exist all the same: its name, or its
	 * file's where it has none.
	 */
	firstUnknown(kind: Kind): string | undefined {
		for (const name of this.#unknown)
			if (name.startsWith(`${kind} `)) return name.replace(/^.* \0/, `a ${kind} in `);
		return undefined;
	}

	holder(name: string): Holder | undefined {
		return this.#holders.get(name);
	}

	problems(): Problem[] {
		return [...this.#problems]
			.sort(([a], [b]) => (a < b ? -1 : 1))
			.flatMap(([, problems]) => problems);
	}

	/** What a file says now; no readings: nothing. Returns the names that it is about, now or before. */
	set(file: string, readings: readonly Reading[]): Set<string> {
		const names = new Set<string>();
		for (const reading of this.#files.get(file) ?? []) {
			const name = nameOf(reading);
			names.add(name);
			const others = (this.#named.get(name) ?? NOBODY).filter((said) => said.file !== file);
			if (others.length === 0) this.#named.delete(name);
			else this.#named.set(name, others);
		}
		if (readings.length === 0) this.#files.delete(file);
		else this.#files.set(file, readings);
		const own: Problem[] = [];
		for (const kind of ALL_KINDS) this.#unknown.delete(`${kind} \0${file}`);
		for (const reading of readings) {
			const name = nameOf(reading);
			if (reading.key === "" && "fault" in reading) {
				own.push(refusal(file, `${reading.kind} without a usable name`, reading.fault));
				this.#unknown.add(`${reading.kind} \0${file}`);
				continue;
			}
			const others = this.#named.get(name) ?? NOBODY;
			if (others.some((said) => said.file === file))
				own.push(refusal(file, name, "expected it once, this file has it twice; the first counts"));
			else this.#named.set(name, [...others, { file, reading }]);
			names.add(name);
		}
		this.#note(`${file}\0`, own);
		for (const name of names) if (name.endsWith(" ")) names.delete(name);
		return names;
	}

	/** Decides about a name anew. */
	resolve(name: string): Holder | undefined {
		const before = this.#holders.get(name);
		const problems: Problem[] = [];
		let holder: Holder | undefined;
		let unknown = false;
		let writtenBack: PodObject | undefined;
		for (const { file, reading } of this.#candidates(name, before)) {
			if (reading.kind === "Pod" && "record" in reading && reading.record.isWrittenBack === true) {
				writtenBack ??= reading.record;
				continue;
			}
			if (holder !== undefined) {
				problems.push(refusal(file, name, `expected it once, ${holder.file} has it already`));
			} else if ("skipped" in reading) {
				problems.push(refusal(file, name, reading.skipped));
			} else if ("record" in reading) {
				holder = { record: reading.record, file };
			} else if (before?.file === file && !isStandIn(before.record)) {
				holder = before;
				problems.push(refusal(file, name, `${reading.fault}; ${STAYS}`));
			} else {
				problems.push(refusal(file, name, reading.fault));
				if (reading.instead === undefined) unknown = true;
				else holder = { record: reading.instead, file };
			}
		}
		if (holder !== undefined && writtenBack !== undefined)
			holder = { ...holder, record: withWrittenBack(holder.record as PodObject, writtenBack) };
		if (unknown && holder === undefined) this.#unknown.add(name);
		else this.#unknown.delete(name);
		if (holder === undefined) this.#holders.delete(name);
		else this.#holders.set(name, holder);
		this.#note(name, problems);
		return holder;
	}

	#candidates(name: string, before: Holder | undefined): readonly Said[] {
		const candidates = this.#named.get(name) ?? NOBODY;
		if (candidates.length < 2) return candidates;
		const says = ({ file, reading }: Said): Records[Kind] | undefined =>
			"record" in reading ? reading.record : file === before?.file ? before.record : undefined;
		return candidates.toSorted((a, b) => {
			const age = olderFirst(says(a), says(b));
			if (age !== 0) return age;
			if (a.file === before?.file) return -1;
			if (b.file === before?.file) return 1;
			return a.file < b.file ? -1 : 1;
		});
	}

	#note(key: string, problems: Problem[]): void {
		if (problems.length === 0) this.#problems.delete(key);
		else this.#problems.set(key, problems);
	}
}

function refusal(file: string, name: string, why: string): Problem {
	return { file, message: `Cannot accept ${name}: ${why}` };
}

/** "Node n1"; with an empty key for those that have no name. */
function nameOf({ kind, key }: Reading): string {
	return `${kind} ${key}`;
}
