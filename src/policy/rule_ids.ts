/** Ids of rules, and the rules that they identify. An id is free again one round after its last policy is removed. */
import { type Budget, CLUSTER } from "./limits.js";
import type { RuleName } from "./policy_tables.js";
import type { Ids } from "./verdicts.js";

export class RuleIds {
	readonly #ids: Ids;
	readonly #budget: Budget;
	readonly #known = new Map<string, { id: number; users: number; owner: string }>();
	readonly #texts = new Map<number, string>();
	readonly #onNew: (id: number, name: RuleName) => void;
	readonly #onUnused: (id: number, free: () => void) => void;

	constructor(
		ids: Ids,
		budget: Budget,
		onNew: (id: number, name: RuleName) => void,
		onUnused: (id: number, free: () => void) => void,
	) {
		this.#ids = ids;
		this.#budget = budget;
		this.#onNew = onNew;
		this.#onUnused = onUnused;
	}

	get left(): number {
		return this.#ids.left;
	}

	/** The namespace of one that has no id yet, or CLUSTER. */
	ownerOfFresh(name: RuleName): string | undefined {
		return this.#known.has(textOf(name)) ? undefined : ownerOf(name);
	}

	/** Its id, without a user yet. */
	number(name: RuleName): number {
		const text = textOf(name);
		let known = this.#known.get(text);
		if (known === undefined) {
			known = { id: this.#ids.take()!, users: 0, owner: ownerOf(name) };
			this.#budget.take(known.owner, 1);
			this.#known.set(text, known);
			this.#texts.set(known.id, text);
			this.#onNew(known.id, name);
		}
		return known.id;
	}

	retain(id: number): void {
		this.#known.get(this.#texts.get(id)!)!.users++;
	}

	/** An earlier agent gave it, and this one has not. */
	isHeld(id: number): boolean {
		return this.#ids.isHeld(id);
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
		this.#budget.give(known.owner, 1);
		this.#onUnused(id, () => this.#ids.give(id));
	}
}

function textOf({ direction, kind, policies, rule, tier, action }: RuleName): string {
	return [direction, kind, policies.join(), rule, tier, action].join(" ");
}

function ownerOf({ kind, policies: [first = ""] }: RuleName): string {
	return kind === "NetworkPolicy" ? first.slice(0, first.indexOf("/")) : CLUSTER;
}
