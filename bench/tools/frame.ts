/**
 * Frames for the generator: built here, or derived from a frame that a dataplane has sent. Pure. Sizes
 * count bytes from the Ethernet header, without FCS.
 */
import { parseAddress } from "../../src/tables/address.js";

export interface FrameOptions {
	sourceMac: string;
	destinationMac: string;
	source: string;
	destination: string;
	protocol: "udp" | "tcp";
	size: number;
	sourcePort?: number;
	destinationPort?: number;
}

export interface Variation {
	/** Number of port pairs that the frames cycle through, 1 to 4 million. */
	flows?: number;
	/** True: the flows of another stream, in reply direction. */
	answers?: boolean;
	/** IPv4: number of destination addresses that the frames cycle through, starting at the frame's. */
	destinations?: number;
	/** Destination i is the frame's address plus i << shift. */
	destinationShift?: number;
}

/** Must equal FRAME_MAGIC of bench/bpf/frame.h: a sink counts no other frames. */
const MAGIC = 0xfa1bbe9c5eed0001n;
export const ETHERNET = 14;
const GENEVE_PORT = 6081;
const TUNNEL_PORTS = [4789, GENEVE_PORT];
/** No options, Ethernet inside, VNI 1. */
const GENEVE_HEADER = 0x0000655800000100n;
/** Ethernet, IPv4, UDP and tunnel header. */
const OUTER_IPV4 = 50;
const TUNNEL_HEADER = 8;
const PATTERN_BYTES = 256;
const TCP_ACK = 0x10;

/** The smallest frame that holds an IP packet with ports and the generator's mark. */
function smallestFrame(family: 4 | 6, protocol: "udp" | "tcp"): number {
	return ETHERNET + (family === 4 ? 20 : 40) + (protocol === "udp" ? 8 : 20) + 8;
}

/** @throws RangeError if the frame is too short for its headers and mark. */
export function buildFrame(options: FrameOptions): Buffer {
	const { protocol, size, sourcePort = 10_000, destinationPort = 20_000 } = options;
	const source = addressBytes(options.source);
	const destination = addressBytes(options.destination);
	const family = source.length === 4 ? 4 : 6;
	if (size < smallestFrame(family, protocol))
		throw new RangeError(
			`Cannot build a frame: expected at least ${smallestFrame(family, protocol)} bytes, got ${size}`,
		);
	const frame = Buffer.alloc(size);
	macBytes(options.destinationMac).copy(frame, 0);
	macBytes(options.sourceMac).copy(frame, 6);
	frame.writeUInt16BE(family === 4 ? 0x0800 : 0x86dd, 12);
	const number = protocol === "udp" ? 17 : 6;
	const l4 = ETHERNET + (family === 4 ? 20 : 40);
	const length = size - l4;
	if (family === 4) {
		frame.writeUInt8(0x45, 14);
		frame.writeUInt16BE(size - ETHERNET, 16);
		frame.writeUInt16BE(0x4000, 20);
		frame.writeUInt8(64, 22);
		frame.writeUInt8(number, 23);
		source.copy(frame, 26);
		destination.copy(frame, 30);
		frame.writeUInt16BE(checksum(frame.subarray(14, 34)), 24);
	} else {
		frame.writeUInt8(0x60, 14);
		frame.writeUInt16BE(length, 18);
		frame.writeUInt8(number, 20);
		frame.writeUInt8(64, 21);
		source.copy(frame, 22);
		destination.copy(frame, 38);
	}
	frame.writeUInt16BE(sourcePort, l4);
	frame.writeUInt16BE(destinationPort, l4 + 2);
	if (protocol === "udp") frame.writeUInt16BE(length, l4 + 4);
	else {
		frame.writeUInt32BE(1, l4 + 4);
		frame.writeUInt32BE(1, l4 + 8);
		frame.writeUInt16BE((5 << 12) | TCP_ACK, l4 + 12);
		frame.writeUInt16BE(0xffff, l4 + 14);
	}
	frame.writeBigUInt64LE(MAGIC, size - 8);
	const pseudo = Buffer.alloc(8);
	pseudo.writeUInt32BE(length, 0);
	pseudo.writeUInt32BE(number, 4);
	const sum = checksum(Buffer.concat([source, destination, pseudo, frame.subarray(l4)]));
	frame.writeUInt16BE(sum || 0xffff, l4 + (protocol === "udp" ? 6 : 16));
	return frame;
}

/** The 64 bytes before an inner IPv4 packet in Geneve over IPv4: no UDP checksum, VNI 1. */
export function geneveHeaders(
	options: Omit<FrameOptions, "protocol" | "size"> & { innerSize: number },
): Buffer {
	const { innerSize, ...ends } = options;
	const ports = { sourcePort: 0xc000, destinationPort: GENEVE_PORT };
	const size = OUTER_IPV4 + innerSize;
	const frame = buildFrame({ ...ends, ...ports, protocol: "udp", size });
	const headers = frame.subarray(0, OUTER_IPV4 + ETHERNET);
	headers.writeUInt16BE(0, 40);
	headers.writeBigUInt64BE(GENEVE_HEADER, 42);
	// The inner Ethernet header is a copy of the outer one.
	frame.copy(headers, OUTER_IPV4, 0, ETHERNET);
	return headers;
}

/** Encodes the generator's `struct pattern`: what it writes to every frame, and which parts vary. */
export function encodePattern(frame: Buffer, out: number, vary: Variation = {}): Buffer {
	const { end, ports, l4Checksum, outerPort, destination, ipChecksum } = locate(frame);
	const pattern = Buffer.alloc(PATTERN_BYTES + 40);
	const words = Math.min(Math.ceil(end / 8), Math.floor(frame.length / 8), PATTERN_BYTES / 8);
	frame.copy(pattern, 0, 0, words * 8);
	const { flows = 1, answers = false, destinations = 1, destinationShift = 0 } = vary;
	const [fast, slow] = answers ? [ports + 2, ports] : [ports, ports + 2];
	let at = PATTERN_BYTES;
	for (const value of [words, flows, destinations, destinationShift, out])
		at = pattern.writeUInt32LE(value, at);
	for (const value of [fast, slow, l4Checksum, outerPort, destination, ipChecksum])
		at = pattern.writeUInt16LE(value, at);
	return pattern;
}

export interface Offsets {
	/** The end of the headers. */
	end: number;
	ports: number;
	l4Checksum: number;
	/** Source port of the tunnel; 0: no tunnel. */
	outerPort: number;
	/** The last four bytes of the destination address. */
	destination: number;
	/** 0: IPv6. */
	ipChecksum: number;
	/** Bytes before the innermost Ethernet header. */
	outerBytes: number;
}

/** Offsets of the innermost packet's fields in Geneve without options, VXLAN, or no tunnel. */
export function locate(frame: Buffer, from = 0): Offsets {
	const ip = from + ETHERNET;
	const ethertype = frame.readUInt16BE(from + 12);
	const v4 = ethertype === 0x0800;
	if (!v4 && ethertype !== 0x86dd)
		throw new Error(`Cannot read frame: expected IP, got ethertype 0x${ethertype.toString(16)}`);
	const l4 = ip + (v4 ? 20 : 40);
	const udp = frame.readUInt8(v4 ? ip + 9 : ip + 6) === 17;
	if (udp && from === 0 && TUNNEL_PORTS.includes(frame.readUInt16BE(l4 + 2)))
		return { ...locate(frame, l4 + 8 + TUNNEL_HEADER), outerPort: l4 };
	return {
		end: l4 + (udp ? 8 : 20),
		ports: l4,
		l4Checksum: l4 + (udp ? 6 : 16),
		outerPort: 0,
		destination: v4 ? ip + 16 : ip + 36,
		ipChecksum: v4 ? ip + 10 : 0,
		outerBytes: from,
	};
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
	let sum = 0;
	for (let i = 0; i < bytes.length; i += 2)
		sum += (bytes[i]! << 8) | (i + 1 < bytes.length ? bytes[i + 1]! : 0);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return ~sum & 0xffff;
}

function addressBytes(text: string): Buffer {
	const bytes = parseAddress(text);
	if (bytes === undefined)
		throw new Error(`Cannot read address: expected IPv4 or IPv6, got "${text}"`);
	return text.includes(":") ? bytes : bytes.subarray(12);
}

export function macBytes(text: string): Buffer {
	return Buffer.from(text.replaceAll(":", ""), "hex");
}
