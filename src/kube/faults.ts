/**
 * What is wrong with objects of one kind, by key. The first that came are named and the rest counted: a tenant may
 * have any number of them, so each change costs the same however many there are.
 */
import type { Problem } from "../cluster/snapshot.js";

/** The most problems reported for one kind; the rest are counted. */
const NAMED_MAX = 20;

export class Faults {
	readonly #kind: string;
	#messages = new Map<string, string>();
	/** Those that are named. */
	readonly #named = new Set<string>();
	/** The others, in the order in which they came: it has passed those that are named. */
	#rest = this.#messages.keys();

	constructor(kind: string) {
		this.#kind = kind;
	}

	get(key: string): string | undefined {
		return this.#messages.get(key);
	}

	set(key: string, message: string): void {
		this.#messages.set(key, message);
		this.#nameMore();
	}

	/** Returns whether there was one. */
	delete(key: string): boolean {
		this.#named.delete(key);
		const had = this.#messages.delete(key);
		this.#nameMore();
		return had;
	}

	clear(): void {
		this.#messages = new Map();
		this.#rest = this.#messages.keys();
		this.#named.clear();
	}

	/** By key; one more for those that are not named. */
	problems(): Problem[] {
		const problems: Problem[] = [...this.#named]
			.sort()
			.map((key) => ({ message: this.#messages.get(key)! }));
		if (this.#messages.size > NAMED_MAX)
			problems.push({
				message: `Cannot accept more than those: expected usable ${this.#kind} objects, got ${this.#messages.size} others`,
			});
		return problems;
	}

	/** The iterator is asked only when it has another one: once it had ended, it would miss those that come. */
	#nameMore(): void {
		while (this.#named.size < Math.min(NAMED_MAX, this.#messages.size))
			this.#named.add(this.#rest.next().value!);
	}
}
