/** Lasting problems: each is logged when it appears and when it is gone, and not when its count changes. */
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
		const [former, now] = [byIdentity(this.#current), byIdentity(problems)];
		for (const [identity, problem] of now)
			if (!former.has(identity)) this.#log.warn({ problem }, "problem detected");
		for (const [identity, problem] of former)
			if (!now.has(identity)) this.#log.info({ problem }, "problem resolved");
		const texts = new Set(this.#current);
		this.#current = [...new Set(problems)];
		const isSame =
			texts.size === this.#current.length && this.#current.every((problem) => texts.has(problem));
		if (!isSame) this.#onChange();
	}
}

/**
 * How many there are of something, in a sentence: "expected at most 5 rules, got 7", "got 7 others", "and 7 more".
 * A number that is no count (a port, a name's digits) is never between these words.
 */
const COUNTS =
	/(?<=\bexpected at most )\d+\b|(?<=\bexpected at most .*, got )\d+\b|\b\d+(?= (?:others|more)\b)/g;

/** Texts that differ only in a count are about the same problem. */
function byIdentity(problems: readonly string[]): Map<string, string> {
	return new Map(problems.map((problem) => [problem.replace(COUNTS, "N"), problem]));
}
