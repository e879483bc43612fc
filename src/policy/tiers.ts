/**
 * The policies of one end of a flow, evaluated for `fairway explain`: tier by tier, which policies select the Pod, what
 * each tier decides, and by which rule. It agrees with the interpreter, whose functions it uses. Pure.
 *
 *  1. one that cannot be used closes the Pod, before everything else
 *  2. Admin: the first rule that matches
 *  3. NetworkPolicy: isolation, and a rule that allows
 *  4. Baseline, where nothing has decided
 */
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import {
	type Cluster,
	clusterRuleMatches,
	everyAddress,
	type Flow,
	nameOf,
	namespaceOf,
	networkRuleMatches,
	type Opinion,
	podAt,
	type Question,
	selecting,
} from "./interpreter.js";
import type { RuleName } from "./policy_tables.js";
import { ruleWords } from "./words.js";

export interface TierReading {
	tier: RuleName["tier"];
	/** Those that select the Pod and have rules for this direction, or isolate it, in their order. */
	policies: readonly string[];
	/**
	 * `none`: no policy selects the Pod. `noMatch`: no rule names the flow. `pass`: left to the next tiers.
	 * `isolated`: policies isolate the Pod, and none has a rule that allows the flow. `unusable`: a policy that
	 * cannot be used closes the Pod. `itself`: a Pod to itself by a Service, which NetworkPolicies allow.
	 * `notAsked`: an earlier tier has decided.
	 */
	outcome:
		| "none"
		| "noMatch"
		| "allow"
		| "deny"
		| "pass"
		| "isolated"
		| "unusable"
		| "itself"
		| "notAsked";
	/** Which one decided. */
	policy: string | null;
	rule: number | null;
	/** The rule in words: "to Pods with app=web of namespace default, TCP 80". */
	says: string | null;
}

export interface SideReading {
	/** "namespace/name" of the Pod that is judged. */
	pod: string;
	opinion: Opinion;
	/** Admin, NetworkPolicy, Baseline. */
	tiers: readonly TierReading[];
	/** The tier that decides; undefined: none does. */
	decided: TierReading | undefined;
}

/**
 * Undefined: nothing is judged, since that end is no Pod, or it is the Pod's own Node that speaks to it.
 *
 * @param staged as if staged policies were enforced
 */
export function readSide(
	cluster: Cluster,
	flow: Flow,
	direction: "egress" | "ingress",
	staged = false,
): SideReading | undefined {
	const [from, to] = [podAt(cluster, flow.source), podAt(cluster, flow.destination)];
	const pod = direction === "egress" ? from : to;
	if (pod === undefined) return undefined;
	if (direction === "ingress") {
		const own = cluster.nodes.find(({ name }) => name === pod.node);
		if (own !== undefined && everyAddress(own).includes(flow.source)) return undefined;
	}
	const tiers = readTiers({ cluster, flow, from, to, direction, pod, staged });
	const decided = tiers.find(({ outcome }) => DECISIVE.has(outcome));
	return { pod: nameOf(pod), opinion: opinionOf(decided), tiers, decided };
}

const DECISIVE: ReadonlySet<TierReading["outcome"]> = new Set([
	...(["allow", "deny", "isolated", "unusable", "itself"] as const),
]);

function opinionOf(decided: TierReading | undefined): Opinion {
	if (decided === undefined || decided.outcome === "itself")
		return { verdict: "none", policy: null, rule: null };
	const { policy, rule, outcome } = decided;
	return { verdict: outcome === "allow" ? "allow" : "deny", policy, rule };
}

const NOTHING = { policy: null, rule: null, says: null };

function readTiers(question: Question): TierReading[] {
	const { direction } = question;
	const { chosen, isolating } = selecting(question);
	const heads = {
		Admin: chosen.filter((one) => one.tier === "Admin" && one[direction].length > 0),
		NetworkPolicy: isolating,
		Baseline: chosen.filter((one) => one.tier === "Baseline" && one[direction].length > 0),
	};
	const unusable = [...isolating, ...chosen.filter((one) => one[direction].length > 0)].find(
		(one) => one.unusable !== undefined,
	);
	let isDecided = false;
	return (["Admin", "NetworkPolicy", "Baseline"] as const).map((tier): TierReading => {
		const policies = heads[tier].map(nameOf);
		const row = (
			outcome: TierReading["outcome"],
			more: Omit<TierReading, "tier" | "policies" | "outcome"> = NOTHING,
		): TierReading => {
			if (DECISIVE.has(outcome)) isDecided = true;
			return { tier, policies, outcome, ...more };
		};
		if (unusable !== undefined) {
			const name = nameOf(unusable);
			const isHere = !isDecided && (heads[tier] as readonly object[]).includes(unusable);
			if (!isHere) return row("notAsked");
			return row("unusable", { policy: name, rule: null, says: unusable.unusable ?? null });
		}
		if (policies.length === 0) return row("none");
		if (isDecided) return row("notAsked");
		return tier === "NetworkPolicy"
			? readNetworkTier(question, isolating, row)
			: readClusterTier(question, heads[tier], row);
	});
}

type MakeRow = (
	outcome: TierReading["outcome"],
	more?: Omit<TierReading, "tier" | "policies" | "outcome">,
) => TierReading;

function readClusterTier(
	question: Question,
	policies: readonly ClusterPolicyObject[],
	row: MakeRow,
): TierReading {
	const { direction } = question;
	for (const policy of policies)
		for (const [rule, said] of policy[direction].entries()) {
			if (!clusterRuleMatches(question, said)) continue;
			const facts = { policy: policy.name, rule, says: ruleWords(said, direction, "") };
			if (said.action === "Pass" && !said.isUnknown) return row("pass", facts);
			return row(said.action === "Accept" ? "allow" : "deny", facts);
		}
	return row("noMatch");
}

function readNetworkTier(
	question: Question,
	isolating: ReturnType<typeof selecting>["isolating"],
	row: MakeRow,
): TierReading {
	const { cluster, direction, from, to } = question;
	if (from !== undefined && from === to) return row("itself");
	for (const policy of isolating)
		for (const [rule, said] of policy[direction]!.entries())
			if (networkRuleMatches(question, said)) {
				const says = ruleWords(said, direction, policy.namespace);
				return row("allow", { policy: nameOf(policy), rule, says });
			}
	// As in the interpreter: an enforced one where there is any.
	const isEnforced = ({ audit, namespace }: (typeof isolating)[number]) =>
		!audit && !namespaceOf(cluster, namespace).audit;
	const first = isolating.find(isEnforced) ?? isolating[0]!;
	return row("isolated", { policy: nameOf(first), rule: null, says: null });
}
