/**
 * The policies and classes that readers may meet, and the verdict of each policy for each class.
 *
 *  1. a policy is a rule list (plans.ts) with an id; it never changes under it. It comes whole or not at all
 *  2. a class is a set of atoms with a number; numbers only grow
 *  3. a new policy is judged for the classes that have one of its atoms, a new class by the policies that
 *     have one of its: all other pairs have the verdict of a class that none of the policy's atoms names
 *  4. of a policy's verdicts the commonest is its own, and the classes that have another have an entry; who
 *     pays for that is in paid_verdicts.ts
 *  5. unused entries are removed one round later, when no reader can hold them (garbage.ts)
 */
import type { Steps } from "../loop/turns.js";
import { type Atom, Atoms } from "./atoms.js";
import { Classes } from "./classes.js";
import { Garbage } from "./garbage.js";
import { Budgets, CLUSTER, LIMITS, type Limits, shortOf } from "./limits.js";
import { PaidVerdicts } from "./paid_verdicts.js";
import { Plans } from "./plans.js";
import type { Plan, Policy } from "./policy.js";
import { PolicyIndex } from "./policy_index.js";
import {
	CLASS_OVERFLOW,
	FIRST_POLICY,
	type HeldPolicyTables,
	NO_CLASS,
	OPEN,
	type WriteTable,
} from "./policy_tables.js";
import { RuleIds } from "./rule_ids.js";
import { hairpinList, type RuleList } from "./rule_list.js";
import { Ids, type KeptVerdict } from "./verdicts.js";

/** Classes that are looked at between two steps. */
const EVERY = 256;

export class InForce {
	readonly limits: Limits;
	readonly budgets: Budgets;
	readonly atoms: Atoms;
	readonly plans: Plans;
	readonly #write: WriteTable;
	readonly #policyIds: Ids;
	readonly #rules: RuleIds;
	readonly #verdicts: PaidVerdicts;
	readonly #policies = new Map<string, Policy>();
	readonly #index = new PolicyIndex();
	/** Those whose own verdict is not that of unnamed classes. */
	readonly #turned = new Set<Policy>();
	readonly #classes: Classes;
	readonly #garbage: Garbage;
	/** Of an earlier agent, until the first round begins. */
	#held: HeldPolicyTables | undefined;
	/** Of the last round. */
	readonly problems = new Set<string>();
	/** Why CLASS_OVERFLOW was returned last. */
	overflow = "";
	/** Since the owner last checked, something was refused because there was no room, or room was freed. */
	isFull = false;
	hasRoom = false;
	/** Grows when something is given back. */
	room = 0;
	/** Ids of policies that stay whole though no Pod is to have them: some still have. */
	inUse: ReadonlySet<number> = new Set();

	constructor(write: WriteTable, held?: HeldPolicyTables, limits: Limits = LIMITS) {
		this.#write = write;
		this.limits = limits;
		this.budgets = new Budgets(limits);
		this.atoms = new Atoms(this.budgets);
		this.#garbage = new Garbage(write);
		const onFull = () => {
			this.isFull = true;
		};
		const onRoom = () => {
			this.room++;
		};
		this.#policyIds = new Ids(FIRST_POLICY, 2 * limits.policies, held?.policies);
		this.#verdicts = new PaidVerdicts({
			...{ limits, budgets: this.budgets, write, garbage: this.#garbage, held, onRoom, onFull },
		});
		this.#rules = new RuleIds(
			new Ids(1, limits.rules + 1, held?.rules, true),
			this.budgets.rules,
			(id, name) => write(1, "rules", id, name),
			(id, free) => this.#garbage.add("rules", id, free),
		);
		this.#classes = new Classes(this.atoms, held);
		this.plans = new Plans({
			...{ limits, budgets: this.budgets, atoms: this.atoms, rules: this.#rules },
			known: (key) => this.#policies.get(key)?.list,
			hasName: (name) => this.#index.withName(name).size > 0,
			onFull,
		});
		this.#held = held;
	}

	get nextClass(): number {
		return this.#classes.next;
	}

	get classCount(): number {
		return this.#classes.size;
	}

	policies(): IterableIterator<Policy> {
		return this.#policies.values();
	}

	/** Entries of the tables; reserved ones of an earlier agent count until they are free. */
	get usage(): { policies: number; policyVerdicts: number; portSets: number; rules: number } {
		let policyVerdicts = 0;
		for (const { byClass } of this.#policies.values()) policyVerdicts += byClass.size;
		return {
			...{ policies: this.#policies.size, policyVerdicts },
			portSets: this.#verdicts.portSets,
			rules: this.limits.rules - this.#rules.left,
		};
	}

	/** What holds for the addresses of a class; undefined: there is none with this number. */
	atomsOf(number: number): Atom[] | undefined {
		return this.#classes.at(number)?.atoms.flatMap((id) => this.atoms.get(id) ?? []);
	}

	get hasGarbage(): boolean {
		if (!this.#garbage.isEmpty) return true;
		for (const policy of this.#policies.values()) if (this.#isUnused(policy)) return true;
		return false;
	}

	/** Entries that no policy uses any more. */
	get unusedAtoms(): number {
		return this.atoms.sayable - this.#index.atoms;
	}

	/** Removes entries that have been unused since the round before, and finds those that are unused now. */
	*sweep(): Steps<void> {
		yield* this.#garbage.sweep();
		if (this.#held !== undefined) yield* this.#hold(this.#held);
		this.#held = undefined;
		for (const policy of this.#policies.values())
			if (this.#isUnused(policy)) yield* this.#remove(policy);
	}

	#isUnused({ users, id }: Policy): boolean {
		return users === 0 && !this.inUse.has(id);
	}

	// ------------------------------------------------------------ an earlier agent

	/** What it left is garbage from now on; until that is removed, its policies judge. */
	*#hold(held: HeldPolicyTables): Steps<void> {
		const { policies, portSets, rules, policyVerdicts } = held;
		yield* this.#classes.hold(held);
		yield* this.#verdicts.entries.hold(policyVerdicts);
		yield* this.#verdicts.entries.discardHeld(policyVerdicts);
		for (const id of policies) this.#garbage.add("policies", id, () => this.#policyIds.give(id));
		yield;
		this.#verdicts.discardHeld(portSets);
		yield;
		for (const id of rules)
			if (this.#rules.isHeld(id)) this.#garbage.add("rules", id, () => this.#rules.give(id));
	}

	/** Class numbers of an earlier agent are not given any more. */
	forgetHeld(): void {
		this.#classes.forgetHeld();
		this.#verdicts.entries.forgetHeld();
	}

	// ------------------------------------------------------------ policies

	/** Its policy, with one more user. Returns the limit if it exceeds one. */
	*make({ key, owner, list }: Plan): Steps<Policy | string> {
		const made = this.#known(key) ?? (yield* this.#make(key, owner, list));
		if (typeof made === "string") this.isFull = true;
		return made;
	}

	#known(key: string): Policy | undefined {
		const known = this.#policies.get(key);
		if (known !== undefined) this.retain(known);
		return known;
	}

	/** With one more user: of one that has or had some since the last sweep. */
	retain(policy: Policy): void {
		if (policy.users++ === 0) this.#verdicts.settle(policy, 1);
	}

	/** One without users pays nothing, so that another one can take its place. */
	release(policy: Policy): void {
		if (--policy.users === 0) this.#verdicts.settle(policy, -1);
	}

	/** Returns the exceeded limit if it cannot be made: then no part of it stays. */
	*#make(key: string, owner: string, list: RuleList, isHairpin = false): Steps<Policy | string> {
		for (const rule of list.ruleIds) this.#rules.retain(rule);
		const forHairpin = isHairpin ? undefined : yield* hairpinList(list);
		const hairpinKey = `${key} hairpin`;
		const hairpin =
			forHairpin &&
			(this.#known(hairpinKey) ?? (yield* this.#make(hairpinKey, owner, forHairpin, true)));
		const bySubset = new Map<string, KeptVerdict>();
		const charges = { entries: new Map<string, number>(), parts: 0 };
		const draft = { list, owner, bySubset, charges, users: 0 };
		const fail = (problem: string): string => {
			this.#verdicts.release(draft);
			for (const rule of list.ruleIds) this.#rules.release(rule);
			if (typeof hairpin === "object") this.release(hairpin);
			return problem;
		};
		if (typeof hairpin === "string") return fail(hairpin);
		const { policies } = this.budgets;
		const tooMany =
			policies.problem(owner, 1) ??
			(this.#policyIds.left < 1 ? shortOf(policies.what, this.limits.policies) : undefined);
		if (tooMany !== undefined) return fail(tooMany);

		const all = yield* this.#verdicts.ofAll(draft, this.#classes);
		if (typeof all === "string") return fail(all);
		const { verdict, byClass, isTurned } = all;

		const id = this.#policyIds.take()!;
		const policy: Policy = {
			...{ id, key, owner, list, users: 0, hairpin, verdict, byClass, bySubset, charges },
		};
		charges.entries.set(owner, byClass.size);
		// The hairpin has paid.
		this.#verdicts.settle({ ...policy, hairpin: undefined }, 1);
		policy.users = 1;
		this.#policies.set(key, policy);
		if (isTurned) this.#turned.add(policy);
		this.#index.add(policy);
		for (const [number, kept] of byClass) {
			this.#verdicts.entries.put(policy.id, number, kept.verdict);
			yield;
		}
		this.#write(3, "policies", id, { verdict: verdict.verdict, hairpin: hairpin?.id ?? OPEN });
		return policy;
	}

	/** Problems of earlier rounds that are still there. */
	reportLasting(): void {
		for (const { users, problem } of this.#policies.values())
			if (users > 0 && problem !== undefined) this.problems.add(problem);
	}

	*#remove(policy: Policy): Steps<void> {
		const { id, key, list, byClass, hairpin } = policy;
		this.#policies.delete(key);
		this.#turned.delete(policy);
		this.#index.remove(policy);
		let looked = 0;
		for (const number of byClass.keys()) {
			this.#verdicts.entries.discard(id, number);
			if (++looked % EVERY === 0) yield;
		}
		this.#garbage.add("policies", id, () => {
			this.#policyIds.give(id);
			this.room++;
		});
		this.#verdicts.release(policy);
		for (const rule of list.ruleIds) this.#rules.release(rule);
		// What it paid has been given back with its own.
		if (hairpin !== undefined) hairpin.users--;
		this.hasRoom = true;
	}

	// ------------------------------------------------------------ classes

	/**
	 * The class of an address for which these atoms hold, sorted. CLASS_OVERFLOW: there is no room for it.
	 *
	 * @param owner the namespace of its Pods, or CLUSTER
	 * @param held its number in an earlier agent's tables, whose policies are to judge it as they did
	 */
	*classOf(atoms: readonly number[], owner: string, held?: number): Steps<number> {
		const known = held === undefined ? this.#classes.find(atoms)?.number : undefined;
		if (known !== undefined) return known;
		if (held === NO_CLASS && atoms.length === 0) return NO_CLASS;
		const ports = this.#classes.portsOf(atoms);
		const concerned = new Set<Policy>(this.#turned);
		for (const policy of this.#index.concerning({ atoms, ports })) concerned.add(policy);
		const entries: [Policy, KeptVerdict][] = [];
		for (const policy of concerned) {
			const kept = yield* this.#verdicts.ofOrDenial(policy, { atoms, ports });
			if (kept !== policy.verdict) entries.push([policy, kept]);
			yield;
		}
		const problem =
			this.#verdicts.noRoom(owner, entries.length) ??
			(this.#classes.size >= this.limits.classes
				? `expected at most ${this.limits.classes} classes, got more`
				: undefined);
		if (problem !== undefined) {
			const whose = owner === CLUSTER ? "all addresses" : `the Pods of namespace ${owner}`;
			this.overflow = `Cannot tell ${whose} apart: ${problem}; those left out are denied`;
			this.isFull = true;
			return CLASS_OVERFLOW;
		}
		const number = this.#classes.add(atoms, held);
		if (held !== undefined && number !== held) this.#verdicts.entries.copyHeld(held, number);
		for (const [policy, kept] of entries) {
			policy.byClass.set(number, kept);
			this.#verdicts.entries.put(policy.id, number, kept.verdict);
			this.#verdicts.charge(policy, owner, 1);
		}
		return number;
	}

	/** Forgets every class: those that come have new numbers, and the old ones go one round later. */
	*restartClasses(): Steps<void> {
		for (const policy of this.#policies.values()) {
			this.#verdicts.refund(policy);
			for (const number of policy.byClass.keys()) {
				// Of unnamed addresses, for which the number is always the same.
				if (number === NO_CLASS) this.#verdicts.charge(policy, policy.owner, 1);
				else {
					this.#verdicts.entries.discard(policy.id, number);
					policy.byClass.delete(number);
				}
			}
			yield;
		}
		this.#classes.restart();
		this.#verdicts.entries.forgetHeld();
		this.hasRoom = true;
	}

	/** True: some policy in force has another verdict for the second. @param fresh only denials count */
	differ(a: number, b: number, fresh: boolean): boolean {
		if (a === b) return false;
		const [first, second] = [this.#classes.at(a), this.#classes.at(b)];
		if (first === undefined || second === undefined) return true;
		const concerned = new Set<Policy>();
		const [one, two] = [new Set(first.atoms), new Set(second.atoms)];
		for (const atom of [...first.atoms, ...second.atoms]) {
			if (one.has(atom) && two.has(atom)) continue;
			const known = this.atoms.get(atom);
			const users =
				known?.kind === "port" ? this.#index.withName(known.name) : this.#index.withAtom(atom);
			for (const policy of users) concerned.add(policy);
		}
		for (const policy of concerned) {
			if (policy.users === 0) continue;
			const before = policy.byClass.get(a) ?? policy.verdict;
			if (before === (policy.byClass.get(b) ?? policy.verdict)) continue;
			if (!fresh || before.segments.some(({ judgement }) => judgement.allow)) return true;
		}
		return false;
	}
}
