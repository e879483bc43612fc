/**
 * The device and MAC addresses towards an address. A cached next hop is used for NEXT_HOP_TRUST_MS; then
 * one packet goes through the kernel's neighbour code, and the result is cached again (ARCHITECTURE, Next
 * hops).
 */
import { MAC_SIZE, macWord, readMac } from "../tables/address.js";
import {
	Action,
	EventCounter,
	type FlowKey,
	Limit,
	type NextHop,
	type NodeConfig,
	NodeFlag,
	type Peer,
} from "../tables/generated.js";
import type { Draft } from "./draft.js";
import { type Packet, Protocol } from "./packet.js";
import { gatewayAddress, routeOf } from "./route.js";
import type { FibQuery } from "./table_reader.js";

const NS_PER_MS = 1_000_000n;
/** The MAC of a neighbour that the kernel has yet to resolve. */
export const UNKNOWN_MAC = "00:00:00:00:00:00";

/** The most that a cached next hop can say of an MTU. */
const HOP_MTU_MAX = 0xffff;
const WITH_PORTS: readonly number[] = [Protocol.TCP, Protocol.UDP, Protocol.SCTP];

/** How a frame leaves: WIRE with these MACs, or WIRE_NEIGHBOUR, where the kernel writes them. */
export interface NextHopWay {
	action: number;
	ifindex: number;
	destinationMac: string;
	sourceMac: string;
	/** To the outside: the largest IP packet that the route takes. */
	mtu: number;
	/** What the kernel would send from; "" where nothing is known, or it was not asked. */
	source: string;
	/** The new cache entry; undefined: unchanged. */
	cache: NextHop | undefined;
}

/** Why there is no next hop. "local": the kernel does not forward there; else the type of its route. */
export type Refusal = "local" | "blackhole" | "unreachable" | "prohibit";

/** The question of a packet that goes to the outside; `key` is its flow's, before translation. */
export function outsideQuery(
	{ context }: Draft,
	{ trafficClass }: Packet,
	key: FlowKey,
	wantsSource: boolean,
): FibQuery {
	// An ICMP identifier is no port to a rule.
	const hasPorts = WITH_PORTS.includes(key.protocol);
	return {
		source: key.source,
		destination: key.destination,
		protocol: key.protocol,
		sourcePort: hasPorts ? key.sourcePort : 0,
		destinationPort: hasPorts ? key.destinationPort : 0,
		tos: trafficClass,
		ifindex: context.ifindex,
		wantsSource,
	};
}

/**
 * The question of all that goes to a peer: in a tunnel it comes from the Node, else from the pod
 * CIDR, for which the gateway address stands.
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

/**
 * The way that the question asks for: from what is cached while that is trusted, else from the
 * kernel. "local": the kernel does not forward there.
 */
export function resolveNextHop(
	draft: Draft,
	cached: NextHop | undefined,
	query: FibQuery,
): NextHopWay | Refusal {
	const { tables, node, now } = draft;
	const settle = tables.nextHopSettle();
	const settling = now < settle;
	if (cached !== undefined && cached.checked >= settle && isTrusted(cached, node, now)) {
		return {
			action: Action.WIRE,
			ifindex: cached.ifindex,
			destinationMac: macText(cached.destinationMac),
			sourceMac: macText(cached.sourceMac),
			mtu: Number(cached.destinationMac >> 48n),
			source: "",
			cache: undefined,
		};
	}
	const answer = tables.fib(query);
	if (answer.kind === "notForwarded") return "local";
	if (answer.kind === "noRoute") return answer.type;
	const { ifindex, destinationMac, sourceMac, source } = answer;
	const limit = node.flags & NodeFlag.ROUTE_MTU ? routeOf(query.destination, tables).mtu : 0;
	const mtu = limit === 0 ? answer.mtu : Math.min(limit, answer.mtu);
	const way = { action: Action.WIRE_NEIGHBOUR, ifindex, mtu, source };
	if (destinationMac === undefined) {
		const cache = cached && { ...cached, checked: 0n };
		return { ...way, destinationMac: UNKNOWN_MAC, sourceMac: UNKNOWN_MAC, cache };
	}
	if (cached === undefined) return { ...way, destinationMac, sourceMac, cache: undefined };
	if (settling) {
		return { ...way, destinationMac, sourceMac, cache: { ...cached, checked: 0n } };
	}
	draft.event(EventCounter.NEXT_HOP_REFRESHED);
	return {
		...way,
		destinationMac,
		sourceMac,
		cache: {
			checked: now,
			destinationMac: macWord(destinationMac) | (BigInt(Math.min(mtu, HOP_MTU_MAX)) << 48n),
			sourceMac: macWord(sourceMac),
			ifindex,
			epoch: node.nextHopEpoch,
		},
	};
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
