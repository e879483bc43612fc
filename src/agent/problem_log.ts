/** Lasting problems: each is logged when it appears and when it is gone. */
import type { Log } from "../text/log.js";

export class ProblemLog {
	readonly #log: Pick<Log, "info" | "warn">;
	readonly #onChange: () => void;
	#current: readonly string[] = [];

	constructor(log: Pick<Log, "info" | "warn">, onChange: () => void = () => {}) {
		this.#log = log;
		this.#onChange = onChange;
	}

	get current(): readonly string[] {
		return this.#current;
	}

	/** @param problems all current problems */
	update(problems: readonly string[]): void {
		const former = new Set(this.#current);
		const now = new Set(problems);
		for (const problem of now) {
			if (!former.has(problem)) this.#log.warn({ problem }, "problem detected");
		}
		for (const problem of former) {
			if (!now.has(problem)) this.#log.info({ problem }, "problem resolved");
		}
		const isSame = now.size === former.size && [...now].every((problem) => former.has(problem));
		this.#current = [...now];
		if (!isSame) this.#onChange();
	}
}
