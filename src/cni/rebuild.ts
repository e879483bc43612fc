/**
 * An endpoint as the kernel knows it, for a Pod whose record cannot be read: a Pod that works must
 * not lose its data path, nor its address to the next one, for a broken file.
 *
 * Not in the kernel, and so not in what is rebuilt: the path of the Pod's namespace, its gateways and
 * its name. An ADD or DEL of the Pod needs none of them.
 */
import type { IpRoute } from "../linux/iproute.js";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import type { Endpoint } from "./endpoint.js";
import { isV6 } from "./result.js";

interface Link {
	ifalias?: string;
	mtu: number;
}

/** Blocks for some milliseconds. Undefined: the interface is gone, or tells too little. */
export function endpointOf(ip: IpRoute, hostInterface: string): Endpoint | undefined {
	try {
		const [link] = ip.querySync<Link>("link", "show", "dev", hostInterface);
		const id = /^fairway (\S+)\/(\S+)\/(\S+)$/.exec(link?.ifalias ?? "");
		const neighbours = ip.querySync<{ dst: string; lladdr?: string }>(
			...["neigh", "show", "dev", hostInterface, "nud", "permanent"],
		);
		const routes = ["-4", "-6"].flatMap((family) =>
			ip.querySync<{ dst: string }>(
				...[family, "route", "show", "dev", hostInterface, "proto", String(ROUTE_PROTOCOL)],
			),
		);
		const addresses = routes.map(({ dst }) => dst.replace(/\/\d+$/, ""));
		const mac = neighbours.find(({ dst }) => addresses.includes(dst))?.lladdr;
		if (link === undefined || id === null || mac === undefined) return undefined;
		const [, network = "", containerId = "", ifName = ""] = id;
		return {
			...{ network, containerId, ifName, netns: "", mac, hostInterface, mtu: link.mtu },
			addresses: [...addresses.filter((a) => !isV6(a)), ...addresses.filter(isV6)],
			gateways: [],
			attachedAt: new Date(0).toISOString(),
		};
	} catch {
		return undefined;
	}
}
