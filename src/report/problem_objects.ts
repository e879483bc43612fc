/**
 * The object that a problem's sentence is about. Sentences name it first, as KIND NAMESPACE/NAME, or a Pod's policies
 * as "policies of NAMESPACE/NAME".
 */
import type { ObjectNotice } from "../cluster/reporter.js";
import type { Store } from "../cluster/store.js";

const NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?";
const NAMED = new RegExp(
	`\\b(Service|EndpointSlice|NetworkPolicy|ClusterNetworkPolicy) (?!without a usable)(?:(${NAME})/)?(${NAME})(?![\\w/])`,
);
const POD = new RegExp(`\\bpolicies of (${NAME})/(${NAME})(?![\\w/])`);
const REASONS: Readonly<Record<string, string>> = {
	Service: "ServiceNotServed",
	EndpointSlice: "EndpointsNotUsed",
	NetworkPolicy: "PolicyNotUsable",
	ClusterNetworkPolicy: "PolicyNotUsable",
	Pod: "PolicyNotEnforced",
};
const GROUPS: Readonly<Record<string, string>> = {
	...{ Service: "v1", Pod: "v1", EndpointSlice: "discovery.k8s.io/v1" },
	NetworkPolicy: "networking.k8s.io/v1",
	ClusterNetworkPolicy: "policy.networking.k8s.io/v1beta1",
};

export function problemNotices(
	problems: readonly string[],
	store: Pick<Store, "get">,
): ObjectNotice[] {
	return problems.flatMap((message) => {
		const [, kind, namespace, , name] = NAMED.exec(message) ?? podIn(message) ?? [];
		if (kind === undefined || name === undefined) return [];
		const isNamespaced = kind !== "ClusterNetworkPolicy";
		if (isNamespaced !== (namespace !== undefined)) return [];
		const uid = uidOf(store, kind, namespace === undefined ? name : `${namespace}/${name}`);
		return [
			{
				object: {
					...{ apiVersion: GROUPS[kind]!, kind, name },
					...(namespace !== undefined && { namespace }),
					...(uid !== undefined && { uid }),
				},
				...{ reason: REASONS[kind]!, message },
			},
		];
	});
}

function podIn(message: string): (string | undefined)[] | undefined {
	const [, namespace, , name] = POD.exec(message) ?? [];
	return name === undefined ? undefined : ["", "Pod", namespace, "", name];
}

function uidOf(store: Pick<Store, "get">, kind: string, key: string): string | undefined {
	switch (kind) {
		case "Service":
		case "NetworkPolicy":
		case "ClusterNetworkPolicy":
		case "Pod":
			return store.get(kind, key)?.uid;
		default:
			return undefined;
	}
}
