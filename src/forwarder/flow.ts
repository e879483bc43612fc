/**
 * Flows: tuples, look-up and creation (ARCHITECTURE, Flows). Writes nothing; a changed flow is a new value.
 * flow_state.ts has the state machine, flow_place.ts the slot that a flow takes.
 */
import {
	ClaimBit,
	type Flow,
	FlowDirection,
	FlowFlag,
	type FlowKey,
	type FlowRules,
	FlowState,
	type NodeConfig,
} from "../tables/generated.js";
import { advance, isExpired } from "./flow_state.js";
import { type Packet, parseQuoted } from "./packet.js";
import type { FlowEntry, TableReader } from "./table_reader.js";

export function reverse(key: FlowKey): FlowKey {
	return {
		source: key.destination,
		destination: key.source,
		sourcePort: key.destinationPort,
		destinationPort: key.sourcePort,
		protocol: key.protocol,
	};
}

/** The tuple that the flow's packets of a direction arrive with. */
export function tupleOf({ addresses, ports, protocol }: Flow, direction: number): FlowKey {
	const { source, destination } = addresses[direction]!;
	const { source: sourcePort, destination: destinationPort } = ports[direction]!;
	return { source, destination, sourcePort, destinationPort, protocol };
}

export function originalKey(flow: Flow): FlowKey {
	return tupleOf(flow, FlowDirection.ORIGINAL);
}

export function replyKey(flow: Flow): FlowKey {
	return tupleOf(flow, FlowDirection.REPLY);
}

/** The tuple that they leave with: the reverse of the one that the other direction's arrive with. */
export function targetOf(flow: Flow, direction: number): FlowKey {
	return reverse(tupleOf(flow, direction ^ 1));
}

/** The generation of a slot with a live flow, one that its two tuples lead to; undefined: the slot has none. */
export function liveGeneration(claim: number): number | undefined {
	const isLive = claim & ClaimBit.IN_USE && claim & ClaimBit.PUBLISHED;
	return isLive ? (claim & ClaimBit.GENERATION) >>> 1 : undefined;
}

export function isTranslated(flow: Flow): boolean {
	return (flow.flags & (FlowFlag.SNAT | FlowFlag.DNAT)) !== 0;
}

/** True if the source address is translated, not only the port. */
export function takesAddress(flow: Flow): boolean {
	return (
		(flow.flags & FlowFlag.SNAT) !== 0 && replyKey(flow).destination !== originalKey(flow).source
	);
}

/** True if the backend sees the client's own address. */
export function showsClient(flow: Flow): boolean {
	return replyKey(flow).destination === originalKey(flow).source;
}

/**
 * True for an answer to a flow that began in the Node's own stack: the stack may have translated it, so it goes back
 * there.
 */
export function answersStack(entry: FlowEntry | undefined): boolean {
	return (
		entry !== undefined &&
		(entry.flow.flags & FlowFlag.STACK) !== 0 &&
		entry.direction === FlowDirection.REPLY
	);
}

/**
 * The flow of a packet; for an ICMP error, the flow that it is about. An expired flow is unknown: its
 * next packet is translated by the current rules.
 */
export function lookUp(
	packet: Packet,
	tables: TableReader,
	node: NodeConfig,
	now: bigint,
): FlowEntry | undefined {
	if (packet.portsUnknown) return undefined;
	const key = packet.icmpError ? errorKey(packet) : packet.key;
	const entry = key && tables.flow(key);
	return entry && !isExpired(entry.flow, node, now) ? entry : undefined;
}

/**
 * The tuple of the packet that an ICMP error is about, in the direction of the error. An error goes to
 * that packet's sender; any other error matches nothing.
 */
function errorKey(error: Packet): FlowKey | undefined {
	const quoted = parseQuoted(error);
	if (quoted === undefined || quoted.isLaterFragment) return undefined;
	return quoted.key.source === error.key.destination ? reverse(quoted.key) : undefined;
}

/** The remembered fields of a flow of which nothing is known but its tuples. */
export const NOTHING_REMEMBERED = {
	routeEpoch: 0,
	ifindex: [0, 0],
	mac: ["00:00:00:00:00:00", "00:00:00:00:00:00"],
	remote: 0,
	asked: 0,
	remoteEpoch: 0,
	mtu: 0,
	routeKind: 0,
	routeFlags: 0,
	pods: 0,
	backendUpper: 0,
	backend: 0,
};

/** Addresses and ports of a flow by direction. */
export function tuplesOf(
	...keys: [original: FlowKey, reply: FlowKey]
): Pick<Flow, "addresses" | "ports" | "protocol"> {
	return {
		addresses: keys.map(({ source, destination }) => ({ source, destination })),
		ports: keys.map(({ sourcePort, destinationPort }) => ({
			source: sourcePort,
			destination: destinationPort,
		})),
		protocol: keys[0].protocol,
	};
}

/**
 * A flow that starts with this packet, which counts for a Pod, before its route.
 *
 * @param reply what its answers carry; unless it reverses the packet's tuple, the flow is translated
 */
export function create(
	packet: Packet,
	endpoint: number,
	now: bigint,
	reply: FlowKey = reverse(packet.key),
): Flow {
	const { key } = packet;
	const isDestinationKept =
		reply.source === key.destination && reply.sourcePort === key.destinationPort;
	const flow: Flow = {
		lastSeen: now,
		claim: 0,
		state: FlowState.NONE,
		flags: FlowFlag.COUNTED | (isDestinationKept ? 0 : FlowFlag.DNAT),
		...tuplesOf(key, reply),
		endpoint,
		...NOTHING_REMEMBERED,
	};
	// The first packet may end its flow at once (RST).
	return advance({ slot: 0, direction: FlowDirection.ORIGINAL, flow }, packet, now);
}

/** The rules that network policy judged the flow in a slot by. */
export function rulesOfFlow(flow: Flow | undefined, kept: FlowRules | undefined): FlowRules {
	const none = { egress: 0, ingress: 0 };
	return flow !== undefined && flow.flags & FlowFlag.RULED ? (kept ?? none) : none;
}
