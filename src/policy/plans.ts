/**
 * Plans of policies: what a choice of policies says, as a rule list, before any policy is made of it.
 *
 *  1. a choice that is in force already keeps its rule list
 *  2. what is over a limit is refused before anything of it is made
 *  3. its atoms and rules have numbers from then on; those that are new are to be in the classes first
 *  4. when all that was planned has been made, rules without a policy are given back
 */
import type { Steps } from "../loop/turns.js";
import type { Atom, Atoms, NumberedAtom } from "./atoms.js";
import { type Budgets, CLUSTER, type Limits, Needs, shortOf } from "./limits.js";
import type { Plan } from "./policy.js";
import type { RuleIds } from "./rule_ids.js";
import { buildInSteps, type Chosen, type RuleList } from "./rule_list.js";

export interface PlansOptions {
	limits: Limits;
	budgets: Budgets;
	atoms: Atoms;
	rules: RuleIds;
	/** The rule list in force for a key. */
	known: (key: string) => RuleList | undefined;
	/** A policy in force has rules that name ports so. */
	hasName: (name: string) => boolean;
	/** Something was refused for want of room. */
	onFull: () => void;
}

export class Plans {
	readonly #options: PlansOptions;
	/** Atoms and names that are new since `takeNew`. */
	#new: NumberedAtom[] = [];
	readonly #newNames = new Set<string>();
	/** In this round: their rules have ids before a policy has them. */
	#planned: RuleList[] = [];

	constructor(options: PlansOptions) {
		this.#options = options;
	}

	/** The rule list of a choice, whose atoms have to be in the classes before it is made. Or the limit that it exceeds. */
	*plan(chosen: Chosen, key: string): Steps<Plan | string> {
		const { rules, known, hasName, onFull } = this.#options;
		const owner = chosen.network[0]?.policy.namespace ?? CLUSTER;
		const inForce = known(key);
		if (inForce !== undefined) return { key, owner, list: inForce };
		const problem = yield* this.#tooMuch(chosen);
		if (problem !== undefined) {
			onFull();
			return problem;
		}
		const list = yield* buildInSteps(chosen, {
			atom: this.numberOf,
			rule: (name) => rules.number(name),
		});
		for (const rule of list.ruleIds) rules.retain(rule);
		this.#planned.push(list);
		for (const name of list.names) if (!hasName(name)) this.#newNames.add(name);
		return { key, owner, list };
	}

	/** All that was planned has been made. */
	end(): void {
		const { rules } = this.#options;
		for (const { ruleIds } of this.#planned) for (const rule of ruleIds) rules.release(rule);
		this.#planned = [];
	}

	/** Selectors, blocks and names of ports that have come into force. */
	takeNew(): { atoms: NumberedAtom[]; names: string[] } {
		const taken = { atoms: this.#new, names: [...this.#newNames] };
		this.#new = [];
		this.#newNames.clear();
		return taken;
	}

	/** @param owner the namespace, or CLUSTER, that it counts for if it is new */
	numberOf = (atom: Atom, owner: string): number =>
		this.#options.atoms.number(
			atom,
			(fresh) => {
				if (fresh.kind !== "port") this.#new.push(fresh);
			},
			owner,
		);

	/** Before anything of it is made. */
	*#tooMuch(chosen: Chosen): Steps<string | undefined> {
		const { limits, budgets, atoms, rules } = this.#options;
		const { direction, network, cluster } = chosen;
		let count = 0;
		for (const { policy } of network) count += policy[direction]!.length;
		for (const policy of cluster) count += policy[direction].length;
		const { rulesOfPod } = limits;
		if (count > rulesOfPod) return `expected at most ${rulesOfPod} rules, got ${count}`;
		// By building it with numbers that are thrown away.
		const needs = new Needs();
		yield* buildInSteps(
			{ direction, network, cluster, ownPorts: [] },
			{
				atom: (one, owner) => {
					const text = atoms.freshText(one);
					if (text !== undefined) needs.add(owner, text, one);
					return 0;
				},
				rule: (name) => {
					const owner = rules.ownerOfFresh(name);
					if (owner !== undefined) needs.of(owner).rules++;
					return 0;
				},
			},
		);
		return (
			needs.problem(budgets) ??
			(needs.rules > rules.left ? shortOf("rules", limits.rules) : undefined)
		);
	}
}
