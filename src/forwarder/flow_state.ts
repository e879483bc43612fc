/**
 * The state machine of flows (ARCHITECTURE, Flows): how a packet changes its flow's state, and the time-outs.
 */
import {
	type Flow,
	FlowDirection,
	FlowFlag,
	FlowState,
	Limit,
	type NodeConfig,
} from "../tables/generated.js";
import { headers, type Packet, Protocol, TcpFlag } from "./packet.js";
import type { FlowEntry } from "./table_reader.js";

const NS_PER_SECOND = 1_000_000_000n;
/** Minimum time between updates of `last_seen`. */
const TOUCH_NS = 250_000_000n;

const SctpChunk = { INIT: 1, ABORT: 6, SHUTDOWN_COMPLETE: 14 } as const;

export function isExpired(flow: Flow, node: NodeConfig, now: bigint): boolean {
	const oldest = expiryOf(flow.state, node, now);
	return oldest === undefined || flow.lastSeen < oldest;
}

/** A flow of this state has expired if it was last seen before this; undefined: it has in any case. */
export function expiryOf(state: number, node: NodeConfig, now: bigint): bigint | undefined {
	const timeout = node.flowTimeouts[state];
	// The last packet may have come TOUCH_NS after lastSeen says.
	return timeout === undefined ? undefined : now - BigInt(timeout) * NS_PER_SECOND - TOUCH_NS;
}

/** The flow after one more packet. */
export function advance(entry: FlowEntry, packet: Packet, now: bigint): Flow {
	const { direction } = entry;
	const flow = { ...entry.flow };
	if (now > flow.lastSeen + TOUCH_NS) flow.lastSeen = now;
	if (packet.key.protocol === Protocol.TCP) markTcp(flow, direction, packet);
	else if (packet.key.protocol === Protocol.SCTP) markSctp(flow, direction, packet.l4Type);
	if (direction === FlowDirection.REPLY) flow.flags |= FlowFlag.REPLIED;
	flow.state = stateOf(packet.key.protocol, flow.flags);
	return flow;
}

const BOTH_FINS = FlowFlag.FIN_ORIGINAL | FlowFlag.FIN_REPLY;
const RESETS = FlowFlag.RESET_ORIGINAL | FlowFlag.RESET_REPLY;

function markTcp(flow: Flow, direction: number, packet: Packet): void {
	const { l4Type: tcp } = packet;
	const isOriginal = direction === FlowDirection.ORIGINAL;
	const fin = isOriginal ? FlowFlag.FIN_ORIGINAL : FlowFlag.FIN_REPLY;
	if (isOriginal && isSyn(tcp)) {
		if (flow.flags & (BOTH_FINS | RESETS)) flow.flags &= ~(FlowFlag.REPLIED | BOTH_FINS | RESETS);
		if (!(flow.flags & FlowFlag.REPLIED)) flow.flags |= FlowFlag.HALF_OPEN;
	} else if (isOriginal && flow.flags & FlowFlag.REPLIED && !(tcp & (TcpFlag.SYN | TcpFlag.RST))) {
		flow.flags &= ~FlowFlag.HALF_OPEN;
	}
	markReset(flow, direction, (tcp & TcpFlag.RST) !== 0);
	if (tcp & TcpFlag.FIN) flow.flags |= fin;
	else if (packet.length > headers(packet)) flow.flags &= ~fin;
}

/** Data after a reset shows that the reset was forged or stale: the mark is removed. */
function markReset(flow: Flow, direction: number, isReset: boolean): void {
	const reset =
		direction === FlowDirection.ORIGINAL ? FlowFlag.RESET_ORIGINAL : FlowFlag.RESET_REPLY;
	if (isReset) flow.flags |= reset;
	else flow.flags &= ~reset;
}

function markSctp(flow: Flow, direction: number, chunk: number): void {
	const isOriginal = direction === FlowDirection.ORIGINAL;
	if (isOriginal && chunk === SctpChunk.INIT && flow.flags & RESETS) {
		flow.flags &= ~(FlowFlag.REPLIED | RESETS);
	}
	const ends = chunk === SctpChunk.ABORT || chunk === SctpChunk.SHUTDOWN_COMPLETE;
	markReset(flow, direction, ends);
}

/** The state of a flow, which follows from its flags alone. */
function stateOf(protocol: number, flags: number): number {
	const isReplied = (flags & FlowFlag.REPLIED) !== 0;
	const isReset = (flags & RESETS) !== 0;
	switch (protocol) {
		case Protocol.TCP:
			if (isReset || (flags & BOTH_FINS) === BOTH_FINS) return FlowState.TCP_CLOSED;
			if (flags & BOTH_FINS) return FlowState.TCP_CLOSING;
			return isReplied && !(flags & FlowFlag.HALF_OPEN)
				? FlowState.TCP_ESTABLISHED
				: FlowState.TCP_OPENING;
		case Protocol.UDP:
			return isReplied ? FlowState.UDP_ESTABLISHED : FlowState.UDP_OPENING;
		case Protocol.ICMP:
		case Protocol.ICMPV6:
			return FlowState.ICMP;
		case Protocol.SCTP:
			if (isReset) return FlowState.SCTP_CLOSED;
			return isReplied ? FlowState.SCTP_ESTABLISHED : FlowState.SCTP_OPENING;
		default:
			return FlowState.OTHER;
	}
}

/** True if the client opens another connection on a closed flow. */
export function beginsAgain({ flags }: Flow, packet: Packet): boolean {
	return (flags & (BOTH_FINS | RESETS)) !== 0 && opens(packet);
}

/** True if the packet opens a connection. */
export function opens({ key, l4Type }: Packet): boolean {
	if (key.protocol === Protocol.TCP) return isSyn(l4Type);
	return key.protocol === Protocol.SCTP && l4Type === SctpChunk.INIT;
}

/** It may begin a flow that takes the port of one that is over, or silent: it belongs to no connection that goes on. */
export function succeeds(packet: Packet): boolean {
	const { protocol } = packet.key;
	return (protocol !== Protocol.TCP && protocol !== Protocol.SCTP) || opens(packet);
}

function isSyn(tcp: number): boolean {
	return (tcp & (TcpFlag.SYN | TcpFlag.ACK)) === TcpFlag.SYN;
}

/** True for a flow that is evicted before others: unanswered, half-open, or closed. */
export function isSpare({ state, flags }: Pick<Flow, "state" | "flags">): boolean {
	return !(flags & FlowFlag.REPLIED) || (flags & FlowFlag.HALF_OPEN) !== 0 || isOver({ state });
}

/** True if the connection is closed by both FINs or a reset. */
export function isOver({ state }: Pick<Flow, "state">): boolean {
	return state === FlowState.TCP_CLOSED || state === FlowState.SCTP_CLOSED;
}

/**
 * The flow has been silent for a while, and is UDP, echo or the like, whose end no packet shows, or a TCP
 * connection that was never established.
 */
export function isSilent({ protocol, state, lastSeen }: Flow, now: bigint): boolean {
	const hasEnd = protocol === Protocol.TCP || protocol === Protocol.SCTP;
	return (
		(!hasEnd || state === FlowState.TCP_OPENING) &&
		now - lastSeen > BigInt(Limit.SNAT_SILENT_SECONDS) * NS_PER_SECOND + TOUCH_NS
	);
}
