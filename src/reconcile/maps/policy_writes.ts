/**
 * The order of writes of network policy, which keeps every state true: a flow that is judged between two writes has
 * the verdict of before or the new one.
 *
 *  1. port sets; counters of rules that are new are zero
 *  2. verdicts of all that is new   3. policies, then the limit of classes
 *  4. identities and blocks, then those that go
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
	CLASS_OVERFLOW,
	type EndpointPolicies,
	NOT_READY,
	type PolicyChanges,
	type PolicyEntry,
	type PortSetPart,
	type RuleName,
	type Verdict,
} from "../../policy/policy_tables.js";
import { asRound, type IdentityWrites } from "../../policy/policy_writes.js";
import { parseAddress } from "../../tables/address.js";
import { RuleCounter } from "../../tables/generated.js";
import { hostPrefix, type Prefix, PrefixTable, parsePrefix } from "../../tables/prefix.js";
import type { AgentTables, EntryFailure, Table } from "./agent_tables.js";
import { putIdentities } from "./identities.js";
import type { PolicyTarget } from "./policy_tables.js";

/** Entries of one write: some 2 ms. */
const BATCH = 512;

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
	/** The policies of addresses: whoever writes an element of endpoints takes them from here. */
	endpoints: Map<string, EndpointPolicies>;
	/** Step 5 was done once. */
	onEndpoints: () => void;
}

type Key = number | string;
/** Undefined: it goes. */
type Entries<V, K extends Key = Key> = Map<K, V | undefined>;

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

const NO_COUNTS = RuleCounter.decode(Buffer.alloc(RuleCounter.size));

export class PolicyWrites {
	readonly #tables: AgentTables;
	readonly #shared: Shared;
	/** Of steps 1 to 5. */
	readonly #pending = noEntries();
	/** More of step 4, in order, as columns: of all others nothing is refused. */
	#identities: IdentityWrites[] = [];
	/** Of step 7. */
	readonly #late = noEntries();
	/** Of step 6. */
	#epochs = { route: false, peers: new Set<number>() };
	/** Addresses and blocks that are denied because their class is not complete. */
	#denied = new Set<string>();
	#failures: EntryFailure<unknown>[] = [];
	#writes = 0;
	#problems: readonly string[] = [];

	constructor(tables: AgentTables, shared: Shared) {
		this.#tables = tables;
		this.#shared = shared;
	}

	/** Of the last pass. */
	get problems(): readonly string[] {
		return this.#problems;
	}

	/** These changes are to be written, too. */
	take({ writes, epochs }: PolicyChanges, peerIds?: (node: string) => number | undefined): void {
		const round = asRound(writes);
		if (round.identities.length > 0) this.#identities.push(round.identities);
		for (const { step, table, key, value } of round.others()) {
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
			this.#denied.delete(String(key));
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
		this.#failures = [];
		this.#writes = 0;

		yield* this.#writePortSets();
		yield* this.#writeRules();
		yield* this.#put(policyVerdicts, pending.policyVerdicts, verdictEntry, (_, verdict) =>
			this.#isReady(verdict),
		);
		const classes = yield* this.#writePolicies();
		yield* this.#put(classLimit, pending.classLimit, plain);
		const isWhole = yield* this.#writeAddresses(classes);
		const held = yield* this.#writeEndpoints();
		this.#shared.onEndpoints();
		// Flows of meanwhile have missed what comes late.
		if (wasRefused && this.#writes > 0) this.#epochs.route = true;
		this.#raiseEpochs();
		yield;
		if (isWhole) yield* this.#removeUnused(held);

		this.#problems = this.#summary();
		return {
			...{ writes: this.#writes, problems: this.#problems },
			held: new Set([...held.values()].map(({ endpoint }) => endpoint)),
			inUse: new Set([...held.keys()].flatMap((address) => this.#idsAt(address))),
		};
	}

	// ------------------------------------------------------------ 1 to 3

	*#writePortSets(): Steps<void> {
		const sets = this.#pending.portSets;
		const chained = [...sets].filter(([, part]) => part?.next !== undefined);
		const isFree = (id: number) => !this.#late.portSets.has(id);
		yield* this.#put(this.#tables.portSets, sets, portSetEntry, isFree);
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
		yield* this.#put(this.#tables.ruleCounters, fresh, plain);
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
		for (const key of policyVerdicts.keys()) {
			const policy = Math.floor(key / 2 ** 32);
			if (policies.has(policy)) unready.add(policy);
			else classes.add(key % 2 ** 32);
		}
		// A hairpin comes before its policy.
		for (const [id, entry] of policies)
			if (!this.#isReady(entry?.verdict) || unready.has(entry?.hairpin ?? 0)) unready.add(id);
		const wanted = [...policies];
		yield* this.#put(this.#tables.policies, policies, policyEntry, (id) => !unready.has(id));
		for (const [id, entry] of wanted)
			if (policies.has(entry?.hairpin ?? 0)) policies.set(id, entry);
		return classes;
	}

	// ------------------------------------------------------------ 4 to 7

	/**
	 * Returns whether all addresses and blocks have what they should, or are denied.
	 *
	 * @param classes whose addresses are denied
	 */
	*#writeAddresses(classes: ReadonlySet<number>): Steps<boolean> {
		const refused = new PrefixTable<true>();
		let isWhole = true;
		if (classes.size > 0 || this.#pending.identities.size > 0 || this.#identities.length > 1)
			yield* this.#unfoldIdentities();
		const again = yield* this.#putIdentities();
		for (const [address] of again) {
			refused.set(hostPrefixOf(address), true);
			isWhole = false;
		}
		const denied = new Set<string>();
		const tables = [
			[this.#tables.identities, this.#pending.identities, hostPrefixOf],
			[this.#tables.blocks, this.#pending.blocks, parsePrefix],
		] as const;
		for (const [table, entries, prefixOf] of tables) {
			const isDenied = (number: number | undefined) => number !== undefined && classes.has(number);
			const lacking = classes.size > 0 ? [...entries].filter(([, one]) => isDenied(one)) : [];
			const encode = (number: number) => (classes.has(number) ? CLASS_OVERFLOW : number);
			const may = (key: string, number: number | undefined) =>
				number !== undefined && !(isDenied(number) && this.#denied.has(key));
			for (const { key } of yield* this.#put(table, entries, encode, may)) {
				refused.set(prefixOf(key), true);
				isWhole = false;
			}
			for (const [key, number] of lacking) {
				if (!entries.has(key) || this.#denied.has(key)) denied.add(key);
				entries.set(key, number);
			}
		}
		this.#denied = denied;
		for (const [address, number] of again) this.#pending.identities.set(address, number);
		for (const [table, entries, prefixOf] of tables)
			yield* this.#put(table, entries, plain, (key, number) => {
				if (number !== undefined) return false;
				return isWhole || refused.overlapping(prefixOf(key)) === undefined;
			});
		return isWhole;
	}

	/** To be written one by one, with what was refused before. */
	*#unfoldIdentities(): Steps<void> {
		for (const writes of this.#identities)
			for (let i = 0; i < writes.length; i++) {
				const address = writes.address(i);
				this.#pending.identities.set(address, writes.number(i));
				this.#denied.delete(address);
				if (i % BATCH === 0) yield;
			}
		this.#identities = [];
	}

	/** Of columns what comes or changes; what goes is pending then. Returns what was refused. */
	*#putIdentities(): Steps<[address: string, number: number][]> {
		const again: [string, number][] = [];
		for (const writes of this.#identities) {
			const refused = yield* putIdentities(this.#tables.identities, writes);
			for (const { index, ...failure } of refused) {
				this.#failures.push(failure);
				again.push([failure.key, writes.number(index)!]);
			}
			this.#writes -= refused.length;
			for (let i = 0; i < writes.length; i++) {
				if (i % BATCH === 0) yield;
				if (writes.number(i) !== undefined) this.#writes++;
				else this.#pending.identities.set(writes.address(i), undefined);
			}
		}
		this.#identities = [];
		return again;
	}

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
			// From now on whoever writes the element takes these.
			if (wanted === undefined) endpoints.delete(address);
			else endpoints.set(address, wanted);
			const refused = target.putEndpoint(address, wanted);
			this.#failures.push(...refused);
			if (refused.length === 0) {
				endpointPolicies.delete(address);
				this.#writes++;
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
		this.#failures.push(...refused);
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
			this.#failures.push(...refused);
			if (refused.length > 0) return;
			yield;
		}
		const { policyVerdicts, policies, portSets } = this.#tables;
		yield* this.#put(policyVerdicts, late.policyVerdicts, verdictEntry);
		yield* this.#put(policies, late.policies, policyEntry);
		yield* this.#put(portSets, late.portSets, portSetEntry);
		for (const id of rules.keys()) this.#shared.rules.delete(id);
		rules.clear();
	}

	#idsAt(address: string): number[] {
		const ids = this.#shared.target.endpointPolicies(address);
		return ids === undefined ? [] : [ids.egress, ids.ingress];
	}

	/**
	 * Writes entries, puts before removals. What was written is removed from `entries`; returns what was refused.
	 *
	 * @param may whether it may be written now
	 */
	*#put<V, E, K extends Key>(
		table: Table<K, E>,
		entries: Entries<V, K>,
		encode: (value: V) => E,
		may: (key: K, value: V | undefined) => boolean = () => true,
	): Steps<EntryFailure<K>[]> {
		const failures: EntryFailure<K>[] = [];
		for (const removes of [false, true]) {
			let batch: [K, V | undefined][] = [];
			const flush = () => {
				const refused = removes
					? table.remove(batch.map(([key]) => key))
					: table.put(batch.map(([key, value]): [K, E] => [key, encode(value!)]));
				failures.push(...refused);
				const failed = new Set(refused.map(({ key }) => key));
				for (const [key] of batch) if (!failed.has(key)) entries.delete(key);
				this.#writes += batch.length - failed.size;
				batch = [];
			};
			for (const [key, value] of [...entries]) {
				if ((value === undefined) !== removes || !may(key, value)) continue;
				batch.push([key, value]);
				if (batch.length < BATCH) continue;
				flush();
				yield;
			}
			if (batch.length > 0) flush();
		}
		this.#failures.push(...failures);
		return failures;
	}

	/** A full map refuses thousands alike: the first is shown with a count of the rest. */
	#summary(): string[] {
		const [first, ...rest] = this.#failures;
		const problems: string[] = [];
		if (first !== undefined)
			problems.push(
				rest.length === 0 ? first.message : `${first.message} (and ${rest.length} more)`,
			);
		const denied = this.#denied.size;
		if (denied > 0) {
			const [one] = this.#denied;
			const others = denied > 1 ? ` and ${denied - 1} more addresses and blocks` : "";
			problems.push(`The kernel has no verdicts for ${one}${others}: they are denied`);
		}
		return problems;
	}
}

function noEntries(): Pending {
	return {
		...{ portSets: new Map(), rules: new Map(), policyVerdicts: new Map(), policies: new Map() },
		...{ classLimit: new Map(), identities: new Map(), blocks: new Map() },
		endpointPolicies: new Map(),
	};
}

function hostPrefixOf(address: string): Prefix {
	return hostPrefix(parseAddress(address)!);
}

function plain<V>(value: V): V {
	return value;
}
