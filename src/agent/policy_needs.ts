/** Whether the policies of this Node's Pods depend on Pods of other Nodes. */
import type { PolicyPort } from "../cluster/policy_fields.js";
import type { Store } from "../cluster/store.js";

/**
 * True also where a policy may turn out to select none of them: then nothing is missing when it does.
 *
 * @param namespaces of local Pods
 */
export function asksForPods(
	store: Pick<Store, "get" | "keys">,
	namespaces: ReadonlySet<string | undefined>,
): boolean {
	if (namespaces.size === 0) return false;
	for (const key of store.keys("NetworkPolicy")) {
		if (!namespaces.has(key.slice(0, key.indexOf("/")))) continue;
		const policy = store.get("NetworkPolicy", key);
		if (policy === undefined) continue;
		if (policy.ingress?.some(hasPodPeers) || policy.egress?.some(hasPodPeers)) return true;
		if (policy.egress?.some(hasNames)) return true;
	}
	for (const key of store.keys("ClusterNetworkPolicy")) {
		const policy = store.get("ClusterNetworkPolicy", key);
		if (policy === undefined) continue;
		if (policy.ingress.some(hasPodPeers) || policy.egress.some(hasPodPeers)) return true;
		if (policy.egress.some(hasNames)) return true;
	}
	return false;
}

function hasPodPeers({ peers }: { peers: readonly object[] | undefined }): boolean {
	return peers?.some((peer) => "pods" in peer) === true;
}

/** Named ports: the destination Pod defines the number. */
function hasNames({ ports }: { ports: readonly PolicyPort[] | undefined }): boolean {
	return ports?.some((port) => "name" in port) === true;
}
