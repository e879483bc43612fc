/**
 * Probes between the gateway addresses of Nodes, which prove a path (ARCHITECTURE, Probes): requests of
 * this Node's agent at from_host; requests of peers, and answers to this Node's requests, at from_wire.
 */
import { writeAddress } from "../tables/address.js";
import {
	Action,
	DropReason,
	EventCounter,
	Limit,
	type NodeConfig,
	NodeFlag,
	Path,
	type Peer,
	Probe,
	ProbeEvent,
	ProbeFlag,
	ProbeKind,
	ProbeWay,
	ProbeWayName,
} from "../tables/generated.js";
import { complement, pseudoHeaderSum, sumWords, writeIpv4Checksum } from "./checksum.js";
import type { Decision } from "./decision.js";
import { type Draft, NO_ACTIVITY } from "./draft.js";
import { emitToWire, isTunnel } from "./emit.js";
import { askNextHop, type NextHopWay, peerQuery } from "./next_hop.js";
import { ETHERNET_HEADER, type Packet, Protocol } from "./packet.js";
import { gatewayAddress, peerIndex } from "./route.js";
import { siphash } from "./siphash.js";
import { encapsulate } from "./tunnel.js";
import { invitesUntunnelled, refuseOfAnotherHost } from "./untunnelled.js";

const UDP_HEADER = 8;
const NS_PER_MS = 1_000_000n;
/** Offset in struct probe. */
const KIND = 4;
/** Offset in struct probe; the token covers the bytes before it. */
const SENT_AT = 16;
const TOKEN = 24;
const REQUEST_FLAGS = (1 << Limit.PROBE_ANSWER_SHIFT) - 1;

/** True for a whole UDP packet with both probe ports and room for a probe. */
export function isProbe(packet: Packet, { context }: Pick<Draft, "context">): boolean {
	const { key, frame, l3, l4, length, isFragment } = packet;
	if (key.protocol !== Protocol.UDP || isFragment || context.gsoSize) return false;
	if (key.sourcePort !== Limit.PROBE_PORT || key.destinationPort !== Limit.PROBE_PORT) return false;
	const udpLength = frame.readUInt16BE(l4 + 4);
	return udpLength >= UDP_HEADER + Probe.size && l4 - l3 + udpLength <= length;
}

/** The peer that a request of this Node goes to; undefined: an ordinary packet. */
export function probeTo(draft: Draft, packet: Packet): number | undefined {
	return probePeer(draft, packet, packet.key.source, packet.key.destination);
}

/** The peer that a request or an answer came from; undefined: an ordinary packet. */
export function probeFrom(draft: Draft, packet: Packet): number | undefined {
	return probePeer(draft, packet, packet.key.destination, packet.key.source);
}

function probePeer(draft: Draft, packet: Packet, own: string, other: string): number | undefined {
	const gateway = gatewayAddress(draft.node, packet.family);
	if (gateway === "" || own !== gateway || !isProbe(packet, draft)) return undefined;
	return draft.tables.peerGateway(other);
}

/** Handles a request of this Node's agent: stamps it and sends it over the path that it names. */
export function askProbe(draft: Draft, packet: Packet, id: number): Decision {
	const { decision, tables, node, now } = draft;
	decision.peer = id;
	const probe = readProbe(packet);
	if (!probe || probe.kind !== ProbeKind.REQUEST) {
		return draft.drop(DropReason.PROBE_REFUSED, "not a request");
	}
	draft.note("probe", `a request to peer ${id}, ${ProbeWayName[probe.wayThere]} there`);
	const way = wayOfProbe(draft, packet, id, probe.wayThere);
	if ("dropReason" in way) return way;
	const { sentPackets, sentLarge } = tables.peerCounts(peerIndex(id, packet.family));
	const stamped = { ...packet, frame: Buffer.from(packet.frame) };
	const counts = { sentPackets, sentLarge, receivedPackets: 0, receivedLarge: 0 };
	const flags = (probe.flags & ProbeFlag.HELLO) | announcement(draft, packet, id);
	Probe.encode({ ...probe, flags, length: packet.length, ...counts }).copy(
		stamped.frame,
		probeAt(packet),
	);
	stampQuestion(stamped, now, node);
	return way.send(stamped);
}

/** Writes the time of a request, and the token and checksum that depend on it. */
export function stampQuestion(packet: Packet, sentAt: bigint, node: NodeConfig): void {
	const { frame } = packet;
	const offset = probeAt(packet);
	frame.writeBigUInt64LE(sentAt, offset + SENT_AT);
	frame.writeBigUInt64LE(token(packet, packet.key.destination, node), offset + TOKEN);
	writeChecksum(packet);
}

/** The time in a request. */
export function sentAt(packet: Packet): bigint {
	return packet.frame.readBigUInt64LE(probeAt(packet) + SENT_AT);
}

/** The token, which only the requesting Node can compute, from the peer, the request and its time. */
export function token(packet: Packet, gateway: string, { probeKey }: NodeConfig): bigint {
	const offset = probeAt(packet);
	const address = Buffer.alloc(16);
	writeAddress(address, 0, gateway);
	const request = Buffer.from(packet.frame.subarray(offset, offset + TOKEN));
	request[KIND] = ProbeKind.REQUEST;
	request[5]! &= REQUEST_FLAGS;
	return siphash([probeKey[0]!, probeKey[1]!], Buffer.concat([address, request]));
}

/** A packet from a peer's gateway address to ours: a request, or the answer to one. */
export function receiveProbe(
	draft: Draft,
	packet: Packet,
	id: number,
	tunnelled: boolean,
): Decision {
	draft.decision.peer = id;
	const asks = packet.frame[probeAt(packet) + KIND] === ProbeKind.REQUEST;
	const refused = asks && !tunnelled ? refuseOfAnotherHost(draft, packet, id) : undefined;
	if (refused) return refused;
	const probe = readProbe(packet);
	if (probe?.kind === ProbeKind.REQUEST) return answer(draft, packet, id, probe);
	if (probe?.kind === ProbeKind.ANSWER) return prove(draft, packet, id, { probe, tunnelled });
	return draft.drop(DropReason.PROBE_REFUSED, "neither a request nor an answer");
}

interface Came {
	probe: Probe;
	/** The packet came in a tunnel, which has been removed. */
	tunnelled: boolean;
}

/** Answers a request: swaps its addresses and cuts it to the length that it asks for. */
function answer(draft: Draft, packet: Packet, id: number, probe: Probe): Decision {
	const { tables } = draft;
	const header = packet.family === 4 ? 20 : 40;
	const { answerLength } = probe;
	const index = peerIndex(id, packet.family);
	if (
		packet.l4 - packet.l3 !== header ||
		answerLength < header + UDP_HEADER + Probe.size ||
		answerLength > packet.length ||
		probe.length !== packet.length
	) {
		return draft.drop(DropReason.PROBE_REFUSED, "its lengths do not fit each other");
	}
	draft.note("probe", `a request of peer ${id}, to be answered ${ProbeWayName[probe.wayBack]}`);
	if (!isAnswerAllowed(draft, index)) {
		return draft.drop(DropReason.PROBE_RATE, `peer ${id} sends requests above its rate limit`);
	}
	if (probe.flags & ProbeFlag.HELLO || announcesNews(draft, packet, id, probe)) greet(draft, index);
	const way = wayOfProbe(draft, packet, id, probe.wayBack);
	if ("dropReason" in way) return way;
	const { receivedPackets, receivedLarge } = tables.peerCounts(index);
	const frame = Buffer.from(packet.frame.subarray(0, packet.l3 + answerLength));
	const turned = { ...packet, frame, length: answerLength };
	const flags =
		(probe.flags & REQUEST_FLAGS) | (announcement(draft, packet, id) << Limit.PROBE_ANSWER_SHIFT);
	const filled = { ...probe, kind: ProbeKind.ANSWER, flags, receivedPackets, receivedLarge };
	Probe.encode(filled).copy(frame, probeAt(packet));
	frame.writeUInt16BE(answerLength - header, packet.l4 + 4);
	turn(turned);
	writeChecksum(turned);
	draft.event(EventCounter.PROBE_ANSWERED);
	return way.send(turned);
}

/** The answer to a request of ours: reported to the agent, unless its token shows that it is forged. */
function prove(draft: Draft, packet: Packet, id: number, { probe, tunnelled }: Came): Decision {
	const { decision, node, now } = draft;
	const index = peerIndex(id, packet.family);
	const { wayThere, wayBack, sentAt, length } = probe;
	const age = now - sentAt;
	if (age < 0n || age > BigInt(Limit.PROBE_LIFE_MS) * NS_PER_MS) {
		return draft.drop(DropReason.PROBE_REFUSED, "too late");
	}
	if (probe.token !== token(packet, packet.key.source, node)) {
		return draft.drop(DropReason.PROBE_REFUSED, "not an answer to a request of this Node");
	}
	if (!tunnelled) {
		const mac = BigInt(draft.frame.readUIntLE(6, 6));
		decision.provenSender = { index: index * 2 + ProbeWay.DIRECT, mac };
	}
	if (wayThere === wayBack) {
		const isLarge = length > Limit.LARGE_PACKET && packet.length > Limit.LARGE_PACKET;
		decision.pathProof = { index: index * 2 + wayThere, isLarge };
	}
	decision.records.push({
		event: ProbeEvent.ANSWERED,
		wayThere,
		wayBack,
		announced: probe.flags >> Limit.PROBE_ANSWER_SHIFT,
		index,
		sequence: probe.sequence,
		length,
		answerLength: packet.length,
		sentAt,
		roundTrip: age,
		sentPackets: probe.sentPackets,
		sentLarge: probe.sentLarge,
		receivedPackets: probe.receivedPackets,
		receivedLarge: probe.receivedLarge,
	});
	decision.action = Action.PROBE;
	draft.note("verdict", `the answer of peer ${id}, reported to the agent`);
	return decision;
}

/** The flags by which this Node announces its mode to the peer: ProbeFlag. */
function announcement(draft: Draft, { family }: Packet, id: number): number {
	const sends = (draft.node.flags & NodeFlag.SENDS_UNTUNNELLED) !== 0;
	return (
		ProbeFlag.ANNOUNCES |
		(sends ? ProbeFlag.SENDS_UNTUNNELLED : 0) |
		(invitesUntunnelled(draft, id, family) ? ProbeFlag.TAKES_UNTUNNELLED : 0)
	);
}

function announcesNews(draft: Draft, { family }: Packet, id: number, { flags }: Probe): boolean {
	const sends = (flags & ProbeFlag.SENDS_UNTUNNELLED) !== 0;
	return (flags & ProbeFlag.ANNOUNCES) !== 0 && sends !== invitesUntunnelled(draft, id, family);
}

/** Limits answers to one every PROBE_ANSWER_NS on average, and to bursts of PROBE_ANSWER_BURST. */
function isAnswerAllowed(draft: Draft, index: number): boolean {
	const { tables, now, decision } = draft;
	const activity = tables.peerActivity(index) ?? NO_ACTIVITY;
	const until = activity.answersUntil > now ? activity.answersUntil : now;
	if (until - now > BigInt(Limit.PROBE_ANSWER_BURST * Limit.PROBE_ANSWER_NS)) return false;
	const answersUntil = until + BigInt(Limit.PROBE_ANSWER_NS);
	decision.activity = { index, activity: { ...activity, answersUntil } };
	return true;
}

/** A peer introduces itself or announces a change: the agent is to probe it. */
function greet(draft: Draft, index: number): void {
	const activity = draft.decision.activity?.activity ?? NO_ACTIVITY;
	if (draft.now - activity.greetedAt <= BigInt(Limit.HELLO_PAUSE_MS) * NS_PER_MS) return;
	draft.tell(ProbeEvent.GREETED, index);
	draft.decision.activity = { index, activity: { ...activity, greetedAt: draft.now } };
}

/** One of the paths to a peer, in use or not. */
function wayOfProbe(
	draft: Draft,
	packet: Packet,
	id: number,
	name: number,
): { send: (probe: Packet) => Decision } | Decision {
	const { decision, node, tables } = draft;
	const path = tables.peerPath(peerIndex(id, packet.family) * 2 + name);
	if (path === undefined || path.path === Path.NONE || path.path === Path.DOWN) {
		return draft.drop(DropReason.PEER_DOWN, `peer ${id} has no path ${ProbeWayName[name]}`);
	}
	decision.path = path.path;
	// Not cached, so that the probe also tests the current neighbour.
	const hop = askNextHop(draft, peerQuery(draft, path, isTunnel(path)));
	if (typeof hop === "string") {
		return draft.drop(DropReason.NO_ROUTE, `the kernel has no way to ${path.remote}`);
	}
	return { send: (probe) => send(draft, probe, path, hop, node) };
}

function send(
	draft: Draft,
	probe: Packet,
	path: Peer,
	hop: NextHopWay,
	node: NodeConfig,
): Decision {
	draft.decision.probeOffset = isTunnel(path) ? outerLength(path) + probe.l4 : probe.l4;
	return emitToWire(draft, isTunnel(path) ? encapsulate(probe, path, node) : probe.frame, hop);
}

/** Bytes from the outer Ethernet header to the inner one. */
function outerLength({ outerFamily }: Peer): number {
	return (outerFamily === 4 ? 20 : 40) + UDP_HEADER + 8 + ETHERNET_HEADER;
}

/** Reads a probe; undefined: another version, or unknown paths. */
function readProbe(packet: Packet): Probe | undefined {
	const probe = Probe.decode(packet.frame, probeAt(packet));
	const ways: number[] = [ProbeWay.DIRECT, ProbeWay.TUNNEL];
	if (!ways.includes(probe.wayThere) || !ways.includes(probe.wayBack)) return undefined;
	return probe.magic === Limit.PROBE_MAGIC ? probe : undefined;
}

function probeAt({ l4 }: Packet): number {
	return l4 + UDP_HEADER;
}

/** Swaps the addresses and writes a header with the packet's length and a fresh TTL. */
function turn({ frame, family, l3, length }: Packet): void {
	const [size, at] = family === 4 ? [4, l3 + 12] : [16, l3 + 8];
	const source = Buffer.from(frame.subarray(at, at + size));
	frame.copy(frame, at, at + size, at + 2 * size);
	source.copy(frame, at + size);
	if (family === 4) {
		frame.writeUInt16BE(length, l3 + 2);
		frame[l3 + 8] = Limit.PROBE_TTL;
		writeIpv4Checksum(frame, l3);
	} else {
		frame.writeUInt16BE(length - 40, l3 + 4);
		frame[l3 + 7] = Limit.PROBE_TTL;
	}
}

/** Writes the checksum over UDP header and struct probe; zeros follow. */
function writeChecksum(packet: Packet): void {
	const { frame, l4 } = packet;
	const length = frame.readUInt16BE(l4 + 4);
	frame.writeUInt16BE(0, l4 + 6);
	const sum =
		pseudoHeaderSum(packet, Protocol.UDP, length) +
		sumWords(frame.subarray(l4, l4 + UDP_HEADER + Probe.size));
	frame.writeUInt16BE(complement(sum) || 0xffff, l4 + 6);
}
