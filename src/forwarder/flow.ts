/**
 * Flows: look-up, creation and the state machine (ARCHITECTURE, Flows). Writes nothing; a changed flow is
 * a new value.
 */
import {
	ClaimBit,
	type Flow,
	type FlowCount,
	FlowDirection,
	FlowFlag,
	FlowKey,
	type FlowPair,
	FlowPlace,
	type FlowRules,
	FlowState,
	type HashKey,
	Limit,
	type NodeConfig,
} from "../tables/generated.js";
import { headers, type Packet, Protocol, parseQuoted, TcpFlag } from "./packet.js";
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

/** What the flow's packets of a direction carry where they come in. */
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

/** What they carry where they leave: the reverse of what the other direction's come in with. */
export function targetOf(flow: Flow, direction: number): FlowKey {
	return reverse(tupleOf(flow, direction ^ 1));
}

/** The generation of a slot whose flow its two tuples lead to; undefined: it has none. */
export function liveGeneration(claim: number): number | undefined {
	const isLive = claim & ClaimBit.IN_USE && claim & ClaimBit.PUBLISHED;
	return isLive ? (claim & ClaimBit.GENERATION) >>> 1 : undefined;
}

export function isTranslated(flow: Flow): boolean {
	return (flow.flags & (FlowFlag.SNAT | FlowFlag.DNAT)) !== 0;
}

/** Its source gets another address, not only another port. */
export function takesAddress(flow: Flow): boolean {
	return (
		(flow.flags & FlowFlag.SNAT) !== 0 && replyKey(flow).destination !== originalKey(flow).source
	);
}

/** Its backend sees the client's own address. */
export function showsClient(flow: Flow): boolean {
	return replyKey(flow).destination === originalKey(flow).source;
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
	const oldest = expiryOf(flow.state, node, now);
	return oldest === undefined || flow.lastSeen < oldest;
}

/** A flow of this state has expired if it was last seen before this; undefined: it has in any case. */
export function expiryOf(state: number, node: NodeConfig, now: bigint): bigint | undefined {
	const timeout = node.flowTimeouts[state];
	// The last packet may have come TOUCH_NS after lastSeen says.
	return timeout === undefined ? undefined : now - BigInt(timeout) * NS_PER_SECOND - TOUCH_NS;
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

/** The flow's ends and what was found out about them: nothing. */
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
	if (isOriginal && isSyn(tcp) && flow.flags & (BOTH_FINS | RESETS)) {
		flow.flags &= ~(FlowFlag.REPLIED | BOTH_FINS | RESETS);
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

/** What the flags say of a flow, and nothing else. */
function stateOf(protocol: number, flags: number): number {
	const isReplied = (flags & FlowFlag.REPLIED) !== 0;
	const isReset = (flags & RESETS) !== 0;
	switch (protocol) {
		case Protocol.TCP:
			if (isReset || (flags & BOTH_FINS) === BOTH_FINS) return FlowState.TCP_CLOSED;
			if (flags & BOTH_FINS) return FlowState.TCP_CLOSING;
			return isReplied ? FlowState.TCP_ESTABLISHED : FlowState.TCP_OPENING;
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

/** The client opens another connection on a flow that is over. */
export function beginsAgain({ flags }: Flow, packet: Packet): boolean {
	return (flags & (BOTH_FINS | RESETS)) !== 0 && opens(packet);
}

/** The packet opens a connection. */
export function opens({ key, l4Type }: Packet): boolean {
	if (key.protocol === Protocol.TCP) return isSyn(l4Type);
	return key.protocol === Protocol.SCTP && l4Type === SctpChunk.INIT;
}

function isSyn(tcp: number): boolean {
	return (tcp & (TcpFlag.SYN | TcpFlag.ACK)) === TcpFlag.SYN;
}

/** It is evicted before others: it is unanswered, or over. */
export function isSpare({ state, flags }: Pick<Flow, "state" | "flags">): boolean {
	return (flags & FlowFlag.REPLIED) === 0 || isOver({ state });
}

/** The connection is closed by both FINs or a reset. */
export function isOver({ state }: Pick<Flow, "state">): boolean {
	return state === FlowState.TCP_CLOSED || state === FlowState.SCTP_CLOSED;
}

/** Why a flow makes room for another one, the better reason the greater (enum eviction). */
const Eviction = { NOT: 0, SPARE: 1, HEAVY: 2, SPARE_HEAVY: 3 } as const;

/** More than twice the newcomer's, and more than a few. */
function isHeavy(count: number, own: number): boolean {
	return count > 2 * own + Limit.FLOWS_FEW;
}

/**
 * The slot that a new flow takes: of FLOW_SLOT_TRIES places that follow from its key (home, the
 * neighbour of that, and on by a stride) the first that is free or expired. Else a flow makes room:
 * one that is unanswered or over, of a Pod that has many more of those than the newcomer's; or any
 * flow of a Pod that has many more of all; or any that is unanswered or over. Among those alike, one of
 * the Pod with most, and then the one that was seen longest ago. Undefined: none.
 *
 * @param endpoint the Pod that the new flow counts for
 * @param slots how many there are
 * @param at the flow in a slot; undefined: it is free
 * @param counts flows of a Pod
 */
export function findSlot(
	key: FlowKey,
	endpoint: number,
	node: NodeConfig,
	now: bigint,
	slots: number,
	at: (slot: number) => Flow | undefined,
	counts: (endpoint: number) => FlowCount,
): FlowSlot | undefined {
	const home = homeOf(key, node, slots);
	const step = (hash(key, node.flowHash) & 0xffff) | 1;
	const own = counts(endpoint);
	let best = {
		slot: 0,
		eviction: Eviction.NOT as number,
		count: 0,
		evicted: undefined as Flow | undefined,
	};
	for (let i = 0; i < Limit.FLOW_SLOT_TRIES; i++) {
		const slot = i === 1 ? home ^ 1 : (home + Math.max(i - 1, 0) * step) % slots;
		if (slot >= slots) continue;
		const flow = at(slot);
		if (flow === undefined || isExpired(flow, node, now)) return { slot };
		const theirs = counts(flow.endpoint);
		const [count, eviction] = isSpare(flow)
			? [
					theirs.spare,
					flow.endpoint === endpoint || isHeavy(theirs.spare, own.spare)
						? Eviction.SPARE_HEAVY
						: Eviction.SPARE,
				]
			: [theirs.flows, isHeavy(theirs.flows, own.flows) ? Eviction.HEAVY : Eviction.NOT];
		if (eviction !== Eviction.NOT && eviction >= best.eviction) {
			const isBetter =
				eviction > best.eviction ||
				count > best.count ||
				(count === best.count && flow.lastSeen < best.evicted!.lastSeen);
			if (isBetter) best = { slot, eviction, count, evicted: flow };
		}
		if (best.eviction === Eviction.SPARE_HEAVY && i >= Limit.FLOW_SLOT_SAMPLE - 1) break;
	}
	return best.evicted && { slot: best.slot, evicted: best.evicted };
}

/** The first of the places that a tuple's hash names; the second is its neighbour. */
export function homeOf(key: FlowKey, node: Pick<NodeConfig, "flowHash">, slots: number): number {
	return Number((BigInt(hash(key, node.flowHash)) * BigInt(slots)) >> 32n);
}

/** What a look-up by hash reads. */
export interface FlowMaps {
	slots: number;
	at(slot: number): Flow | undefined;
	/** Of `flow_hints`. */
	pair(index: number): FlowPair | undefined;
}

/** The flow of a tuple that has no entry in `flow_index`, because it is where its hash says, or its place is. */
export function findByHash(
	key: FlowKey,
	node: Pick<NodeConfig, "flowHash">,
	places: FlowMaps,
): FlowEntry | undefined {
	const home = homeOf(key, node, places.slots);
	const wanted = FlowKey.encode(key);
	const inSlot = (slot: number, isHome: boolean): FlowEntry | undefined => {
		const flow = slot < places.slots ? places.at(slot) : undefined;
		if (!flow || liveGeneration(flow.claim) === undefined) return undefined;
		if (isHome && !(flow.flags & FlowFlag.AT_HOME)) return undefined;
		for (const direction of [FlowDirection.ORIGINAL, FlowDirection.REPLY])
			if (FlowKey.encode(tupleOf(flow, direction)).equals(wanted)) return { slot, direction, flow };
		return undefined;
	};
	const owner = places.pair(home >> 1)?.owner[home & 1] ?? 0;
	const fits = owner !== 0 && owner >>> FlowPlace.HASH_SHIFT === ownerTag(hash(key, node.flowHash));
	return (
		inSlot(home, true) ??
		inSlot(home ^ 1, true) ??
		(fits ? inSlot((owner & FlowPlace.SLOT) - 1, false) : undefined)
	);
}

/** What a tuple's place has while it is this flow's, in this direction. */
export function ownerOf(
	slot: number,
	direction: number,
	key: FlowKey,
	{ flowHash }: Pick<NodeConfig, "flowHash">,
): number {
	const tag = ownerTag(hash(key, flowHash)) << FlowPlace.HASH_SHIFT;
	return (tag | (direction << FlowPlace.DIRECTION_SHIFT) | (slot + 1)) >>> 0;
}

function ownerTag(hashed: number): number {
	return hashed & ((1 << (32 - FlowPlace.HASH_SHIFT)) - 1);
}

/** The rules that network policy judged the flow in a slot by. */
export function rulesOfFlow(flow: Flow | undefined, kept: FlowRules | undefined): FlowRules {
	const none = { egress: 0, ingress: 0 };
	return flow !== undefined && flow.flags & FlowFlag.RULED ? (kept ?? none) : none;
}

const HASH_SUM = 0xd6e8feb86659fd93n;

/** One side of a tuple by the hash NH (ARCHITECTURE, Flows). `address`: 16 bytes. */
export function sideHash(address: Buffer, port: number, { word }: HashKey): bigint {
	const at = (i: number) => (address.readUInt32LE(i * 4) + word[i]!) >>> 0;
	const sum =
		BigInt(at(0)) * BigInt(at(1)) +
		BigInt(at(2)) * BigInt(at(3)) +
		BigInt((port + word[4]!) >>> 0) * BigInt(word[5]!);
	return BigInt.asUintN(64, sum);
}

/** The upper half of a sum of hashes, mixed. */
export function mixed(sum: bigint): number {
	return Number(BigInt.asUintN(64, sum * HASH_SUM) >> 32n);
}

/** Spreads flows over slots and tunnel source ports. */
export function hash(key: FlowKey, secret: HashKey, withPorts = true): number {
	const bytes = FlowKey.encode(withPorts ? key : { ...key, sourcePort: 0, destinationPort: 0 });
	const side = (address: number, port: number): bigint => {
		const sum = sideHash(bytes.subarray(address, address + 16), bytes.readUInt16LE(port), secret);
		const spread = BigInt.asUintN(64, sum * HASH_SUM);
		return spread ^ (spread >> 32n);
	};
	return mixed(side(0, 32) + side(16, 34) + BigInt(key.protocol));
}
