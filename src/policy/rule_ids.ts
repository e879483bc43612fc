/** Ids of rules, and what they stand for. An id is free again one round after the last policy with it has gone. */
import type { RuleName } from "./policy_tables.js";
import { Ids } from "./verdicts.js";

export class RuleIds {
	readonly #ids: Ids;
	readonly #known = new Map<string, { id: number; users: number }>();
	readonly #texts = new Map<number, string>();
	readonly #onNew: (id: number, name: RuleName) => void;
	readonly #onUnused: (id: number, free: () => void) => void;

	constructor(
		limit: number,
		onNew: (id: number, name: RuleName) => void,
		onUnused: (id: number, free: () => void) => void,
		held: Iterable<number> = [],
	) {
		this.#ids = new Ids(1, limit, held);
		this.#onNew = onNew;
		this.#onUnused = onUnused;
	}

	get left(): number {
		return this.#ids.left;
	}

	/** Its id, without a user yet. */
	number(name: RuleName): number {
		const { direction, kind, policies, rule, tier, action } = name;
		const text = [direction, kind, policies.join(), rule, tier, action].join(" ");
		let known = this.#known.get(text);
		if (known === undefined) {
			known = { id: this.#ids.take()!, users: 0 };
			this.#known.set(text, known);
			this.#texts.set(known.id, text);
			this.#onNew(known.id, name);
		}
		return known.id;
	}

	retain(id: number): void {
		this.#known.get(this.#texts.get(id)!)!.users++;
	}

	/** An id that an earlier agent gave: no verdict has it any more. */
	give(id: number): void {
		this.#ids.give(id);
	}

	release(id: number): void {
		const text = this.#texts.get(id)!;
		const known = this.#known.get(text)!;
		if (--known.users > 0) return;
		this.#known.delete(text);
		this.#texts.delete(id);
		this.#onUnused(id, () => this.#ids.give(id));
	}
}
