/**
 * CHECK: lists what an endpoint lacks in the kernel and what was changed, as sentences. An empty list means
 * that the Pod has what ADD gave it.
 *
 *  1 host side: interface, MAC, routes, neighbours
 *  2 Pod side: interface, MAC, addresses, default routes, neighbours, GRO
 */
import type { IpRoute } from "../linux/iproute.js";
import { ROUTE_PROTOCOL } from "../linux/names.js";
import type { Endpoint } from "./endpoint.js";
import { defaultPrefix, hostPrefix, isV6 } from "./result.js";

interface Link {
	ifname: string;
	address: string;
	mtu: number;
	flags: string[];
	addr_info?: { local: string; prefixlen: number; flags?: string[]; dadfailed?: boolean }[];
}

interface Route {
	dst: string;
	dev?: string;
	gateway?: string;
	protocol?: string;
}

interface Neighbour {
	dst: string;
	lladdr?: string;
	state?: string[];
}

export interface InspectionOptions {
	/** Expected default routes: "0.0.0.0/0", "::/0"; a later plugin may have replaced some. */
	defaultRoutes: readonly string[];
}

export async function inspect(
	ip: IpRoute,
	e: Endpoint,
	gatewayMac: string,
	{ defaultRoutes }: InspectionOptions,
): Promise<string[]> {
	const problems = await inspectHost(ip, e, gatewayMac);
	try {
		problems.push(...(await inspectPod(ip.inNamespace(e.netns), e, gatewayMac, defaultRoutes)));
	} catch (error) {
		problems.push(`The Pod's namespace ${e.netns} cannot be read: ${(error as Error).message}`);
	}
	return problems;
}

async function inspectHost(ip: IpRoute, e: Endpoint, gatewayMac: string): Promise<string[]> {
	const name = e.hostInterface;
	const [link] = await ip.query<Link>("link", "show", "dev", name).catch(() => []);
	if (link === undefined) return [`The host's interface ${name} is missing.`];
	const [neighbours, ...routes] = await Promise.all([
		ip.query<Neighbour>("neigh", "show", "dev", name, "nud", "permanent"),
		...e.addresses.map((a) => ip.query<Route>(familyFlag(a), "route", "show", hostPrefix(a))),
	]);
	const problems = linkProblems(link, `The host's interface ${name}`, gatewayMac, e.mtu);
	e.addresses.forEach((address, i) => {
		// "dev" is printed unless it is part of the query; the protocol is a name if iproute2 knows one.
		const route = routes[i]?.find(({ dev }) => dev === name);
		if (route === undefined) problems.push(`The Node's route to ${address} by ${name} is missing.`);
		else if (route.protocol !== `${ROUTE_PROTOCOL}`)
			problems.push(`The Node's route to ${address} has protocol ${route.protocol}.`);
		if (!hasNeighbour(neighbours, address, e.mac))
			problems.push(`The Node's neighbour ${address} on ${name} with ${e.mac} is missing.`);
	});
	return problems;
}

async function inspectPod(
	pod: IpRoute,
	e: Endpoint,
	gatewayMac: string,
	defaultRoutes: readonly string[],
): Promise<string[]> {
	const name = e.ifName;
	const [link] = await pod.query<Link>("addr", "show", "dev", name).catch(() => []);
	if (link === undefined) return [`The Pod's interface ${name} is missing in ${e.netns}.`];
	const [neighbours, features, ...routes] = await Promise.all([
		pod.query<Neighbour>("neigh", "show", "dev", name, "nud", "permanent"),
		pod.command("ethtool", "-k", name),
		...e.addresses.map((a) => pod.query<Route>(familyFlag(a), "route", "show", "default")),
	]);
	const problems = linkProblems(link, `The Pod's interface ${name}`, e.mac, e.mtu);
	if (!/^generic-receive-offload: on/m.test(features))
		problems.push(`The Pod's interface ${name} has GRO off: what XDP delivers is lost.`);
	e.addresses.forEach((address, i) => {
		const gateway = e.gateways[i] ?? "";
		if (!link.addr_info?.some(({ local, dadfailed }) => local === address && dadfailed !== true))
			problems.push(`The Pod's address ${address} is missing on ${name}.`);
		const wanted = defaultRoutes.includes(defaultPrefix(address));
		if (wanted && !routes[i]?.some((route) => route.gateway === gateway && route.dev === name))
			problems.push(`The Pod's default route by ${gateway} on ${name} is missing.`);
		if (!hasNeighbour(neighbours, gateway, gatewayMac))
			problems.push(`The Pod's neighbour ${gateway} on ${name} with ${gatewayMac} is missing.`);
	});
	return problems;
}

function linkProblems(link: Link, what: string, mac: string, mtu: number): string[] {
	const problems: string[] = [];
	if (!link.flags.includes("UP")) problems.push(`${what} is down.`);
	if (link.address !== mac) problems.push(`${what} has the MAC ${link.address}, not ${mac}.`);
	if (link.mtu !== mtu) problems.push(`${what} has the MTU ${link.mtu}, not ${mtu}.`);
	return problems;
}

function hasNeighbour(neighbours: readonly Neighbour[], address: string, mac: string): boolean {
	return neighbours.some(({ dst, lladdr }) => dst === address && lladdr === mac);
}

function familyFlag(address: string): string {
	return isV6(address) ? "-6" : "-4";
}
