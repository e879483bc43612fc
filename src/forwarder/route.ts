/**
 * Where an address is: a Pod of this Node, the Node itself, a peer's Pods, or outside; and the special
 * address ranges.
 */
import {
	type Flow,
	FlowFlag,
	Limit,
	type NodeConfig,
	type Route,
	RouteFlag,
	RouteKind,
} from "../tables/generated.js";
import { originalKey, replyKey, takesAddress } from "./flow.js";
import type { Packet } from "./packet.js";
import type { TableReader } from "./table_reader.js";

const OUTSIDE: Route = { kind: RouteKind.OUTSIDE, flags: 0, mtu: 0, peer: Limit.NO_PEER };

/** The route of an address; without a matching prefix it is outside. */
export function routeOf(address: string, tables: TableReader): Route {
	return tables.route(address) ?? OUTSIDE;
}

/** The route that the flow remembers for its remote side, of whatever epoch. */
export function routeRemembered({ routeKind: kind, routeFlags: flags, remote }: Flow): Route {
	return { kind, flags, mtu: 0, peer: kind === RouteKind.PEER ? remote >> 1 : Limit.NO_PEER };
}

/** The route that the flow remembers for its remote side while its epoch is current, otherwise the table's. */
export function routeOfRemote(
	flow: Flow | undefined,
	address: string,
	node: NodeConfig,
	tables: TableReader,
): Route {
	if (flow !== undefined && flow.routeEpoch === node.routeEpoch) return routeRemembered(flow);
	return routeAnew(flow, address, tables);
}

/** The route of an address as the tables have it now. @param flow whose remote end it is */
export function routeAnew(flow: Flow | undefined, address: string, tables: TableReader): Route {
	const route = routeOf(address, tables);
	const peer = route.kind === RouteKind.OUTSIDE ? tables.peerAddress(address) : undefined;
	if (peer === undefined) return route;
	// A flow that a peer began from its Node address stays on the peer's path.
	if (flow?.routeKind === RouteKind.PEER) return routeToPeerNode(peer);
	return { ...route, flags: route.flags | RouteFlag.PEER_NODE };
}

/** The route of a peer's own address, as if it were a Pod's of that peer. */
export function routeToPeerNode(peer: number): Route {
	return { kind: RouteKind.PEER, flags: 0, mtu: 0, peer };
}

/** True if the source is translated to an address that the Node has lost: answers would not arrive. Where only the
 * port is translated, the address is the client's own. */
export function isAddressLost(flow: Flow, node: NodeConfig, tables: TableReader): boolean {
	return (
		takesAddress(flow) &&
		flow.routeEpoch !== node.routeEpoch &&
		routeOf(replyKey(flow).destination, tables).kind !== RouteKind.HOST
	);
}

/** The destination has become a Service's address, which is not routed: the flow ends, or keeps its old route. */
export function remember(
	flow: Flow,
	route: Route,
	{ node, tables }: { node: NodeConfig; tables: TableReader },
): Flow {
	if (route.kind === RouteKind.SERVICE) return flow;
	const family = originalKey(flow).source.includes(":") ? 6 : 4;
	const isGateway = route.kind === RouteKind.OUTSIDE && flow.remote >= Limit.NEXT_HOP_OUTSIDE;
	const peer = route.kind === RouteKind.HOST ? clientOfStack(flow, tables) : route;
	const isPeer = peer?.kind === RouteKind.PEER;
	const remote = isPeer ? peerIndex(peer.peer, family) : isGateway ? flow.remote : 0;
	return {
		...flow,
		routeKind: route.kind,
		routeFlags: route.flags,
		remote,
		routeEpoch: node.routeEpoch,
		...(isPeer && { remoteEpoch: policyEpochOf(remote, tables) }),
	};
}

/** The route of the client for whom the Node's stack forwards: its peer's policy epoch tells when its address means
 * something else. */
function clientOfStack(flow: Flow, tables: TableReader): Route | undefined {
	const isForwarded =
		(flow.flags & FlowFlag.STACK) !== 0 && (flow.flags & FlowFlag.FORWARDED) !== 0;
	return isForwarded ? routeOf(originalKey(flow).source, tables) : undefined;
}

/** The epoch of policies for flows with this peer. @param index as in `peers` */
export function policyEpochOf(index: number, tables: TableReader): number {
	return tables.peer(index)?.policyEpoch ?? 0;
}

/** Index of a peer's entry for packets of this family. */
export function peerIndex(id: number, family: 4 | 6): number {
	return id * 2 + (family === 6 ? 1 : 0);
}

export function gatewayAddress(node: NodeConfig, family: 4 | 6): string {
	return family === 4 ? node.gatewayAddress4 : node.gatewayAddress6;
}

export function snatAddress(node: NodeConfig, family: 4 | 6): string {
	return family === 4 ? node.snatAddress4 : node.snatAddress6;
}

/** The first two bytes of an address in the IP header and, for IPv4, the last two. */
function words({ frame, family, l3 }: Packet, side: "source" | "destination"): [number, number] {
	const size = family === 4 ? 4 : 16;
	const offset = l3 + (family === 4 ? 12 : 8) + (side === "source" ? 0 : size);
	return [frame.readUInt16BE(offset), frame.readUInt16BE(offset + 2)];
}

/** 224.0.0.0/24 (RFC 5771), ff01::/16 and ff02::/16 (RFC 4291), which routers do not forward. */
export function isLinkMulticast(packet: Packet): boolean {
	const [high, low] = words(packet, "destination");
	if (packet.family === 4) return high === 0xe000 && low >> 8 === 0;
	return (high & 0xff0f) === 0xff01 || (high & 0xff0f) === 0xff02;
}

/** Addresses that no host can have: answers to such a source would go to many hosts, or to this Node (RFC 1122,
 * 3.2.1.3; RFC 4291, 2.5). */
export function isNobodys(packet: Packet, side: "source" | "destination" = "source"): boolean {
	const address = packet.key[side];
	if (isMulticast(packet, side) || address === "" || address === "::1") return true;
	const [high] = words(packet, side);
	return packet.family === 4 && (high >> 8 === 0 || high >> 8 === 127);
}

/** Multicast, and the limited broadcast address. */
export function isMulticast(
	packet: Packet,
	side: "source" | "destination" = "destination",
): boolean {
	const [high, low] = words(packet, side);
	if (packet.family === 4) return high >> 12 === 0xe || (high === 0xffff && low === 0xffff);
	return high >> 8 === 0xff;
}

/** fe80::/10 */
export function isLinkLocal(packet: Packet, side: "source" | "destination"): boolean {
	return packet.family === 6 && (words(packet, side)[0] & 0xffc0) === 0xfe80;
}
