/**
 * IPv4 fragmentation (RFC 791, 3.2). Only senders fragment IPv6 packets.
 */
import { writeIpv4Checksum } from "./checksum.js";

const MORE_FRAGMENTS = 0x2000;
const OFFSET_MASK = 0x1fff;
const OPTION_END = 0;
const OPTION_NOP = 1;
/** Flag in an option's kind: the option is copied into every fragment. */
const OPTION_COPIED = 0x80;

/**
 * Fragments an IPv4 packet (from its IP header on, possibly itself a fragment) into packets of at most
 * `mtu` bytes. Undefined if a header and 8 bytes do not fit.
 *
 * @param identification identification of all fragments
 */
export function fragmentIpv4(
	packet: Buffer,
	mtu: number,
	identification: number,
): Buffer[] | undefined {
	const headerLength = (packet[0]! & 0x0f) * 4;
	const first = packet.subarray(0, headerLength);
	const later = laterHeader(first);
	const payload = packet.subarray(headerLength, packet.readUInt16BE(2));
	const field = packet.readUInt16BE(6);
	const start = (field & OFFSET_MASK) * 8;
	const fragments: Buffer[] = [];
	for (let offset = 0; offset < payload.length || fragments.length === 0; ) {
		const header = Buffer.from(offset === 0 ? first : later);
		const room = mtu - header.length;
		const rest = payload.length - offset;
		const size = rest <= room ? rest : room - (room % 8);
		if (size < 8 && rest > size) return undefined;
		const isLast = offset + size === payload.length;
		const more = isLast ? field & MORE_FRAGMENTS : MORE_FRAGMENTS;
		header.writeUInt16BE(header.length + size, 2);
		header.writeUInt16BE(identification, 4);
		header.writeUInt16BE(more | ((start + offset) / 8), 6);
		writeIpv4Checksum(header, 0);
		fragments.push(Buffer.concat([header, payload.subarray(offset, offset + size)]));
		offset += size;
	}
	return fragments;
}

/** The header with only the options that every fragment carries. */
function laterHeader(first: Buffer): Buffer {
	const kept: Buffer[] = [];
	for (let offset = 20; offset < first.length; ) {
		const kind = first[offset]!;
		if (kind === OPTION_END) break;
		if (kind === OPTION_NOP) {
			offset += 1;
			continue;
		}
		const length = first[offset + 1] ?? 0;
		if (length < 2 || offset + length > first.length) break;
		if (kind & OPTION_COPIED) kept.push(first.subarray(offset, offset + length));
		offset += length;
	}
	const options = Buffer.concat(kept);
	// End-of-options bytes fill the last word.
	const padded = Buffer.concat([options, Buffer.alloc((4 - (options.length % 4)) % 4)]);
	const header = Buffer.concat([first.subarray(0, 20), padded]);
	header[0] = 0x40 | (header.length / 4);
	return header;
}
