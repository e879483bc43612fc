/**
 * How packets of one family reach one peer, and why.
 *
 *  1. the peer's address of that family, and whether it shares a subnet with this Node
 *  2. the mode: direct or routed, or in a tunnel
 *  3. a tunnel: its outer family
 *  4. the MTU
 *
 * What is known of a path's health belongs between 2 and 3.
 */
import type { NodeObject } from "../cluster/snapshot.js";
import { type Config, tunnelPort } from "../config/config.js";
import { parseAddress } from "../tables/address.js";
import { containsAddress, type Family, familyOf } from "../tables/prefix.js";
import type { KernelRoutes } from "./kernel_routes.js";
import type { Network } from "./network.js";
import type { Transport, TransportAddress } from "./transport.js";

/** Outer Ethernet is the NIC's; inside count IP, UDP, Geneve or VXLAN, and inner Ethernet. */
export const TUNNEL_OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };

export type PeerPath = "direct" | "routed" | "geneve" | "vxlan" | "down";

export interface PathChoice {
	path: PeerPath;
	/** Of `remote`; 0 for none. */
	outerFamily: Family | 0;
	/** UDP destination port, 0 without tunnel. */
	port: number;
	/** Tunnels: outer source; else "". */
	local: string;
	/** Where packets are sent to; "" for nowhere. */
	remote: string;
	/** Largest IP packet of a Pod; 0 when the path is down. */
	mtu: number;
	reason: string;
}

/** What the choice depends on besides the peer. */
export interface PathContext {
	config: Config;
	transport: Transport;
	routes: KernelRoutes;
	network: Network;
	/** Every address of this Node. */
	ownAddresses: ReadonlySet<string>;
}

export function choosePath(context: PathContext, peer: NodeObject, family: Family): PathChoice {
	const { config } = context;
	const mode = config.trafficEncapMode;
	const own = peer.transportAddresses.find((address) => context.ownAddresses.has(address));
	if (own !== undefined)
		return down(`The transport address ${own} of ${peer.name} is one of this Node's own.`);
	if (mode === "encap")
		return tunnel(context, peer, family, "The mode is encap: always in a tunnel");
	const target = targetOf(context, peer, family);
	if (target === undefined) {
		const lack = lackOf(context, peer, family);
		if (mode === "noEncap") return down(`The mode is noEncap and ${lack}.`);
		return tunnel(context, peer, family);
	}
	if (target.shared) return native(context, target, "direct", withMode(mode, `${target.where}.`));
	if (mode === "noEncap")
		return native(
			context,
			target,
			"routed",
			`The mode is noEncap and ${target.where}: the network routes Pod packets.`,
		);
	return tunnel(context, peer, family, target.where);
}

/** "IPv4" */
export function familyName(family: Family): string {
	return `IPv${family}`;
}

interface Target {
	address: string;
	from: TransportAddress;
	/** The two Nodes share a subnet. */
	shared: boolean;
	/** Where the address is, as a clause. */
	where: string;
	/** Device that packets to it leave by. */
	device: string;
}

/** The peer's address of that family: one that shares a subnet, else the first. */
function targetOf(context: PathContext, peer: NodeObject, family: Family): Target | undefined {
	const from = context.transport[family];
	if (from === undefined) return undefined;
	let first: Target | undefined;
	for (const address of peer.transportAddresses) {
		const bytes = parseAddress(address);
		if (bytes === undefined || familyOf(bytes) !== family) continue;
		const target = locate(context.routes, from, address, bytes);
		if (target.shared) return target;
		first ??= target;
	}
	return first;
}

function locate(
	routes: KernelRoutes,
	from: TransportAddress,
	address: string,
	bytes: Uint8Array,
): Target {
	const link = from.interface.name;
	const route = routes.lookup(bytes);
	const subnet = from.subnets.find((prefix) => containsAddress(prefix, bytes));
	const device = route?.device ?? link;
	const at = (shared: boolean, where: string) => ({ address, from, shared, where, device });
	if (subnet === undefined) {
		const way =
			route === undefined
				? "and this Node has no route to it now"
				: route.gateway === undefined
					? `on the link ${device}`
					: `behind the gateway ${route.gateway}`;
		return at(false, `${address} is in another subnet, ${way}`);
	}
	const inside = `${address} is in this Node's subnet ${subnet.text} on ${link}`;
	if (route?.gateway !== undefined)
		return at(false, `${inside}, but the kernel's route to it has the gateway ${route.gateway}`);
	if (device !== link)
		return at(false, `${inside}, but the kernel's route to it leaves by ${device}`);
	// Without any route (the link is down) the answer stays what it was and will be.
	return at(true, inside);
}

function native(
	{ config, network }: PathContext,
	{ address, from, device }: Target,
	path: "direct" | "routed",
	reason: string,
): PathChoice {
	const link = network.interfaces.find(({ name }) => name === device) ?? from.interface;
	return {
		path,
		outerFamily: from.family,
		port: 0,
		local: "",
		remote: address,
		mtu: atMost(config, link.mtu),
		reason,
	};
}

/** `why`: what rules out a direct path, unless that is the lack of addresses of the family. */
function tunnel(context: PathContext, peer: NodeObject, family: Family, why?: string): PathChoice {
	const { config } = context;
	const other = family === 4 ? 6 : 4;
	const target = targetOf(context, peer, family) ?? targetOf(context, peer, other);
	if (target === undefined) return down(`${nothingInCommon(context, peer)}.`);
	const outer = target.from.family;
	const over =
		outer === family
			? undefined
			: `${lackOf(context, peer, family)}, so the tunnel goes over ${familyName(outer)}`;
	return {
		path: config.tunnelType,
		outerFamily: outer,
		port: tunnelPort(config),
		local: target.from.address,
		remote: target.address,
		mtu: atMost(config, Math.max(0, target.from.interface.mtu - TUNNEL_OVERHEAD[outer])),
		reason: `${[why, over].filter((part) => part !== undefined).join("; ")}.`,
	};
}

function down(reason: string): PathChoice {
	return { path: "down", outerFamily: 0, port: 0, local: "", remote: "", mtu: 0, reason };
}

/** `defaultMTU` is what Pods use, so nothing larger is promised to them. */
function atMost(config: Config, mtu: number): number {
	return config.defaultMTU === 0 ? mtu : Math.min(mtu, config.defaultMTU);
}

function lackOf({ transport }: PathContext, peer: NodeObject, family: Family): string {
	const who = transport[family] === undefined ? "this Node" : peer.name;
	return `${who} has no ${familyName(family)} transport address`;
}

function nothingInCommon({ transport }: PathContext, peer: NodeObject): string {
	if (peer.transportAddresses.length === 0) return `${peer.name} has no transport address`;
	return `The Nodes have no family of transport addresses in common: ${transport.addresses.join(", ")} here, ${peer.transportAddresses.join(", ")} on ${peer.name}`;
}

function withMode(mode: Config["trafficEncapMode"], where: string): string {
	return mode === "noEncap" ? `The mode is noEncap and ${where}` : where;
}
