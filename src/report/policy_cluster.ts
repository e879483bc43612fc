/**
 * The cluster as policies see it, from the store's records and the Pods that the CNI attached here: the whole cluster,
 * or the part at a few addresses.
 */
import type { PodObject } from "../cluster/pod_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Store } from "../cluster/store.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { Steps } from "../loop/turns.js";
import { type Cluster, everyAddress } from "../policy/interpreter.js";

export interface ClusterSource {
	store: Pick<Store, "get" | "keys">;
	endpoints: readonly Pick<Endpoint, "namespace" | "name" | "addresses">[];
	/** Of this Node. */
	nodeName: string;
}

export function* wholeCluster(source: ClusterSource): Steps<Cluster> {
	return yield* clusterOf(source, () => true);
}

/** Enough for flows between these addresses: their Pods and Nodes, and the Nodes of these Pods. */
export function* clusterAt(source: ClusterSource, addresses: readonly string[]): Steps<Cluster> {
	const asked = new Set(addresses);
	const cluster = yield* clusterOf(source, (own) => own.some((one) => asked.has(one)));
	const hosts = new Set(cluster.pods.map(({ node }) => node));
	const nodes: NodeObject[] = [];
	for (const node of cluster.nodes) {
		yield;
		if (hosts.has(node.name) || everyAddress(node).some((one) => asked.has(one))) nodes.push(node);
	}
	return { ...cluster, nodes };
}

function* clusterOf(
	{ store, endpoints, nodeName }: ClusterSource,
	isAsked: (addresses: readonly string[]) => boolean,
): Steps<Cluster> {
	const pods: PodObject[] = [];
	const local = new Set<string>();
	for (const { namespace, name, addresses } of endpoints) {
		if (namespace === undefined || name === undefined) continue;
		const key = `${namespace}/${name}`;
		local.add(key);
		if (!isAsked(addresses)) continue;
		const known = store.get("Pod", key) ?? { ...UNKNOWN, namespace, name };
		// Whatever the Pod's object says, and even before it is known.
		pods.push({ ...known, node: nodeName, addresses, created: Number.POSITIVE_INFINITY });
	}
	for (const key of store.keys("Pod")) {
		yield;
		const pod = store.get("Pod", key);
		if (pod === undefined || local.has(key) || pod.isWrittenBack) continue;
		if (isAsked(pod.addresses)) pods.push(pod);
	}
	return {
		...{ nodes: all(store, "Node"), namespaces: all(store, "Namespace"), pods },
		...{ policies: all(store, "NetworkPolicy") },
		clusterPolicies: all(store, "ClusterNetworkPolicy"),
	};
}

const UNKNOWN: Omit<PodObject, "namespace" | "name" | "node" | "addresses"> = {
	...{ labels: [], hostNetwork: false, ended: false, isReady: true, isTerminating: false },
	...{ ports: [], limits: [] },
};

function all<K extends "Node" | "Namespace" | "NetworkPolicy" | "ClusterNetworkPolicy">(
	store: Pick<Store, "get" | "keys">,
	kind: K,
) {
	const found: NonNullable<ReturnType<typeof store.get<K>>>[] = [];
	for (const key of store.keys(kind)) {
		const record = store.get(kind, key);
		if (record !== undefined) found.push(record);
	}
	return found;
}
