/** `GET /policies`: a row for each policy that selects a Pod of this Node, with what it has counted here. */
import type { PoliciesRequest, PoliciesSummary, PolicyStatus } from "../api/messages/policies.js";
import { RequestError } from "../api/server.js";
import type { ClusterPolicyObject } from "../cluster/cluster_policy_object.js";
import { impliedNamespace } from "../cluster/namespace_object.js";
import type { NetworkPolicyObject } from "../cluster/network_policy_object.js";
import type { Store } from "../cluster/store.js";
import type { Steps } from "../loop/turns.js";
import { EndpointPolicy } from "../tables/generated.js";

/** The policies of one Pod of this Node. */
export interface LocalPod {
	/** "namespace/name" of all policies that select it, in any direction, staged ones included. */
	networkPolicies: ReadonlySet<string>;
	/** Names. */
	clusterPolicies: ReadonlySet<string>;
}

/** Totals of a policy, both directions together. */
export interface PolicyTotals {
	flows: number;
	denied: number;
	staged: number;
}

export interface PoliciesContext {
	store: Pick<Store, "get">;
	local: Iterable<LocalPod>;
	/** By "namespace/name", or a ClusterNetworkPolicy's name. */
	totals: (policy: string) => PolicyTotals;
}

/** For `status`: the number of policies here, and of Pods by their state. */
export function policiesSummary(
	local: Iterable<LocalPod & { egress: number; ingress: number }>,
	store: PoliciesContext["store"],
): Pick<PoliciesSummary, "enforced" | "staged" | "unusable" | "pods"> {
	const keys = { NetworkPolicy: new Set<string>(), ClusterNetworkPolicy: new Set<string>() };
	const pods = { open: 0, ruled: 0, notReady: 0 };
	for (const { networkPolicies, clusterPolicies, egress, ingress } of local) {
		for (const key of networkPolicies) keys.NetworkPolicy.add(key);
		for (const key of clusterPolicies) keys.ClusterNetworkPolicy.add(key);
		if (egress === EndpointPolicy.NOT_READY || ingress === EndpointPolicy.NOT_READY)
			pods.notReady++;
		else if (egress === EndpointPolicy.OPEN && ingress === EndpointPolicy.OPEN) pods.open++;
		else pods.ruled++;
	}
	const counts = { enforced: 0, staged: 0, unusable: 0 };
	const count = (isStaged: boolean, unusable: string | undefined) => {
		if (unusable !== undefined) counts.unusable++;
		else if (isStaged) counts.staged++;
		else counts.enforced++;
	};
	for (const key of keys.NetworkPolicy) {
		const policy = store.get("NetworkPolicy", key);
		if (policy !== undefined) count(isStagedIn(policy, store), policy.unusable);
	}
	for (const key of keys.ClusterNetworkPolicy) {
		const policy = store.get("ClusterNetworkPolicy", key);
		if (policy !== undefined) count(policy.audit, policy.unusable);
	}
	return { ...counts, pods };
}

/** Its key; undefined: all policies. @throws RequestError */
export function readPolicy(request: unknown): string | undefined {
	if (request === undefined) return undefined;
	const { namespace, name } = (request ?? {}) as Partial<Record<keyof PoliciesRequest, unknown>>;
	if (typeof name === "string" && (namespace === undefined || typeof namespace === "string"))
		return namespace === undefined ? name : `${namespace}/${name}`;
	throw new RequestError(400, "Cannot show policies: expected a name, got none");
}

/**
 * NetworkPolicies by namespace and name, then ClusterNetworkPolicies in the order in which they are evaluated.
 *
 * @param key of one policy; undefined: all
 * @throws RequestError
 */
export function* policyRows(
	key: string | undefined,
	context: PoliciesContext,
): Steps<PolicyStatus[]> {
	const { store, local } = context;
	const network = new Map<string, PolicyStatus["pods"]>();
	const cluster = new Map<string, PolicyStatus["pods"]>();
	const known = new Map<string, NetworkPolicyObject | undefined>();
	const networkPolicy = (one: string) => {
		if (!known.has(one)) known.set(one, store.get("NetworkPolicy", one));
		return known.get(one);
	};
	for (const { networkPolicies, clusterPolicies } of local) {
		for (const one of networkPolicies) count(network, one, networkPolicy(one));
		for (const one of clusterPolicies) count(cluster, one, store.get("ClusterNetworkPolicy", one));
		yield;
	}
	const isWanted = (one: string) => key === undefined || one === key;
	const rows = [
		...[...network].filter(([one]) => isWanted(one)).flatMap((entry) => networkRow(entry, context)),
		...[...cluster].filter(([one]) => isWanted(one)).flatMap((entry) => clusterRow(entry, context)),
	];
	if (key !== undefined && rows.length === 0) throw noSuchPolicy(key);
	return rows.sort(inOrder);
}

/**
 * The policies that an earlier agent left in force, with what they have counted since this agent's start.
 *
 * @param rows the rows that the earlier agent stored
 * @throws RequestError
 */
export function formerRows(
	key: string | undefined,
	rows: readonly PolicyStatus[],
	totals: PoliciesContext["totals"],
): PolicyStatus[] {
	const keyOf = ({ namespace, name }: PolicyStatus) =>
		namespace === null ? name : `${namespace}/${name}`;
	const wanted = rows.filter((row) => key === undefined || keyOf(row) === key);
	if (key !== undefined && wanted.length === 0) throw noSuchPolicy(key);
	return wanted.map((row) => ({ ...row, ...counted(totals(keyOf(row))), isFormer: true }));
}

function noSuchPolicy(key: string): RequestError {
	return new RequestError(
		404,
		`Cannot show policy ${key}: expected one that selects a Pod of this Node, got one that selects none or does not exist`,
	);
}

/** A policy without this direction neither isolates a Pod nor rules anything in it. */
function count(
	counts: Map<string, PolicyStatus["pods"]>,
	key: string,
	policy: Pick<NetworkPolicyObject | ClusterPolicyObject, "ingress" | "egress"> | undefined,
): void {
	if (policy === undefined) return;
	let pods = counts.get(key);
	if (pods === undefined) {
		pods = { ingress: 0, egress: 0 };
		counts.set(key, pods);
	}
	// An empty list of a NetworkPolicy isolates; one of a ClusterNetworkPolicy has no rules.
	const speaks = (rules: readonly object[] | undefined) =>
		rules !== undefined && (rules.length > 0 || !("tier" in policy));
	if (speaks(policy.ingress)) pods.ingress++;
	if (speaks(policy.egress)) pods.egress++;
}

function isStagedIn(
	{ audit, namespace }: NetworkPolicyObject,
	store: PoliciesContext["store"],
): boolean {
	return audit || (store.get("Namespace", namespace) ?? impliedNamespace(namespace)).audit;
}

function networkRow(
	[key, pods]: [string, PolicyStatus["pods"]],
	{ store, totals }: PoliciesContext,
): PolicyStatus[] {
	const policy = store.get("NetworkPolicy", key);
	if (policy === undefined) return [];
	const { namespace, name, ingress, egress } = policy;
	const isStaged = isStagedIn(policy, store);
	return [
		{
			...{ kind: "NetworkPolicy", namespace, name, tier: null, priority: null, pods },
			rules: (ingress?.length ?? 0) + (egress?.length ?? 0),
			...counted(totals(key)),
			...{ isStaged, unusable: policy.unusable ?? null, isFormer: false },
		},
	];
}

function clusterRow(
	[name, pods]: [string, PolicyStatus["pods"]],
	{ store, totals }: PoliciesContext,
): PolicyStatus[] {
	const policy = store.get("ClusterNetworkPolicy", name);
	if (policy === undefined) return [];
	const { tier, priority, ingress, egress, audit, unusable } = policy;
	return [
		{
			...{ kind: "ClusterNetworkPolicy", namespace: null, name, tier, priority, pods },
			// The stand-in for a policy that cannot be used has no rules.
			rules: unusable === undefined ? ingress.length + egress.length : 0,
			...counted(totals(name)),
			...{ isStaged: audit, unusable: unusable ?? null, isFormer: false },
		},
	];
}

function counted({
	flows,
	denied,
	staged,
}: PolicyTotals): Pick<PolicyStatus, "allowed" | "denied" | "staged"> {
	return { allowed: { flows }, denied: { packets: denied }, staged: { flows: staged } };
}

function inOrder(a: PolicyStatus, b: PolicyStatus): number {
	const rank = ({ kind, tier }: PolicyStatus) =>
		kind === "NetworkPolicy" ? 0 : tier === "Admin" ? 1 : 2;
	const text = ({ namespace, name }: PolicyStatus) => `${namespace ?? ""}/${name}`;
	return (
		rank(a) - rank(b) ||
		(a.priority ?? 0) - (b.priority ?? 0) ||
		(text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0)
	);
}
