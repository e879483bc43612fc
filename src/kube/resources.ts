/** Where the API has the kinds that the store keeps, and which of their objects are asked for. */
import type { Kind } from "../cluster/store.js";
import type { Resource } from "./reflector.js";

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
			selectors: { labelSelector: "!service.kubernetes.io/headless" },
		},
		{
			kind: "Pod",
			path: "/api/v1/pods",
			selectors: { fieldSelector: `spec.nodeName=${nodeName}` },
			list: "whole",
		},
	];
}
