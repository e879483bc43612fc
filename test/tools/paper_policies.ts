/** The tables of network policy on paper: what a kernel would be told, and what it would say to a packet. */
import { Evaluator } from "../../src/policy/evaluator.js";
import type { HeldPolicyTables, PolicyChanges } from "../../src/policy/policy_tables.js";
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
		if (this.refusal !== "") return { writes: 0, problems: [this.refusal] };
		const written = this.#refused.splice(0);
		for (const { writes } of written) for (const write of writes) this.evaluator.apply(write);
		this.changes.push(...written);
		return { writes: written.reduce((sum, { writes }) => sum + writes.length, 0), problems: [] };
	}

	endpointPolicies(address: string) {
		return this.evaluator.tables.endpointPolicies.get(address);
	}

	async ruleCounters() {
		return new Map<number, RuleCounter>();
	}
}
