/**
 * Builds an ordinary first packet for `explain`: a TCP SYN, a small UDP datagram or an ICMP echo request.
 */
import { familyOf, parseAddress, writeMac } from "../tables/address.js";

export interface ProbePacket {
	sourceMac: string;
	destinationMac: string;
	/** Canonical text, both of one family. */
	source: string;
	destination: string;
	protocol: "tcp" | "udp" | "icmp";
	/** For icmp: the echo identifier. */
	sourcePort: number;
	/** Unused for icmp. */
	destinationPort: number;
}

const TTL = 64;
const PAYLOAD = Buffer.alloc(16);

/** A complete Ethernet frame with valid checksums. */
export function probePacket(probe: ProbePacket): Buffer {
	const family = familyOf(probe.source);
	const protocol = { tcp: 6, udp: 17, icmp: family === 4 ? 1 : 58 }[probe.protocol];
	const transport = transportPacket(probe, family);
	const source = addressBytes(probe.source);
	const destination = addressBytes(probe.destination);

	// RFC 793, 768, 8200 section 8.1: the checksum covers a pseudo header, except for ICMP over IPv4.
	const pseudo = Buffer.alloc(8);
	pseudo.writeUInt32BE(transport.length, 0);
	pseudo.writeUInt32BE(protocol, 4);
	const covered = protocol === 1 ? [transport] : [source, destination, pseudo, transport];
	transport.writeUInt16BE(
		checksum(Buffer.concat(covered)),
		{ tcp: 16, udp: 6, icmp: 2 }[probe.protocol],
	);

	const ethernet = Buffer.alloc(14);
	writeMac(ethernet, 0, probe.destinationMac);
	writeMac(ethernet, 6, probe.sourceMac);
	ethernet.writeUInt16BE(family === 4 ? 0x0800 : 0x86dd, 12);
	const header =
		family === 4
			? ipv4Header(protocol, transport.length, source, destination)
			: ipv6Header(protocol, transport.length, source, destination);
	return Buffer.concat([ethernet, header, transport]);
}

function ipv4Header(
	protocol: number,
	payload: number,
	source: Buffer,
	destination: Buffer,
): Buffer {
	const header = Buffer.alloc(20);
	header[0] = 0x45;
	header.writeUInt16BE(20 + payload, 2);
	header.writeUInt16BE(0x4000, 6); // DF
	header[8] = TTL;
	header[9] = protocol;
	source.copy(header, 12);
	destination.copy(header, 16);
	header.writeUInt16BE(checksum(header), 10);
	return header;
}

function ipv6Header(
	protocol: number,
	payload: number,
	source: Buffer,
	destination: Buffer,
): Buffer {
	const header = Buffer.alloc(40);
	header[0] = 0x60;
	header.writeUInt16BE(payload, 4);
	header[6] = protocol;
	header[7] = TTL;
	source.copy(header, 8);
	destination.copy(header, 24);
	return header;
}

/** The transport packet with a checksum of 0. */
function transportPacket(probe: ProbePacket, family: 4 | 6): Buffer {
	switch (probe.protocol) {
		case "tcp": {
			const header = Buffer.alloc(24);
			header.writeUInt16BE(probe.sourcePort, 0);
			header.writeUInt16BE(probe.destinationPort, 2);
			header[12] = 6 << 4; // six words: one option
			header[13] = 0x02; // SYN
			header.writeUInt16BE(0xffff, 14);
			header.writeUInt16BE(0x0204, 20); // MSS
			header.writeUInt16BE(family === 4 ? 1460 : 1440, 22);
			return header;
		}
		case "udp": {
			const header = Buffer.alloc(8);
			header.writeUInt16BE(probe.sourcePort, 0);
			header.writeUInt16BE(probe.destinationPort, 2);
			header.writeUInt16BE(8 + PAYLOAD.length, 4);
			return Buffer.concat([header, PAYLOAD]);
		}
		case "icmp": {
			const header = Buffer.alloc(8);
			header[0] = family === 4 ? 8 : 128; // echo request
			header.writeUInt16BE(probe.sourcePort, 4);
			header.writeUInt16BE(1, 6);
			return Buffer.concat([header, PAYLOAD]);
		}
	}
}

/** The address as in an IP header: 4 or 16 bytes. */
function addressBytes(text: string): Buffer {
	const bytes = parseAddress(text);
	if (bytes === undefined) {
		throw new Error(`Cannot make a packet: expected an address, got ${JSON.stringify(text)}`);
	}
	return familyOf(text) === 4 ? bytes.subarray(12) : bytes;
}

/** RFC 1071 */
function checksum(bytes: Buffer): number {
	let sum = 0;
	for (let i = 0; i + 1 < bytes.length; i += 2) {
		sum += bytes.readUInt16BE(i);
	}
	while (sum > 0xffff) {
		sum = (sum & 0xffff) + (sum >>> 16);
	}
	// RFC 768: 0 would mean no checksum; 0xffff is equivalent.
	return ~sum & 0xffff || 0xffff;
}
