/**
 * The ICMP errors that a Node sends as a router: time exceeded, fragmentation needed, packet too big,
 * unreachable (RFC 792, 1191, 1812 and 4443). Packets here start at their IP header.
 */
import { complement, sumWords, writeIpv4Checksum } from "./checksum.js";
import type { Packet } from "./packet.js";
import { Protocol } from "./packet.js";
import { wireAddress } from "./rewrite.js";
import { isMulticast } from "./route.js";

/** RFC 1812, 4.3.2.3: as much of the packet as fits into 576 bytes. */
const IPV4_ERROR_MAX = 576;
/** RFC 4443, 2.4 (c): as much as fits into the smallest MTU of IPv6. */
const IPV6_ERROR_MAX = 1280;
const TTL = 64;
const DONT_FRAGMENT = 0x4000;
/** RFC 1812, 4.3.2.5: errors have IP precedence 6, internetwork control. */
const TRAFFIC_CLASS = 0xc0;

export type IcmpError =
	| { kind: "time exceeded" }
	| { kind: "too big"; mtu: number }
	| { kind: keyof typeof UNREACHABLE };

/** Codes of "destination unreachable", as Linux answers for a route of that type, or a neighbour. */
const UNREACHABLE = {
	unreachable: { 4: 1, 6: 0 }, // host unreachable; no route to destination
	prohibited: { 4: 13, 6: 1 }, // communication administratively prohibited
	"no host": { 4: 1, 6: 3 }, // host unreachable; address unreachable
	refused: { 4: 3, 6: 4 }, // port unreachable
} as const;

/**
 * Whether an error about this packet is allowed: never about ICMP errors, later fragments, multicast and
 * broadcast, nor to a source that is not a single host (RFC 1812, 4.3.2.7; RFC 4443, 2.4 (e)).
 */
export function mayAnswer(packet: Packet): boolean {
	const { key, family, frame, l3 } = packet;
	if (packet.icmpError || packet.isLaterFragment || isMulticast(packet)) return false;
	if (key.source === "") return false;
	const first = frame[l3 + (family === 4 ? 12 : 8)]!;
	// 0/8 is not an address, 127/8 is the loopback, 224/3 is multicast and reserved.
	if (family === 4) return first !== 0 && first !== 127 && first < 224;
	return first !== 0xff && key.source !== "::1";
}

/** The error about `packet`, from `source` to its sender. */
export function icmpError(packet: Packet, source: string, error: IcmpError): Buffer {
	return packet.family === 4 ? icmpv4(packet, source, error) : icmpv6(packet, source, error);
}

function icmpv4(packet: Packet, source: string, error: IcmpError): Buffer {
	const quoted = quote(packet, IPV4_ERROR_MAX - 28);
	const message = Buffer.alloc(8);
	if (error.kind === "time exceeded") {
		message[0] = 11;
	} else if (error.kind === "too big") {
		message[0] = 3;
		message[1] = 4;
		message.writeUInt16BE(Math.min(error.mtu, 0xffff), 6);
	} else {
		message[0] = 3;
		message[1] = UNREACHABLE[error.kind][4];
	}
	message.writeUInt16BE(complement(sumWords(message) + sumWords(quoted)), 2);

	const header = Buffer.alloc(20);
	header[0] = 0x45;
	header[1] = TRAFFIC_CLASS;
	header.writeUInt16BE(header.length + message.length + quoted.length, 2);
	// It is never fragmented, so it needs no identification (RFC 6864, 4.1).
	header.writeUInt16BE(DONT_FRAGMENT, 6);
	header[8] = TTL;
	header[9] = Protocol.ICMP;
	wireAddress(4, source).copy(header, 12);
	wireAddress(4, packet.key.source).copy(header, 16);
	writeIpv4Checksum(header, 0);
	return Buffer.concat([header, message, quoted]);
}

function icmpv6(packet: Packet, source: string, error: IcmpError): Buffer {
	const quoted = quote(packet, IPV6_ERROR_MAX - 48);
	const message = Buffer.alloc(8);
	if (error.kind === "time exceeded") {
		message[0] = 3;
	} else if (error.kind === "too big") {
		message[0] = 2;
		message.writeUInt32BE(error.mtu, 4);
	} else {
		message[0] = 1;
		message[1] = UNREACHABLE[error.kind][6];
	}
	const addresses = Buffer.concat([wireAddress(6, source), wireAddress(6, packet.key.source)]);
	const length = message.length + quoted.length;
	const pseudo = sumWords(addresses) + length + Protocol.ICMPV6;
	message.writeUInt16BE(complement(pseudo + sumWords(message) + sumWords(quoted)), 2);

	const header = Buffer.alloc(40);
	header.writeUInt32BE(6 * 2 ** 28 + TRAFFIC_CLASS * 2 ** 20, 0);
	header.writeUInt16BE(length, 4);
	header[6] = Protocol.ICMPV6;
	header[7] = TTL;
	addresses.copy(header, 8);
	return Buffer.concat([header, message, quoted]);
}

function quote({ frame, l3, length }: Packet, most: number): Buffer {
	return frame.subarray(l3, l3 + Math.min(length, most));
}
