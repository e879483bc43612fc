/**
 * The part of `explain` about network policy: both ends of the flow, each as its own Node judges it.
 *
 *  1. the end that is a Pod of this Node: the verdict of the live maps
 *  2. the other end, on another Node: as that Node compiles the same objects
 *  3. tier by tier, from the objects: which policies select the Pod, which rule decides, and its content
 *  4. one answer for several backends of a Service
 */
import { isDeepStrictEqual } from "node:util";
import type { ExplainPolicy, ExplainPolicySide, ExplainTier } from "../api/messages/explain.js";
import type { PolicyDecision } from "../forwarder/decision.js";
import { lookUpPolicy } from "../forwarder/policy.js";
import type { PolicyReader, TableReader } from "../forwarder/table_reader.js";
import { type Cluster, type Flow, nodeAt, type Opinion, podAt } from "../policy/interpreter.js";
import type { RuleName } from "../policy/policy_tables.js";
import { readSide, type SideReading, type TierReading } from "../policy/tiers.js";
import { DropReason, RouteKind } from "../tables/generated.js";

export interface PolicyContext {
	/** The Pods and Nodes at both ends, all policies and Namespaces (policy_cluster.ts). */
	cluster: Cluster;
	/** This Node. */
	nodeName: string;
	tables: Pick<TableReader, "endpoint" | "route"> & PolicyReader;
	/** The Node whose pod CIDRs contain an address; undefined: none. */
	nodeOf: (address: string) => string | undefined;
	rule: (id: number) => RuleName | undefined;
	/** What the addresses of a class have in common, in words; undefined: not known. */
	atoms: (number: number) => readonly string[] | undefined;
}

type Direction = "egress" | "ingress";
const NOTHING = { verdict: "none", policy: null, rule: null } as const;

/** @param flow the tuple that policies judge: after a Service's translation, before SNAT */
export function policyAnswer(flow: Flow, context: PolicyContext): ExplainPolicy {
	return { egress: side(flow, "egress", context), ingress: side(flow, "ingress", context) };
}

function side(flow: Flow, direction: Direction, context: PolicyContext): ExplainPolicySide {
	const { cluster, nodeName, nodeOf } = context;
	const address = direction === "egress" ? flow.source : flow.destination;
	const reading = readSide(cluster, flow, direction);
	const staged = stagedOf(flow, direction, reading, context);
	const common = { tiers: reading?.tiers.map(tierAnswer) ?? [], staged };
	const pod = podAt(cluster, address);
	const name = pod === undefined ? null : `${pod.namespace}/${pod.name}`;
	const decided = decidedHere(flow, direction, context);
	if (decided !== undefined)
		return { ...common, ...fromMaps(decided, direction, reading, context), pod: name };
	if (pod === undefined) {
		const node = nodeAt(cluster, address) === undefined ? nodeOf(address) : undefined;
		if (node === undefined || node === nodeName)
			return { ...common, ...NOTHING, ...unjudged(`${address} is no Pod's.`) };
		return {
			...{ ...common, ...NOTHING, by: "unknown", node, pod: null, class: null },
			why: `This Node does not know the Pod at ${address}: only ${node} can say.`,
		};
	}
	if (reading === undefined) {
		const why = `${flow.source} is an address of ${pod.node}, which always reaches its own Pods.`;
		return { ...common, ...NOTHING, ...unjudged(why), pod: name, node: pod.node };
	}
	return {
		...{ ...common, ...reading.opinion, by: "objects", node: pod.node, pod: name, class: null },
		why: whyOpinion(reading, direction),
	};
}

/** Undefined: neither end is a Pod of this Node. */
function decidedHere(
	{ source, destination, protocol, port }: Flow,
	direction: Direction,
	{ tables }: PolicyContext,
): PolicyDecision | undefined {
	const [from, to] = [tables.endpoint(source), tables.endpoint(destination)];
	const own = direction === "egress" ? from : to;
	if (own === undefined) return undefined;
	// The Node's own packets reach its Pods.
	if (direction === "ingress" && tables.route(source)?.kind === RouteKind.HOST) return undefined;
	return lookUpPolicy(tables, {
		policy: direction === "egress" ? own.egressPolicy : own.ingressPolicy,
		peer: direction === "egress" ? destination : source,
		...{ isHairpin: from !== undefined && from.index === to?.index, protocol, port },
	});
}

function unjudged(why: string) {
	return { by: "nobody", node: null, pod: null, class: null, why } as const;
}

/* ------------------------------------------------------ 1 */

function fromMaps(
	{ class: number, judgement, dropReason, policy }: PolicyDecision,
	direction: Direction,
	reading: SideReading | undefined,
	{ nodeName, rule, atoms }: PolicyContext,
): Omit<ExplainPolicySide, "tiers" | "staged"> {
	const common = {
		...({ by: "maps", node: nodeName, pod: reading?.pod ?? null } as const),
		class: number === undefined ? null : { number, atoms: [...(atoms(number) ?? [])] },
	};
	if (judgement === undefined) {
		// Closed while the tables disagree, not until policies are known.
		if (reading?.tiers.some(({ outcome }) => outcome === "unusable"))
			return { ...common, ...reading.opinion, why: whyOpinion(reading, direction) };
		const why =
			dropReason === DropReason.POLICY_NOT_READY
				? "The Pod's policies are not known yet: it stays closed until they are."
				: `The tables disagree: policy ${policy} has no verdict for class ${number ?? "-"}.`;
		return { ...common, ...NOTHING, verdict: "deny", why };
	}
	const name = judgement.rule === 0 ? undefined : rule(judgement.rule);
	const opinion: Opinion =
		judgement.rule === 0
			? { ...NOTHING, verdict: judgement.allow ? "none" : "deny" }
			: {
					verdict: judgement.allow ? "allow" : "deny",
					policy: name?.policies[0] ?? null,
					rule: name?.rule ?? null,
				};
	if (reading !== undefined && isSame(opinion, reading.opinion))
		return { ...common, ...opinion, why: whyOpinion(reading, direction) };
	const said = name === undefined ? whyUnnamed(judgement) : whyRule(name);
	const now =
		reading === undefined
			? ""
			: ` The objects say something else (${reading.opinion.verdict}${reading.opinion.policy === null ? "" : ` by ${reading.opinion.policy}`}): a change is not in force yet, or cannot be enforced (fairway status).`;
	return { ...common, ...opinion, why: `${said}${now}` };
}

function isSame(a: Opinion, b: Opinion): boolean {
	return a.verdict === b.verdict && a.policy === b.policy && a.rule === b.rule;
}

function whyUnnamed({ allow, rule }: { allow: boolean; rule: number }): string {
	if (rule === 0) return "Nothing isolates the Pod, and no rule names the flow.";
	return `${allow ? "Allowed" : "Denied"} by a rule that is no longer known (${rule}).`;
}

function whyRule({ action, policies, rule, tier }: RuleName): string {
	if (rule === null) return `${isolatedBy(policies)}, and no rule allows the flow.`;
	const kind = tier === "NetworkPolicy" ? "" : ` (${tier})`;
	return `${action === "allow" ? "Allowed" : "Denied"} by rule ${rule} of ${policies[0]}${kind}.`;
}

/* ------------------------------------------------------ 3 */

const NAMED_MOST = 5;

function isolatedBy(policies: readonly string[]): string {
	const more = policies.length > NAMED_MOST ? ` and ${policies.length - NAMED_MOST} more` : "";
	return `Isolated by ${policies.slice(0, NAMED_MOST).join(", ")}${more}`;
}

function whyOpinion({ decided, opinion }: SideReading, direction: Direction): string {
	if (decided === undefined)
		return `No policy isolates the Pod for ${direction}, and no rule names the flow.`;
	switch (decided.outcome) {
		case "isolated":
			return `${isolatedBy(decided.policies)}, and no rule allows the flow.`;
		case "unusable":
			return `Closed: ${opinion.policy} cannot be used.`;
		case "itself":
			return "A Pod reaches itself by a Service, whatever NetworkPolicies say.";
		default: {
			const of = decided.tier === "NetworkPolicy" ? "" : ` (${decided.tier})`;
			const verb = decided.outcome === "allow" ? "Allowed" : "Denied";
			return `${verb} by rule ${decided.rule} of ${decided.policy}${of}: ${decided.says}.`;
		}
	}
}

function tierAnswer({ tier, policies, outcome, policy, rule, says }: TierReading): ExplainTier {
	return { tier, policies: [...policies], outcome, policy, rule, says };
}

/** The verdict if staged policies were enforced; null: the same. */
function stagedOf(
	flow: Flow,
	direction: Direction,
	reading: SideReading | undefined,
	{ cluster }: PolicyContext,
): ExplainPolicySide["staged"] {
	if (reading === undefined) return null;
	const then = readSide(cluster, flow, direction, true);
	if (then === undefined || isSame(then.opinion, reading.opinion)) return null;
	return { ...then.opinion, why: whyOpinion(then, direction) };
}

/* ------------------------------------------------------ 4 */

/** The parts on which the answers for several backends agree. @param answers at least one */
export function commonPolicy(
	answers: readonly { backend: string; policy: ExplainPolicy }[],
): ExplainPolicy {
	const of = (direction: Direction): ExplainPolicySide => {
		const sides = answers.map(({ backend, policy }) => ({ backend, side: policy[direction] }));
		const [{ side }] = sides as [(typeof sides)[number]];
		if (sides.every((one) => isDeepStrictEqual(one.side, side))) return side;
		const [first] = sides as [(typeof sides)[number]];
		const isOne = sides.every(({ side: { verdict, policy, rule } }) =>
			isDeepStrictEqual([verdict, policy, rule], [side.verdict, side.policy, side.rule]),
		);
		const whys = new Set(sides.map((one) => one.side.why));
		const differing = { ...NOTHING, verdict: null, by: first.side.by, node: null };
		return {
			...(isOne ? side : differing),
			...{ node: null, pod: null, tiers: [], class: null, staged: null },
			why:
				isOne && whys.size === 1
					? side.why
					: sides.map((one) => `${one.backend}: ${one.side.verdict}. ${one.side.why}`).join(" "),
		};
	};
	return { egress: of("egress"), ingress: of("ingress") };
}
