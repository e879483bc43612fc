/**
 * The tables of network policy, and the order of writes that keeps every state true: a flow that is judged between
 * two writes has the verdict of before or the new one.
 *
 *  1. port sets; counters of rules that are new are zero
 *  2. verdicts of all that is new   3. policies, then the limit of classes
 *  4. identities and blocks         5. endpoints, both policies in one element
 *  6. epochs                        7. what was unused since the round before goes
 *
 * Nothing of a later step is written while a write of an earlier one is refused: that is tried again, and is a
 * problem meanwhile. What has been written is not kept here, the compiler has it: only the endpoints' policies
 * are. What an earlier agent left stays in force until step 5 of the first changes, which are compiled beside it.
 */

import { inTurns, type Steps } from "../../loop/turns.js";
import { plainVerdict, policyEntry, portSetEntry, verdictEntry } from "../../policy/entries.js";
import type {
	EndpointPolicies,
	HeldPolicyTables,
	PolicyChanges,
	PolicyTableName,
	PolicyWrite,
	RuleName,
	Verdict,
} from "../../policy/policy_tables.js";
import { type Judgement, RuleCounter } from "../../tables/generated.js";
import type { AgentTables, EntryFailure, Table } from "./agent_tables.js";

/** Entries of one write: some 2 ms. */
const BATCH = 512;

/** What is not in these tables alone. Failures are tried again with the same arguments. */
export interface PolicyTarget {
	/** Both policies of a local Pod's address, in one element; undefined: it has none any more. */
	putEndpoint(address: string, policies: EndpointPolicies | undefined): EntryFailure<string>[];
	/** All flows are judged anew. */
	raiseRouteEpoch(): EntryFailure<unknown>[];
	/** Flows with these peers are. */
	raisePolicyEpochs(peerIds: Iterable<number>): EntryFailure<unknown>[];
	/** Policies that the elements of endpoints name. */
	policiesInUse(): Iterable<number>;
}

export interface PolicyOutcome {
	/** Writes that the kernel took. */
	writes: number;
	/** What it refused; empty: everything is in force. */
	problems: readonly string[];
}

type Entries = Map<number | string, unknown>;
type Task = { table: PolicyTableName; entries: Entries } | { act: () => EntryFailure<unknown>[] };

export class PolicyTables {
	/** What ids of rules stand for, of all that flows may have. */
	readonly rules = new Map<number, RuleName>();
	readonly #tables: AgentTables;
	readonly #target: PolicyTarget;
	readonly #endpoints = new Map<string, EndpointPolicies>();
	#queue: Task[] = [];
	#problems: readonly string[] = [];
	/** Endpoints have what an earlier agent gave them, until step 5 of the first changes. */
	#hasFormer = true;
	#last: Promise<unknown> = Promise.resolve();

	constructor(tables: AgentTables, target: PolicyTarget) {
		this.#tables = tables;
		this.#target = target;
	}

	/**
	 * Reads what the kernel holds, in slices: what an earlier agent wrote, or this one, where its changes are
	 * begun anew. What was not written yet is forgotten.
	 */
	adopt(): Promise<HeldPolicyTables> {
		const result = this.#last.then(() => this.#adopt());
		this.#last = result.catch(() => {});
		return result;
	}

	/** By id, of all rules that have a name and counted something. */
	async counters(): Promise<Map<number, RuleCounter>> {
		const counters = new Map<number, RuleCounter>();
		let most = 0;
		for (const id of this.rules.keys()) most = Math.max(most, id + 1);
		for await (const slice of this.#tables.ruleCounters.readInSlices(most))
			for (const [id, counter] of slice) if (this.rules.has(id)) counters.set(id, counter);
		return counters;
	}

	async #adopt(): Promise<HeldPolicyTables> {
		this.#queue = [];
		this.#problems = [];
		this.#hasFormer = true;
		const { identities, blocks, policies, policyVerdicts, portSets, classLimit } = this.#tables;
		const held = {
			...{ identities: new Map<string, number>(), blocks: new Map<string, number>() },
			// Also those that only endpoints or verdicts name, where an agent ended between two writes.
			policies: new Set<number>(this.#target.policiesInUse()),
			...{ portSets: new Set<number>(), rules: new Set<number>() },
			...{ policyVerdicts: new Map<number, Verdict>(), classLimit: 0 },
		};
		const see = ({ rule, stagedRule }: Judgement) => held.rules.add(rule).add(stagedRule);
		for await (const slice of portSets.readInSlices())
			for (const [id, { segments }] of slice) {
				held.portSets.add(id);
				for (const { judgement } of segments) see(judgement);
			}
		for await (const slice of policies.readInSlices())
			for (const [id, { verdict }] of slice) {
				held.policies.add(id);
				see(verdict.judgement);
			}
		let classes = classLimit.readAt([0]).get(0) ?? 0;
		for await (const slice of policyVerdicts.readInSlices())
			for (const [key, verdict] of slice) {
				held.policyVerdicts.set(key, plainVerdict(verdict));
				held.policies.add(Math.floor(key / 2 ** 32));
				classes = Math.max(classes, (key % 2 ** 32) + 1);
				see(verdict.judgement);
			}
		await readInto(identities, held.identities);
		await readInto(blocks, held.blocks);
		held.classLimit = classes;
		return held;
	}

	/** What the kernel refused and is tried again. */
	get problems(): readonly string[] {
		return this.#problems;
	}

	/** False: something of the changes so far is still to be written. */
	get isSettled(): boolean {
		return this.#queue.length === 0;
	}

	/**
	 * The policies of this endpoint's address, as far as step 5 has come; undefined: there are none for it.
	 * "before": an earlier agent's, whatever they are, since no changes have come so far.
	 */
	policiesOf(address: string, endpoint: string): EndpointPolicies | "before" | undefined {
		const known = this.#endpoints.get(address);
		if (known?.endpoint === endpoint) return known;
		return this.#hasFormer ? "before" : undefined;
	}

	/**
	 * Writes these changes after all of before. Resolves when they are written, or refused; without changes: what
	 * was refused is tried again. Never rejects.
	 *
	 * @param peerIds of the Nodes that `epochs` names; undefined: of none is known which it is
	 */
	change(
		changes?: PolicyChanges,
		peerIds?: (node: string) => number | undefined,
	): Promise<PolicyOutcome> {
		if (changes !== undefined) this.#take(changes, peerIds);
		const result = this.#last.then(() => inTurns(this.#write()));
		this.#last = result;
		return result;
	}

	#take({ writes, epochs }: PolicyChanges, peerIds?: (node: string) => number | undefined): void {
		const isLate = ({ step }: PolicyWrite) => step === 7;
		this.#queue.push(...tasksOf(writes.filter((write) => !isLate(write))));
		this.#do(() => {
			this.#hasFormer = false;
			return [];
		});
		const ids = [...epochs.peers].map((node) => peerIds?.(node));
		if (epochs.route || ids.includes(undefined)) this.#do(() => this.#target.raiseRouteEpoch());
		else if (ids.length > 0) this.#do(() => this.#target.raisePolicyEpochs(ids as number[]));
		this.#queue.push(...tasksOf(writes.filter(isLate)));
	}

	#do(act: () => EntryFailure<unknown>[]): void {
		this.#queue.push({ act });
	}

	*#write(): Steps<PolicyOutcome> {
		let writes = 0;
		for (;;) {
			const task = this.#queue[0];
			if (task === undefined) {
				this.#problems = [];
				return { writes, problems: [] };
			}
			let failures: EntryFailure<unknown>[];
			if ("act" in task) failures = task.act();
			else {
				const { table, entries } = task;
				const before = entries.size;
				failures = yield* this.#writeEntries(table, entries);
				writes += before - entries.size;
			}
			if (failures.length > 0) {
				this.#problems = summary(failures);
				return { writes, problems: this.#problems };
			}
			this.#queue.shift();
			yield;
		}
	}

	/** What was written is removed from `entries`. */
	*#writeEntries(table: PolicyTableName, entries: Entries): Steps<EntryFailure<unknown>[]> {
		const { identities, blocks, classLimit, policies, policyVerdicts, portSets } = this.#tables;
		switch (table) {
			case "identities":
				return yield* writeTable(identities, entries, plain<number>);
			case "blocks":
				return yield* writeTable(blocks, entries, plain<number>);
			case "classLimit":
				return yield* writeTable(classLimit, entries, plain<number>);
			case "policies":
				return yield* writeTable(policies, entries, policyEntry);
			case "policyVerdicts":
				return yield* writeTable(policyVerdicts, entries, verdictEntry);
			case "portSets":
				return yield* writeTable(portSets, entries, portSetEntry);
			case "rules":
				return yield* this.#writeRules(entries as Map<number, RuleName | undefined>);
			case "endpointPolicies":
				return yield* this.#writeEndpoints(entries as Map<string, EndpointPolicies | undefined>);
		}
	}

	/** The kernel has counters of rules only. */
	*#writeRules(entries: Map<number, RuleName | undefined>): Steps<EntryFailure<unknown>[]> {
		const fresh: Entries = new Map();
		for (const [id, name] of entries) if (name !== undefined) fresh.set(id, NO_COUNTS);
		const failures = yield* writeTable(this.#tables.ruleCounters, fresh, plain<RuleCounter>);
		for (const [id, name] of entries) {
			if (fresh.has(id)) continue;
			if (name === undefined) this.rules.delete(id);
			else this.rules.set(id, name);
			entries.delete(id);
		}
		return failures;
	}

	*#writeEndpoints(
		entries: Map<string, EndpointPolicies | undefined>,
	): Steps<EntryFailure<unknown>[]> {
		const failures: EntryFailure<unknown>[] = [];
		for (const [address, policies] of [...entries]) {
			// From now on whoever writes the element takes these.
			if (policies === undefined) this.#endpoints.delete(address);
			else this.#endpoints.set(address, policies);
			const refused = this.#target.putEndpoint(address, policies);
			failures.push(...refused);
			if (refused.length === 0) entries.delete(address);
			yield;
		}
		return failures;
	}
}

const NO_COUNTS = RuleCounter.decode(Buffer.alloc(RuleCounter.size));

async function readInto<K, V>(table: Table<K, V>, entries: Map<K, V>): Promise<void> {
	for await (const slice of table.readInSlices())
		for (const [key, value] of slice) entries.set(key, value);
}

/** Steps come in order; of one step and table the last write of a key counts. */
function tasksOf(writes: readonly PolicyWrite[]): Task[] {
	const tasks = new Map<string, { table: PolicyTableName; entries: Entries }>();
	for (const { step, table, key, value } of writes) {
		const name = `${step} ${table}`;
		let task = tasks.get(name);
		if (task === undefined) {
			task = { table, entries: new Map() };
			tasks.set(name, task);
		}
		task.entries.set(key, value);
	}
	return [...tasks.values()];
}

/** What was written is removed from `entries`. Puts before removals. */
function* writeTable<K, V>(
	table: Table<K, V>,
	entries: Entries,
	encode: (value: never) => V,
): Steps<EntryFailure<K>[]> {
	const failures: EntryFailure<K>[] = [];
	for (const removes of [false, true]) {
		let batch: [K, V][] = [];
		const flush = () => {
			const refused = removes ? table.remove(batch.map(([key]) => key)) : table.put(batch);
			failures.push(...refused);
			const failed = new Set(refused.map(({ key }) => key));
			for (const [key] of batch) if (!failed.has(key)) entries.delete(key as number | string);
			batch = [];
		};
		for (const [key, value] of [...entries]) {
			if ((value === undefined) !== removes) continue;
			batch.push([key as K, removes ? (undefined as V) : encode(value as never)]);
			if (batch.length < BATCH) continue;
			flush();
			yield;
		}
		if (batch.length > 0) flush();
	}
	return failures;
}

function plain<V>(value: V): V {
	return value;
}

/** A full map refuses thousands alike: the first is shown with a count of the rest. */
function summary(failures: readonly EntryFailure<unknown>[]): string[] {
	const [first, ...rest] = failures;
	if (first === undefined) return [];
	return [rest.length === 0 ? first.message : `${first.message} (and ${rest.length} more)`];
}
