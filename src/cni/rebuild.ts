/**
 * Rebuilds an endpoint from the kernel, for a Pod whose record cannot be read: a broken file must not cost a running
 * Pod its data path, nor give its address to another.
 *
 * Not in the kernel, and so not rebuilt: the path of the Pod's namespace, its gateways and its name. ADD and
 * DEL of the Pod need none of them.
 */
import type { IpRoute } from "../linux/iproute.js";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import type { Endpoint } from "./endpoint.js";
import { isV6 } from "./result.js";

interface Link {
	ifalias?: string;
	mtu: number;
}

/** Blocks for some milliseconds. Undefined: the interface is gone, or lacks what is needed. */
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
