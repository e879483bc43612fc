/**
 * Reads this namespace's links, addresses and unicast routes from the kernel, except Fairway's own
 * (fairway*, route protocol 170), which are derived from the others.
 */

import type { IpRoute } from "./iproute.js";
import { isOwnDevice, ROUTE_PROTOCOL } from "./names.js";
import type { Network, NetworkInterface, NetworkRoute } from "./network.js";

interface IpAddress {
	local: string;
	prefixlen: number;
	/** Absent or false once duplicate address detection is done. */
	tentative?: boolean;
	dadfailed?: boolean;
}

interface IpLink {
	ifindex: number;
	ifname: string;
	flags: string[];
	mtu: number;
	address?: string;
	link_type?: string;
	linkinfo?: { info_kind?: string };
	addr_info: IpAddress[];
}

interface IpNextHop {
	gateway?: string;
	via?: { host: string };
	dev: string;
}

interface IpRouteEntry extends Partial<IpNextHop> {
	type?: string;
	dst: string;
	prefsrc?: string;
	protocol?: string;
	metric?: number;
	metrics?: { mtu?: number }[];
	nexthops?: IpNextHop[];
}

export async function readNetwork(ip: IpRoute): Promise<Network> {
	const [links, routes4, routes6] = await Promise.all([
		ip.query<IpLink>("-details", "address", "show"),
		ip.query<IpRouteEntry>("-4", "route", "show", "table", "main"),
		ip.query<IpRouteEntry>("-6", "route", "show", "table", "main"),
	]);
	return {
		interfaces: links.filter((link) => !isOwnDevice(link.ifname)).map(toInterface),
		routes: [
			...routes4.flatMap((route) => toRoutes(route, 4)),
			...routes6.flatMap((route) => toRoutes(route, 6)),
		],
	};
}

/**
 * Predicts from the addresses, before anything is compiled, whether a wire interface will be a veth.
 */
export async function hasVethWire(ip: IpRoute): Promise<boolean> {
	const links = await ip.query<Partial<IpLink>>(
		..."address show type veth scope global".split(" "),
	);
	return links.some(
		({ ifname = "", addr_info: addresses = [] }) => !isOwnDevice(ifname) && addresses.length > 0,
	);
}

function toInterface(link: IpLink): NetworkInterface {
	const kind = link.linkinfo?.info_kind;
	return {
		name: link.ifname,
		index: link.ifindex,
		mac: link.link_type === "ether" ? (link.address ?? "") : "",
		mtu: link.mtu,
		up: link.flags.includes("UP") && link.flags.includes("LOWER_UP"),
		addresses: link.addr_info
			.filter(({ local, dadfailed }) => local !== undefined && dadfailed !== true)
			.map(({ local, prefixlen }) => ({ address: local, prefixLength: prefixlen })),
		...(kind === undefined ? {} : { kind }),
	};
}

function toRoutes(route: IpRouteEntry, family: 4 | 6): NetworkRoute[] {
	if (route.type !== undefined && route.type !== "unicast") return [];
	if (route.protocol === String(ROUTE_PROTOCOL)) return [];
	const { prefsrc, metric = 0 } = route;
	const mtu = route.metrics?.find((one) => one.mtu !== undefined)?.mtu;
	return (route.nexthops ?? [route]).flatMap(({ dev, gateway, via }) => {
		const hop = gateway ?? via?.host;
		if (dev === undefined || isOwnDevice(dev)) return [];
		return [
			{
				prefix: fullPrefix(route.dst, family),
				...(hop === undefined ? {} : { gateway: hop }),
				device: dev,
				...(prefsrc === undefined ? {} : { source: prefsrc }),
				...(mtu === undefined ? {} : { mtu }),
				metric,
			},
		];
	});
}

/** Adds the prefix length that iproute2 omits for "default" and single addresses. */
function fullPrefix(destination: string, family: 4 | 6): string {
	if (destination === "default") return family === 4 ? "0.0.0.0/0" : "::/0";
	if (destination.includes("/")) return destination;
	return `${destination}/${family === 4 ? 32 : 128}`;
}
