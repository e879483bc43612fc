/**
 * How much of the tables policies may use, and how namespaces share it. A namespace is a tenant, and any of them
 * may try to take everything: half of a resource is first come, first served; the other half is reserved for
 * namespaces below their share. So a greedy namespace leaves the others their shares. ClusterNetworkPolicies
 * belong to the administrator: only the size of the tables limits them.
 */

import { Limit } from "../tables/generated.js";
import type { Atom } from "./atoms.js";

/** Limits of one Node. Entries with an id are rewritten beside the old ones, so only half of such a table is used. */
export interface Limits {
	policies: number;
	verdicts: number;
	/** Parts. */
	portSets: number;
	rules: number;
	/** Rules for one Pod and direction. */
	rulesOfPod: number;
	/** Different peers in rules. */
	atoms: number;
	classes: number;
	/** Port ranges for one policy and class. */
	ranges: number;
	prefixes: number;
	identities: number;
}

export const LIMITS: Limits = {
	policies: Limit.POLICIES_MAX / 2,
	verdicts: Limit.POLICY_VERDICTS_MAX / 2,
	portSets: Limit.PORT_SETS_MAX / 2,
	/** An unchanged rule keeps its id. */
	rules: Limit.POLICY_RULES_MAX - 1,
	rulesOfPod: 10_000,
	atoms: 32_768,
	/** As many as there can be addresses and prefixes. */
	classes: Limit.IDENTITIES_MAX + Limit.BLOCKS_MAX,
	ranges: Limit.PORT_SET_SEGMENTS * Limit.PORT_SET_PARTS,
	prefixes: Limit.BLOCKS_MAX,
	identities: Limit.IDENTITIES_MAX,
};

/** The budget of ClusterNetworkPolicies. */
export const CLUSTER = "";

/** A namespace's share is this part of the whole. */
const SHARES = 128;

/** One resource, by namespace. */
export class Budget {
	readonly what: string;
	readonly limit: number;
	readonly #share: number;
	readonly #used = new Map<string, number>();
	#total = 0;
	/** Above the shares of namespaces. */
	#common = 0;

	/** @param what in the plural */
	constructor(what: string, limit: number) {
		this.what = what;
		this.limit = limit;
		this.#share = Math.floor(limit / SHARES);
	}

	get total(): number {
		return this.#total;
	}

	/** Undefined: there is room for that many more. Else the exceeded limit. */
	problem(owner: string, count: number): string | undefined {
		if (count === 0) return undefined;
		const used = this.#used.get(owner) ?? 0;
		const left = this.limit - this.#total;
		const common = Math.floor(this.limit / 2) - this.#common;
		const most = used + Math.min(left, Math.max(0, this.#share - used) + Math.max(0, common));
		if (owner === CLUSTER ? count <= left : used + count <= most) return undefined;
		return owner === CLUSTER
			? `expected at most ${this.limit} ${this.what} on this Node, got ${this.#total + count}`
			: `expected at most ${most} ${this.what} of namespace ${owner} on this Node, got ${used + count}`;
	}

	/** Whether there is room or not. */
	take(owner: string, count: number): void {
		this.#set(owner, (this.#used.get(owner) ?? 0) + count);
	}

	give(owner: string, count: number): void {
		this.take(owner, -count);
	}

	#set(owner: string, now: number): void {
		const before = this.#used.get(owner) ?? 0;
		this.#total += now - before;
		if (owner !== CLUSTER)
			this.#common += Math.max(0, now - this.#share) - Math.max(0, before - this.#share);
		if (now === 0) this.#used.delete(owner);
		else this.#used.set(owner, now);
	}
}

/** All that are shared. */
export class Budgets {
	readonly policies: Budget;
	readonly rules: Budget;
	readonly portSets: Budget;
	readonly verdicts: Budget;
	readonly atoms: Budget;
	readonly prefixes: Budget;

	constructor(limits: Limits) {
		this.policies = new Budget("choices of policies", limits.policies);
		this.rules = new Budget("rules", limits.rules);
		this.portSets = new Budget("port sets", limits.portSets);
		this.verdicts = new Budget("verdicts", limits.verdicts);
		this.atoms = new Budget("different peers", limits.atoms);
		this.prefixes = new Budget("prefixes", limits.prefixes);
	}
}

/** The new entries that a choice of policies needs. */
export class Needs {
	readonly #owners = new Map<string, { rules: number; atoms: Set<string>; prefixes: number }>();

	of(owner: string) {
		let needs = this.#owners.get(owner);
		if (needs === undefined) {
			needs = { rules: 0, atoms: new Set<string>(), prefixes: 0 };
			this.#owners.set(owner, needs);
		}
		return needs;
	}

	/** @param text equal for equal atoms */
	add(owner: string, text: string, atom: Atom): void {
		const needs = this.of(owner);
		if (needs.atoms.has(text)) return;
		needs.atoms.add(text);
		if (atom.kind === "block") needs.prefixes += prefixesOf(atom);
	}

	get rules(): number {
		let count = 0;
		for (const { rules } of this.#owners.values()) count += rules;
		return count;
	}

	problem(budgets: Budgets): string | undefined {
		for (const [owner, { rules, atoms, prefixes }] of this.#owners) {
			const problem =
				budgets.rules.problem(owner, rules) ??
				budgets.atoms.problem(owner, atoms.size) ??
				budgets.prefixes.problem(owner, prefixes);
			if (problem !== undefined) return problem;
		}
		return undefined;
	}
}

export function prefixesOf({ except }: { except: readonly string[] }): number {
	return 1 + except.length;
}

/** What is too much until what is unused has been removed. */
export function shortOf(what: string, limit: number): string {
	return `expected at most ${limit} ${what} on this Node, got more`;
}
