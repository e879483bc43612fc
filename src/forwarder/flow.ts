/**
 * Flows: look-up, creation and the state machine (ARCHITECTURE, Flows). Writes nothing; a changed flow is
 * a new value.
 */
import {
	type Flow,
	FlowDirection,
	FlowFlag,
	FlowKey,
	FlowState,
	Limit,
	type NodeConfig,
} from "../tables/generated.js";
import { type Packet, Protocol, parseQuoted, TcpFlag } from "./packet.js";
import type { FlowEntry, FlowSlot, TableReader } from "./table_reader.js";

const NS_PER_SECOND = 1_000_000_000n;
/** Minimum time between updates of `last_seen`. */
const TOUCH_NS = 250_000_000n;

const SctpChunk = { INIT: 1, ABORT: 6, SHUTDOWN_COMPLETE: 14 } as const;

export function reverse(key: FlowKey): FlowKey {
	return {
		source: key.destination,
		destination: key.source,
		sourcePort: key.destinationPort,
		destinationPort: key.sourcePort,
		protocol: key.protocol,
	};
}

/** The tuple of answers. */
export function replyKey(flow: Flow): FlowKey {
	const key = reverse(flow.key);
	if (!isTranslated(flow)) return key;
	return { ...key, destination: flow.snatAddress, destinationPort: flow.snatPort };
}

export function isTranslated(flow: Flow): boolean {
	return (flow.flags & FlowFlag.SNAT) !== 0;
}

/** It began in the Node's own stack, which may have translated it: answers go back there. */
export function answersStack(entry: FlowEntry | undefined): boolean {
	return (
		entry !== undefined &&
		(entry.flow.flags & FlowFlag.STACK) !== 0 &&
		entry.direction === FlowDirection.REPLY
	);
}

export function isExpired(flow: Flow, node: NodeConfig, now: bigint): boolean {
	const timeout = node.flowTimeouts[flow.state];
	if (timeout === undefined) return true;
	// FLOW_NONE is a slot that is being filled: it has a second for that.
	return now - flow.lastSeen > BigInt(timeout || 1) * NS_PER_SECOND;
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

function initialState({ key, l4Type }: Packet): number {
	switch (key.protocol) {
		case Protocol.TCP:
			// A flow that is met in its middle was opened before anyone looked.
			return isSyn(l4Type) ? FlowState.TCP_OPENING : FlowState.TCP_ESTABLISHED;
		case Protocol.UDP:
			return FlowState.UDP_OPENING;
		case Protocol.ICMP:
		case Protocol.ICMPV6:
			return FlowState.ICMP;
		case Protocol.SCTP:
			return l4Type === SctpChunk.INIT ? FlowState.SCTP_OPENING : FlowState.SCTP_ESTABLISHED;
		default:
			return FlowState.OTHER;
	}
}

/** A flow that starts with this packet, before translation and route. */
export function create(packet: Packet, now: bigint): Flow {
	return {
		lastSeen: now,
		claim: 0,
		state: initialState(packet),
		flags: 0,
		snatPort: 0,
		key: packet.key,
		snatAddress: "",
		routeEpoch: 0,
		peer: Limit.NO_PEER,
		routeKind: 0,
		routeFlags: 0,
		localMac: "00:00:00:00:00:00",
		localIfindex: 0,
		localDirection: 0,
		published: 1,
		nextHop: { checked: 0n, destinationMac: 0n, sourceMac: 0n, ifindex: 0, epoch: 0 },
	};
}

/** The flow after one more packet. */
export function advance(entry: FlowEntry, packet: Packet, now: bigint): Flow {
	const flow = { ...entry.flow };
	if (now > flow.lastSeen + TOUCH_NS) flow.lastSeen = now;
	if (entry.direction === FlowDirection.REPLY) flow.flags |= FlowFlag.REPLIED;

	if (packet.key.protocol === Protocol.TCP) advanceTcp(flow, entry.direction, packet.l4Type);
	else if (packet.key.protocol === Protocol.SCTP) {
		advanceSctp(flow, entry.direction, packet.l4Type);
	} else if (entry.direction === FlowDirection.REPLY && flow.state === FlowState.UDP_OPENING) {
		flow.state = FlowState.UDP_ESTABLISHED;
	}
	return flow;
}

function advanceTcp(flow: Flow, direction: number, tcp: number): void {
	const bothFins = FlowFlag.FIN_ORIGINAL | FlowFlag.FIN_REPLY;
	const ending = flow.state === FlowState.TCP_CLOSING || flow.state === FlowState.TCP_CLOSED;
	if (direction === FlowDirection.ORIGINAL && isSyn(tcp) && ending) {
		flow.state = FlowState.TCP_OPENING;
		flow.flags &= ~(FlowFlag.REPLIED | bothFins);
	}
	if (direction === FlowDirection.REPLY && flow.state === FlowState.TCP_OPENING) {
		flow.state = FlowState.TCP_ESTABLISHED;
	}
	if (tcp & TcpFlag.FIN) {
		flow.flags |= direction === FlowDirection.ORIGINAL ? FlowFlag.FIN_ORIGINAL : FlowFlag.FIN_REPLY;
		if (flow.state !== FlowState.TCP_CLOSED) flow.state = FlowState.TCP_CLOSING;
		if ((flow.flags & bothFins) === bothFins) flow.state = FlowState.TCP_CLOSED;
	}
	if (tcp & TcpFlag.RST) flow.state = FlowState.TCP_CLOSED;
}

function advanceSctp(flow: Flow, direction: number, chunk: number): void {
	if (
		direction === FlowDirection.ORIGINAL &&
		chunk === SctpChunk.INIT &&
		flow.state === FlowState.SCTP_CLOSED
	) {
		flow.state = FlowState.SCTP_OPENING;
	}
	if (direction === FlowDirection.REPLY && flow.state === FlowState.SCTP_OPENING) {
		flow.state = FlowState.SCTP_ESTABLISHED;
	}
	if (chunk === SctpChunk.ABORT || chunk === SctpChunk.SHUTDOWN_COMPLETE) {
		flow.state = FlowState.SCTP_CLOSED;
	}
}

function isSyn(tcp: number): boolean {
	return (tcp & (TcpFlag.SYN | TcpFlag.ACK)) === TcpFlag.SYN;
}

const OPENING: readonly number[] = [
	FlowState.TCP_OPENING,
	FlowState.UDP_OPENING,
	FlowState.SCTP_OPENING,
];

/**
 * The slot that a new flow takes: of FLOW_SLOT_TRIES places that follow from its key (home, the
 * neighbour of that, and on by a stride) the first that
 * is free or expired, else the one whose unanswered flow was seen longest ago; undefined: none.
 *
 * @param slots how many there are
 * @param at the flow in a slot; undefined: it is free
 */
export function findSlot(
	key: FlowKey,
	node: NodeConfig,
	now: bigint,
	slots: number,
	at: (slot: number) => Flow | undefined,
): FlowSlot | undefined {
	const spread = hash(key, node.hashSeed);
	const home = Number((BigInt(spread) * BigInt(slots)) >> 32n);
	const step = (spread & 0xffff) | 1;
	let oldest: { slot: number; evicted: Flow } | undefined;
	for (let i = 0; i < Limit.FLOW_SLOT_TRIES; i++) {
		const slot = i === 1 ? home ^ 1 : (home + Math.max(i - 1, 0) * step) % slots;
		if (slot >= slots) continue;
		const flow = at(slot);
		if (flow === undefined || isExpired(flow, node, now)) return { slot };
		if (!OPENING.includes(flow.state)) continue;
		if (oldest === undefined || flow.lastSeen < oldest.evicted.lastSeen) {
			oldest = { slot, evicted: flow };
		}
	}
	return oldest;
}

const HASH_HIGH = 0x9e3779b97f4a7c15n;
const HASH_LOW = 0xc2b2ae3d27d4eb4fn;
const HASH_SUM = 0xd6e8feb86659fd93n;

/** Spreads flows over slots, SNAT ports and tunnel source ports (ARCHITECTURE, Tunnel). */
export function hash(key: FlowKey, seed: number, withPorts = true): number {
	const bytes = FlowKey.encode(withPorts ? key : { ...key, sourcePort: 0, destinationPort: 0 });
	const wide = (BigInt(seed) << 32n) | BigInt(seed);
	const side = (address: number, port: number): bigint => {
		const high = bytes.readBigUInt64LE(address);
		const low = bytes.readBigUInt64LE(address + 8) ^ BigInt(bytes.readUInt16LE(port));
		const product = BigInt.asUintN(64, (high ^ wide) * HASH_HIGH);
		const value = product ^ BigInt.asUintN(64, (low ^ wide) * HASH_LOW);
		return value ^ (value >> 32n);
	};
	const sum = BigInt.asUintN(64, side(0, 32) + side(16, 34) + BigInt(key.protocol));
	return Number(BigInt.asUintN(64, sum * HASH_SUM) >> 32n);
}
