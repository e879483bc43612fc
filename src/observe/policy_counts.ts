/**
 * What each policy has allowed and denied since the agent's start, summed from the counters of rules: ids of rules are
 * reused, and a rule may be removed while its policy stays. Totals only grow.
 *
 * A packet denied by isolation counts for the first, by name, of the policies that isolate the Pod: so the sum over all
 * policies is the number of packets.
 */
import type { RuleName } from "../policy/policy_tables.js";

export interface RuleCounts {
	/** Flows that began. */
	flows: number | bigint;
	/** Packets denied. */
	packets: number | bigint;
	/** Flows that staged policies would deny, or allow. */
	staged: number | bigint;
}

export interface PolicyCount {
	/** "namespace/name", or a ClusterNetworkPolicy's name. */
	policy: string;
	direction: "egress" | "ingress";
	flows: number;
	denied: number;
	/** Flows that would be allowed, and denied, if its staged rules were enforced. */
	wouldAllow: number;
	wouldDeny: number;
}

/** Most policies with totals of their own; the others are counted together, as OTHERS. */
const OWN_MOST = 250;
export const OTHERS = "";

interface Seen {
	name: RuleName;
	flows: number;
	packets: number;
	staged: number;
}

export class PolicyCounts {
	readonly #most: number;
	readonly #totals = new Map<string, PolicyCount>();
	readonly #policies = new Set<string>();
	/** By id of rule, as last read. */
	readonly #seen = new Map<number, Seen>();

	constructor(most = OWN_MOST) {
		this.#most = most;
	}

	/**
	 * Adds what the counters have counted since the last call. A counter that is smaller than before has restarted from 0.
	 *
	 * @param rules the rules that the ids stand for
	 */
	take(
		counters: Iterable<[id: number, counts: RuleCounts]>,
		rules: ReadonlyMap<number, RuleName>,
	): void {
		for (const [id, counts] of counters) this.count(id, counts, rules.get(id));
		for (const id of this.#seen.keys()) if (!rules.has(id)) this.#seen.delete(id);
	}

	/** Excludes what the rules of an earlier agent have counted until now. */
	begin(
		counters: Iterable<[id: number, counts: RuleCounts]>,
		rules: ReadonlyMap<number, RuleName>,
	): void {
		for (const [id, { flows, packets, staged }] of counters) {
			const name = rules.get(id);
			const seen = { flows: Number(flows), packets: Number(packets), staged: Number(staged) };
			if (name !== undefined) this.#seen.set(id, { name, ...seen });
		}
	}

	/** The totals of one policy; `name` undefined: the policy is no longer known. */
	count(id: number, counts: RuleCounts, name: RuleName | undefined): void {
		if (name === undefined) return;
		const now = {
			...{ name, flows: Number(counts.flows), packets: Number(counts.packets) },
			staged: Number(counts.staged),
		};
		const before = this.#seen.get(id);
		this.#seen.set(id, now);
		const isSame =
			before?.name === name &&
			before.flows <= now.flows &&
			before.packets <= now.packets &&
			before.staged <= now.staged;
		const since = (what: "flows" | "packets" | "staged") => now[what] - (isSame ? before[what] : 0);
		const total = this.#totalOf(name);
		total.flows += since("flows");
		total.denied += since("packets");
		if (name.action === "allow") total.wouldAllow += since("staged");
		else total.wouldDeny += since("staged");
	}

	/** By policy and direction. */
	totals(): Iterable<Readonly<PolicyCount>> {
		return this.#totals.values();
	}

	/** Counts of one policy, both directions together. */
	of(policy: string): { flows: number; denied: number; staged: number } {
		const sum = { flows: 0, denied: 0, staged: 0 };
		for (const direction of ["egress", "ingress"]) {
			const total = this.#totals.get(`${direction} ${policy}`);
			if (total === undefined) continue;
			sum.flows += total.flows;
			sum.denied += total.denied;
			sum.staged += total.wouldAllow + total.wouldDeny;
		}
		return sum;
	}

	#totalOf({ policies, direction }: RuleName): PolicyCount {
		let policy = policies[0] ?? OTHERS;
		if (!this.#policies.has(policy)) {
			if (this.#policies.size < this.#most) this.#policies.add(policy);
			else policy = OTHERS;
		}
		const key = `${direction} ${policy}`;
		let total = this.#totals.get(key);
		if (total === undefined) {
			total = { policy, direction, flows: 0, denied: 0, wouldAllow: 0, wouldDeny: 0 };
			this.#totals.set(key, total);
		}
		return total;
	}
}
