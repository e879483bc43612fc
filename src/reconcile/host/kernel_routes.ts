/**
 * Fairway's kernel routes (protocol 170), and the neighbours of the local Pods:
 *
 *   a peer's pod CIDR → fairway0       the Node's own packets to its peers' Pods
 *   a local Pod's address → its veth   the Node's own packets to its Pods
 */

import type { BatchFailure, IpRoute } from "../../linux/iproute.js";
import { HOST_DEVICE, isPodInterface, ROUTE_PROTOCOL } from "../../linux/names.js";
import { fullPrefix } from "../../linux/network_watch.js";
import { Turns } from "../../loop/turns.js";
import type { HostRoute } from "../../tables/tables.js";

/** The route of a local Pod's address. */
export interface PodRoute {
	interface: string;
	mac: string;
}

/** The actual or desired routes of the kernel. */
export interface RouteState {
	/** By prefix. */
	hostRoutes: Map<string, HostRoute>;
	/** By address without prefix length. `mac` is "" if the neighbour is missing. */
	podRoutes: Map<string, PodRoute>;
	/** Other routes of protocol 170, as arguments for `ip route del`. */
	others: string[];
}

interface IpRouteEntry {
	dst: string;
	dev?: string;
	prefsrc?: string;
	metric?: number;
	metrics?: { mtu?: number }[];
}

interface IpNeighbour {
	dst: string;
	dev: string;
	lladdr?: string;
}

export async function readRoutes(ip: IpRoute): Promise<RouteState> {
	const ours = ["route", "show", "table", "main", "proto", String(ROUTE_PROTOCOL)];
	const permanent = ["neighbour", "show", "nud", "permanent"];
	const [routes4, routes6, neighbours] = await Promise.all([
		ip.query<IpRouteEntry>("-4", ...ours),
		ip.query<IpRouteEntry>("-6", ...ours),
		ip.query<IpNeighbour>(...permanent),
	]);
	const macs = new Map<string, string>();
	for (const { dst, dev, lladdr } of neighbours) macs.set(`${dst} ${dev}`, lladdr ?? "");
	const state: RouteState = { hostRoutes: new Map(), podRoutes: new Map(), others: [] };
	const add = (route: IpRouteEntry, family: 4 | 6) => {
		const prefix = fullPrefix(route.dst, family);
		if (route.dev === HOST_DEVICE) {
			const mtu = route.metrics?.find((metric) => metric.mtu !== undefined)?.mtu ?? 0;
			state.hostRoutes.set(prefix, { prefix, mtu, source: route.prefsrc ?? "" });
		} else if (route.dev !== undefined && isPodInterface(route.dev) && prefix !== route.dst) {
			const mac = macs.get(`${route.dst} ${route.dev}`) ?? "";
			state.podRoutes.set(route.dst, { interface: route.dev, mac });
		} else {
			const device = route.dev === undefined ? "" : ` dev ${route.dev}`;
			const metric = route.metric === undefined ? "" : ` metric ${route.metric}`;
			state.others.push(`${prefix}${device}${metric} proto ${ROUTE_PROTOCOL}`);
		}
	};
	const turns = new Turns();
	for (const [routes, family] of [
		[routes4, 4],
		[routes6, 6],
	] as const)
		for (const route of routes) {
			if (turns.due) await turns.pass();
			add(route, family);
		}
	return state;
}

/** A line of a batch with its subject, to attribute failures. */
export interface RouteLine {
	line: string;
	key: string;
}

export function hostRouteLine(prefix: string, { mtu, source }: HostRoute): RouteLine {
	const from = source === "" ? "" : ` src ${source}`;
	const line = `route replace ${prefix} dev ${HOST_DEVICE} proto ${ROUTE_PROTOCOL}${from} mtu ${mtu}`;
	return { line, key: prefix };
}

export function hostRouteRemoval(prefix: string): RouteLine {
	return { line: `route del ${prefix} dev ${HOST_DEVICE} proto ${ROUTE_PROTOCOL}`, key: prefix };
}

export function podRouteLines(address: string, { interface: device, mac }: PodRoute): RouteLine[] {
	const prefix = fullPrefix(address, address.includes(":") ? 6 : 4);
	return [
		{ line: `route replace ${prefix} dev ${device} proto ${ROUTE_PROTOCOL}`, key: address },
		{
			line: `neighbour replace ${address} lladdr ${mac} dev ${device} nud permanent`,
			key: address,
		},
	];
}

export function podRouteRemoval(address: string, { interface: device }: PodRoute): RouteLine {
	const prefix = fullPrefix(address, address.includes(":") ? 6 : 4);
	return { line: `route del ${prefix} dev ${device} proto ${ROUTE_PROTOCOL}`, key: address };
}

/** Writes the lines in one batch. Removing what no longer exists counts as success. */
export async function writeRoutes(
	ip: IpRoute,
	lines: RouteLine[],
): Promise<{ key: string; failure: BatchFailure }[]> {
	const keys = new Map(lines.map(({ line, key }) => [line, key]));
	const failures = await ip.batch(lines.map(({ line }) => line));
	return failures
		.filter(({ command, code }) => !(command.startsWith("route del") && isGone(code)))
		.map((failure) => ({ key: keys.get(failure.command) ?? failure.command, failure }));
}

function isGone(code: BatchFailure["code"]): boolean {
	return code === "ESRCH" || code === "ENODEV" || code === "ENOENT";
}
