/**
 * The order of writes of network policy, which keeps every state true: a flow that is judged between two writes has
 * the verdict of before or the new one.
 *
 *  1. port sets; counters of rules that are new are zero
 *  2. verdicts of all that is new   3. policies, then the limit of classes
 *  4. identities and blocks, then those that go (address_writes.ts)
 *  5. endpoints, both policies in one element
 *  6. epochs                        7. what was unused since the round before goes
 *
 * What the kernel refuses is tried again with every change, and is a problem meanwhile. It holds up what depends on
 * it and nothing else:
 *
 *  - a port set: verdicts and policies with it
 *  - a verdict of a policy that is new: that policy, and so the endpoints that are to have it. They keep their last
 *    policies, which the compiler keeps whole (`inUse`); one whose last policies go all the same is closed
 *  - a verdict of another policy: the class, which is new. Addresses and blocks of the class are denied, as where
 *    there are too many classes
 *  - an address or block: others that go and overlap with it, because it is to take their place; and step 7
 */
import type { Steps } from "../../loop/turns.js";
import { policyEntry, portSetEntry, verdictEntry } from "../../policy/entries.js";
import {
	type EndpointPolicies,
	NOT_READY,
	type PolicyChanges,
	type PolicyEntry,
	type PortSetPart,
	type RuleName,
	type Verdict,
} from "../../policy/policy_tables.js";
import { asRound } from "../../policy/policy_writes.js";
import { RuleCounter } from "../../tables/generated.js";
import { AddressWrites } from "./address_writes.js";
import type { AgentTables } from "./agent_tables.js";
import { type Entries, EntryWriter, plain } from "./entry_writer.js";
import type { PolicyTarget } from "./policy_tables.js";

export interface PolicyOutcome {
	/** Writes that the kernel took. */
	writes: number;
	/** What it refused; empty: everything is in force. */
	problems: readonly string[];
	/** Endpoints whose new policies wait for that. */
	held: ReadonlySet<string>;
	/** The ids of policies that they have meanwhile. */
	inUse: ReadonlySet<number>;
}

interface Shared {
	target: PolicyTarget;
	/** What ids of rules stand for. */
	rules: Map<number, RuleName>;
	/** The policies of addresses: every writer of an element of endpoints takes them from here. */
	endpoints: Map<string, EndpointPolicies>;
	/** Step 5 was done once. */
	onEndpoints: () => void;
}

interface Pending {
	portSets: Entries<PortSetPart, number>;
	rules: Entries<RuleName, number>;
	policyVerdicts: Entries<Verdict, number>;
	policies: Entries<PolicyEntry, number>;
	classLimit: Entries<number, 0>;
	identities: Entries<number, string>;
	blocks: Entries<number, string>;
	endpointPolicies: Entries<EndpointPolicies, string>;
}

/** Entries that are looked at between two steps. */
const EVERY = 1024;
const NO_COUNTS = RuleCounter.decode(Buffer.alloc(RuleCounter.size));

export class PolicyWrites {
	readonly #tables: AgentTables;
	readonly #shared: Shared;
	/** Of steps 1 to 5. */
	readonly #pending = noEntries();
	/** Of step 7. */
	readonly #late = noEntries();
	/** Of step 6. */
	#epochs = { route: false, peers: new Set<number>() };
	/** Of the present or the last pass. */
	readonly #writer = new EntryWriter();
	readonly #addresses: AddressWrites;
	#problems: readonly string[] = [];

	constructor(tables: AgentTables, shared: Shared) {
		this.#tables = tables;
		this.#shared = shared;
		this.#addresses = new AddressWrites(tables, this.#writer, this.#pending);
	}

	/** Of the last pass. */
	get problems(): readonly string[] {
		return this.#problems;
	}

	/** These changes are to be written, too. */
	*take(
		{ writes, epochs }: PolicyChanges,
		peerIds?: (node: string) => number | undefined,
	): Steps<void> {
		let looked = 0;
		const round = asRound(writes);
		if (round.identities.length > 0) this.#addresses.take(round.identities);
		for (const { step, table, key, value } of round.others()) {
			if (++looked % EVERY === 0) yield;
			const pending: Entries<unknown> = this.#pending[table] as never;
			const late: Entries<unknown> = this.#late[table] as never;
			if (step === 7) {
				// What was never written need not be any more.
				pending.delete(key);
				late.set(key, undefined);
				continue;
			}
			pending.set(key, value);
			// A port set may be in the hands of what goes with it: it waits until that is gone.
			if (table !== "portSets") late.delete(key);
			this.#addresses.renew(key);
		}
		const ids = [...epochs.peers].map((node) => peerIds?.(node));
		if (epochs.route || ids.includes(undefined)) this.#epochs.route = true;
		else for (const id of ids as number[]) this.#epochs.peers.add(id);
	}

	/** Writes what can be written, in order. */
	*write(): Steps<PolicyOutcome> {
		const { policyVerdicts, classLimit } = this.#tables;
		const pending = this.#pending;
		const wasRefused = this.#problems.length > 0;
		this.#writer.begin();

		yield* this.#writePortSets();
		yield* this.#writeRules();
		yield* this.#writer.put(policyVerdicts, pending.policyVerdicts, verdictEntry, (_, verdict) =>
			this.#isReady(verdict),
		);
		const classes = yield* this.#writePolicies();
		yield* this.#writer.put(classLimit, pending.classLimit, plain);
		const isWhole = yield* this.#addresses.write(classes);
		const held = yield* this.#writeEndpoints();
		this.#shared.onEndpoints();
		// Flows of meanwhile have missed what comes late.
		if (wasRefused && this.#writer.writes > 0) this.#epochs.route = true;
		this.#raiseEpochs();
		yield;
		if (isWhole) yield* this.#removeUnused(held);

		this.#problems = [...this.#writer.problems(), ...this.#addresses.problems()];
		return {
			...{ writes: this.#writer.writes, problems: this.#problems },
			held: new Set([...held.values()].map(({ endpoint }) => endpoint)),
			inUse: new Set([...held.keys()].flatMap((address) => this.#idsAt(address))),
		};
	}

	// ------------------------------------------------------------ 1 to 3

	*#writePortSets(): Steps<void> {
		const sets = this.#pending.portSets;
		const chained = [...sets].filter(([, part]) => part?.next !== undefined);
		const isFree = (id: number) => !this.#late.portSets.has(id);
		yield* this.#writer.put(this.#tables.portSets, sets, portSetEntry, isFree);
		// A part is of no use without those that follow.
		for (const [id, part] of chained.reverse()) if (sets.has(part!.next!)) sets.set(id, part);
	}

	/** The kernel has counters of rules only, on which nothing depends. */
	*#writeRules(): Steps<void> {
		const names = this.#pending.rules;
		const fresh: Entries<RuleCounter, number> = new Map();
		for (const [id, name] of names) {
			if (name !== undefined) this.#shared.rules.set(id, name);
			fresh.set(id, NO_COUNTS);
		}
		yield* this.#writer.put(this.#tables.ruleCounters, fresh, plain);
		for (const id of [...names.keys()]) if (!fresh.has(id)) names.delete(id);
	}

	#isReady(verdict: Verdict | undefined): boolean {
		return (
			verdict === undefined ||
			!("portSet" in verdict) ||
			!this.#pending.portSets.has(verdict.portSet)
		);
	}

	/** Returns the classes that policies in force have no verdict for. */
	*#writePolicies(): Steps<Set<number>> {
		const { policies, policyVerdicts } = this.#pending;
		const unready = new Set<number>();
		const classes = new Set<number>();
		let looked = 0;
		for (const key of policyVerdicts.keys()) {
			if (++looked % EVERY === 0) yield;
			const policy = Math.floor(key / 2 ** 32);
			if (policies.has(policy)) unready.add(policy);
			else classes.add(key % 2 ** 32);
		}
		// A hairpin comes before its policy.
		for (const [id, entry] of policies)
			if (!this.#isReady(entry?.verdict) || unready.has(entry?.hairpin ?? 0)) unready.add(id);
		const wanted = [...policies];
		yield* this.#writer.put(this.#tables.policies, policies, policyEntry, (id) => !unready.has(id));
		for (const [id, entry] of wanted)
			if (policies.has(entry?.hairpin ?? 0)) policies.set(id, entry);
		return classes;
	}

	// ------------------------------------------------------------ 5 to 7

	/** Returns those whose policies are not in force yet, by address. */
	*#writeEndpoints(): Steps<Map<string, EndpointPolicies>> {
		const held = new Map<string, EndpointPolicies>();
		const { policies, endpointPolicies } = this.#pending;
		const { endpoints, target } = this.#shared;
		for (const [address, wanted] of [...endpointPolicies]) {
			if (wanted !== undefined && (policies.has(wanted.egress) || policies.has(wanted.ingress))) {
				held.set(address, wanted);
				continue;
			}
			// From now on every writer of the element takes these.
			if (wanted === undefined) endpoints.delete(address);
			else endpoints.set(address, wanted);
			const refused = target.putEndpoint(address, wanted);
			this.#writer.refused(refused);
			if (refused.length === 0) {
				endpointPolicies.delete(address);
				this.#writer.wrote(1);
			} else if (wanted !== undefined) held.set(address, wanted);
			yield;
		}
		return held;
	}

	#raiseEpochs(): void {
		const { route, peers } = this.#epochs;
		const { target } = this.#shared;
		const refused = route
			? target.raiseRouteEpoch()
			: peers.size > 0
				? target.raisePolicyEpochs(peers)
				: [];
		this.#writer.refused(refused);
		if (refused.length === 0) this.#epochs = { route: false, peers: new Set() };
	}

	*#removeUnused(held: ReadonlyMap<string, EndpointPolicies>): Steps<void> {
		const { rules, ...late } = this.#late;
		const goes = (id: number) => late.policies.has(id);
		for (const [address, { endpoint }] of held) {
			const [egress = NOT_READY, ingress = NOT_READY] = this.#idsAt(address);
			if (!goes(egress) && !goes(ingress)) continue;
			const closed = (id: number) => (goes(id) ? NOT_READY : id);
			const left = { egress: closed(egress), ingress: closed(ingress), endpoint };
			this.#shared.endpoints.set(address, left);
			const refused = this.#shared.target.putEndpoint(address, left);
			this.#writer.refused(refused);
			if (refused.length > 0) return;
			yield;
		}
		const { policyVerdicts, policies, portSets } = this.#tables;
		yield* this.#writer.put(policyVerdicts, late.policyVerdicts, verdictEntry);
		yield* this.#writer.put(policies, late.policies, policyEntry);
		yield* this.#writer.put(portSets, late.portSets, portSetEntry);
		for (const id of rules.keys()) this.#shared.rules.delete(id);
		rules.clear();
	}

	#idsAt(address: string): number[] {
		const ids = this.#shared.target.endpointPolicies(address);
		return ids === undefined ? [] : [ids.egress, ids.ingress];
	}
}

function noEntries(): Pending {
	return {
		...{ portSets: new Map(), rules: new Map(), policyVerdicts: new Map(), policies: new Map() },
		...{ classLimit: new Map(), identities: new Map(), blocks: new Map() },
		endpointPolicies: new Map(),
	};
}
