/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3). Sums are plain
 * sums of 16-bit words; carries are folded at the end. And CRC32c, SCTP's checksum.
 */
import type { Packet } from "./packet.js";

/** The unfolded sum of the 16-bit words of `bytes`; an odd last byte is padded with zero. */
export function sumWords(bytes: Buffer): number {
	let sum = 0;
	for (let i = 0; i + 1 < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
	if (bytes.length % 2 === 1) sum += bytes[bytes.length - 1]! << 8;
	return sum;
}

/** Folds carries until 16 bits remain. */
export function fold(sum: number): number {
	let folded = sum;
	while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
	return folded;
}

/** The checksum field for data with this sum. */
export function complement(sum: number): number {
	return ~fold(sum) & 0xffff;
}

/** The change of a sum when `to` replaces `from`. Both have an even length. */
export function difference(from: Buffer, to: Buffer): number {
	let sum = sumWords(to);
	for (let i = 0; i < from.length; i += 2) sum += ~from.readUInt16BE(i) & 0xffff;
	return sum;
}

/** Updates the checksum at `offset` for data whose sum changed by `change`. */
export function update(buffer: Buffer, offset: number, change: number): void {
	const sum = (~buffer.readUInt16BE(offset) & 0xffff) + change;
	buffer.writeUInt16BE(complement(sum), offset);
}

/** The sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 793, RFC 8200 8.1). */
export function pseudoHeaderSum(
	packet: Pick<Packet, "frame" | "family" | "l3">,
	protocol: number,
	length: number,
): number {
	const { frame, family, l3 } = packet;
	const addresses =
		family === 4 ? frame.subarray(l3 + 12, l3 + 20) : frame.subarray(l3 + 8, l3 + 40);
	return sumWords(addresses) + protocol + (length >>> 16) + (length & 0xffff);
}

/** Writes the checksum of the IPv4 header at `offset`. */
export function writeIpv4Checksum(buffer: Buffer, offset: number): void {
	const length = (buffer[offset]! & 0x0f) * 4;
	buffer.writeUInt16BE(0, offset + 10);
	buffer.writeUInt16BE(complement(sumWords(buffer.subarray(offset, offset + length))), offset + 10);
}

/**
 * Completes the TCP or UDP checksum of a whole packet where the sender's stack has left it to the device
 * (CHECKSUM_PARTIAL: the field holds the sum of the pseudo header). A correct checksum stays.
 */
export function finishTransportChecksum(packet: Packet): void {
	const { frame, key, l3, l4, length, isFragment } = packet;
	if (isFragment || (key.protocol !== 6 && key.protocol !== 17)) return;
	const offset = l4 + (key.protocol === 6 ? 16 : 6);
	const segment = frame.subarray(l4, l3 + length);
	const pseudo = pseudoHeaderSum(packet, key.protocol, segment.length);
	if (frame.readUInt16BE(offset) !== fold(pseudo)) return;
	frame.writeUInt16BE(0, offset);
	frame.writeUInt16BE(complement(pseudo + sumWords(segment)) || 0xffff, offset);
}

/** By the last byte of the register, reflected (RFC 9260, appendix A). */
const CRC32C = Array.from({ length: 256 }, (_, byte) => {
	let crc = byte;
	for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
	return crc >>> 0;
});

/** CRC32c (Castagnoli) of `bytes`. */
export function crc32c(bytes: Uint8Array): number {
	let crc = 0xffffffff;
	for (const byte of bytes) crc = (crc >>> 8) ^ CRC32C[(crc ^ byte) & 0xff]!;
	return ~crc >>> 0;
}
