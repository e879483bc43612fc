/**
 * Sizes: the length of packets on the wire, and the MSS that keeps TCP segments within a path's MTU (RFC 6691).
 */

import { Limit } from "../tables/generated.js";
import { difference, update } from "./checksum.js";
import type { PacketContext } from "./decision.js";
import { headers, type Packet, Protocol, TcpFlag } from "./packet.js";

const TcpOption = { END: 0, NOP: 1, MSS: 2 } as const;
const TCP_HEADER = 20;

/** gso_size of SCTP packets of different lengths, none longer than the sender's path MTU. */
const GSO_BY_FRAGS = 0xffff;

export function isBundle({ gsoSize }: PacketContext): boolean {
	return gsoSize === GSO_BY_FRAGS;
}

/** Length of the largest IP packet that this one becomes on the wire; 0: unknown, for a bundle of SCTP packets. */
export function wireLength(packet: Packet, { gsoSize }: PacketContext): number {
	if (gsoSize === GSO_BY_FRAGS) return 0;
	return gsoSize ? headers(packet) + gsoSize : packet.length;
}

/** Packets and IP bytes on the wire: each segment of a GSO packet repeats the headers. */
export function onWire(
	packet: Packet,
	{ gsoSize, gsoSegments }: PacketContext,
): { packets: number; bytes: number; large: number } {
	const data = packet.length - headers(packet);
	// Taps and virtio may not set the number of segments.
	const packets = gsoSize ? gsoSegments || Math.max(1, Math.ceil(data / gsoSize)) : 1;
	const bytes = packet.length + (packets - 1) * headers(packet);
	const size = gsoSize === GSO_BY_FRAGS ? 0 : (gsoSize ?? 0);
	return { packets, bytes, large: largeSegments(packet, packets, size) };
}

/** The number of segments longer than LARGE_PACKET; the last segment may be small. */
function largeSegments(packet: Packet, segments: number, gsoSize: number): number {
	if (gsoSize === 0) return packet.length > Limit.LARGE_PACKET ? 1 : 0;
	if (headers(packet) + gsoSize <= Limit.LARGE_PACKET) return 0;
	const last = (packet.length - (segments - 1) * gsoSize) >>> 0;
	return last <= Limit.LARGE_PACKET ? segments - 1 : segments;
}

/**
 * Lowers the MSS of a TCP SYN to the size that `mtu` leaves for a segment without options. Returns true
 * if it was higher.
 */
export function clampMss(packet: Packet, mtu: number): boolean {
	const { frame, key, family, l4 } = packet;
	if (key.protocol !== Protocol.TCP || packet.isFragment) return false;
	if ((packet.l4Type & TcpFlag.SYN) === 0) return false;
	const room = mtu - (family === 4 ? 20 : 40) - TCP_HEADER;
	const offset = mssOffset(packet);
	if (room <= 0 || offset === undefined || frame.readUInt16BE(offset) <= room) return false;

	// Checksum words are aligned to the TCP header; an option may span two of them.
	const start = offset - ((offset - l4) % 2);
	const end = start + ((offset - l4) % 2 === 0 ? 2 : 4);
	const before = Buffer.from(frame.subarray(start, end));
	frame.writeUInt16BE(room, offset);
	update(frame, l4 + 16, difference(before, frame.subarray(start, end)));
	return true;
}

/** Offset of the MSS value in the frame. */
function mssOffset({ frame, l4, l4Header }: Packet): number | undefined {
	const end = l4 + l4Header;
	let offset = l4 + TCP_HEADER;
	while (offset < end) {
		const kind = frame[offset];
		if (kind === TcpOption.END) return undefined;
		if (kind === TcpOption.NOP) {
			offset += 1;
			continue;
		}
		const length = offset + 2 <= end ? frame[offset + 1]! : 0;
		if (length < 2) return undefined;
		if (kind === TcpOption.MSS) {
			return length === 4 && offset + 4 <= end ? offset + 2 : undefined;
		}
		offset += length;
	}
	return undefined;
}
