/**
 * Changes to a packet in place, with incremental checksums (RFC 1624), so that a wrong checksum stays
 * wrong.
 */
import { writeAddress } from "../tables/address.js";
import type { FlowKey } from "../tables/generated.js";
import { crc32c, difference, fold, sumWords, update } from "./checksum.js";
import { type Packet, Protocol } from "./packet.js";

const UDP_CHECKSUM = 6;
const SCTP_CHECKSUM = 8;

/** Decrements the TTL or hop limit. */
export function decrementTtl({ frame, family, l3, ttl }: Packet): void {
	if (family === 6) {
		frame[l3 + 7] = ttl - 1;
		return;
	}
	const before = Buffer.from(frame.subarray(l3 + 8, l3 + 10));
	frame[l3 + 8] = ttl - 1;
	update(frame, l3 + 10, difference(before, frame.subarray(l3 + 8, l3 + 10)));
}

/** Sets DSCP and ECN. */
export function setTrafficClass(packet: Packet, value: number): void {
	const { frame, family, l3 } = packet;
	const before = Buffer.from(frame.subarray(l3, l3 + 2));
	if (family === 6) {
		frame[l3] = 0x60 | (value >> 4);
		frame[l3 + 1] = ((value & 0x0f) << 4) | (frame[l3 + 1]! & 0x0f);
	} else {
		frame[l3 + 1] = value;
		update(frame, l3 + 10, difference(before, frame.subarray(l3, l3 + 2)));
	}
	packet.trafficClass = value;
}

/** An address as bytes in a header of this family. */
export function wireAddress(family: 4 | 6, address: string): Buffer {
	const bytes = Buffer.alloc(16);
	writeAddress(bytes, 0, address);
	return family === 4 ? bytes.subarray(12) : bytes;
}

/** Replaces the addresses of the IP header; returns the change of the checksum's sum. */
function replaceAddresses(packet: Packet, { source, destination }: FlowKey): number {
	const { frame, family, l3 } = packet;
	const offset = l3 + (family === 4 ? 12 : 8);
	const after = Buffer.concat([wireAddress(family, source), wireAddress(family, destination)]);
	const before = Buffer.from(frame.subarray(offset, offset + after.length));
	after.copy(frame, offset);
	const change = difference(before, after);
	if (family === 4) update(frame, l3 + 10, change);
	return change;
}

/** Replaces the ports or the echo identifier, if there are any; returns the change of the checksum's sum. */
function replacePorts(packet: Packet, { sourcePort, destinationPort }: FlowKey): number {
	const { frame, key, l4 } = packet;
	switch (key.protocol) {
		case Protocol.TCP:
		case Protocol.UDP:
		case Protocol.SCTP:
			return replaceWord(frame, l4, sourcePort) + replaceWord(frame, l4 + 2, destinationPort);
		default:
			if (packet.echo === undefined) return 0;
			return replaceWord(frame, l4 + 4, packet.echo === "request" ? sourcePort : destinationPort);
	}
}

function replaceWord(frame: Buffer, offset: number, value: number): number {
	const before = Buffer.from(frame.subarray(offset, offset + 2));
	if (before.readUInt16BE() === value) return 0;
	frame.writeUInt16BE(value, offset);
	return difference(before, frame.subarray(offset, offset + 2));
}

/** Offset of the transport checksum; undefined: none that is a sum. */
function checksumOffset({ key, family, l4 }: Packet): number | undefined {
	switch (key.protocol) {
		case Protocol.TCP:
			return l4 + 16;
		case Protocol.UDP:
			return l4 + UDP_CHECKSUM;
		case family === 4 ? Protocol.ICMP : Protocol.ICMPV6:
			return l4 + 2;
		default:
			return undefined;
	}
}

function updateTransport(packet: Packet, change: number): void {
	const { frame, key } = packet;
	const offset = checksumOffset(packet);
	if (offset === undefined) return;
	const udp = key.protocol === Protocol.UDP;
	// RFC 768: 0 means no checksum, so a result of 0 is written as 0xffff.
	if (udp && frame.readUInt16BE(offset) === 0) return;
	update(frame, offset, change);
	if (udp && frame.readUInt16BE(offset) === 0) frame.writeUInt16BE(0xffff, offset);
}

/** Gives a packet another tuple: addresses, ports or echo identifier, checksums. */
export function translate(packet: Packet, to: FlowKey): void {
	const addresses = replaceAddresses(packet, to);
	if (packet.isLaterFragment) return;
	if (packet.key.protocol === Protocol.SCTP) {
		translateSctp(packet, to);
		return;
	}
	const ports = replacePorts(packet, to);
	const pseudo = packet.key.protocol === Protocol.ICMP ? 0 : addresses;
	updateTransport(packet, pseudo + ports);
}

/** A wrong checksum stays wrong. 0: the NIC was to write it. It cannot be computed for a fragment, whose other parts
 * are not here. */
function translateSctp(packet: Packet, to: FlowKey): void {
	const { frame, l3, l4, length } = packet;
	const segment = frame.subarray(l4, l3 + length);
	const checksum = segment.readUInt32LE(SCTP_CHECKSUM);
	const before = crc32c(segment);
	replacePorts(packet, to);
	if (checksum === 0 || packet.isFragment) return;
	segment.writeUInt32LE((checksum ^ before ^ crc32c(segment)) >>> 0, SCTP_CHECKSUM);
}

/** Gives other tuples to an ICMP error and to the packet that it quotes. */
export function translateError(
	error: Packet,
	to: FlowKey,
	quoted: Packet,
	quotedTo: FlowKey,
): void {
	const before = sumOfQuotation(error);
	const addresses = replaceAddresses(quoted, quotedTo);
	const ports = replacePorts(quoted, quotedTo);
	// TCP's checksum is not in the 8 bytes that every error quotes.
	if (quoted.key.protocol !== Protocol.TCP) {
		updateTransport(quoted, (quoted.key.protocol === Protocol.ICMP ? 0 : addresses) + ports);
	}
	const change = sumOfQuotation(error) + (~before & 0xffff);
	const outerAddresses = replaceAddresses(error, to);
	update(error.frame, error.l4 + 2, change + (error.family === 6 ? outerAddresses : 0));
}

function sumOfQuotation({ frame, l4 }: Packet): number {
	return fold(sumWords(frame.subarray(l4 + 8)));
}
