/**
 * The tables of network policy in the kernel: what an earlier agent left there, what others change, whose policies
 * each local address has, and what rules are called. policy_writes.ts has the order of writes. What has been written
 * is not kept here, the compiler has it: only the endpoints' policies are. What an earlier agent left stays in force
 * until step 5 of the first changes, which are compiled beside it.
 */

import { AddressNumbers } from "../../columns/address_numbers.js";
import { inTurns, type Steps } from "../../loop/turns.js";
import { plainVerdict } from "../../policy/entries.js";
import type {
	EndpointPolicies,
	HeldPolicyTables,
	PolicyChanges,
	RuleName,
	Verdict,
} from "../../policy/policy_tables.js";
import type { Judgement, RuleCounter } from "../../tables/generated.js";
import type { AgentTables, EntryFailure, Table } from "./agent_tables.js";
import { adoptIdentities } from "./identities.js";
import { type PolicyOutcome, PolicyWrites } from "./policy_writes.js";

/** Writes to tables that others write, too. Failures are retried with the same arguments. */
export interface PolicyTarget {
	/** Both policies of a local Pod's address, in one element; undefined: it has none any more. */
	putEndpoint(address: string, policies: EndpointPolicies | undefined): EntryFailure<string>[];
	/** All flows are judged anew. */
	raiseRouteEpoch(): EntryFailure<unknown>[];
	/** Flows with these peers are judged anew. */
	raisePolicyEpochs(peerIds: Iterable<number>): EntryFailure<unknown>[];
	/** The policies that an address's element of endpoints has; undefined: it has no element. */
	endpointPolicies(address: string): { egress: number; ingress: number } | undefined;
	/** Policies that the elements of endpoints name. */
	policiesInUse(): Iterable<number>;
}

export class PolicyTables {
	/** Names of all rules that flows may refer to, by id. */
	readonly rules = new Map<number, RuleName>();
	readonly #tables: AgentTables;
	readonly #target: PolicyTarget;
	readonly #endpoints = new Map<string, EndpointPolicies>();
	#writes: PolicyWrites;
	/** Endpoints have what an earlier agent gave them, until step 5 of the first changes. */
	#hasFormer = true;
	#last: Promise<unknown> = Promise.resolve();

	constructor(tables: AgentTables, target: PolicyTarget) {
		this.#tables = tables;
		this.#target = target;
		this.#writes = this.#begin();
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

	/**
	 * By id, of all rules that have a name and counted something.
	 *
	 * @param rules that have one; default: those of this agent
	 */
	async counters(
		rules: ReadonlyMap<number, RuleName> = this.rules,
	): Promise<Map<number, RuleCounter>> {
		const counters = new Map<number, RuleCounter>();
		let most = 0;
		for (const id of rules.keys()) most = Math.max(most, id + 1);
		for await (const slice of this.#tables.ruleCounters.readInSlices(most))
			for (const [id, counter] of slice) if (rules.has(id)) counters.set(id, counter);
		return counters;
	}

	/**
	 * How many entries of the tables are not as they were written: others have changed them. In slices, between
	 * whatever is written meanwhile. To mend them, adopt and compile anew.
	 */
	async countDiffering(): Promise<number> {
		const { identities, blocks, policies, policyVerdicts, portSets, classLimit } = this.#tables;
		let differing = 0;
		for (const table of [portSets, policyVerdicts, policies, classLimit, identities, blocks])
			differing += await table.countDiffering();
		return differing;
	}

	#begin(): PolicyWrites {
		this.#hasFormer = true;
		return new PolicyWrites(this.#tables, {
			...{ target: this.#target, rules: this.rules, endpoints: this.#endpoints },
			onEndpoints: () => {
				this.#hasFormer = false;
			},
		});
	}

	async #adopt(): Promise<HeldPolicyTables> {
		this.#writes = this.#begin();
		const { identities, blocks, policies, policyVerdicts, portSets, classLimit } = this.#tables;
		const held = {
			...{ identities: new AddressNumbers(), blocks: new Map<string, number>() },
			// Also those that only endpoints or verdicts name, where an agent ended between two writes.
			policies: new Set<number>(this.#target.policiesInUse()),
			...{ portSets: new Set<number>(), rules: new Set<number>() },
			...{ policyVerdicts: new Map<number, Verdict>(), classLimit: 0 },
		};
		const see = ({ rule, stagedRule }: Judgement) => held.rules.add(rule).add(stagedRule);
		for await (const slice of portSets.adoptInSlices())
			for (const [id, { segments }] of slice) {
				held.portSets.add(id);
				for (const { judgement } of segments) see(judgement);
			}
		for await (const slice of policies.adoptInSlices())
			for (const [id, { verdict }] of slice) {
				held.policies.add(id);
				see(verdict.judgement);
			}
		let classes = 0;
		for await (const slice of classLimit.adoptInSlices()) classes = slice.get(0) ?? classes;
		for await (const slice of policyVerdicts.adoptInSlices())
			for (const [key, verdict] of slice) {
				held.policyVerdicts.set(key, plainVerdict(verdict));
				held.policies.add(Math.floor(key / 2 ** 32));
				classes = Math.max(classes, (key % 2 ** 32) + 1);
				see(verdict.judgement);
			}
		held.identities = await adoptIdentities(identities);
		await readInto(blocks, held.blocks);
		held.classLimit = classes;
		return held;
	}

	/** Writes that the kernel refused and that are retried. */
	get problems(): readonly string[] {
		return this.#writes.problems;
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
		const result = this.#last.then(() => inTurns(this.#change(changes, peerIds)));
		this.#last = result;
		return result;
	}

	*#change(
		changes: PolicyChanges | undefined,
		peerIds?: (node: string) => number | undefined,
	): Steps<PolicyOutcome> {
		if (changes !== undefined) yield* this.#writes.take(changes, peerIds);
		return yield* this.#writes.write();
	}
}

async function readInto<K, V>(table: Table<K, V>, entries: Map<K, V>): Promise<void> {
	for await (const slice of table.adoptInSlices())
		for (const [key, value] of slice) entries.set(key, value);
}
