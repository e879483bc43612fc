/**
 * What the core does with the tables, for one direction of a flow's first packet: a hash look-up of the peer's
 * address, on a miss one by longest prefix, an array, a hash, and for ports one search in a port set.
 */
import { parseAddress } from "../tables/address.js";
import { PrefixTable, parsePrefix } from "../tables/prefix.js";
import {
	applyWrite,
	CLASS_OVERFLOW,
	NO_CLASS,
	NOT_READY,
	noPolicyTables,
	OPEN,
	type PolicyTables,
	type PolicyWrite,
	verdictKey,
} from "./policy_tables.js";
import { type Judgement, judgementAt, positionOf } from "./port_space.js";

export interface PolicyQuestion {
	direction: "egress" | "ingress";
	/** Of the local Pod that is judged. */
	local: string;
	/** The other end. */
	peer: string;
	/** Both ends are the same Pod. */
	hairpin: boolean;
	protocol: number;
	/** Of the destination. */
	port: number;
}

export type PolicyAnswer = Judgement | "policy_not_ready" | "policy_incomplete";

const PASSES: Judgement = { allow: true, rule: 0 };

export class Evaluator {
	readonly tables: PolicyTables;
	readonly #blocks = new PrefixTable<number>();

	constructor(tables: PolicyTables = noPolicyTables()) {
		this.tables = tables;
		for (const [prefix, number] of tables.blocks) this.#blocks.set(parsePrefix(prefix), number);
	}

	apply(write: PolicyWrite): void {
		applyWrite(this.tables, write);
		if (write.table !== "blocks") return;
		const prefix = parsePrefix(write.key as string);
		if (write.value === undefined) this.#blocks.delete(prefix);
		else this.#blocks.set(prefix, write.value as number);
	}

	/** Undefined: it is no local Pod, so nothing is asked. */
	judge(question: PolicyQuestion): PolicyAnswer | undefined {
		const { tables } = this;
		const policies = tables.endpointPolicies.get(question.local);
		if (policies === undefined) return undefined;
		let policy = policies[question.direction];
		if (policy === NOT_READY) return "policy_not_ready";
		if (policy === OPEN) return PASSES;
		if (question.hairpin) {
			policy = tables.policies.get(policy)?.hairpin ?? NOT_READY;
			if (policy === NOT_READY) return "policy_incomplete";
			if (policy === OPEN) return PASSES;
		}
		const { peer, protocol, port } = question;
		const number =
			tables.identities.get(peer) ?? this.#blocks.lookup(parseAddress(peer)!) ?? NO_CLASS;
		const entry = tables.policies.get(policy);
		const isCovered = number < (tables.classLimit.get(0) ?? 0) && number !== CLASS_OVERFLOW;
		if (entry === undefined || !isCovered) return "policy_incomplete";
		const verdict = tables.policyVerdicts.get(verdictKey(policy, number)) ?? entry.verdict;
		if ("judgement" in verdict) return verdict.judgement;
		const position = positionOf(protocol, port);
		let part = tables.portSets.get(verdict.portSet);
		while (part?.nextFrom !== undefined && position >= part.nextFrom)
			part = tables.portSets.get(part.next!);
		return part === undefined ? "policy_incomplete" : judgementAt(part.segments, position);
	}
}
