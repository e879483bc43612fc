/**
 * The tables of network policy as plain values, and the changes to them in the order in which they are to be
 * written: after each single write the tables give the old verdict or the new one, and never a third.
 */
import type { AddressNumbers } from "../columns/address_numbers.js";
import type { PolicyWriteList } from "./policy_writes.js";
import type { Judgement } from "./port_space.js";

/** No policies are known yet: everything is dropped (`policy_not_ready`). */
export const NOT_READY = 0;
/** Nothing isolates and nothing is named: everything passes, without a look-up. */
export const OPEN = 1;
/** The first id of a policy that has rules. */
export const FIRST_POLICY = 2;

/** The class of an address that no rule matches. */
export const NO_CLASS = 0;
/** There are too many classes: denied by every policy (`policy_incomplete`). */
export const CLASS_OVERFLOW = 1;
export const FIRST_CLASS = 2;

/** In place, or the id of the first part of a port set. */
export type Verdict = { judgement: Judgement } | { portSet: number };

export interface PolicyEntry {
	/** For every class that has no entry in `verdicts`. */
	verdict: Verdict;
	/** The policy that judges a Pod's packets to itself by a Service: OPEN, or another id. */
	hairpin: number;
}

/** A part of a port set: at most PORT_SET_RANGES segments, and where the next part begins. */
export interface PortSetPart {
	segments: readonly { from: number; judgement: Judgement }[];
	/** Positions from here on are in part `next`; both absent: this is the last part. */
	nextFrom?: number;
	next?: number;
}

export const PORT_SET_RANGES = 16;

export interface EndpointPolicies {
	egress: number;
	ingress: number;
	/** The `LocalEndpoint.id` that they are for: another Pod may get the address. */
	endpoint: string;
}

/** What an id of a rule stands for. */
export interface RuleName {
	direction: "egress" | "ingress";
	kind: "NetworkPolicy" | "ClusterNetworkPolicy";
	/** "namespace/name", or the name; of isolation every policy that isolates. */
	policies: readonly string[];
	/** null: isolation itself denied. */
	rule: number | null;
	tier: "Admin" | "NetworkPolicy" | "Baseline";
	action: "allow" | "deny";
}

export interface PolicyTables {
	/** Address → class; only where it is not that of its longest prefix. */
	identities: Map<string, number>;
	/** Prefix → class. */
	blocks: Map<string, number>;
	policies: Map<number, PolicyEntry>;
	/** By `verdictKey`. */
	policyVerdicts: Map<number, Verdict>;
	portSets: Map<number, PortSetPart>;
	/** Address of a local Pod → its policies. */
	endpointPolicies: Map<string, EndpointPolicies>;
	rules: Map<number, RuleName>;
	/** Verdicts are complete for classes below this number. */
	classLimit: Map<0, number>;
}

/**
 * What the kernel's tables hold of an earlier agent when the first round begins. Its policies judge until that
 * round's step 5, so every class has what they say beside what the new ones say: addresses and prefixes keep
 * their class numbers where they can, and what does keep its number is not written. All that is of no use goes
 * one round later.
 */
export interface HeldPolicyTables {
	identities: ReadonlyMap<string, number> | AddressNumbers;
	blocks: ReadonlyMap<string, number>;
	/** Ids. */
	policies: Iterable<number>;
	portSets: Iterable<number>;
	/** That verdicts name. */
	rules: Iterable<number>;
	/** By `verdictKey`. */
	policyVerdicts: ReadonlyMap<number, Verdict>;
	classLimit: number;
}

export type PolicyTableName = keyof PolicyTables;

export function noPolicyTables(): PolicyTables {
	return {
		...{ identities: new Map(), blocks: new Map(), policies: new Map() },
		...{ policyVerdicts: new Map(), portSets: new Map(), endpointPolicies: new Map() },
		...{ rules: new Map(), classLimit: new Map() },
	};
}

/** Policy and class as one number. */
export function verdictKey(policy: number, classNumber: number): number {
	return policy * 2 ** 32 + classNumber;
}

export interface PolicyWrite {
	/** 1 to 5 and 7, as in PolicyChanges. */
	step: number;
	table: PolicyTableName;
	key: number | string;
	/** Undefined: it is removed. */
	value: unknown;
}

export type WriteTable = (
	step: number,
	table: PolicyTableName,
	key: number | string,
	value: unknown,
) => void;

export interface PolicyChanges {
	/**
	 * In order: 1 port sets and rules, 2 verdicts, 3 policies, then the class limit, 4 identities and blocks,
	 * 5 endpoints. 6 is `epochs`. 7: entries that were unused since the round before are removed.
	 */
	writes: PolicyWriteList;
	epochs: {
		/** A local endpoint's policies, or the identity of its neighbour on this Node, have changed. */
		route: boolean;
		/** Names of Nodes with an address that means something else now. */
		peers: Set<string>;
	};
	/** Something is unused from now on: another round removes it. */
	hasGarbage: boolean;
	/** All that there are now, sorted. */
	problems: string[];
}

export function applyWrite(tables: PolicyTables, { table, key, value }: PolicyWrite): void {
	const map = tables[table] as Map<unknown, unknown>;
	if (value === undefined) map.delete(key);
	else map.set(key, value);
}
