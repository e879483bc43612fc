/** Which Services are Fairway's to serve. Pure. */
import { keyOfService, type ServiceObject } from "../../cluster/service_object.js";
import type { Config } from "../../config/config.js";

type ServiceConfig = Pick<Config, "fairwayProxy">;

/** "nobody": it has no address to serve. */
export type ServedBy = "us" | "others" | "nobody";

/** True: its addresses are served here, as far as the configuration says. */
export function isOurs(service: ServiceObject, config: ServiceConfig): boolean {
	return servedBy(service, config) === "us";
}

/** Labels and `skipServices` may come and go at any time. */
export function servedBy(service: ServiceObject, { fairwayProxy }: ServiceConfig): ServedBy {
	const { type, clusterIPs, isHeadlessLabelled, proxyName } = service;
	if (type === "ExternalName" || clusterIPs.length === 0) return "nobody";
	const { enable, skipServices, serviceProxyName } = fairwayProxy;
	const named = serviceProxyName === "" ? undefined : serviceProxyName;
	if (!enable || isHeadlessLabelled || proxyName !== named) return "others";
	const isSkipped = skipServices.some(
		(skipped) => skipped === keyOfService(service) || clusterIPs.includes(skipped),
	);
	return isSkipped ? "others" : "us";
}
