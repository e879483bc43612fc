/** A policy in force and one that is to be: a rule list with an owner, its verdicts, and what it pays for. */
import type { RuleList } from "./rule_list.js";
import type { KeptVerdict } from "./verdicts.js";

export interface Policy {
	id: number;
	key: string;
	/** A namespace, or CLUSTER. */
	owner: string;
	list: RuleList;
	/** Endpoints by direction, and policies whose hairpin it is. */
	users: number;
	hairpin: Policy | undefined;
	/** Of classes that have no entry. */
	verdict: KeptVerdict;
	/** Entries: of classes where it differs. */
	byClass: Map<number, KeptVerdict>;
	/** By the atoms of its own that a class has; "": of a class that has none. */
	bySubset: Map<string, KeptVerdict>;
	/** Entries by the owner that pays for them, and parts of port sets, while it has users. */
	charges: { entries: Map<string, number>; parts: number };
	/** Some class is denied everything because there is no room for its verdicts. */
	problem?: string;
}

/** A policy whose verdicts are being made: without users it pays in the end. */
export type Draft = Pick<Policy, "list" | "owner" | "bySubset" | "charges" | "users">;

/** A policy that is to be made. */
export interface Plan {
	key: string;
	owner: string;
	list: RuleList;
}
