/**
 * The parser, whose result all later stages use. IPv4 (RFC 791), IPv6 with extension headers (RFC 8200,
 * RFC 4302), TCP, UDP, ICMP, ICMPv6, SCTP, and fragments of all of them.
 */
import { isMapped, readAddress } from "../tables/address.js";
import { type FlowKey, Limit } from "../tables/generated.js";

export const ETHERNET_HEADER = 14;
export const Ethertype = { IPV4: 0x0800, ARP: 0x0806, IPV6: 0x86dd } as const;
export const Protocol = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132 } as const;
export const TcpFlag = { FIN: 0x01, SYN: 0x02, RST: 0x04, ACK: 0x10 } as const;

const EXTENSION_HEADERS = { HOP_BY_HOP: 0, ROUTING: 43, FRAGMENT: 44, AH: 51, DESTINATION: 60 };
const EXTENSION_HEADERS_MAX = 8;
/** Headers end before this offset of the frame (HEADERS_MAX of the eBPF programs). */
const HEADERS_MAX = 1024;

export interface Packet {
	frame: Buffer;
	/** Offset of the IP header in the frame. */
	l3: number;
	/** Offset of the transport header, if there is one. */
	l4: number;
	/** Length of the transport header; 0: unknown protocol or a later fragment. */
	l4Header: number;
	/** Length of the IP packet, including its header. */
	length: number;
	family: 4 | 6;
	/** Addresses, protocol and ports as the packet carries them. */
	key: FlowKey;
	/** TTL or hop limit. */
	ttl: number;
	/** DSCP and ECN. */
	trafficClass: number;
	/** IPv4 DF; always true for IPv6. */
	dontFragment: boolean;
	isFragment: boolean;
	/** A fragment at an offset above 0, without a transport header. */
	isLaterFragment: boolean;
	identification: number;
	/** A later fragment whose first one is unknown; the key's ports are 0. */
	portsUnknown: boolean;
	icmpError: boolean;
	echo: "request" | "reply" | undefined;
	/** TCP flags, ICMP type, or the type of SCTP's first chunk. */
	l4Type: number;
}

/** Length of the IP and transport header. */
export function headers({ l3, l4, l4Header }: Packet): number {
	return l4 - l3 + l4Header;
}

/** The fields of the Ethernet header; undefined: the frame has none. */
export function ethertype(frame: Buffer): number | undefined {
	return frame.length < ETHERNET_HEADER ? undefined : frame.readUInt16BE(12);
}

export function isIp(type: number | undefined): boolean {
	return type === Ethertype.IPV4 || type === Ethertype.IPV6;
}

export interface ParseOptions {
	/** The packet inside an ICMP error, which may be truncated after 8 bytes of its transport header
	 * (RFC 792). */
	quoted?: boolean;
	/** A GSO packet of several segments. Above 64 KiB its length field is 0 (BIG TCP), and it fills the
	 * frame. */
	big?: boolean;
}

/** Parses the IP packet at `l3` of `frame`; undefined: malformed. */
export function parse(
	frame: Buffer,
	l3 = ETHERNET_HEADER,
	type = ethertype(frame),
	options: ParseOptions = {},
): Packet | undefined {
	const packet =
		type === Ethertype.IPV4
			? parseIpv4(frame, l3, options)
			: type === Ethertype.IPV6
				? parseIpv6(frame, l3, options)
				: undefined;
	if (packet === undefined) return undefined;
	if (packet.isLaterFragment) return packet;
	if (!parseTransport(packet, options.quoted === true)) return undefined;
	const end = packet.l4 - l3 + packet.l4Header;
	return options.quoted || end <= packet.length ? packet : undefined;
}

/** The destination of a packet that `parse` may find malformed after its addresses; undefined: it cannot be read. */
export function destinationOf(frame: Buffer, options: ParseOptions): string | undefined {
	const l3 = ETHERNET_HEADER;
	const type = ethertype(frame);
	if (type === Ethertype.IPV4) return parseIpv4(frame, l3, options)?.key.destination;
	if (type !== Ethertype.IPV6 || !isIpv6(frame, l3, options)) return undefined;
	return readAddress(frame, l3 + 24);
}

/** The packet that an ICMP error is about; undefined if it cannot be parsed. */
export function parseQuoted(error: Packet): Packet | undefined {
	const type = error.family === 4 ? Ethertype.IPV4 : Ethertype.IPV6;
	return parse(error.frame, error.l4 + 8, type, { quoted: true });
}

function has(frame: Buffer, offset: number, size: number): boolean {
	return offset <= HEADERS_MAX && offset + size <= frame.length;
}

function parseIpv4(frame: Buffer, l3: number, options: ParseOptions): Packet | undefined {
	if (!has(frame, l3, 20)) return undefined;
	const header = (frame[l3]! & 0x0f) * 4;
	if (frame[l3]! >> 4 !== 4 || header < 20) return undefined;
	const length = frame.readUInt16BE(l3 + 2) || (options.big ? frame.length - l3 : 0);
	if (length < header || (!options.quoted && length > frame.length - l3)) return undefined;
	const fragment = frame.readUInt16BE(l3 + 6);
	return {
		...unparsed(frame, l3),
		l4: l3 + header,
		length,
		family: 4,
		key: {
			source: readIpv4(frame, l3 + 12),
			destination: readIpv4(frame, l3 + 16),
			sourcePort: 0,
			destinationPort: 0,
			protocol: frame[l3 + 9]!,
		},
		ttl: frame[l3 + 8]!,
		trafficClass: frame[l3 + 1]!,
		dontFragment: (fragment & 0x4000) !== 0,
		isFragment: (fragment & 0x3fff) !== 0,
		isLaterFragment: (fragment & 0x1fff) !== 0,
		identification: frame.readUInt16BE(l3 + 4),
	};
}

/** The length of the IP packet. */
function ipv6Length(frame: Buffer, l3: number, big = false): number {
	const payload = frame.readUInt16BE(l3 + 4);
	return payload === 0 && big ? frame.length - l3 : payload + 40;
}

function isIpv6(frame: Buffer, l3: number, { quoted = false, big }: ParseOptions): boolean {
	if (!has(frame, l3, 40) || frame[l3]! >> 4 !== 6) return false;
	return quoted || ipv6Length(frame, l3, big) <= frame.length - l3;
}

function parseIpv6(frame: Buffer, l3: number, options: ParseOptions): Packet | undefined {
	const { quoted = false } = options;
	if (!isIpv6(frame, l3, options)) return undefined;
	const length = ipv6Length(frame, l3, options.big);
	// IPv4-mapped addresses are invalid in packets; one would be a second name for the IPv4 address.
	if (isMapped(frame, l3 + 8) || isMapped(frame, l3 + 24)) return undefined;
	const packet: Packet = {
		...unparsed(frame, l3),
		length,
		family: 6,
		key: {
			source: readAddress(frame, l3 + 8),
			destination: readAddress(frame, l3 + 24),
			sourcePort: 0,
			destinationPort: 0,
			protocol: 0,
		},
		ttl: frame[l3 + 7]!,
		trafficClass: ((frame[l3]! & 0x0f) << 4) | (frame[l3 + 1]! >> 4),
		dontFragment: true,
	};

	const end = l3 + length;
	let offset = l3 + 40;
	let next = frame[l3 + 6]!;
	for (let count = 0; isExtension(next); count++) {
		if (count === EXTENSION_HEADERS_MAX) return undefined;
		if (!has(frame, offset, 8) || (!quoted && offset + 8 > end)) return undefined;
		const kind = next;
		next = frame[offset]!;
		if (kind === EXTENSION_HEADERS.FRAGMENT) {
			const fragment = frame.readUInt16BE(offset + 2);
			// An atomic fragment (RFC 6946: offset 0, no more fragments) is a whole packet.
			if ((fragment & 0xfff9) !== 0) {
				packet.isFragment = true;
				packet.identification = frame.readUInt32BE(offset + 4);
			}
			offset += 8;
			if ((fragment & 0xfff8) !== 0) {
				packet.isLaterFragment = true;
				break;
			}
		} else if (kind === EXTENSION_HEADERS.AH) {
			offset += (frame[offset + 1]! + 2) * 4;
		} else {
			offset += (frame[offset + 1]! + 1) * 8;
		}
		if (offset > HEADERS_MAX) return undefined;
	}
	if (!quoted && offset > end) return undefined;
	packet.key.protocol = next;
	packet.l4 = offset;
	return packet;
}

/** Reads ports, flags and type. False: the header is truncated. */
function parseTransport(packet: Packet, quoted: boolean): boolean {
	const { frame, key, l4 } = packet;
	switch (key.protocol) {
		case Protocol.TCP:
			if (!has(frame, l4, quoted ? 8 : 20)) return false;
			readPorts(packet);
			if (quoted) return true;
			packet.l4Header = (frame[l4 + 12]! >> 4) * 4;
			packet.l4Type = frame[l4 + 13]!;
			return packet.l4Header >= 20;
		case Protocol.UDP:
			if (!has(frame, l4, 8)) return false;
			readPorts(packet);
			packet.l4Header = 8;
			return true;
		case Protocol.SCTP:
			if (!has(frame, l4, quoted ? 8 : 12)) return false;
			readPorts(packet);
			packet.l4Header = 12;
			if (!quoted && packet.length >= l4 - packet.l3 + 13 && has(frame, l4, 13)) {
				packet.l4Type = frame[l4 + 12]!;
			}
			return true;
		case packet.family === 4 ? Protocol.ICMP : Protocol.ICMPV6:
			if (!has(frame, l4, 8)) return false;
			packet.l4Header = 8;
			packet.l4Type = frame[l4]!;
			readIcmp(packet);
			return true;
		default:
			return true;
	}
}

function readPorts({ frame, key, l4 }: Packet): void {
	key.sourcePort = frame.readUInt16BE(l4);
	key.destinationPort = frame.readUInt16BE(l4 + 2);
}

function readIcmp(packet: Packet): void {
	const { key, l4Type, family } = packet;
	const identifier = packet.frame.readUInt16BE(packet.l4 + 4);
	if (l4Type === (family === 4 ? 8 : 128)) {
		packet.echo = "request";
		key.sourcePort = identifier;
		key.destinationPort = Limit.ECHO_PORT;
	} else if (l4Type === (family === 4 ? 0 : 129)) {
		packet.echo = "reply";
		key.sourcePort = Limit.ECHO_PORT;
		key.destinationPort = identifier;
	} else {
		packet.icmpError =
			family === 4 ? l4Type === 3 || l4Type === 11 || l4Type === 12 : l4Type >= 1 && l4Type <= 4;
	}
}

function isExtension(next: number): boolean {
	return Object.values(EXTENSION_HEADERS).includes(next);
}

function readIpv4(frame: Buffer, offset: number): string {
	return frame.subarray(offset, offset + 4).join(".");
}

function unparsed(frame: Buffer, l3: number) {
	return {
		frame,
		l3,
		l4: 0,
		l4Header: 0,
		isFragment: false,
		isLaterFragment: false,
		identification: 0,
		portsUnknown: false,
		icmpError: false,
		echo: undefined,
		l4Type: 0,
	};
}
