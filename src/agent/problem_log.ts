/** Problems that last: each is logged when it appears and when it is gone, not in between. */
import type { Logger } from "./log.js";

export class ProblemLog {
	readonly #log: Pick<Logger, "info" | "warn">;
	#current: readonly string[] = [];

	constructor(log: Pick<Logger, "info" | "warn">) {
		this.#log = log;
	}

	get current(): readonly string[] {
		return this.#current;
	}

	/** @param problems all current problems */
	update(problems: readonly string[]): void {
		const former = new Set(this.#current);
		const now = new Set(problems);
		for (const problem of now) {
			if (!former.has(problem)) this.#log.warn({ problem }, "a problem has come up");
		}
		for (const problem of former) {
			if (!now.has(problem)) this.#log.info({ problem }, "a problem is solved");
		}
		this.#current = [...now];
	}
}
