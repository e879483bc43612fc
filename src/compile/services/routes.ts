/** The routes of Services' addresses, in the core's table and in the kernel's. Pure. */
import { familyOf } from "../../tables/address.js";
import { type RouteKind as Kind, RouteKind } from "../../tables/generated.js";
import type { HostRoute } from "../../tables/tables.js";
import { type OwnNode, RETURN_ADDRESSES } from "../own_node.js";

/** The route of one Service address. ROUTE_HOST: only adds flags to the route that the address has anyway. */
export interface ServiceRoute {
	kind: Kind;
	/** RouteFlag */
	flags: number;
}

export function sameRoute(a: ServiceRoute | undefined, b: ServiceRoute | undefined): boolean {
	return a?.kind === b?.kind && a?.flags === b?.flags;
}

/** "10.0.0.1/32" */
export function hostPrefixOf(address: string): string {
	return `${address}/${familyOf(address) === 4 ? 32 : 128}`;
}

/** Services are served for the Node's own processes, too. */
function servesHost({ config: { fairwayProxy } }: OwnNode): boolean {
	return fairwayProxy.enable && fairwayProxy.proxyAll;
}

/**
 * The kernel's route by which the Node's own processes reach Services at these addresses: to fairway0, from the
 * gateway address, to which the answers come back. Undefined: none, as where Pods have no address of the family.
 */
export function hostRouteOf(own: OwnNode, prefix: string, kind: Kind): HostRoute | undefined {
	if (kind !== RouteKind.SERVICE || !servesHost(own)) return undefined;
	const source = own.self.gateway(familyOf(prefix));
	return source === "" ? undefined : { prefix, mtu: own.view.podMTU, source };
}

/**
 * What the Node's own endpoints answer to: back to fairway0, where it is translated. UDP servers that leave their
 * address to the kernel answer from the Node's InternalIP, as such an endpoint has it.
 */
export function returnRoutes(own: OwnNode): HostRoute[] {
	if (!servesHost(own)) return [];
	const { addresses, node } = own.self;
	return [RETURN_ADDRESSES.returnAddress4, RETURN_ADDRESSES.returnAddress6]
		.filter((address) => own.self.gateway(familyOf(address)) !== "")
		.map((address) => {
			const isSource = (internal: string) =>
				familyOf(internal) === familyOf(address) && addresses.has(internal);
			const source = node.internalIPs.find(isSource) ?? "";
			return { prefix: hostPrefixOf(address), mtu: own.view.podMTU, source };
		});
}
