/**
 * The policies and classes that readers may meet, and the verdict of each policy for each class.
 *
 *  1. a policy is a rule list with an id; it never changes under it
 *  2. a class is a set of atoms with a number; numbers only grow
 *  3. a new policy is judged for the classes that have one of its atoms, a new class by the policies that
 *     have one of its: all other pairs have the policy's own verdict, of a class that none of its atoms names
 *  4. what nobody uses any more is removed one round later, when no reader can hold it
 */
import type { Steps } from "../loop/turns.js";
import { type Atom, Atoms, type NumberedAtom } from "./atoms.js";
import {
	CLASS_OVERFLOW,
	FIRST_CLASS,
	FIRST_POLICY,
	type HeldPolicyTables,
	NO_CLASS,
	OPEN,
	type PolicyTableName,
	type PolicyWrite,
	type Verdict,
	verdictKey,
	type WriteTable,
} from "./policy_tables.js";
import { RuleIds } from "./rule_ids.js";
import {
	buildRuleList,
	type Chosen,
	type ClassAtoms,
	hairpinList,
	judgeClass,
	type RuleList,
} from "./rule_list.js";
import { Ids, type KeptVerdict, Verdicts } from "./verdicts.js";

export const LIMITS = {
	policies: 8192,
	portSets: 65_536,
	rules: 65_536,
	/** Of one Pod and direction. */
	rulesOfPod: 10_000,
	atoms: 8192,
	classes: 65_536,
	/** Of one policy and class. */
	ranges: 1024,
	prefixes: 131_072,
	identities: 262_144,
};

export interface Policy {
	id: number;
	key: string;
	list: RuleList;
	/** Endpoints by direction, and policies whose hairpin it is. */
	users: number;
	hairpin: Policy | undefined;
	/** Of classes that none of its atoms names. */
	verdict: KeptVerdict;
	/** Of those where it differs. */
	byClass: Map<number, KeptVerdict>;
	/** By the atoms of its own that a class has. */
	bySubset: Map<string, KeptVerdict>;
}

interface Class extends ClassAtoms {
	number: number;
}

export class InForce {
	readonly atoms = new Atoms();
	readonly #write: WriteTable;
	readonly #policyIds: Ids;
	readonly #rules: RuleIds;
	readonly #verdicts: Verdicts;
	readonly #policies = new Map<string, Policy>();
	readonly #atomUsers = new Map<number, Set<Policy>>();
	readonly #nameUsers = new Map<string, Set<Policy>>();
	#classes = new Map<string, Class>();
	#byNumber = new Map<number, Class>();
	#classesByAtom = new Map<number, Class[]>();
	#nextClass = FIRST_CLASS;
	/** To be removed when the next round begins, and ids that are free then. */
	#garbage: { writes: PolicyWrite[]; free: (() => void)[] } = { writes: [], free: [] };
	/** Of ids whose removal is among the writes of the round before. */
	#freed: (() => void)[] = [];
	/** Class numbers of an earlier agent that no class has yet. */
	readonly #heldClasses = new Set<number>();
	/** Its verdicts by class. */
	readonly #heldVerdicts = new Map<number, [key: number, verdict: Verdict][]>();
	/** Of an earlier agent: garbage when the first round is done. */
	#later: { writes: PolicyWrite[]; free: (() => void)[] } = { writes: [], free: [] };
	/** Atoms that are new since `takeNew`. */
	#new: NumberedAtom[] = [];
	readonly #newNames = new Set<string>();
	/** Of the last round. */
	readonly problems = new Set<string>();

	constructor(write: WriteTable, held?: HeldPolicyTables) {
		this.#write = write;
		const ids = new Ids(1, LIMITS.portSets, held?.portSets);
		this.#policyIds = new Ids(FIRST_POLICY, LIMITS.policies, held?.policies);
		this.#verdicts = new Verdicts(
			ids,
			(id, part) => write(1, "portSets", id, part),
			(unused) => {
				for (const id of unused) this.#discard("portSets", id, () => ids.give(id));
			},
		);
		this.#rules = new RuleIds(
			LIMITS.rules,
			(id, name) => write(1, "rules", id, name),
			(id, free) => this.#discard("rules", id, free),
			held?.rules,
		);
		this.#addClass([], NO_CLASS);
		if (held === undefined) return;
		this.#nextClass = Math.max(FIRST_CLASS, held.classLimit);
		for (const number of [...held.identities.values(), ...held.blocks.values()])
			if (number >= FIRST_CLASS && number < this.#nextClass) this.#heldClasses.add(number);
		for (const [key, verdict] of held.policyVerdicts) {
			this.#discard("policyVerdicts", key);
			const number = key % 2 ** 32;
			const verdicts = this.#heldVerdicts.get(number);
			if (verdicts === undefined) this.#heldVerdicts.set(number, [[key, verdict]]);
			else verdicts.push([key, verdict]);
		}
		for (const id of held.policies) this.#discard("policies", id, () => this.#policyIds.give(id));
		for (const id of held.portSets) this.#discard("portSets", id, () => ids.give(id));
		for (const id of held.rules) this.#discard("rules", id, () => this.#rules.give(id));
		this.#later = this.#garbage;
		this.#garbage = { writes: [], free: [] };
	}

	get nextClass(): number {
		return this.#nextClass;
	}

	get classCount(): number {
		return this.#byNumber.size;
	}

	policies(): IterableIterator<Policy> {
		return this.#policies.values();
	}

	/** What holds for the addresses of a class; undefined: there is none with this number. */
	atomsOf(number: number): Atom[] | undefined {
		return this.#byNumber.get(number)?.atoms.flatMap((id) => this.atoms.get(id) ?? []);
	}

	get hasGarbage(): boolean {
		return (
			this.#garbage.writes.length > 0 ||
			[...this.#policies.values()].some(({ users }) => users === 0)
		);
	}

	/** What no policy says any more. */
	get unusedAtoms(): number {
		return this.atoms.sayable - this.#atomUsers.size;
	}

	/** Removes what has been unused since the round before, and finds what is unused now. */
	sweep(): void {
		const { writes, free } = this.#garbage;
		this.#garbage = this.#later;
		this.#later = { writes: [], free: [] };
		for (const { step, table, key, value } of writes) this.#write(step, table, key, value);
		// An id that came again in the round that removes it would be removed after it was written.
		for (const give of this.#freed) give();
		this.#freed = free;
		for (const policy of this.#policies.values()) if (policy.users === 0) this.#remove(policy);
	}

	/** Selectors, blocks and names of ports that have come into force. */
	takeNew(): { atoms: NumberedAtom[]; names: string[] } {
		const taken = { atoms: this.#new, names: [...this.#newNames] };
		this.#new = [];
		this.#newNames.clear();
		return taken;
	}

	numberOf = (atom: Atom): number =>
		this.atoms.number(atom, (fresh) => {
			if (fresh.kind !== "port") this.#new.push(fresh);
		});

	/** The policy of a choice, with one more user. Undefined: it is over a limit, which `problems` names. */
	*take(chosen: Chosen, key: string, what: string): Steps<Policy | undefined> {
		const known = this.#known(key);
		if (known !== undefined) return known;
		const problem = this.#tooMuch(chosen);
		if (problem !== undefined) {
			this.problems.add(`Cannot enforce the ${chosen.direction} policies of ${what}: ${problem}`);
			return undefined;
		}
		const list = buildRuleList(chosen, {
			atom: this.numberOf,
			rule: (name) => this.#rules.number(name),
		});
		yield;
		return yield* this.#make(key, list);
	}

	#known(key: string): Policy | undefined {
		const known = this.#policies.get(key);
		if (known !== undefined) known.users++;
		return known;
	}

	release(policy: Policy): void {
		policy.users--;
	}

	#tooMuch({ direction, network, cluster }: Chosen): string | undefined {
		let [rules, peers] = [0, 0];
		for (const { policy } of network)
			for (const rule of policy[direction]!) {
				rules++;
				peers += rule.peers?.length ?? 0;
			}
		for (const policy of cluster)
			for (const rule of policy[direction]) {
				rules++;
				for (const peer of rule.peers) peers += "networks" in peer ? peer.networks.length : 1;
			}
		if (rules > LIMITS.rulesOfPod)
			return `expected at most ${LIMITS.rulesOfPod} rules, got ${rules}`;
		if (
			this.atoms.size + peers > LIMITS.atoms &&
			this.#freshPeers({ direction, network, cluster }) + this.atoms.size > LIMITS.atoms
		)
			return `expected at most ${LIMITS.atoms} different peers on this Node, got more`;
		if (this.#policyIds.left < 2)
			return `expected at most ${LIMITS.policies} different choices of policies on this Node, got more`;
		if (this.#rules.left < rules + 2)
			return `expected at most ${LIMITS.rules} rules on this Node, got more`;
		return undefined;
	}

	/** How many atoms it would add: by building it with numbers that are thrown away. */
	#freshPeers(chosen: Pick<Chosen, "direction" | "network" | "cluster">): number {
		const fresh = new Set<string>();
		const atom = (one: Atom): number => {
			if (!this.atoms.has(one)) fresh.add(JSON.stringify(one));
			return 0;
		};
		buildRuleList({ ...chosen, ownPorts: [] }, { atom, rule: () => 0 });
		return fresh.size;
	}

	*#make(key: string, list: RuleList, isHairpin = false): Steps<Policy> {
		const forHairpin = isHairpin ? undefined : hairpinList(list);
		const hairpinKey = `${key} hairpin`;
		const hairpin =
			forHairpin && (this.#known(hairpinKey) ?? (yield* this.#make(hairpinKey, forHairpin, true)));
		const id = this.#policyIds.take()!;
		for (const rule of list.ruleIds) this.#rules.retain(rule);
		const nothing = this.#judge(list, { atoms: [], ports: [] }, key);
		const policy: Policy = {
			...{ id, key, list, users: 1, hairpin, verdict: nothing },
			...{ byClass: new Map<number, KeptVerdict>(), bySubset: new Map([["", nothing]]) },
		};
		this.#policies.set(key, policy);
		for (const name of list.names) {
			if (!this.#nameUsers.has(name)) this.#newNames.add(name);
			put(this.#nameUsers, name, policy);
		}
		const concerned = new Set<Class>();
		for (const atom of list.atoms) {
			put(this.#atomUsers, atom, policy);
			for (const one of this.#classesByAtom.get(atom) ?? []) concerned.add(one);
		}
		if (list.names.size > 0)
			for (const one of this.#byNumber.values())
				if (one.ports.some(({ name }) => list.names.has(name))) concerned.add(one);
		for (const one of concerned) {
			this.#judgeFor(policy, one);
			yield;
		}
		const entry = { verdict: nothing.verdict, hairpin: hairpin?.id ?? OPEN };
		this.#write(3, "policies", id, entry);
		return policy;
	}

	#remove(policy: Policy): void {
		const { id, key, list, byClass, bySubset, hairpin } = policy;
		this.#policies.delete(key);
		for (const atom of list.atoms) drop(this.#atomUsers, atom, policy);
		for (const name of list.names) drop(this.#nameUsers, name, policy);
		for (const number of byClass.keys()) this.#discard("policyVerdicts", verdictKey(id, number));
		this.#discard("policies", id, () => this.#policyIds.give(id));
		for (const kept of bySubset.values()) this.#verdicts.release(kept);
		for (const rule of list.ruleIds) this.#rules.release(rule);
		if (hairpin !== undefined) hairpin.users--;
	}

	#discard(table: PolicyTableName, key: number, free?: () => void): void {
		this.#garbage.writes.push({ step: 7, table, key, value: undefined });
		if (free !== undefined) this.#garbage.free.push(free);
	}

	// ------------------------------------------------------------ classes

	/**
	 * The class of an address for which these atoms hold, sorted.
	 *
	 * @param held its number in an earlier agent's tables, whose policies are to judge it as they did
	 */
	classOf(atoms: readonly number[], held?: number): number {
		const text = atoms.join();
		const known = held === undefined ? this.#classes.get(text)?.number : undefined;
		if (known !== undefined) return known;
		if (held === NO_CLASS && atoms.length === 0) return NO_CLASS;
		if (this.#byNumber.size >= LIMITS.classes) {
			this.problems.add(
				`Cannot tell all addresses apart: expected at most ${LIMITS.classes} classes, got more; the others are denied`,
			);
			return CLASS_OVERFLOW;
		}
		const keeps = held !== undefined && this.#heldClasses.delete(held);
		const added = this.#addClass(atoms, keeps ? held : this.#nextClass++);
		if (!keeps && held !== undefined) this.#copyHeld(held, added.number);
		const concerned = new Set<Policy>();
		for (const atom of atoms)
			for (const policy of this.#atomUsers.get(atom) ?? []) concerned.add(policy);
		for (const { name } of added.ports)
			for (const policy of this.#nameUsers.get(name) ?? []) concerned.add(policy);
		for (const policy of concerned) this.#judgeFor(policy, added);
		return added.number;
	}

	/** Forgets every class: those that come have new numbers, and the old ones go one round later. */
	restartClasses(): void {
		this.#classes = new Map();
		this.#byNumber = new Map();
		this.#classesByAtom = new Map();
		for (const policy of this.#policies.values()) {
			for (const number of policy.byClass.keys())
				this.#discard("policyVerdicts", verdictKey(policy.id, number));
			policy.byClass.clear();
		}
		this.#addClass([], NO_CLASS);
		this.forgetHeld();
	}

	/** The policies of an earlier agent judge a new class as that which its addresses had. */
	#copyHeld(held: number, number: number): void {
		for (const [key, verdict] of this.#heldVerdicts.get(held) ?? []) {
			const copy = key - held + number;
			this.#write(2, "policyVerdicts", copy, verdict);
			this.#discard("policyVerdicts", copy);
		}
	}

	/** Class numbers of an earlier agent are not given any more. */
	forgetHeld(): void {
		this.#heldClasses.clear();
		this.#heldVerdicts.clear();
	}

	/** True: some policy in force has another verdict for the second. @param fresh only denials count */
	differ(a: number, b: number, fresh: boolean): boolean {
		if (a === b) return false;
		const [first, second] = [this.#byNumber.get(a), this.#byNumber.get(b)];
		if (first === undefined || second === undefined) return true;
		const concerned = new Set<Policy>();
		const [one, two] = [new Set(first.atoms), new Set(second.atoms)];
		for (const atom of [...first.atoms, ...second.atoms]) {
			if (one.has(atom) && two.has(atom)) continue;
			const known = this.atoms.get(atom);
			const users =
				known?.kind === "port" ? this.#nameUsers.get(known.name) : this.#atomUsers.get(atom);
			for (const policy of users ?? []) concerned.add(policy);
		}
		for (const policy of concerned) {
			if (policy.users === 0) continue;
			const before = policy.byClass.get(a) ?? policy.verdict;
			if (before === (policy.byClass.get(b) ?? policy.verdict)) continue;
			if (!fresh || before.segments.some(({ judgement }) => judgement.allow)) return true;
		}
		return false;
	}

	#addClass(atoms: readonly number[], number: number): Class {
		const ports = atoms.flatMap((id) => {
			const atom = this.atoms.get(id);
			return atom?.kind === "port" ? [atom] : [];
		});
		const added: Class = { number, atoms, ports };
		const text = atoms.join();
		if (!this.#classes.has(text)) this.#classes.set(text, added);
		this.#byNumber.set(number, added);
		for (const atom of atoms) {
			const classes = this.#classesByAtom.get(atom);
			if (classes === undefined) this.#classesByAtom.set(atom, [added]);
			else classes.push(added);
		}
		return added;
	}

	#judgeFor(policy: Policy, { number, atoms, ports }: Class): void {
		const { list, bySubset, byClass } = policy;
		const own = atoms.filter((atom) => list.atoms.has(atom));
		const named = ports.filter(({ name }) => list.names.has(name));
		const text = [
			own.join(),
			...named.map((one) => `${one.name}/${one.protocol}/${one.port}`),
		].join(" ");
		const key = own.length === 0 && named.length === 0 ? "" : text;
		let kept = bySubset.get(key);
		if (kept === undefined) {
			kept = this.#judge(list, { atoms: own, ports: named }, policy.key);
			bySubset.set(key, kept);
		}
		if (kept === policy.verdict) return;
		byClass.set(number, kept);
		this.#write(2, "policyVerdicts", verdictKey(policy.id, number), kept.verdict);
	}

	/** Never a part of it: over a limit it denies everything. */
	#judge(list: RuleList, one: ClassAtoms, key: string): KeptVerdict {
		const segments = judgeClass(list, one);
		const kept = segments.length <= LIMITS.ranges ? this.#verdicts.take(segments) : undefined;
		if (kept !== undefined) return kept;
		this.problems.add(
			`Cannot enforce all ports of a policy (${key}): expected at most ${LIMITS.ranges} ranges, got ${segments.length}; what they are about is denied`,
		);
		return this.#verdicts.take([{ from: 0, judgement: { allow: false, rule: 0 } }])!;
	}
}

function put<K>(map: Map<K, Set<Policy>>, key: K, policy: Policy): void {
	const policies = map.get(key);
	if (policies === undefined) map.set(key, new Set([policy]));
	else policies.add(policy);
}

function drop<K>(map: Map<K, Set<Policy>>, key: K, policy: Policy): void {
	const policies = map.get(key);
	policies?.delete(policy);
	if (policies?.size === 0) map.delete(key);
}
