/** The local Pods. */
import type { Tables } from "../tables/tables.js";
import type { Self } from "./self.js";

/** The properties of a local Pod that the tables need (an `Endpoint` of src/cni has them). */
export interface LocalPod {
	addresses: readonly string[];
	mac: string;
	hostInterface: string;
}

/** The first Pod with an address keeps it; no Pod may have an address of this Node. */
export function endpointsOf(pods: Iterable<LocalPod>, self: Self): Tables["endpoints"] {
	const endpoints: Tables["endpoints"] = new Map();
	for (const { addresses, mac, hostInterface } of pods)
		for (const address of addresses)
			if (!endpoints.has(address) && !self.owns(address))
				endpoints.set(address, { mac, interface: hostInterface });
	return endpoints;
}
