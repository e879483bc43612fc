/**
 * The rules of one direction of a Pod, in order: Admin by priority, the union of the NetworkPolicies with
 * isolation as its end, Baseline. All Pods that the same policies select share one.
 *
 *  1. `buildRuleList`: policies → rules that name atoms and port spans
 *  2. `judgeClass`: the rules that a class's atoms match, painted over the ports
 */
import type { ClusterPolicyObject, ClusterPolicyPeer } from "../cluster/cluster_policy_object.js";
import type { NetworkPolicyObject, NetworkPolicyPeer } from "../cluster/network_policy_object.js";
import type { NamedPort } from "../cluster/pod_object.js";
import { type PolicyPort, PROTOCOLS } from "../cluster/policy_fields.js";
import { EVERYTHING } from "../cluster/selector.js";
import { atOnce, type Steps, sortInSteps } from "../loop/turns.js";
import type { Atom } from "./atoms.js";
import { CLUSTER } from "./limits.js";
import type { RuleName } from "./policy_tables.js";
import {
	EVERY_PORT,
	mergeSpans,
	type Painter,
	paintInSteps,
	type Segment,
	type Span,
	spanOf,
	withStaged,
} from "./port_space.js";

export type Direction = "egress" | "ingress";

/** Policies that select a Pod, each with whether it is staged. */
export interface Chosen {
	direction: Direction;
	/** By tier, priority and name. */
	cluster: readonly ClusterPolicyObject[];
	/** By name; only those that isolate in this direction. */
	network: readonly { policy: NetworkPolicyObject; audit: boolean }[];
	/** The Pod's own named ports, which its ingress rules may name. */
	ownPorts: readonly NamedPort[];
}

/** Rules, ports or atoms that are looked at between two steps. */
const EVERY = 512;

interface ListedRule extends Omit<Painter, "spans"> {
	staged: boolean;
	/** Undefined: everything. */
	atoms: readonly number[] | undefined;
	spans: readonly Span[];
	/** Ports that each destination names for itself. */
	names: readonly { name: string; protocol: number | undefined }[];
}

export interface RuleList {
	rules: readonly ListedRule[];
	hasStaged: boolean;
	/** The atoms of all rules. */
	atoms: ReadonlySet<number>;
	/** Port names that destinations resolve. */
	names: ReadonlySet<string>;
	/** Indexes of rules that match everything, and of others by their atoms. */
	always: readonly number[];
	byAtom: ReadonlyMap<number, readonly number[]>;
	ruleIds: ReadonlySet<number>;
}

export interface Numbers {
	/** `owner`: the namespace of the policy that has it, or CLUSTER. */
	atom: (atom: Atom, owner: string) => number;
	rule: (name: RuleName) => number;
}

/** Does all of it at once. */
export function buildRuleList(chosen: Chosen, numbers: Numbers): RuleList {
	return atOnce(buildInSteps(chosen, numbers));
}

export function* buildInSteps(chosen: Chosen, numbers: Numbers): Steps<RuleList> {
	const { direction, network } = chosen;
	const rules: ListedRule[] = [];
	yield* clusterRules(rules, chosen, 0, numbers);
	for (const { policy, audit } of network) {
		const { namespace } = policy;
		for (const [index, { peers, ports }] of policy[direction]!.entries()) {
			const atoms: number[] = [];
			for (const peer of peers ?? []) {
				atoms.push(numbers.atom(networkAtom(peer, namespace), namespace));
				yield;
			}
			rules.push({
				...{ tier: 1, action: "allow", staged: audit },
				rule: numbers.rule(nameOf(chosen, policy, index, "allow")),
				atoms: peers === undefined ? undefined : atoms,
				...(yield* portsOf(ports, chosen)),
			});
			yield;
		}
	}
	const enforced = network.filter(({ audit }) => !audit);
	const everything = { atoms: undefined, spans: [EVERY_PORT], names: [] };
	if (enforced.length > 0) rules.push({ ...isolation(chosen, enforced, numbers), ...everything });
	// What would deny if the staged ones were enforced.
	else if (network.length > 0)
		rules.push({ ...isolation(chosen, network, numbers), ...everything, staged: true });
	yield* clusterRules(rules, chosen, 2, numbers);
	return yield* listOf(rules);
}

/** For a Pod's packets to itself by a Service: NetworkPolicies allow them. Undefined: so do all other policies. */
export function* hairpinList({ rules }: RuleList): Steps<RuleList | undefined> {
	if (rules.every(({ tier }) => tier === 1)) return undefined;
	const others = rules.filter(({ tier, action }) => tier !== 1 || action === "deny");
	return yield* listOf(
		others.map((rule) => (rule.tier === 1 ? { ...rule, action: "allow" as const, rule: 0 } : rule)),
	);
}

function* listOf(rules: readonly ListedRule[]): Steps<RuleList> {
	let looked = 0;
	const always: number[] = [];
	const byAtom = new Map<number, number[]>();
	const names = new Set<string>();
	for (const [index, { atoms, names: named }] of rules.entries()) {
		for (const { name } of named) names.add(name);
		if (atoms === undefined) always.push(index);
		for (const atom of new Set(atoms)) {
			const indexes = byAtom.get(atom);
			if (indexes === undefined) byAtom.set(atom, [index]);
			else indexes.push(index);
			if (++looked % EVERY === 0) yield;
		}
		if (++looked % EVERY === 0) yield;
	}
	const atoms = new Set(byAtom.keys());
	const hasStaged = rules.some(({ staged }) => staged);
	const ruleIds = new Set(rules.map(({ rule }) => rule).filter((rule) => rule !== 0));
	return { rules, hasStaged, atoms, names, always, byAtom, ruleIds };
}

function* clusterRules(
	rules: ListedRule[],
	{ direction, ...chosen }: Chosen,
	tier: 0 | 2,
	numbers: Numbers,
): Steps<void> {
	const name = tier === 0 ? "Admin" : "Baseline";
	for (const policy of chosen.cluster) {
		if (policy.tier !== name) continue;
		for (const [index, rule] of policy[direction].entries()) {
			const fails = rule.isUnknown && rule.action !== "Accept";
			const action =
				rule.action === "Accept" ? "allow" : rule.action === "Deny" || fails ? "deny" : "pass";
			const id = numbers.rule({
				...{ direction, kind: "ClusterNetworkPolicy", policies: [policy.name], rule: index },
				...{ tier: name, action: action === "deny" ? "deny" : "allow" },
			});
			const head = { tier, action, rule: id, staged: policy.audit } as const;
			yield;
			// It fails closed: Accept matches nothing, anything else denies everything.
			if (rule.isUnknown) {
				rules.push({ ...head, atoms: fails ? undefined : [], spans: [EVERY_PORT], names: [] });
				continue;
			}
			const atoms = rule.peers.flatMap((peer) =>
				clusterAtoms(peer).map((atom) => numbers.atom(atom, CLUSTER)),
			);
			rules.push({ ...head, atoms, ...(yield* portsOf(rule.ports, { direction, ...chosen })) });
		}
	}
}

function isolation(
	chosen: Chosen,
	isolating: Chosen["network"],
	numbers: Numbers,
): Pick<ListedRule, "tier" | "action" | "rule" | "staged"> {
	const [{ policy }] = isolating as [Chosen["network"][number]];
	const name = nameOf(chosen, policy, null, "deny");
	const policies = isolating.map(({ policy }) => `${policy.namespace}/${policy.name}`);
	return { tier: 1, action: "deny", rule: numbers.rule({ ...name, policies }), staged: false };
}

function nameOf(
	{ direction }: Chosen,
	{ namespace, name }: NetworkPolicyObject,
	rule: number | null,
	action: "allow" | "deny",
): RuleName {
	const policies = [`${namespace}/${name}`];
	return { direction, kind: "NetworkPolicy", policies, rule, tier: "NetworkPolicy", action };
}

function networkAtom(peer: NetworkPolicyPeer, namespace: string): Atom {
	if ("block" in peer) return { kind: "block", ...peer };
	const { namespaces, pods } = peer;
	return namespaces === undefined
		? { kind: "pods", namespace, namespaces: EVERYTHING, pods }
		: { kind: "pods", namespace: undefined, namespaces, pods };
}

function clusterAtoms(peer: ClusterPolicyPeer): Atom[] {
	if ("networks" in peer)
		return peer.networks.map((block) => ({ kind: "block", block, except: [] }));
	if ("nodes" in peer) return [{ kind: "nodes", nodes: peer.nodes }];
	return [{ kind: "pods", namespace: undefined, ...peer }];
}

function* portsOf(
	ports: readonly PolicyPort[] | undefined,
	{ direction, ownPorts }: Pick<Chosen, "direction" | "ownPorts">,
): Steps<Pick<ListedRule, "spans" | "names">> {
	if (ports === undefined) return { spans: [EVERY_PORT], names: [] };
	const spans: Span[] = [];
	const names: { name: string; protocol: number | undefined }[] = [];
	for (const [looked, port] of ports.entries()) {
		if (looked % EVERY === EVERY - 1) yield;
		if (!("name" in port)) spans.push(spanOf(port.protocol, port.first, port.last));
		else if (direction === "egress") names.push({ name: port.name, protocol: port.protocol });
		else
			for (const own of ownPorts) {
				const protocol = PROTOCOLS.get(own.protocol);
				if (own.name !== port.name || protocol === undefined) continue;
				if (port.protocol !== undefined && port.protocol !== protocol) continue;
				spans.push(spanOf(protocol, own.port, own.port));
			}
	}
	return { spans: yield* mergeSpans(spans), names };
}

/** What a class is to a rule list. */
export interface ClassAtoms {
	atoms: readonly number[];
	/** The ports that it names. */
	ports: readonly { name: string; protocol: number; port: number }[];
}

/** Does all of it at once. */
export function judgeClass(list: RuleList, one: ClassAtoms): Segment[] {
	return atOnce(judgeInSteps(list, one));
}

/** The verdict for the addresses of one class, over all ports. */
export function* judgeInSteps(list: RuleList, { atoms, ports }: ClassAtoms): Steps<Segment[]> {
	const matching = new Set(list.always);
	for (const atom of atoms) for (const index of list.byAtom.get(atom) ?? []) matching.add(index);
	yield;
	const indexes = [...matching];
	yield* sortInSteps(indexes, (a, b) => a - b);
	const enforced = yield* paintInSteps(yield* paintersOf(list, indexes, ports, false));
	if (!list.hasStaged) return enforced;
	const staged = yield* paintInSteps(yield* paintersOf(list, indexes, ports, true));
	return yield* withStaged(enforced, staged);
}

/** @param staged with staged rules */
function* paintersOf(
	{ rules }: RuleList,
	indexes: readonly number[],
	ports: ClassAtoms["ports"],
	staged: boolean,
): Steps<Painter[]> {
	const painted: Painter[] = [];
	for (const [looked, index] of indexes.entries()) {
		if (looked % EVERY === EVERY - 1) yield;
		const rule = rules[index]!;
		if (rule.staged && !staged) continue;
		const spans =
			rule.names.length === 0 ? rule.spans : [...rule.spans, ...namedSpans(rule, ports)];
		if (spans.length > 0) painted.push({ ...rule, spans });
	}
	return painted;
}

function namedSpans({ names }: ListedRule, ports: ClassAtoms["ports"]): Span[] {
	return ports
		.filter((own) =>
			names.some(
				({ name, protocol }) =>
					name === own.name && (protocol === undefined || protocol === own.protocol),
			),
		)
		.map(({ protocol, port }) => spanOf(protocol, port, port));
}
