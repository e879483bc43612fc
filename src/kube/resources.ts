/** The API paths of the kinds in the store, and which of their objects are requested. */
import type { Kind } from "../cluster/store.js";
import type { Resource } from "./resource_requests.js";

/** Headless Services are not served. EndpointSlices carry the label of their Service. */
const NOT_HEADLESS = { labelSelector: "!service.kubernetes.io/headless" };

/** @param nodeName of this Node: only its own Pods are asked for */
export function resourcesOf(nodeName: string): (Resource & { kind: Kind })[] {
	return [
		{ kind: "Node", path: "/api/v1/nodes" },
		{
			kind: "ServiceCIDR",
			path: "/apis/networking.k8s.io/v1/servicecidrs",
			// Served since Kubernetes 1.33.
			optional: true,
		},
		{
			kind: "Service",
			path: "/api/v1/services",
			selectors: NOT_HEADLESS,
		},
		{
			kind: "Pod",
			path: "/api/v1/pods",
			selectors: { fieldSelector: `spec.nodeName=${nodeName}` },
			list: "whole",
		},
		{
			kind: "EndpointSlice",
			path: "/apis/discovery.k8s.io/v1/endpointslices",
			selectors: NOT_HEADLESS,
		},
		{ kind: "Namespace", path: "/api/v1/namespaces", metadataOnly: true },
		{ kind: "NetworkPolicy", path: "/apis/networking.k8s.io/v1/networkpolicies" },
		{
			kind: "ClusterNetworkPolicy",
			path: "/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies",
			otherPaths: ["/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"],
			// Its definition is not part of Kubernetes, and may be installed at any time.
			optional: true,
			absentMs: 60_000,
		},
	];
}

/**
 * The definition of ClusterNetworkPolicy. Watching it costs the server nothing while it is not installed, unlike
 * repeated requests.
 */
export const policyDefinition: Resource = {
	kind: "CustomResourceDefinition",
	path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
	selectors: { fieldSelector: "metadata.name=clusternetworkpolicies.policy.networking.k8s.io" },
	list: "whole",
	optional: true,
	metadataOnly: true,
};

/**
 * The Pods of other Nodes that have an address of their own. Servers know `spec.hostNetwork` since Kubernetes
 * 1.28.
 */
export function otherPods(nodeName: string): Resource {
	const selector = [
		`spec.nodeName!=${nodeName}`,
		"status.phase!=Succeeded",
		"status.phase!=Failed",
	];
	const more = ["status.podIP!=", "spec.hostNetwork=false"];
	return {
		kind: "Pod",
		path: "/api/v1/pods",
		selectors: { fieldSelector: [...selector, ...more].join() },
		otherSelectors: { fieldSelector: selector.join() },
	};
}
