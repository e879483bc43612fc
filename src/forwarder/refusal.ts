/**
 * Refuses a packet to a Service, from the Service's address: a TCP segment is answered with a reset (RFC 9293,
 * 3.10.7.1), UDP and SCTP with an ICMP error by the slow path, other protocols not at all.
 */
import { writeMac } from "../tables/address.js";
import { Action, Hook, SlowPathKind } from "../tables/generated.js";
import { complement, pseudoHeaderSum, sumWords, writeIpv4Checksum } from "./checksum.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { intoHost } from "./emit.js";
import { ETHERNET_HEADER, headers, type Packet, Protocol, TcpFlag } from "./packet.js";
import { wireAddress } from "./rewrite.js";

const TTL = 64;
const DONT_FRAGMENT = 0x4000;
const TCP_HEADER = 20;

/**
 * Drops a packet and answers its sender that the port is unreachable.
 *
 * @param reason enum drop_reason
 */
export function refuse(draft: Draft, packet: Packet, reason: number, why: string): Decision {
	const { protocol } = packet.key;
	if (protocol === Protocol.UDP || protocol === Protocol.SCTP)
		return draft.handUp(SlowPathKind.REFUSED, packet, 0, why, reason);
	const decision = draft.drop(reason, why);
	if (!isReset(packet)) return decision;
	const answer = { ...packet, frame: reset(draft, packet) };
	if (draft.hook === Hook.FROM_HOST) intoHost(draft, answer);
	else {
		decision.ifindex = draft.context.ifindex;
		decision.packet = answer.frame;
	}
	decision.action = Action.RESET;
	draft.note("verdict", "its sender gets a TCP reset");
	return decision;
}

/** A reset is not answered with a reset. Fragments, options and extension headers open no connection. */
function isReset({ key, family, l3, l4, l4Type, isFragment }: Packet): boolean {
	if (key.protocol !== Protocol.TCP || isFragment || l4Type & TcpFlag.RST) return false;
	return l4 - l3 === (family === 4 ? 20 : 40);
}

/** The frame that answers a TCP segment. */
function reset(draft: Draft, packet: Packet): Buffer {
	const { frame, family, l3, key } = packet;
	const ethernet = Buffer.from(frame.subarray(0, ETHERNET_HEADER));
	frame.copy(ethernet, 0, 6, 12);
	writeMac(ethernet, 6, draft.node.gatewayMac);
	if (draft.hook === Hook.FROM_WIRE) frame.copy(ethernet, 6, 0, 6);
	const addresses = [
		wireAddress(family, key.destination),
		wireAddress(family, key.source),
	] as const;
	const ip = family === 4 ? ipv4(...addresses) : ipv6(...addresses);
	const answer = Buffer.concat([ethernet, ip, tcp(packet)]);
	const l4 = l3 + ip.length;
	const sum =
		pseudoHeaderSum({ frame: answer, family, l3 }, Protocol.TCP, TCP_HEADER) +
		sumWords(answer.subarray(l4));
	answer.writeUInt16BE(complement(sum), l4 + 16);
	return answer;
}

function ipv4(source: Buffer, destination: Buffer): Buffer {
	const header = Buffer.alloc(20);
	header[0] = 0x45;
	header.writeUInt16BE(header.length + TCP_HEADER, 2);
	header.writeUInt16BE(DONT_FRAGMENT, 6);
	header[8] = TTL;
	header[9] = Protocol.TCP;
	source.copy(header, 12);
	destination.copy(header, 16);
	writeIpv4Checksum(header, 0);
	return header;
}

function ipv6(source: Buffer, destination: Buffer): Buffer {
	const header = Buffer.alloc(40);
	header[0] = 0x60;
	header.writeUInt16BE(TCP_HEADER, 4);
	header[6] = Protocol.TCP;
	header[7] = TTL;
	source.copy(header, 8);
	destination.copy(header, 24);
	return header;
}

/** The TCP header of the reset, without its checksum. Its sequence number is what the segment acknowledges; a
 * segment without ACK is acknowledged instead. */
function tcp(packet: Packet): Buffer {
	const { frame, l4, l4Type } = packet;
	const header = Buffer.alloc(TCP_HEADER);
	frame.copy(header, 0, l4 + 2, l4 + 4);
	frame.copy(header, 2, l4, l4 + 2);
	header[12] = (TCP_HEADER / 4) << 4;
	if (l4Type & TcpFlag.ACK) {
		frame.copy(header, 4, l4 + 8, l4 + 12);
		header[13] = TcpFlag.RST;
		return header;
	}
	const length =
		packet.length -
		headers(packet) +
		(l4Type & TcpFlag.SYN ? 1 : 0) +
		(l4Type & TcpFlag.FIN ? 1 : 0);
	header.writeUInt32BE((frame.readUInt32BE(l4 + 4) + length) >>> 0, 8);
	header[13] = TcpFlag.RST | TcpFlag.ACK;
	return header;
}
