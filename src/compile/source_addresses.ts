/**
 * What translated packets have as their source: of each device as the kernel's own source selection
 * has it, the preferred source of the route by which the device leads on, else an address in its
 * gateway's subnet, else its first.
 *
 * The core asks the kernel itself where that can tell (BPF_FIB_LOOKUP_SRC, Linux 6.7), for each
 * packet's own route; before, one address for each device and family has to do.
 */

import {
	isFairways,
	type Network,
	type NetworkInterface,
	type NetworkRoute,
} from "../linux/network.js";
import { parseAddress } from "../tables/address.js";
import type { SourceAddress } from "../tables/generated.js";
import { containsAddress, type Family, familyOf } from "../tables/prefix.js";
import { addressesOf } from "./transport.js";

/** By interface index; an interface without an address is left out. */
export function sourceAddresses(network: Network): Map<number, SourceAddress> {
	const sources = new Map<number, SourceAddress>();
	for (const link of network.interfaces) {
		if (link.name === "lo" || isFairways(link.name)) continue;
		const [ipv4, ipv6] = [sourceOf(link, 4, network.routes), sourceOf(link, 6, network.routes)];
		if (ipv4 !== "" || ipv6 !== "") sources.set(link.index, { ipv4, ipv6 });
	}
	return sources;
}

/** "" for none. */
function sourceOf(link: NetworkInterface, family: Family, routes: readonly NetworkRoute[]): string {
	const addresses = addressesOf(link).filter((address) => address.family === family);
	const [way] = routes
		.filter(({ device, prefix }) => device === link.name && isOf(family, prefix))
		.filter(({ gateway, source }) => gateway !== undefined || source !== undefined)
		.sort((a, b) => lengthOf(a) - lengthOf(b) || a.metric - b.metric);
	if (way?.gateway !== undefined && way.source !== undefined) return way.source;
	const gateway = way?.gateway === undefined ? undefined : parseAddress(way.gateway);
	const near = addresses.find(({ address, subnets }) => {
		if (gateway === undefined || familyOf(gateway) !== family) return false;
		const bytes = parseAddress(address);
		return subnets.some(
			(subnet) =>
				bytes !== undefined && containsAddress(subnet, bytes) && containsAddress(subnet, gateway),
		);
	});
	return near?.address ?? addresses[0]?.address ?? way?.source ?? "";
}

function isOf(family: Family, prefix: string): boolean {
	return prefix.includes(":") === (family === 6);
}

function lengthOf({ prefix }: NetworkRoute): number {
	return Number(prefix.slice(prefix.indexOf("/") + 1));
}
