/**
 * Packets for tests, layer by layer, with right lengths and checksums unless a test says
 * otherwise. Addresses are text; the family of a packet is that of its source address.
 */
import { complement, crc32c, sumWords, writeIpv4Checksum } from "../../src/forwarder/checksum.js";
import { familyOf, writeAddress, writeMac } from "../../src/tables/address.js";

/** A transport segment, whose checksum depends on the addresses. */
export interface Segment {
	protocol: (family: 4 | 6) => number;
	encode: (source: string, destination: string) => Buffer;
}

export interface IpOptions {
	source: string;
	destination: string;
	/** TTL or hop limit; 64. */
	ttl?: number;
	/** DSCP and ECN; 0. */
	trafficClass?: number;
	/** IPv4; true. */
	dontFragment?: boolean;
	identification?: number;
	/** IPv4 options, a multiple of 4 bytes. */
	options?: Buffer;
	/** IPv6 extension headers, in order; see `extension`. */
	extensions?: Extension[];
	flowLabel?: number;
}

export interface Extension {
	kind: number;
	/** The header after its first byte, which is the next header's kind. */
	rest: Buffer;
}

export const HOP_BY_HOP = 0;
export const ROUTING = 43;
export const FRAGMENT = 44;
const AUTHENTICATION = 51;
export const DESTINATION_OPTIONS = 60;

/** An IPv6 extension header of `units` * 8 + 8 bytes of padding options. */
export function extension(kind: number, units = 0): Extension {
	const rest = Buffer.alloc(7 + units * 8);
	rest[0] = units;
	if (kind !== ROUTING) {
		rest[1] = 1;
		rest[2] = rest.length - 3;
	}
	return { kind, rest };
}

/** An IP authentication header (RFC 4302) with an integrity check of 12 bytes. */
export function authentication(): Extension {
	const rest = Buffer.alloc(23, 0xa5);
	rest[0] = 4;
	return { kind: AUTHENTICATION, rest };
}

export function pseudoHeader(source: string, destination: string): Buffer {
	return Buffer.concat([wire(source), wire(destination)]);
}

function wire(address: string): Buffer {
	const bytes = Buffer.alloc(16);
	writeAddress(bytes, 0, address);
	return familyOf(address) === 4 && address !== "" ? bytes.subarray(12) : bytes;
}

export function transportChecksum(protocol: number, pseudo: Buffer, bytes: Buffer): number {
	return complement(sumWords(pseudo) + protocol + bytes.length + sumWords(bytes));
}

export interface TcpOptions {
	flags?: number;
	sequence?: number;
	/** Options, a multiple of 4 bytes. */
	options?: Buffer;
	payload?: Buffer;
}

/** A TCP option MSS (RFC 9293). */
export function mss(value: number): Buffer {
	return Buffer.from([2, 4, value >> 8, value & 0xff]);
}

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

export function tcp(sourcePort: number, destinationPort: number, what: TcpOptions = {}): Segment {
	return {
		protocol: () => 6,
		encode: (source, destination) => {
			const header = Buffer.alloc(20);
			const options = what.options ?? Buffer.alloc(0);
			header.writeUInt16BE(sourcePort, 0);
			header.writeUInt16BE(destinationPort, 2);
			header.writeUInt32BE(what.sequence ?? 1, 4);
			header[12] = ((20 + options.length) / 4) << 4;
			header[13] = what.flags ?? ACK;
			header.writeUInt16BE(65535, 14);
			const bytes = Buffer.concat([header, options, what.payload ?? Buffer.alloc(0)]);
			bytes.writeUInt16BE(transportChecksum(6, pseudoHeader(source, destination), bytes), 16);
			return bytes;
		},
	};
}

/** @param checksum false: 0, which says that there is none. */
export function udp(
	sourcePort: number,
	destinationPort: number,
	payload: Buffer = Buffer.alloc(0),
	checksum = true,
): Segment {
	return {
		protocol: () => 17,
		encode: (source, destination) => {
			const header = Buffer.alloc(8);
			header.writeUInt16BE(sourcePort, 0);
			header.writeUInt16BE(destinationPort, 2);
			header.writeUInt16BE((8 + payload.length) & 0xffff, 4);
			const bytes = Buffer.concat([header, payload]);
			const sum = transportChecksum(17, pseudoHeader(source, destination), bytes);
			if (checksum) bytes.writeUInt16BE(sum === 0 ? 0xffff : sum, 6);
			return bytes;
		},
	};
}

/** ICMP or ICMPv6, by the family of the packet that it is put into. */
export function icmp(
	type: { 4: number; 6: number },
	code: number,
	rest: number,
	body: Buffer,
): Segment {
	return {
		protocol: (family) => (family === 4 ? 1 : 58),
		encode: (source, destination) => {
			const family = familyOf(source);
			const bytes = Buffer.concat([Buffer.alloc(8), body]);
			bytes[0] = type[family];
			bytes[1] = code;
			bytes.writeUInt32BE(rest, 4);
			const sum =
				family === 4
					? complement(sumWords(bytes))
					: transportChecksum(58, pseudoHeader(source, destination), bytes);
			bytes.writeUInt16BE(sum, 2);
			return bytes;
		},
	};
}

export function echo(
	kind: "request" | "reply",
	identifier: number,
	payload: Buffer = Buffer.alloc(8),
): Segment {
	const type = kind === "request" ? { 4: 8, 6: 128 } : { 4: 0, 6: 129 };
	return icmp(type, 0, identifier * 0x10000 + 1, payload);
}

export function unreachable(quoted: Buffer): Segment {
	return icmp({ 4: 3, 6: 1 }, 3, 0, quoted);
}

export function timeExceeded(quoted: Buffer): Segment {
	return icmp({ 4: 11, 6: 3 }, 0, 0, quoted);
}

/** @param chunk type of the first chunk; its value is `payload` */
export function sctp(
	sourcePort: number,
	destinationPort: number,
	chunk = 0,
	payload: Buffer = Buffer.alloc(0),
): Segment {
	return {
		protocol: () => 132,
		encode: () => {
			const bytes = Buffer.alloc(16 + payload.length);
			bytes.writeUInt16BE(sourcePort, 0);
			bytes.writeUInt16BE(destinationPort, 2);
			bytes.writeUInt32BE(0x11223344, 4);
			bytes[12] = chunk;
			bytes.writeUInt16BE(4 + payload.length, 14);
			payload.copy(bytes, 16);
			bytes.writeUInt32LE(crc32c(bytes), 8);
			return bytes;
		},
	};
}

export function protocol(number: number, bytes: Buffer): Segment {
	return { protocol: () => number, encode: () => bytes };
}

export function ip(how: IpOptions, segment: Segment): Buffer {
	return familyOf(how.source) === 4 ? ipv4(how, segment) : ipv6(how, segment);
}

function ipv4(how: IpOptions, segment: Segment): Buffer {
	const options = how.options ?? Buffer.alloc(0);
	const header = Buffer.concat([Buffer.alloc(20), options]);
	const payload = segment.encode(how.source, how.destination);
	header[0] = 0x40 | (header.length / 4);
	header[1] = how.trafficClass ?? 0;
	header.writeUInt16BE((header.length + payload.length) & 0xffff, 2);
	header.writeUInt16BE(how.identification ?? 0, 4);
	header.writeUInt16BE((how.dontFragment ?? true) ? 0x4000 : 0, 6);
	header[8] = how.ttl ?? 64;
	header[9] = segment.protocol(4);
	wire(how.source).copy(header, 12);
	wire(how.destination).copy(header, 16);
	writeIpv4Checksum(header, 0);
	return Buffer.concat([header, payload]);
}

function ipv6(how: IpOptions, segment: Segment): Buffer {
	const payload = segment.encode(how.source, how.destination);
	const extensions = how.extensions ?? [];
	const kinds = [...extensions.map(({ kind }) => kind), segment.protocol(6)];
	const body = Buffer.concat([
		...extensions.map(({ rest }, i) => Buffer.concat([Buffer.from([kinds[i + 1]!]), rest])),
		payload,
	]);
	const header = Buffer.alloc(40);
	header.writeUInt32BE(6 * 2 ** 28 + (how.trafficClass ?? 0) * 2 ** 20 + (how.flowLabel ?? 0), 0);
	header.writeUInt16BE(body.length & 0xffff, 4);
	header[6] = kinds[0]!;
	header[7] = how.ttl ?? 64;
	wire(how.source).copy(header, 8);
	wire(how.destination).copy(header, 24);
	return Buffer.concat([header, body]);
}

/** Fragments of an IP packet, `size` (a multiple of 8) bytes of payload each. */
export function fragmented(packet: Buffer, size: number, identification: number): Buffer[] {
	return packet[0]! >> 4 === 4
		? fragmentedIpv4(packet, size, identification)
		: fragmentedIpv6(packet, size, identification);
}

function fragmentedIpv4(packet: Buffer, size: number, identification: number): Buffer[] {
	const headerLength = (packet[0]! & 0x0f) * 4;
	const payload = packet.subarray(headerLength);
	return pieces(payload, size).map((piece, i, all) => {
		const header = Buffer.from(packet.subarray(0, headerLength));
		header.writeUInt16BE(headerLength + piece.length, 2);
		header.writeUInt16BE(identification, 4);
		header.writeUInt16BE((i < all.length - 1 ? 0x2000 : 0) | ((i * size) / 8), 6);
		writeIpv4Checksum(header, 0);
		return Buffer.concat([header, piece]);
	});
}

function fragmentedIpv6(packet: Buffer, size: number, identification: number): Buffer[] {
	return pieces(packet.subarray(40), size).map((piece, i, all) => {
		const header = Buffer.concat([packet.subarray(0, 40), Buffer.alloc(8)]);
		header.writeUInt16BE(8 + piece.length, 4);
		header[40] = header[6]!;
		header[6] = FRAGMENT;
		header.writeUInt16BE((i * size) | (i < all.length - 1 ? 1 : 0), 42);
		header.writeUInt32BE(identification, 44);
		return Buffer.concat([header, piece]);
	});
}

function pieces(payload: Buffer, size: number): Buffer[] {
	const count = Math.max(1, Math.ceil(payload.length / size));
	return Array.from({ length: count }, (_, i) => payload.subarray(i * size, (i + 1) * size));
}

export interface Macs {
	source: string;
	destination: string;
}

/** An Ethernet frame; its ethertype is that of the IP packet unless given. */
export function frame(macs: Macs, payload: Buffer, ethertype?: number): Buffer {
	const header = Buffer.alloc(14);
	writeMac(header, 0, macs.destination);
	writeMac(header, 6, macs.source);
	header.writeUInt16BE(ethertype ?? (payload[0]! >> 4 === 6 ? 0x86dd : 0x0800), 12);
	return Buffer.concat([header, payload]);
}

/** An 802.1Q tag in front of the ethertype. */
export function vlan(tagged: Buffer, id: number): Buffer {
	const tag = Buffer.from([0x81, 0x00, id >> 8, id & 0xff]);
	return Buffer.concat([tagged.subarray(0, 12), tag, tagged.subarray(12)]);
}

export function arpRequest(macs: Macs, source: string, target: string): Buffer {
	const body = Buffer.alloc(28);
	body.writeUInt16BE(1, 0);
	body.writeUInt16BE(0x0800, 2);
	body[4] = 6;
	body[5] = 4;
	body.writeUInt16BE(1, 6);
	writeMac(body, 8, macs.source);
	wire(source).copy(body, 14);
	wire(target).copy(body, 24);
	return frame(macs, body, 0x0806);
}

export interface GeneveOptions {
	vni: number;
	version?: number;
	/** OAM 0x80, critical 0x40 */
	flags?: number;
	protocol?: number;
	options?: Buffer;
}

export function geneve(how: GeneveOptions, inner: Buffer): Buffer {
	const options = how.options ?? Buffer.alloc(0);
	const header = Buffer.alloc(8);
	header[0] = ((how.version ?? 0) << 6) | (options.length / 4);
	header[1] = how.flags ?? 0;
	header.writeUInt16BE(how.protocol ?? 0x6558, 2);
	header.writeUIntBE(how.vni, 4, 3);
	return Buffer.concat([header, options, inner]);
}

/** A Geneve option (RFC 8926, 3.5) with `words` * 4 bytes of data. */
export function geneveOption(type: number, words: number): Buffer {
	const option = Buffer.alloc(4 + words * 4, 0x5a);
	option.writeUInt16BE(0x0102, 0);
	option[2] = type;
	option[3] = words;
	return option;
}

export function vxlan(vni: number, inner: Buffer, flags = 0x08): Buffer {
	const header = Buffer.alloc(8);
	header[0] = flags;
	header.writeUIntBE(vni, 4, 3);
	return Buffer.concat([header, inner]);
}
