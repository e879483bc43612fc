/** Decisions that concern only this Node: the MTU of its Pods, its SNAT addresses, its wire interfaces. */
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import { isFairways, type Network, type NetworkInterface } from "../linux/network.js";
import { formatAddress } from "../tables/address.js";
import { type Family, firstAddress, type Prefix, parsePrefix } from "../tables/prefix.js";
import { gatewayMac } from "./gateway_mac.js";
import type { KernelRoutes } from "./kernel_routes.js";
import { TUNNEL_OVERHEAD } from "./peer_path.js";
import { addressesOf, type Transport } from "./transport.js";

/** Values derived from this Node's object and addresses. */
export class Self {
	readonly node: NodeObject;
	readonly podCidrs: Prefix[];
	readonly gateways: string[];
	readonly gatewayMac: string;
	/** Every address of this Node that others can reach. */
	readonly addresses: ReadonlySet<string>;
	readonly mtu: number;

	constructor(node: NodeObject, transport: Transport, network: Network) {
		this.node = node;
		this.podCidrs = node.podCIDRs.map(parsePrefix);
		this.gateways = this.podCidrs.map((prefix) => formatAddress(firstAddress(prefix)));
		this.gatewayMac = gatewayMac(node.name);
		this.mtu = transport.mtu;
		const links = network.interfaces.filter(({ name }) => !isFairways(name));
		this.addresses = new Set(links.flatMap(addressesOf).map(({ address }) => address));
	}

	/** True for an address that a Pod cannot have. */
	owns(address: string): boolean {
		return this.addresses.has(address) || this.gateways.includes(address);
	}

	/** The gateway address; "": none of this family. */
	gateway(family: Family): string {
		const index = this.podCidrs.findIndex((prefix) => prefix.family === family);
		return this.gateways[index] ?? "";
	}
}

/** A link with a smaller MTU cannot carry IPv6 (RFC 8200, section 5). */
const IPV6_MTU_MIN = 1280;

/**
 * `encap`: the transport MTU minus the largest tunnel header. Other modes: the full transport MTU; MSS
 * clamping and packet too big limit traffic to tunnelled peers. `defaultMTU` overrides both.
 */
export function podMtu(
	config: Config,
	transport: Transport,
	podCidrs: readonly Prefix[],
): { value: number; problems: string[] } {
	if (config.defaultMTU !== 0) return { value: config.defaultMTU, problems: [] };
	const ipv6 = podCidrs.some(({ family }) => family === 6);
	const outer = transport[6] !== undefined && (ipv6 || transport[4] === undefined) ? 6 : 4;
	const overhead = config.trafficEncapMode === "encap" ? TUNNEL_OVERHEAD[outer] : 0;
	const value = transport.mtu - overhead;
	if (!ipv6 || value >= IPV6_MTU_MIN) return { value, problems: [] };
	const problem = `Cannot give Pods the MTU ${value}: IPv6 needs at least ${IPV6_MTU_MIN}, the transport interface ${transport.interface} has ${transport.mtu}; Pods get ${IPV6_MTU_MIN}`;
	return { value: IPV6_MTU_MIN, problems: [problem] };
}

/**
 * The Node's main address towards the outside: what the default route prefers, else the transport
 * address where that route leaves by its interface, else one of the interface where it does leave.
 * What leaves by another route has that one's (source_addresses.ts).
 */
export function snatAddress(
	family: Family,
	transport: Transport,
	node: NodeObject,
	network: Network,
	routes: KernelRoutes,
): string {
	const transportAddress = transport[family]?.address ?? "";
	const way = routes.default(family);
	const link = network.interfaces.find(({ name }) => name === way?.device);
	if (way === undefined || link === undefined) return transportAddress;
	if (way.source !== undefined) return way.source;
	if (link.name === transport[family]?.interface.name) return transportAddress;
	const there = addressesOf(link)
		.filter((address) => address.family === family)
		.map(({ address }) => address);
	const preferred = node.internalIPs.find((address) => there.includes(address));
	return preferred ?? there[0] ?? transportAddress;
}

/** Links of the machine itself; they do not lead to the network between machines. */
const INNER_KINDS = new Set(["bridge", "dummy", "ifb", "tun", "vxlan", "geneve", "wireguard"]);

/**
 * The interfaces where packets from other machines arrive: the transport interfaces, those of routes to a
 * gateway, and every other link with an address that others can reach. In order of index; links that are
 * down stay, so that a flapping one is not detached and attached again.
 */
export function wireInterfaces(
	network: Network,
	transport: Transport,
	routes: KernelRoutes,
): string[] {
	const ways = new Set(
		network.routes.filter(({ gateway }) => gateway !== undefined).map(({ device }) => device),
	);
	for (const family of [4, 6] as const) {
		const device = routes.default(family)?.device;
		if (device !== undefined) ways.add(device);
		const carrier = transport[family]?.interface.name;
		if (carrier !== undefined) ways.add(carrier);
	}
	const isWire = (link: NetworkInterface) =>
		ways.has(link.name) || (!INNER_KINDS.has(link.kind ?? "") && addressesOf(link).length > 0);
	return network.interfaces
		.filter((link) => link.name !== "lo" && !isFairways(link.name) && isWire(link))
		.sort((a, b) => a.index - b.index)
		.map(({ name }) => name);
}

/**
 * Every other link that packets may leave by, in the order of their indexes: what Pods have sent to
 * containers, virtual machines or through a VPN comes back by it.
 */
export function linkInterfaces(network: Network, wires: readonly string[]): string[] {
	const ways = new Set(network.routes.map(({ device }) => device));
	return network.interfaces
		.filter(({ name }) => name !== "lo" && !isFairways(name) && !wires.includes(name))
		.filter((link) => ways.has(link.name) || addressesOf(link).length > 0)
		.sort((a, b) => a.index - b.index)
		.map(({ name }) => name);
}
