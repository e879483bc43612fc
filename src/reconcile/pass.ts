/** The results and problems of one apply. */
import type { Log } from "../text/log.js";
import type { SysctlResult } from "./host/sysctls.js";

export class Pass {
	writes = 0;
	readonly problems: string[] = [];
	/** The programs of the wire and of fairway0 are attached. */
	attached = false;
	readonly #log: Log;

	constructor(log: Log) {
		this.#log = log;
	}

	add({ writes, problems }: { writes: number; problems: string[] }): void {
		this.writes += writes;
		this.problems.push(...problems);
	}

	/** A sysctl that cannot be written is reported once and blocks nothing else. */
	sysctls({ changes, problems }: SysctlResult): void {
		for (const { name, from, to, reason } of changes)
			this.#log.info({ sysctl: name, from, to, reason }, "set a sysctl");
		this.add({ writes: changes.length, problems: problems.map(({ message }) => message) });
	}

	/** Runs `act`; an error becomes a problem, and the result is `otherwise`. */
	async try<T, U>(otherwise: U, act: () => T | Promise<T>): Promise<T | U> {
		try {
			return await act();
		} catch (error) {
			this.problems.push((error as Error).message);
			return otherwise;
		}
	}
}
