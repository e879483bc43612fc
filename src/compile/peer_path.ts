/**
 * The possible paths of one family to one peer, the chosen one, and the reason.
 *
 *  1. the peer's address of that family, and whether it is in a subnet of this Node
 *  2. both paths: direct or routed, and the tunnel with its outer family; with their MTUs
 *  3. the mode chooses one of them; in hybrid, together with probe results
 */

import type { NodeObject } from "../cluster/snapshot.js";
import { type Config, tunnelPort } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { parseAddress } from "../tables/address.js";
import type { DirectKind, PathKind } from "../tables/paths.js";
import { containsAddress, type Family, familyOf, parsePrefix } from "../tables/prefix.js";
import type { KernelRoutes } from "./kernel_routes.js";
import type { Transport, TransportAddress } from "./transport.js";

/** Outer IP, UDP, Geneve or VXLAN, and inner Ethernet. (The MTU does not count the outer Ethernet header.) */
export const TUNNEL_OVERHEAD: Readonly<Record<Family, number>> = { 4: 50, 6: 70 };

export type PeerPath = PathKind;

export interface PathChoice {
	path: PeerPath;
	/** Family of `remote`; 0: none. */
	outerFamily: Family | 0;
	/** UDP destination port; 0: no tunnel. */
	port: number;
	/** Outer source address of a tunnel, otherwise "". */
	local: string;
	/** The destination of packets; "": none. */
	remote: string;
	/** MTU for Pod packets; 0: the path is down. */
	mtu: number;
	reason: string;
}

/** The inputs of the choice besides the peer. */
export interface PathContext {
	config: Config;
	transport: Transport;
	routes: KernelRoutes;
	network: Network;
	/** Every address of this Node. */
	ownAddresses: ReadonlySet<string>;
}

/** The probe result for a peer's paths (src/probe). */
export interface PathVerdict {
	/** The path that packets must use. */
	use: "direct" | "tunnel" | "down";
	/** The largest packets that get through; at most the MTU of the path. */
	directMtu: number;
	tunnelMtu: number;
	/** The reason, as a sentence; "": probes do not decide. */
	words: string;
	/**
	 * Its packets without a tunnel, as it announces them: taken; taken for what is on its way, since it has
	 * announced the end; refused. undefined: it announces nothing.
	 */
	untunnelled: "taken" | "ending" | "refused" | undefined;
}

/** The possible paths in any mode; a missing one has the path "down" and a reason. */
export interface PathOptions {
	/** The path without a tunnel. */
	direct: PathChoice;
	tunnel: PathChoice;
	/** True: `hybrid` tries the direct path. */
	candidate: boolean;
	/** In `hybrid`: why the direct path is or is not tried. */
	where: string;
}

export function pathOptions(context: PathContext, peer: NodeObject, family: Family): PathOptions {
	const { config } = context;
	const own = peer.transportAddresses.find((address) => context.ownAddresses.has(address));
	if (own !== undefined) {
		const none = down(`The transport address ${own} of ${peer.name} is one of this Node's own.`);
		return { direct: none, tunnel: none, candidate: false, where: none.reason };
	}
	const target = targetOf(context, peer, family);
	if (target === undefined) {
		const direct = down(`The mode is noEncap and ${lackOf(context, peer, family)}.`);
		return { direct, tunnel: tunnel(context, peer, family), candidate: false, where: "" };
	}
	const never = listed(config.hybrid.neverDirectCIDRs, target.address);
	const tried = listed(config.hybrid.tryDirectCIDRs, target.address);
	const where =
		never !== undefined
			? `${target.address} is in ${never}, which hybrid.neverDirectCIDRs has`
			: tried !== undefined && !target.shared
				? `${target.where}, and in ${tried}, which hybrid.tryDirectCIDRs has`
				: target.where;
	const path = target.shared ? "direct" : "routed";
	const beyond = target.shared ? "" : ": the network routes Pod packets";
	return {
		direct: native(context, target, path, `${where}${beyond}.`),
		tunnel: tunnel(context, peer, family),
		candidate: never === undefined && (target.shared || tried !== undefined),
		where,
	};
}

/** `verdict`: the probe result; undefined: none yet. */
export function choosePath(
	{ config }: Pick<PathContext, "config">,
	{ direct, tunnel, candidate, where }: PathOptions,
	verdict?: PathVerdict,
): PathChoice {
	const mode = config.trafficEncapMode;
	const unverified = config.hybrid.direct === "subnet";
	if (mode === "noEncap") {
		if (direct.path === "down") return direct;
		if (verdict?.use === "tunnel" && tunnel.path !== "down")
			return limited(tunnel, verdict.tunnelMtu, verdict.words);
		const reason = `The mode is noEncap and ${direct.reason}`;
		return limited(direct, verdict?.directMtu, reason);
	}
	if (mode === "hybrid" && candidate && direct.path !== "down") {
		if (unverified && verdict?.use !== "tunnel") return direct;
		if (verdict?.use === "direct") return limited(direct, verdict.directMtu, verdict.words);
	}
	if (tunnel.path === "down") return tunnel;
	if (verdict?.use === "down") return { ...tunnel, path: "down", mtu: 0, reason: verdict.words };
	const { reason: over } = tunnel;
	const mtu = verdict?.tunnelMtu;
	if (mode === "encap")
		return limited(tunnel, mtu, sentence("The mode is encap: always in a tunnel", over));
	if (!candidate) return limited(tunnel, mtu, sentence(where, over));
	const waiting = sentence(`${where}, and the direct path is not proven yet`, over);
	return limited(tunnel, mtu, verdict?.words ?? waiting);
}

function limited(choice: PathChoice, mtu: number | undefined, reason: string): PathChoice {
	const { path, outerFamily, port, local, remote } = choice;
	const least = mtu === undefined || mtu === 0 ? choice.mtu : Math.min(choice.mtu, mtu);
	return { path, outerFamily, port, local, remote, mtu: least, reason };
}

function listed(cidrs: readonly string[], address: string): string | undefined {
	const bytes = parseAddress(address);
	return cidrs.find((cidr) => bytes !== undefined && containsAddress(parsePrefix(cidr), bytes));
}

/** "IPv4" */
function familyName(family: Family): string {
	return `IPv${family}`;
}

interface Target {
	address: string;
	from: TransportAddress;
	/** True: both Nodes are in the same subnet. */
	shared: boolean;
	/** The location of the address, as a clause. */
	where: string;
	/** The egress device. */
	device: string;
}

/** The peer's address of this family: one in a common subnet, otherwise the first. */
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
	// Without a route (the link is down) the answer stays as it was before and will be afterwards.
	return at(true, inside);
}

function native(
	{ config, network, transport }: PathContext,
	{ address, from, device }: Target,
	path: DirectKind,
	reason: string,
): PathChoice {
	const link = network.interfaces.find(({ name }) => name === device) ?? from.interface;
	return {
		path,
		outerFamily: from.family,
		port: 0,
		local: "",
		remote: address,
		// Nothing larger than fairway0's MTU is ever sent, neither by Pods nor as a probe.
		mtu: atMost(config, Math.min(link.mtu, transport.mtu)),
		reason,
	};
}

/** The tunnel path. Its reason is a clause about the outer family if that differs from the inner one. */
function tunnel(context: PathContext, peer: NodeObject, family: Family): PathChoice {
	const { config } = context;
	const other = family === 4 ? 6 : 4;
	const target = targetOf(context, peer, family) ?? targetOf(context, peer, other);
	if (target === undefined) return down(`${nothingInCommon(context, peer)}.`);
	const outer = target.from.family;
	const over =
		outer === family
			? ""
			: `${lackOf(context, peer, family)}, so the tunnel goes over ${familyName(outer)}`;
	return {
		path: config.tunnelType,
		outerFamily: outer,
		port: tunnelPort(config),
		local: target.from.address,
		remote: target.address,
		mtu: atMost(config, Math.max(0, context.transport.mtu - TUNNEL_OVERHEAD[outer])),
		reason: over,
	};
}

function down(reason: string): PathChoice {
	return { path: "down", outerFamily: 0, port: 0, local: "", remote: "", mtu: 0, reason };
}

/** Limits an MTU to `defaultMTU`, which Pods use. */
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

function sentence(...clauses: string[]): string {
	return `${clauses.filter((clause) => clause !== "").join("; ")}.`;
}
