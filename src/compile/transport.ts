/**
 * Chooses the transport addresses: those of this Node that carry tunnels and face its peers.
 *
 *  1. `transportInterface`: the addresses of that interface
 *  2. otherwise `transportInterfaceCIDRs`: the first interface with an address in one of them
 *  3. otherwise the Node object's addresses: the annotation's, then the InternalIPs; for each family
 *
 * Within an interface, an address in the Node object is preferred, because peers know it.
 */
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import { isFairways, type Network, type NetworkInterface } from "../linux/network.js";
import { parseAddress } from "../tables/address.js";
import {
	containsAddress,
	type Family,
	familyOf,
	makePrefix,
	type Prefix,
	parsePrefix,
} from "../tables/prefix.js";
import type { KernelRoutes } from "./kernel_routes.js";

export interface TransportAddress {
	family: Family;
	address: string;
	bytes: Uint8Array;
	interface: NetworkInterface;
	/** The on-link prefixes of this family. */
	subnets: Prefix[];
}

export interface Transport {
	4?: TransportAddress;
	6?: TransportAddress;
	/** The interface of the IPv4 address, if there is one. */
	interface: string;
	/** IPv4 first. */
	addresses: string[];
	/** The lowest MTU of the interfaces. */
	mtu: number;
}

export type TransportResult = { transport?: Transport; problems: string[] };

export function selectTransport(
	config: Config,
	node: NodeObject,
	network: Network,
	routes: KernelRoutes,
): TransportResult {
	const problems: string[] = [];
	// Without an annotation, both are the same.
	const own = [...new Set([...node.transportAddresses, ...node.internalIPs])];
	const links = network.interfaces
		.filter(({ name }) => !isFairways(name))
		.map((link) => ({ link, addresses: addressesOf(link) }))
		.sort((a, b) => a.link.index - b.link.index);
	const chosen =
		byName(config, links, own, problems) ??
		byCidrs(config, links, own, problems) ??
		byNode(node, links, own, routes, problems);
	const found = [chosen[4], chosen[6]].filter((address) => address !== undefined);
	const [first] = found;
	if (first === undefined) return { problems };
	for (const { address } of found)
		if (!own.includes(address))
			problems.push(
				`Peers do not know the transport address ${address}: expected it in the annotation fairway.dev/transport-addresses or as an InternalIP of Node ${node.name}, got ${own.join(", ") || "none"}`,
			);
	return {
		problems,
		transport: {
			...chosen,
			interface: first.interface.name,
			addresses: found.map(({ address }) => address),
			mtu: Math.min(...found.map((address) => address.interface.mtu)),
		},
	};
}

/** The addresses of an interface that others can reach, without loopback and link-local ones. */
export function addressesOf(link: NetworkInterface): TransportAddress[] {
	const all = link.addresses.flatMap(({ address, prefixLength }) => {
		const bytes = parseAddress(address);
		if (bytes === undefined || isUnusable(bytes)) return [];
		return [{ address, bytes, family: familyOf(bytes), subnet: makePrefix(bytes, prefixLength) }];
	});
	return all.map(({ subnet: _, ...rest }) => ({
		...rest,
		interface: link,
		subnets: all.filter(({ family }) => family === rest.family).map(({ subnet }) => subnet),
	}));
}

interface Link {
	link: NetworkInterface;
	addresses: TransportAddress[];
}

type Chosen = { 4?: TransportAddress; 6?: TransportAddress };

function byName(
	config: Config,
	links: Link[],
	own: string[],
	problems: string[],
): Chosen | undefined {
	const name = config.transportInterface;
	if (name === "") return undefined;
	const found = links.find(({ link }) => link.name === name);
	if (found !== undefined && found.addresses.length > 0) return pick(found.addresses, own);
	problems.push(
		`Cannot take the transport address from transportInterface ${name}: ${found ? "it has no address" : "there is no such interface"}; the next rule applies`,
	);
	return undefined;
}

function byCidrs(
	config: Config,
	links: Link[],
	own: string[],
	problems: string[],
): Chosen | undefined {
	if (config.transportInterfaceCIDRs.length === 0) return undefined;
	const cidrs = config.transportInterfaceCIDRs.map(parsePrefix);
	const inside = ({ bytes }: TransportAddress) => cidrs.some((c) => containsAddress(c, bytes));
	// A family without a matching CIDR is taken from the same interface.
	for (const { addresses } of links)
		if (addresses.some(inside))
			return { ...pick(addresses, own), ...pick(addresses.filter(inside), own) };
	problems.push(
		`Cannot take the transport address from transportInterfaceCIDRs: no interface has an address in ${config.transportInterfaceCIDRs.join(", ")}; the Node's own addresses are used`,
	);
	return undefined;
}

function byNode(
	node: NodeObject,
	links: Link[],
	own: string[],
	routes: KernelRoutes,
	problems: string[],
): Chosen {
	const here = links.flatMap(({ addresses }) => addresses);
	const chosen = pick(
		here.filter(({ address }) => own.includes(address)),
		own,
	);
	for (const family of [4, 6] as const) {
		const known = own.filter((address) => address.includes(":") === (family === 6));
		if (known.length > 0 && chosen[family] === undefined)
			problems.push(
				`Cannot use ${known[0]} of Node ${node.name} as transport address: no interface of this Node has it`,
			);
		const found = chosen[family];
		// Packets from a loopback address (announced by a routing daemon) leave by another interface.
		const way = found?.interface.name === "lo" ? routes.default(family)?.device : undefined;
		const carrier = links.find(({ link }) => link.name === way)?.link;
		if (found !== undefined && carrier !== undefined)
			chosen[family] = { ...found, interface: carrier, subnets: [] };
	}
	return chosen;
}

/** For each family: the first address that the Node object names (in its order), otherwise the first. */
function pick(addresses: TransportAddress[], own: readonly string[]): Chosen {
	const chosen: Chosen = {};
	for (const family of [4, 6] as const) {
		const usable = addresses.filter((address) => address.family === family);
		const known = own.map((name) => usable.find(({ address }) => address === name));
		const best = known.find((address) => address !== undefined) ?? usable[0];
		if (best !== undefined) chosen[family] = best;
	}
	return chosen;
}

const UNUSABLE = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"].map(
	parsePrefix,
);

function isUnusable(address: Uint8Array): boolean {
	return UNUSABLE.some((prefix) => containsAddress(prefix, address));
}
