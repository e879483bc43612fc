/**
 * The compiler's tables, asked as the core asks the maps: the forwarder's look-up over them. So what is compiled
 * can be tried, and compared with other policies, without a kernel.
 */
import { lookUpPolicy } from "../forwarder/policy.js";
import type { PolicyReader } from "../forwarder/table_reader.js";
import { parseAddress } from "../tables/address.js";
import { DropReason } from "../tables/generated.js";
import { PrefixTable, parsePrefix } from "../tables/prefix.js";
import { policyEntry, portSetEntry, verdictEntry } from "./entries.js";
import {
	applyWrite,
	noPolicyTables,
	type PolicyTables,
	type PolicyWrite,
	verdictKey,
} from "./policy_tables.js";
import type { Judgement } from "./port_space.js";

export interface PolicyQuestion {
	direction: "egress" | "ingress";
	/** The address of the local Pod whose policies judge. */
	local: string;
	/** The other end. */
	peer: string;
	/** Both ends are the same Pod. */
	hairpin: boolean;
	protocol: number;
	/** Destination port. */
	port: number;
}

export type PolicyAnswer = Judgement | "policy_not_ready" | "policy_incomplete";

export class Evaluator {
	readonly tables: PolicyTables;
	readonly #blocks = new PrefixTable<number>();
	/** The tables as the forwarder reads them. */
	readonly reader: PolicyReader;

	constructor(tables: PolicyTables = noPolicyTables()) {
		this.tables = tables;
		for (const [prefix, number] of tables.blocks) this.#blocks.set(parsePrefix(prefix), number);
		this.reader = {
			identity: (address) => tables.identities.get(address),
			block: (address) => this.#blocks.lookup(parseAddress(address)!),
			classLimit: () => tables.classLimit.get(0) ?? 0,
			policy: (index) => entryOf(tables.policies.get(index), policyEntry),
			policyVerdict: (policy, number) =>
				entryOf(tables.policyVerdicts.get(verdictKey(policy, number)), verdictEntry),
			portSet: (id) => entryOf(tables.portSets.get(id), portSetEntry),
		};
	}

	apply(write: PolicyWrite): void {
		applyWrite(this.tables, write);
		if (write.table !== "blocks") return;
		const prefix = parsePrefix(write.key as string);
		if (write.value === undefined) this.#blocks.delete(prefix);
		else this.#blocks.set(prefix, write.value as number);
	}

	/** Undefined: it is no local Pod, so nothing is asked. */
	judge({ direction, local, hairpin, ...rest }: PolicyQuestion): PolicyAnswer | undefined {
		const policies = this.tables.endpointPolicies.get(local);
		if (policies === undefined) return undefined;
		const question = { ...rest, policy: policies[direction], isHairpin: hairpin };
		const { judgement, dropReason } = lookUpPolicy(this.reader, question);
		if (judgement !== undefined) return judgement;
		return dropReason === DropReason.POLICY_NOT_READY ? "policy_not_ready" : "policy_incomplete";
	}
}

function entryOf<A, B>(value: A | undefined, encode: (value: A) => B): B | undefined {
	return value === undefined ? undefined : encode(value);
}
