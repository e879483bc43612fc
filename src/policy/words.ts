/** Policies in words: selectors as kubectl writes them, peers, ports, whole rules. Pure. */
import type { ClusterPolicyPeer, ClusterPolicyRule } from "../cluster/cluster_policy_object.js";
import type { NetworkPolicyPeer, NetworkPolicyRule } from "../cluster/network_policy_object.js";
import type { PolicyPort } from "../cluster/policy_fields.js";
import type { Selector } from "../cluster/selector.js";
import type { Atom } from "./atoms.js";

/** Peers, ports and the like that are listed; the others are counted. */
const LISTED_MOST = 8;
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: "TCP", 17: "UDP", 132: "SCTP" };

/** "app=web,tier in (a,b),!old"; "" matches everything. */
export function selectorWords(selector: Selector): string {
	return selector
		.map(({ key, operator, values }) => {
			if (operator === "Exists") return key;
			if (operator === "DoesNotExist") return `!${key}`;
			if (operator === "In" && values.length === 1) return `${key}=${values[0]}`;
			return `${key} ${operator === "In" ? "in" : "notin"} (${values.join(",")})`;
		})
		.join();
}

/** @param own the policy's namespace, where `namespaces` is undefined */
function podsWords(own: string, namespaces: Selector | undefined, pods: Selector): string {
	const which = pods.length === 0 ? "all Pods" : `Pods with ${selectorWords(pods)}`;
	if (namespaces === undefined) return `${which} of namespace ${own}`;
	return namespaces.length === 0
		? `${which} of every namespace`
		: `${which} of namespaces with ${selectorWords(namespaces)}`;
}

function nodesWords(nodes: Selector): string {
	return nodes.length === 0 ? "all Nodes" : `Nodes with ${selectorWords(nodes)}`;
}

function blockWords(block: string, except: readonly string[]): string {
	return except.length === 0 ? block : `${block} except ${listed(except)}`;
}

function peerWords(peer: NetworkPolicyPeer | ClusterPolicyPeer, namespace: string): string {
	if ("block" in peer) return blockWords(peer.block, peer.except);
	if ("networks" in peer) return listed(peer.networks);
	if ("nodes" in peer) return nodesWords(peer.nodes);
	return podsWords(namespace, peer.namespaces, peer.pods);
}

/** "TCP 80", "UDP 8000-9000", "all TCP", "TCP port http" */
export function portWords(port: PolicyPort): string {
	const protocol = port.protocol === undefined ? "" : (PROTOCOL_NAMES[port.protocol] ?? "");
	if ("name" in port) return `${protocol} port ${port.name}`.trim();
	const { first, last } = port;
	if (first === 0 && last === 65_535) return `all ${protocol}`;
	return `${protocol} ${first === last ? first : `${first}-${last}`}`;
}

/** "to Pods with app=web of namespace default, TCP 80"; @param namespace the policy's, "" where it has none */
export function ruleWords(
	rule: NetworkPolicyRule | ClusterPolicyRule,
	direction: "egress" | "ingress",
	namespace: string,
): string {
	if ("isUnknown" in rule && rule.isUnknown)
		return "with a peer or protocol that this version does not know";
	const side = direction === "egress" ? "to" : "from";
	const peers = rule.peers?.map((peer) => peerWords(peer, namespace));
	const who = peers === undefined ? "everything" : listed(peers, " or ");
	const ports = rule.ports === undefined ? "every port" : listed(rule.ports.map(portWords));
	return `${side} ${who}, ${ports}`;
}

/** A thing that holds for an address. */
export function atomWords(atom: Atom): string {
	switch (atom.kind) {
		case "pods":
			return podsWords(
				atom.namespace ?? "",
				atom.namespace === undefined ? atom.namespaces : undefined,
				atom.pods,
			);
		case "block":
			return blockWords(atom.block, atom.except);
		case "nodes":
			return nodesWords(atom.nodes);
		case "port":
			return `port ${atom.name} is ${PROTOCOL_NAMES[atom.protocol] ?? atom.protocol} ${atom.port}`;
	}
}

function listed(texts: readonly string[], separator = ", "): string {
	if (texts.length <= LISTED_MOST) return texts.join(separator);
	const more = texts.length - LISTED_MOST + 1;
	return `${texts.slice(0, LISTED_MOST - 1).join(separator)}${separator}${more} more`;
}
