/**
 * What the objects mean, read straight from them: slow, obvious, and on purpose without anything that the
 * compiler has. The compiler's tests compare it with this.
 *
 *  1. whose the two addresses are
 *  2. for each end that is a Pod: the Admin tier, NetworkPolicies, the Baseline tier
 *
 * Addresses and ports are those after a Service's translation and before SNAT.
 */
import type { ClusterPolicyObject, ClusterPolicyRule } from "../cluster/cluster_policy_object.js";
import { impliedNamespace, type NamespaceObject } from "../cluster/namespace_object.js";
import type {
	NetworkPolicyObject,
	NetworkPolicyPeer,
	NetworkPolicyRule,
} from "../cluster/network_policy_object.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { PodObject } from "../cluster/pod_object.js";
import { blockOf, type PolicyPort, PROTOCOLS } from "../cluster/policy_fields.js";
import { matches } from "../cluster/selector.js";
import type { NodeObject } from "../cluster/snapshot.js";
import { familyOf, formatAddress, parseAddress } from "../tables/address.js";
import { containsAddress, firstAddress } from "../tables/prefix.js";

export interface Cluster {
	nodes: readonly NodeObject[];
	/** Others exist with their name as a label. */
	namespaces: readonly NamespaceObject[];
	pods: readonly PodObject[];
	policies: readonly NetworkPolicyObject[];
	clusterPolicies: readonly ClusterPolicyObject[];
}

export interface Flow {
	source: string;
	destination: string;
	/** IPPROTO. */
	protocol: number;
	/** Destination port; 0 where the protocol has none. */
	port: number;
}

export interface Opinion {
	/** "none": nothing isolates the Pod or names this flow, so it passes. */
	verdict: "allow" | "deny" | "none";
	/** The policy that decided: "namespace/name", or a ClusterNetworkPolicy's name. */
	policy: string | null;
	/** The index of its rule; null: none, isolation denied. */
	rule: number | null;
}

const NONE: Opinion = { verdict: "none", policy: null, rule: null };

/** @param staged as if staged policies were enforced */
export function interpret(
	cluster: Cluster,
	flow: Flow,
	staged = false,
): { egress: Opinion; ingress: Opinion } {
	const [from, to] = [podAt(cluster, flow.source), podAt(cluster, flow.destination)];
	const own = to && cluster.nodes.find(({ name }) => name === to.node);
	// Probes: a Pod's own Node reaches it, whatever the policies say.
	const isOwnNode = own !== undefined && everyAddress(own).includes(flow.source);
	const opinion = (direction: "egress" | "ingress", pod: PodObject | undefined) =>
		pod === undefined ? NONE : judge({ cluster, flow, from, to, direction, pod, staged });
	return { egress: opinion("egress", from), ingress: isOwnNode ? NONE : opinion("ingress", to) };
}

/** One direction of a flow, of an end that is a Pod. */
export interface Question {
	cluster: Cluster;
	flow: Flow;
	from: PodObject | undefined;
	to: PodObject | undefined;
	direction: "egress" | "ingress";
	/** The one of both that is judged. */
	pod: PodObject;
	staged: boolean;
}

/** The policies that select the Pod, in their order; NetworkPolicies only where they isolate in this direction. */
export function selecting(question: Question): {
	chosen: ClusterPolicyObject[];
	isolating: NetworkPolicyObject[];
} {
	const { cluster, direction, pod, staged } = question;
	/** A staged policy that cannot be used has no effect. */
	const counts = (audit: boolean, unusable?: string) =>
		!audit || (staged && unusable === undefined);
	const chosen = cluster.clusterPolicies
		.filter(({ audit, unusable }) => counts(audit, unusable))
		.filter(({ subject }) => selects(question, subject, pod))
		.sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
	const isolating = cluster.policies
		.filter(({ namespace }) => namespace === pod.namespace)
		.filter((one) => counts(one.audit || namespaceOf(cluster, one.namespace).audit, one.unusable))
		.filter((one) => one[direction] !== undefined && matches(one.pods, pod.labels))
		.sort((a, b) => (a.name < b.name ? -1 : 1));
	return { chosen, isolating };
}

function judge(question: Question): Opinion {
	const { cluster, direction, from, to } = question;
	const { chosen, isolating } = selecting(question);
	const closed = [
		...isolating.filter(({ unusable }) => unusable !== undefined).map(nameOf),
		...chosen.filter((one) => one.unusable !== undefined && one[direction].length > 0).map(nameOf),
	][0];
	if (closed !== undefined) return { verdict: "deny", policy: closed, rule: null };

	const tier = (name: "Admin" | "Baseline"): Opinion | undefined => {
		for (const policy of chosen.filter((one) => one.tier === name))
			for (const [index, rule] of policy[direction].entries()) {
				if (!clusterRuleMatches(question, rule)) continue;
				if (rule.action === "Pass" && !rule.isUnknown) return undefined;
				const verdict = rule.action === "Accept" ? "allow" : "deny";
				return { verdict, policy: policy.name, rule: index };
			}
		return undefined;
	};
	const admin = tier("Admin");
	if (admin !== undefined) return admin;
	const isStaged = ({ audit, namespace }: NetworkPolicyObject) =>
		audit || namespaceOf(cluster, namespace).audit;
	const first = isolating.find((policy) => !isStaged(policy)) ?? isolating[0];
	if (first === undefined) return tier("Baseline") ?? NONE;
	// To itself, by a Service.
	if (from !== undefined && from === to) return NONE;
	for (const policy of isolating)
		for (const [rule, said] of policy[direction]!.entries())
			if (networkRuleMatches(question, said))
				return { verdict: "allow", policy: nameOf(policy), rule };
	return { verdict: "deny", policy: nameOf(first), rule: null };
}

/** "namespace/name", or a ClusterNetworkPolicy's name. */
export function nameOf(policy: { namespace?: string; name: string }): string {
	return policy.namespace === undefined ? policy.name : `${policy.namespace}/${policy.name}`;
}

export function namespaceOf(cluster: Pick<Cluster, "namespaces">, name: string): NamespaceObject {
	return cluster.namespaces.find((one) => one.name === name) ?? impliedNamespace(name);
}

type Pods = Exclude<NetworkPolicyPeer, { block: string }>;

function selects(
	{ cluster, pod: { namespace: own } }: Question,
	{ namespaces, pods }: Pods,
	pod: PodObject | undefined,
): boolean {
	if (pod === undefined) return false;
	const isThere =
		namespaces === undefined
			? pod.namespace === own
			: matches(namespaces, namespaceOf(cluster, pod.namespace).labels);
	return isThere && matches(pods, pod.labels);
}

/** The end of the flow that rules speak of. */
function other({ direction, flow, from, to }: Question) {
	return direction === "egress"
		? { address: flow.destination, pod: to }
		: { address: flow.source, pod: from };
}

function peerMatches(question: Question, peer: NetworkPolicyPeer): boolean {
	const { address, pod } = other(question);
	if (!("block" in peer)) return selects(question, peer, pod);
	return blockMatches(question.cluster, peer.block, peer.except, address);
}

export function networkRuleMatches(
	question: Question,
	{ peers, ports }: NetworkPolicyRule,
): boolean {
	return (
		(peers === undefined || peers.some((peer) => peerMatches(question, peer))) &&
		portsMatch(question, ports)
	);
}

export function clusterRuleMatches(question: Question, rule: ClusterPolicyRule): boolean {
	const { address, pod } = other(question);
	// It fails closed.
	if (rule.isUnknown) return rule.action !== "Accept";
	return (
		portsMatch(question, rule.ports) &&
		rule.peers.some((peer) => {
			if ("nodes" in peer)
				return question.cluster.nodes.some(
					(node) => matches(peer.nodes, node.labels ?? []) && everyAddress(node).includes(address),
				);
			if ("networks" in peer)
				return peer.networks.some((text) => blockMatches(question.cluster, text, [], address));
			return selects(question, peer, pod);
		})
	);
}

function portsMatch({ flow, to }: Question, ports: readonly PolicyPort[] | undefined): boolean {
	if (ports === undefined) return true;
	if (![6, 17, 132].includes(flow.protocol)) return false;
	return ports.some((port) => {
		if (port.protocol !== undefined && port.protocol !== flow.protocol) return false;
		if (!("name" in port)) return port.first <= flow.port && flow.port <= port.last;
		// Each destination Pod has its own number; other destinations have no port names.
		return to?.ports.some(
			({ name, port: number, protocol }) =>
				name === port.name && PROTOCOLS.get(protocol) === flow.protocol && number === flow.port,
		);
	});
}

/**
 * A block that has a Node's address means that Node, whichever of its addresses it speaks with: its
 * InternalIPs count where the block's prefix has any, else its gateway. One that is excepted excepts the Node.
 */
export function blockMatches(
	cluster: Pick<Cluster, "nodes">,
	block: string,
	except: readonly string[],
	address: string,
): boolean {
	const isIn = (text: string, one: string) => containsAddress(blockOf(text), parseAddress(one)!);
	const holds = (one: string) => isIn(block, one) && !except.some((text) => isIn(text, one));
	const node = nodeAt(cluster, address);
	if (node === undefined) return holds(address);
	const same = (one: string) => familyOf(one) === familyOf(address);
	const internal = node.internalIPs.filter(same).filter((one) => isIn(block, one));
	const means =
		internal.length > 0 ? internal.every(holds) : gatewaysOf(node).filter(same).some(holds);
	return means || (node.externalIPs?.includes(address) === true && holds(address));
}

/** Its newest Pod; Pods on the Node's network and those that have ended have no address of their own. */
export function podAt(cluster: Cluster, address: string): PodObject | undefined {
	if (nodeAt(cluster, address) !== undefined) return undefined;
	const key = ({ namespace, name }: PodObject) => `${namespace}/${name}`;
	return cluster.pods
		.filter(
			({ hostNetwork, ended, addresses }) => !hostNetwork && !ended && addresses.includes(address),
		)
		.sort((a, b) => (b.created ?? 0) - (a.created ?? 0) || (key(a) < key(b) ? -1 : 1))[0];
}

export function nodeAt(cluster: Pick<Cluster, "nodes">, address: string): NodeObject | undefined {
	return cluster.nodes
		.filter((node) => everyAddress(node).includes(address))
		.sort((a, b) => (a.name < b.name ? -1 : 1))[0];
}

function gatewaysOf(node: NodeObject): string[] {
	return podPrefixes(node).map((prefix) => formatAddress(firstAddress(prefix)));
}

export function everyAddress(node: NodeObject): string[] {
	return [...node.internalIPs, ...gatewaysOf(node), ...(node.externalIPs ?? [])];
}
