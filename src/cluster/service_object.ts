/** Reads a Service: the addresses beside its cluster IPs, which are in ServiceCIDRs. */
import {
	listOf,
	type Mapping,
	mapping,
	nameOf,
	namespacedNameOf,
	readAddress,
	uidOf,
} from "./fields.js";
import { intern } from "./labels.js";

export interface ServiceObject {
	namespace: string;
	name: string;
	uid?: string;
	/** Canonical. */
	externalIPs: readonly string[];
	/** Those that stand for the Service on each Node; not those of a load balancer that is a proxy. */
	loadBalancerIPs: readonly string[];
}

const NONE: readonly string[] = [];

/** @throws Fault */
export function readService(object: Mapping): ServiceObject {
	const spec = mapping(object.spec);
	const { ingress } = mapping(mapping(object.status).loadBalancer);
	const external = listOf(spec.externalIPs, "spec.externalIPs").map((value, i) =>
		readAddress(value, `spec.externalIPs[${i}]`),
	);
	const balanced = listOf(ingress, "status.loadBalancer.ingress").flatMap((item, i) => {
		const { ip, ipMode } = mapping(item);
		// One with a hostname has no address.
		if (ip === undefined || ip === null || ip === "" || ipMode === "Proxy") return [];
		return [readAddress(ip, `status.loadBalancer.ingress[${i}].ip`)];
	});
	const [namespace = ""] = namespacedNameOf(object).split("/");
	const uid = uidOf(object);
	return {
		namespace: intern(namespace),
		name: nameOf(object),
		...(uid === undefined ? {} : { uid }),
		externalIPs: external.length === 0 ? NONE : external,
		loadBalancerIPs: balanced.length === 0 ? NONE : balanced,
	};
}
