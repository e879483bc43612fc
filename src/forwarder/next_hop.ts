/**
 * The device and MAC addresses towards an address. A cached next hop is used for NEXT_HOP_TRUST_MS; then
 * one packet goes through the kernel's neighbour code, and the result is cached again (ARCHITECTURE, Next
 * hops).
 */
import { MAC_SIZE, macWord, readMac } from "../tables/address.js";
import {
	Action,
	EventCounter,
	type Flow,
	type FlowKey,
	Limit,
	type NextHop,
	type NodeConfig,
	NodeFlag,
	type Peer,
} from "../tables/generated.js";
import type { Draft } from "./draft.js";
import { mixed } from "./flow_place.js";
import { type Packet, Protocol } from "./packet.js";
import { gatewayAddress, routeOf } from "./route.js";
import type { FibAnswer, FibQuery } from "./table_reader.js";

const NS_PER_MS = 1_000_000n;
/** The MAC of a neighbour that the kernel has yet to resolve. */
export const UNKNOWN_MAC = "00:00:00:00:00:00";

/** The largest MTU that a cached next hop can hold. */
const HOP_MTU_MAX = 0xffff;
const WITH_PORTS: readonly number[] = [Protocol.TCP, Protocol.UDP, Protocol.SCTP];

/** How a frame leaves: WIRE with these MACs, or WIRE_NEIGHBOUR, where the kernel writes them. */
export interface NextHopWay {
	action: number;
	ifindex: number;
	/** False: the kernel does not know the neighbour's MAC yet. */
	isResolved: boolean;
	/** UNKNOWN_MAC: not known, or a device without ARP. */
	destinationMac: string;
	sourceMac: string;
	/** To the outside: the largest IP packet that the route takes. */
	mtu: number;
	/** The source address that the kernel would use; "" if unknown or not requested. */
	source: string;
	/** The kernel's answer, to be cached; undefined: there was no query, or its answer must not be cached. */
	cache: NextHop | undefined;
}

/** The gateway of a flow to the outside, as the flow remembers it. */
export type Gateway = Pick<Flow, "remote" | "mtu" | "asked" | "remoteEpoch"> & {
	ifindex: number;
	mac: string;
};

/** Why there is no next hop. "local": the kernel does not forward there; else the type of its route. */
export type Refusal = "local" | "blackhole" | "unreachable" | "prohibit";

/**
 * The FIB query for a packet to the outside.
 *
 * @param from the tuple before translation: rules go by the Pod's address
 * @param to that after translation
 */
export function outsideQuery(
	{ context }: Draft,
	{ trafficClass }: Packet,
	{ from, to }: { from: FlowKey; to: FlowKey },
	wantsSource: boolean,
): FibQuery {
	// Routing rules do not see an ICMP identifier as a port.
	const hasPorts = WITH_PORTS.includes(from.protocol);
	return {
		source: from.source,
		destination: to.destination,
		protocol: from.protocol,
		sourcePort: hasPorts ? from.sourcePort : 0,
		destinationPort: hasPorts ? to.destinationPort : 0,
		tos: trafficClass,
		ifindex: context.ifindex,
		wantsSource,
	};
}

/**
 * The FIB query for packets to a peer. In a tunnel their source is the Node's; otherwise it is in the pod CIDR, for
 * which the gateway address stands.
 */
export function peerQuery({ node }: Draft, peer: Peer, inTunnel: boolean): FibQuery {
	const family = peer.remote.includes(":") ? 6 : 4;
	return {
		source: inTunnel ? peer.local : gatewayAddress(node, family),
		destination: peer.remote,
		protocol: inTunnel ? Protocol.UDP : 0,
		sourcePort: 0,
		destinationPort: inTunnel ? peer.port : 0,
		tos: 0,
		wantsSource: false,
	};
}

/** The cached next hop, while it is trusted. */
export function cachedWay(draft: Draft, hop: NextHop | undefined): NextHopWay | undefined {
	const { tables, node, now } = draft;
	if (hop === undefined || hop.checked < tables.nextHopSettle() || !isTrusted(hop, node, now))
		return undefined;
	return {
		action: Action.WIRE,
		ifindex: hop.ifindex,
		isResolved: true,
		destinationMac: macText(hop.destinationMac),
		sourceMac: macText(hop.sourceMac),
		mtu: 0,
		source: "",
		cache: undefined,
	};
}

/** The next hop cached for the flow's gateway, while it is trusted and belongs to this flow. */
export function gatewayWay(draft: Draft, flow: Flow, direction: number): NextHopWay | undefined {
	const { node, now, tables } = draft;
	const [ifindex, mac] = [flow.ifindex[direction ^ 1], flow.mac[direction ^ 1]];
	if (flow.remote < Limit.NEXT_HOP_OUTSIDE) return undefined;
	if (flow.remoteEpoch !== (node.nextHopEpoch & 0xffff)) return undefined;
	if (((askedAt(now) - flow.asked) & 0xffff) >= Limit.FLOW_ASKED_TRUST) return undefined;
	const way = cachedWay(draft, tables.nextHop(flow.remote));
	if (way === undefined || way.destinationMac !== mac || way.ifindex !== ifindex) return undefined;
	return { ...way, mtu: flow.mtu };
}

function askedAt(now: bigint): number {
	return Number((now >> BigInt(Limit.FLOW_ASKED_SHIFT)) & 0xffffn);
}

/** The index of a gateway in `next_hops`. */
function gatewayIndex(mac: bigint, ifindex: number): number {
	return Limit.NEXT_HOP_OUTSIDE + (mixed(mac + (BigInt(ifindex) << 48n)) >>> 20);
}

/** What a flow remembers of a next hop that the kernel has just given; remote 0: nothing. */
export function gatewayOf({ node, now }: Draft, { cache, mtu }: NextHopWay): Gateway | undefined {
	if (cache === undefined) return undefined;
	return {
		remote: gatewayIndex(cache.destinationMac, cache.ifindex),
		ifindex: cache.ifindex,
		mac: macText(cache.destinationMac),
		mtu: Math.min(mtu, HOP_MTU_MAX),
		asked: askedAt(now),
		remoteEpoch: node.nextHopEpoch & 0xffff,
	};
}

/** The next hop that the kernel's FIB gives. "local": the kernel does not forward there. */
export function askNextHop(draft: Draft, query: FibQuery): NextHopWay | Refusal {
	const { tables, node, now } = draft;
	const answer = tables.fib(query);
	if (answer.kind === "notForwarded") return "local";
	if (answer.kind === "noRoute") return answer.type;
	const { ifindex, sourceMac, source } = answer;
	const destinationMac = neighbourMac(answer);
	const limit = node.flags & NodeFlag.ROUTE_MTU ? routeOf(query.destination, tables).mtu : 0;
	const mtu = limit === 0 ? answer.mtu : Math.min(limit, answer.mtu);
	const way = { action: Action.WIRE_NEIGHBOUR, ifindex, mtu, source, isResolved: true };
	if (destinationMac === undefined) {
		const macs = { destinationMac: UNKNOWN_MAC, sourceMac: UNKNOWN_MAC };
		return { ...way, ...macs, isResolved: false, cache: undefined };
	}
	if (now < tables.nextHopSettle()) {
		return { ...way, destinationMac, sourceMac, cache: undefined };
	}
	draft.event(EventCounter.NEXT_HOP_REFRESHED);
	return {
		...way,
		destinationMac,
		sourceMac,
		cache: {
			checked: now,
			destinationMac: macWord(destinationMac),
			sourceMac: macWord(sourceMac),
			ifindex,
			epoch: node.nextHopEpoch,
		},
	};
}

/**
 * The neighbour's MAC; undefined: the kernel does not know it yet. A device without ARP (a tunnel's) gives its own
 * address, which need be no MAC: there is none then.
 */
export function neighbourMac(answer: FibAnswer & { kind: "forward" }): string | undefined {
	const { destinationMac, sourceMac } = answer;
	return destinationMac === sourceMac ? UNKNOWN_MAC : destinationMac;
}

function isTrusted(hop: NextHop, node: NodeConfig, now: bigint): boolean {
	const age = now - hop.checked;
	return (
		hop.checked !== 0n &&
		age < BigInt(Limit.NEXT_HOP_TRUST_MS) * NS_PER_MS &&
		hop.epoch === node.nextHopEpoch
	);
}

function macText(word: bigint): string {
	const bytes = Buffer.alloc(8);
	bytes.writeBigUInt64LE(word);
	return readMac(bytes.subarray(0, MAC_SIZE), 0);
}
