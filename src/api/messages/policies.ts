/** Messages of the agent's socket: network policy, what it denies, and what a change of it would do. */

/** Network policy on this Node. */
export interface PoliciesSummary {
	/** False: not all objects were seen yet; what an earlier agent left is in force, and new Pods wait. */
	synced: boolean;
	/** Policies that select a Pod of this Node. */
	enforced: number;
	/** Those among them that are only counted (annotation fairway.dev/audit). */
	staged: number;
	/** Those among them that cannot be used: their Pods are closed. */
	unusable: number;
	/** Pods of this Node: nothing isolates them and no rule names them; policies decide; closed until policies are known. */
	pods: { open: number; ruled: number; notReady: number };
	/** Entries of the tables. */
	identities: number;
	blocks: number;
	policies: number;
	policyVerdicts: number;
	portSets: number;
	rules: number;
	/** Sentences of `problems` that are about policies: limits that are reached, and what cannot be written. */
	problems: number;
}

/** `GET /policies`: an entry for each policy that selects a Pod of this Node. */
export interface PolicyStatus {
	kind: "NetworkPolicy" | "ClusterNetworkPolicy";
	/** null: a ClusterNetworkPolicy has none. */
	namespace: string | null;
	name: string;
	/** null: a NetworkPolicy has none. */
	tier: "Admin" | "Baseline" | null;
	priority: number | null;
	/** Pods of this Node that it isolates or has rules for, by direction. */
	pods: { ingress: number; egress: number };
	/** Their number. */
	rules: number;
	/** Flows that its rules have allowed, since the agent's start. */
	allowed: { flows: number };
	/** Packets that its rules, or its isolation, have denied. */
	denied: { packets: number };
	/** Flows that would be denied, or allowed, if it were enforced. */
	staged: { flows: number };
	/** It is not enforced, only counted (annotation fairway.dev/audit). */
	isStaged: boolean;
	/** Why it cannot be used; its Pods are closed then. null: it can. */
	unusable: string | null;
	/** It is in force as an earlier agent left it: since its start the agent has not read all objects yet. */
	isFormer: boolean;
}

/** `GET /denials`: connections that network policy has denied here lately, the last one first. */
export interface DenialStatus {
	/** As it was judged: after a Service's translation, before SNAT. */
	source: string;
	/** "namespace/name" of the Pod that has the address now; null: it is no Pod's that is known here. */
	sourcePod: string | null;
	destination: string;
	destinationPod: string | null;
	/** "tcp", "udp", "sctp", "icmp", or a number. */
	protocol: string;
	/** null: the protocol has none. */
	port: number | null;
	direction: "egress" | "ingress";
	/** "namespace/name", or a ClusterNetworkPolicy's name. */
	policy: string;
	/** The index of the rule; null: isolation. */
	rule: number | null;
	/** ISO 8601. */
	first: string;
	last: string;
	/** A few packets of each rule are noted, all are counted. */
	noted: number;
}

/** `POST /policies`: one of them. */
export interface PoliciesRequest {
	/** Absent: a ClusterNetworkPolicy's. */
	namespace?: string;
	name: string;
}

/** `POST /policy-diff` */
export interface PolicyDiffRequest {
	/** API objects; those that are no policies are left alone. */
	objects: unknown[];
	/** Policies that would go: "namespace/name", or the name of a ClusterNetworkPolicy. */
	deleted?: string[];
}

export interface PolicyDiffAnswer {
	opened: PolicyDiffEntry[];
	closed: PolicyDiffEntry[];
	/** There are more entries than these. */
	isCut: boolean;
	/** Flows of this Node, in entries or not. */
	liveFlows: { opened: number; closed: number };
	/** Names of the policies that are staged, so change nothing. */
	staged: string[];
	/** "local": this Node knows its own Pods alone, so nothing is said of other pairs. */
	pods: "all" | "local";
}

export interface PolicyDiffEntry {
	/** "namespace/name" of a Pod, or an address. */
	from: string;
	to: string;
	/** A port, "FIRST-LAST", or null: every one of the protocol. */
	port: number | string | null;
	/** "tcp", "udp", "sctp", "other" */
	protocol: string;
	/** That live on this Node now. */
	flows: number;
}
