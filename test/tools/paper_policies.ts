/** The tables of network policy without a kernel: the writes that it would get, and its verdict on a packet. */
import { Evaluator } from "../../src/policy/evaluator.js";
import type {
	EndpointPolicies,
	HeldPolicyTables,
	PolicyChanges,
	PolicyWrite,
} from "../../src/policy/policy_tables.js";
import type { RuleCounter } from "../../src/tables/generated.js";

export class PaperPolicies {
	readonly evaluator = new Evaluator();
	readonly changes: PolicyChanges[] = [];
	/** All writes are refused for this reason. */
	refusal = "";
	/** Changes wait for it. */
	gate: Promise<void> = Promise.resolve();
	#refused: PolicyChanges[] = [];

	get policyRules() {
		return this.evaluator.tables.rules;
	}

	async adoptPolicies(): Promise<HeldPolicyTables> {
		const { identities, blocks, policyVerdicts, policies, portSets, rules, classLimit } =
			this.evaluator.tables;
		return {
			...{ identities: new Map(identities), blocks: new Map(blocks) },
			...{ policyVerdicts: new Map(policyVerdicts), policies: new Set(policies.keys()) },
			...{ portSets: new Set(portSets.keys()), rules: new Set(rules.keys()) },
			classLimit: classLimit.get(0) ?? 0,
		};
	}

	async changePolicies(changes?: PolicyChanges) {
		if (changes !== undefined) this.#refused.push(changes);
		await this.gate;
		const none = { held: new Set<string>(), inUse: new Set<number>() };
		if (this.refusal !== "") {
			const held = this.#refused.flatMap(({ writes }) => [...writes].flatMap(endpointOf));
			return { ...none, writes: 0, problems: [this.refusal], held: new Set(held) };
		}
		const written = this.#refused.splice(0);
		for (const { writes } of written) for (const write of writes) this.evaluator.apply(write);
		this.changes.push(...written);
		const writes = written.reduce((sum, { writes }) => sum + writes.length, 0);
		return { ...none, writes, problems: [] };
	}

	/** Tells that others have changed the tables. */
	disturbed: () => void = () => {};

	watchPolicies(onChange: () => void) {
		this.disturbed = onChange;
	}

	endpointPolicies(address: string) {
		return this.evaluator.tables.endpointPolicies.get(address);
	}

	async ruleCounters() {
		return new Map<number, RuleCounter>();
	}
}

function endpointOf({ table, value }: PolicyWrite): string[] {
	return table === "endpointPolicies" && value !== undefined
		? [(value as EndpointPolicies).endpoint]
		: [];
}
