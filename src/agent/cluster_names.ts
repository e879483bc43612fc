/** The names that `explain` takes, as the cluster's objects have them. */
import type { Store } from "../cluster/store.js";
import type { Endpoint } from "../cni/endpoint.js";
import type { Names } from "../report/explain_question.js";

/** Pods of other Nodes may be missing in the store; their addresses then come from the endpoints of Services. */
export function clusterNames(
	store: Pick<Store, "get" | "keys">,
	endpoints: () => readonly Pick<Endpoint, "namespace" | "name" | "addresses">[],
): Names {
	return {
		pod: (key) => {
			const here = endpoints().find(({ namespace, name }) => `${namespace}/${name}` === key);
			const addresses = here?.addresses ?? store.get("Pod", key)?.addresses ?? [];
			return addresses.length > 0 ? addresses : endpointAddresses(store, key);
		},
		service: (key) => store.get("Service", key),
		*servicesAt(address, port) {
			for (const key of store.keys("Service")) {
				const service = store.get("Service", key);
				if (service === undefined) continue;
				const { clusterIPs, externalIPs, loadBalancerIPs, ports } = service;
				const isThere =
					[clusterIPs, externalIPs, loadBalancerIPs].some((own) => own.includes(address)) ||
					ports.some(({ nodePort }) => nodePort === port);
				if (isThere) yield key;
			}
		},
	};
}

function endpointAddresses(store: Pick<Store, "get" | "keys">, pod: string): string[] {
	const found = new Set<string>();
	for (const key of store.keys("EndpointSlice"))
		for (const { target, address } of store.get("EndpointSlice", key)?.endpoints ?? [])
			if (target === pod) found.add(address);
	// IPv4 first, as everywhere where there is a choice.
	return [...found].sort((a, b) => Number(a.includes(":")) - Number(b.includes(":")));
}
