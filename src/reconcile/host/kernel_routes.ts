/**
 * Fairway's kernel routes (protocol 170), and the neighbours of the local Pods:
 *
 *   a peer's pod CIDR → fairway0       the Node's own packets to its peers' Pods
 *   a local Pod's address → its veth   the Node's own packets to its Pods
 */

import type { BatchFailure, IpRoute } from "../../linux/iproute.js";
import { HOST_DEVICE, isPodInterface, ROUTE_PROTOCOL } from "../../linux/names.js";
import {
	type Change,
	change,
	deleteHostRoute,
	type NetlinkError,
	setHostRoute,
	setNeighbour,
} from "../../linux/netlink.js";
import { readRouting } from "../../linux/netlink_query.js";
import { Turns } from "../../loop/turns.js";
import type { HostRoute } from "../../tables/tables.js";

/** The route of a local Pod's address. */
export interface PodRoute {
	interface: string;
	/** Index of the interface. */
	index: number;
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

export async function readRoutes(): Promise<RouteState> {
	const { routes, neighbours, links } = await readRouting(ROUTE_PROTOCOL);
	const names = new Map(links.map(({ index, name }) => [index, name]));
	const macs = new Map(neighbours.map(({ address, index, mac }) => [`${address} ${index}`, mac]));
	const state: RouteState = { hostRoutes: new Map(), podRoutes: new Map(), others: [] };
	const turns = new Turns();
	for (const { prefix, index, source = "", mtu = 0, metric } of routes) {
		if (turns.due) await turns.pass();
		const device = names.get(index);
		const [address = "", length = ""] = prefix.split("/");
		if (device === HOST_DEVICE) {
			state.hostRoutes.set(prefix, { prefix, mtu, source });
		} else if (device !== undefined && isPodInterface(device) && isWhole(address, length)) {
			const mac = macs.get(`${address} ${index}`) ?? "";
			state.podRoutes.set(address, { interface: device, index, mac });
		} else {
			const out = device === undefined ? "" : ` dev ${device}`;
			const among = metric === undefined ? "" : ` metric ${metric}`;
			state.others.push(`${prefix}${out}${among} proto ${ROUTE_PROTOCOL}`);
		}
	}
	return state;
}

/** One address, not a network. */
function isWhole(address: string, length: string): boolean {
	return length === (address.includes(":") ? "128" : "32");
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

/** A change of a Pod's routes, with its address, to attribute failures. */
export interface PodChange {
	address: string;
	changes: Change[];
}

export function podRouteChange(
	address: string,
	{ interface: name, index, mac }: PodRoute,
): PodChange {
	const route = setHostRoute(address, ROUTE_PROTOCOL, index, name);
	return { address, changes: [route, setNeighbour(address, mac, index, name)] };
}

export function podRouteRemoval(address: string, { index }: PodRoute): PodChange {
	return { address, changes: [deleteHostRoute(address, ROUTE_PROTOCOL, index)] };
}

/** Makes these changes, all at once while none fails. Removing what no longer exists counts as success. */
export async function writePodRoutes(
	pods: readonly PodChange[],
): Promise<{ address: string; failure: NetlinkError }[]> {
	const refused: { address: string; failure: NetlinkError }[] = [];
	try {
		await change(pods.flatMap(({ changes }) => changes));
		return refused;
	} catch {
		for (const { address, changes } of pods)
			try {
				await change(changes);
			} catch (error) {
				const failure = error as NetlinkError;
				const isRemoval = changes.length === 1;
				if (!isRemoval || !["ESRCH", "ENODEV"].includes(failure.code))
					refused.push({ address, failure });
			}
		return refused;
	}
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
