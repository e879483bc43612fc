/**
 * The verdicts of policies for classes, and who pays for them.
 *
 *  1. a policy judges a class by the atoms and ports of its own that the class has: once for all that are equal
 *  2. a new policy judges every class that it names; the commonest verdict becomes its own, and the classes that
 *     have another get an entry
 *  3. the policy's owner pays for it, for parts of port sets and for the entries it came with; the owner of a class
 *     that comes later pays for that class's entries. A policy without users pays nothing
 */
import type { Steps } from "../loop/turns.js";
import type { Class, Classes } from "./classes.js";
import type { Garbage } from "./garbage.js";
import { type Budgets, CLUSTER, type Limits, shortOf } from "./limits.js";
import type { Draft, Policy } from "./policy.js";
import type { HeldPolicyTables, WriteTable } from "./policy_tables.js";
import { type ClassAtoms, judgeInSteps, type RuleList } from "./rule_list.js";
import { VerdictEntries } from "./verdict_entries.js";
import { Ids, type KeptVerdict, partsOf, Verdicts } from "./verdicts.js";

export interface PaidVerdictsOptions {
	limits: Limits;
	budgets: Budgets;
	write: WriteTable;
	garbage: Garbage;
	held: HeldPolicyTables | undefined;
	/** Something has been given back. */
	onRoom: () => void;
	/** Something was refused for want of room. */
	onFull: () => void;
}

/** Of a new policy. */
interface VerdictsOfAll {
	/** Of classes without an entry. */
	verdict: KeptVerdict;
	byClass: Map<number, KeptVerdict>;
	/** `verdict` is not that of unnamed classes. */
	isTurned: boolean;
}

/** Classes that are looked at between two steps. */
const EVERY = 256;
/** A commonest verdict has to be so much more common than that of unnamed classes. */
const COMMONER = 2;
const DENIED = [{ from: 0, judgement: { allow: false, rule: 0 } }];

export class PaidVerdicts {
	readonly #options: PaidVerdictsOptions;
	readonly #ids: Ids;
	readonly #verdicts: Verdicts;
	/** In the tables. */
	readonly entries: VerdictEntries;

	constructor(options: PaidVerdictsOptions) {
		this.#options = options;
		const { limits, write, garbage, held, onRoom } = options;
		this.entries = new VerdictEntries(write, garbage, 2 * limits.verdicts, onRoom);
		const ids = new Ids(1, 2 * limits.portSets, held?.portSets);
		this.#ids = ids;
		this.#verdicts = new Verdicts(
			ids,
			(id, part) => write(1, "portSets", id, part),
			(unused) => {
				for (const id of unused)
					garbage.add("portSets", id, () => {
						ids.give(id);
						onRoom();
					});
			},
		);
	}

	/** Parts of port sets in the tables; reserved ones of an earlier agent count until they are free. */
	get portSets(): number {
		return 2 * this.#options.limits.portSets - 1 - this.#verdicts.left;
	}

	/** Port sets of an earlier agent go one round later. */
	discardHeld(portSets: Iterable<number>): void {
		for (const id of portSets) this.#options.garbage.add("portSets", id, () => this.#ids.give(id));
	}

	// ------------------------------------------------------------ verdicts

	/** Returns the exceeded limit if it cannot be made. */
	*of(policy: Draft, { atoms, ports }: ClassAtoms): Steps<KeptVerdict | string> {
		const { list, owner, bySubset, charges } = policy;
		const own = atoms.filter((atom) => list.atoms.has(atom));
		const named = ports.filter(({ name }) => list.names.has(name));
		const key =
			own.length === 0 && named.length === 0
				? ""
				: [own.join(), ...named.map((one) => `${one.name}/${one.protocol}/${one.port}`)].join(" ");
		const known = bySubset.get(key);
		if (known !== undefined) return known;
		const segments = yield* judgeInSteps(list, { atoms: own, ports: named });
		const { ranges } = this.#options.limits;
		if (segments.length > ranges)
			return `expected at most ${ranges} ranges of ports, got ${segments.length}`;
		const parts = partsOf(segments);
		const { portSets } = this.#options.budgets;
		// One that is being made pays in the end.
		const isPaid = policy.users > 0;
		const problem = portSets.problem(owner, isPaid ? parts : charges.parts + parts);
		if (problem !== undefined) return problem;
		const kept = this.#verdicts.take(segments);
		if (kept === undefined) return shortOf(portSets.what, portSets.limit);
		bySubset.set(key, kept);
		charges.parts += parts;
		if (isPaid) portSets.take(owner, parts);
		return kept;
	}

	/** Of a class that has come: never a part of it, over a limit it is denied everything. */
	*ofOrDenial(policy: Policy, one: ClassAtoms): Steps<KeptVerdict> {
		const kept = yield* this.of(policy, one);
		if (typeof kept !== "string") return kept;
		const whose = policy.owner === CLUSTER ? "the cluster" : `namespace ${policy.owner}`;
		policy.problem = `Cannot enforce a policy of ${whose} on all addresses: ${kept}; those left out are denied`;
		this.#options.onFull();
		return this.#verdicts.take(DENIED)!;
	}

	/** Of a policy that is being made. Returns what is too much if there is no room for its entries. */
	*ofAll(draft: Draft, classes: Classes): Steps<VerdictsOfAll | string> {
		const nothing = yield* this.of(draft, { atoms: [], ports: [] });
		if (typeof nothing === "string") return nothing;
		const byClass = new Map<number, KeptVerdict>();
		const counts = new Map<KeptVerdict, number>();
		for (const one of yield* concerned(draft.list, classes)) {
			const kept = yield* this.of(draft, one);
			if (typeof kept === "string") return kept;
			byClass.set(one.number, kept);
			counts.set(kept, (counts.get(kept) ?? 0) + 1);
			yield;
		}
		const unnamed = classes.size - byClass.size + (counts.get(nothing) ?? 0);
		let verdict = nothing;
		let most = COMMONER * (unnamed + 1);
		for (const [kept, count] of counts)
			if (kept !== nothing && count > most) [verdict, most] = [kept, count];
		let looked = 0;
		if (verdict !== nothing)
			for (const { number } of classes.all()) {
				if (!byClass.has(number)) byClass.set(number, nothing);
				if (++looked % EVERY === 0) yield;
			}
		for (const [number, kept] of byClass) {
			if (kept === verdict) byClass.delete(number);
			if (++looked % EVERY === 0) yield;
		}
		const problem = this.noRoom(draft.owner, byClass.size);
		return problem ?? { verdict, byClass, isTurned: verdict !== nothing };
	}

	/** Of a policy that goes, or could not be made. */
	release({ bySubset }: Pick<Policy, "bySubset">): void {
		for (const kept of bySubset.values()) this.#verdicts.release(kept);
	}

	// ------------------------------------------------------------ payment

	/** Why there is no room for so many entries. Garbage counts, too, until it has gone. */
	noRoom(owner: string, count: number): string | undefined {
		const { budgets, limits } = this.#options;
		const problem = budgets.verdicts.problem(owner, count);
		if (problem !== undefined || this.entries.hasRoom(count)) return problem;
		return shortOf(budgets.verdicts.what, limits.verdicts);
	}

	charge({ charges: { entries }, users }: Policy, owner: string, count: number): void {
		entries.set(owner, (entries.get(owner) ?? 0) + count);
		if (users > 0) this.#options.budgets.verdicts.take(owner, count);
	}

	/** All of its entries are gone, or about to go. */
	refund({ charges: { entries }, users }: Policy): void {
		const { verdicts } = this.#options.budgets;
		if (users > 0) for (const [owner, count] of entries) verdicts.give(owner, count);
		entries.clear();
	}

	/** Counts the entries that it and its hairpin have, or no longer have. */
	settle({ owner, charges, hairpin }: Policy, sign: 1 | -1): void {
		const { policies, portSets, verdicts } = this.#options.budgets;
		policies.take(owner, sign);
		portSets.take(owner, sign * charges.parts);
		for (const [payer, count] of charges.entries) verdicts.take(payer, sign * count);
		if (hairpin !== undefined) this.settle(hairpin, sign);
		if (sign < 0) this.#options.onRoom();
	}
}

/** Classes that one of its atoms or names of ports may name. */
function* concerned(list: RuleList, classes: Classes): Steps<Set<Class>> {
	const found = new Set<Class>();
	let looked = 0;
	for (const atom of list.atoms)
		for (const one of classes.with(atom)) {
			found.add(one);
			if (++looked % EVERY === 0) yield;
		}
	if (list.names.size > 0)
		for (const one of classes.all()) {
			if (one.ports.some(({ name }) => list.names.has(name))) found.add(one);
			if (++looked % EVERY === 0) yield;
		}
	return found;
}
