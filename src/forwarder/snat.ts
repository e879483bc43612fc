/**
 * Source NAT (RFC 3022, 4787, 5382, 5508): a flow that starts with it gets an address of the Node and a
 * port that is free towards its destination, and keeps both. Where the first ports are taken, a new connection
 * takes that of one of the same Pod that is over, or of a UDP or echo flow of it that is silent; where all
 * are, that of a Pod that has many more flows.
 */
import {
	DropReason,
	type Flow,
	FlowFlag,
	FlowKey,
	type HashKey,
	Limit,
	type NodeConfig,
} from "../tables/generated.js";
import { create, reverse } from "./flow.js";
import { isHeavy, mixed, sideHash } from "./flow_place.js";
import { isExpired, isOver, isSilent, isSpare, opens, succeeds } from "./flow_state.js";
import { type Packet, Protocol } from "./packet.js";
import type { TableReader } from "./table_reader.js";

/** True if the port or identifier can be replaced: TCP, UDP and ICMP echo. */
function hasTranslatedPort(packet: Packet): boolean {
	const { protocol } = packet.key;
	return protocol === Protocol.TCP || protocol === Protocol.UDP || packet.echo === "request";
}

/** The candidate source ports of a new flow, in order. */
function candidatePorts(packet: Packet, node: NodeConfig): number[] {
	const own = packet.key.sourcePort;
	if (!hasTranslatedPort(packet)) return [own];
	const first = node.snatPortFirst;
	const count = node.snatPortLast - first + 1;
	const inRange = own >= first && own <= node.snatPortLast;
	// The same towards every destination, if possible (RFC 4787 REQ-1).
	const spread = () => mixed(sourceHash(packet.key, node.portHash));
	const start = inRange ? own - first : spread() % count;
	const tries = Math.min(count, Limit.SNAT_TRIES);
	return Array.from({ length: tries }, (_, i) => first + ((start + i) % count));
}

/** True if another flow has the tuple. */
export function isTaken(
	reply: FlowKey,
	ended: readonly number[],
	tables: TableReader,
	node: NodeConfig,
	now: bigint,
): boolean {
	const owner = tables.flow(reply);
	return owner !== undefined && !isExpired(owner.flow, node, now) && !ended.includes(owner.slot);
}

function sourceHash(key: FlowKey, secret: HashKey): bigint {
	const bytes = FlowKey.encode(key);
	return sideHash(bytes.subarray(0, 16), bytes.readUInt16LE(32), secret);
}

/** The translation of a new flow: its packets' destination, and the source that is shown there. */
export interface Translation {
	/** The packet's tuple with its new destination. */
	target: FlowKey;
	/**
	 * New source address; undefined: the address stays, and the port too unless another flow has the answers' tuple.
	 */
	address: string | undefined;
	/** The Pod that the flow counts for. */
	endpoint: number;
	/** Slots of flows that have just ended. */
	ended: readonly number[];
	/** The destination is the Node itself, which may have a connection with the client that has no flow. */
	isToNode?: boolean;
}

/** A flow that starts with this packet and is translated, or why there is none. */
export function createTranslated(
	packet: Packet,
	{ target, address, endpoint, ended, isToNode = false }: Translation,
	tables: TableReader,
	node: NodeConfig,
	now: bigint,
): { flow: Flow } | { reason: number; text: string } {
	if (address === "") {
		return { reason: DropReason.NO_SNAT_ADDRESS, text: "the Node has no address to translate to" };
	}
	const own = tables.flowCount(endpoint);
	const slot = tables.flowSlot(packet.key, endpoint, now);
	if (slot === undefined) {
		return { reason: DropReason.FLOW_TABLE_FULL, text: "no flow is free for its translation" };
	}
	const plain = reverse(target);
	const isConnected = (answer: FlowKey): boolean =>
		isToNode && target.protocol === Protocol.TCP && tables.connection(reverse(answer));
	// A packet in the midst of a connection is of that connection, whose flow was lost.
	const isMet = opens(packet) && isConnected(plain);
	if (address === undefined && !isMet && !isTaken(plain, ended, tables, node, now)) {
		return { flow: create(packet, endpoint, now, plain) };
	}
	const reply = { ...plain, destination: address ?? plain.destination };
	// No socket of the Node has the client's own address.
	const isOwn = reply.destination === plain.destination;
	const isNodes = (answer: FlowKey): boolean =>
		isOwn ? isConnected(answer) : tables.socket(answer) || tables.conntrack(answer);
	const isFree = (answer: FlowKey): boolean =>
		!isTaken(answer, ended, tables, node, now) && !isNodes(answer);
	const yields = (answer: FlowKey): boolean => {
		const owner = tables.flow(answer)?.flow;
		const isLeft = owner !== undefined && (isOver(owner) || isSilent(owner, now));
		if (!isLeft || owner.endpoint !== endpoint) return isFree(answer);
		return !isNodes(answer);
	};
	const isOfHeavy = (answer: FlowKey): boolean => {
		const owner = tables.flow(answer)?.flow;
		if (owner === undefined || owner.endpoint === endpoint) return isFree(answer);
		const count = tables.flowCount(owner.endpoint);
		// The flow that had the slot has gone by then.
		const left = slot.left?.endpoint === owner.endpoint ? slot.left : undefined;
		const flows = count.flows - (left ? 1 : 0);
		const spare = count.spare - (left && isSpare(left) ? 1 : 0);
		const yields = isHeavy(flows, own.flows) || (isSpare(owner) && isHeavy(spare, own.spare));
		return yields ? !isNodes(answer) : isFree(answer);
	};
	const answers = candidatePorts(packet, node).map((destinationPort) => ({
		...reply,
		destinationPort,
	}));
	const found = succeeds(packet)
		? (answers.slice(0, Limit.SNAT_FREE_TRIES).find(isFree) ?? answers.find(yields))
		: answers.find(isFree);
	// Of a single port, a newcomer would take whichever it likes.
	const answer = found ?? (answers.length > 1 ? answers.find(isOfHeavy) : undefined);
	if (answer !== undefined) {
		const flow = create(packet, endpoint, now, answer);
		return { flow: { ...flow, flags: flow.flags | FlowFlag.SNAT } };
	}
	const { destination, destinationPort } = target;
	const text = `no port is free towards ${destination}, port ${destinationPort}`;
	return { reason: DropReason.SNAT_PORTS_EXHAUSTED, text };
}
