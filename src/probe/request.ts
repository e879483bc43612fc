/**
 * Builds probe requests: UDP from gateway address to gateway address, DF set, `struct probe` and then
 * zeros. The fields that only the core knows (time, token, counts, checksum) are zero here; from_host
 * fills them in. Pure.
 */
import { parseAddress } from "../tables/address.js";
import { Limit, Probe, ProbeFlag, ProbeKind, ProbeWay } from "../tables/generated.js";
import { type Family, familyOf } from "../tables/prefix.js";
import type { Way } from "./survey/survey.js";

export type { Way } from "./survey/survey.js";

export const WAYS: Readonly<Record<Way, ProbeWay>> = {
	direct: ProbeWay.DIRECT,
	tunnel: ProbeWay.TUNNEL,
};

/** Lengths are those of whole IP packets. An answer is never longer than its request. */
export interface RequestPacket {
	/** Gateway addresses of one family, canonical text. */
	source: string;
	destination: string;
	there: Way;
	back: Way;
	length: number;
	answerLength: number;
	/** 32 bits. */
	sequence: number;
	/** The sender has not received an answer from this peer yet. */
	hello: boolean;
}

const UDP_HEADER = 8;
const TTL = 64;
const IP_HEADER: Readonly<Record<Family, number>> = { 4: 20, 6: 40 };

/** The shortest request: only headers and `struct probe`. */
export function smallLength(family: Family): number {
	return IP_HEADER[family] + UDP_HEADER + Probe.size;
}

/**
 * The packet from the IP header on, for a raw socket with IP_HDRINCL (RFC 791, 8200, 768).
 *
 * @param room a buffer of zeros, or one with an earlier request, in which the packet is built; for
 *   sending many.
 */
export function requestPacket(request: RequestPacket, room = Buffer.alloc(request.length)): Buffer {
	const { source, destination, length, answerLength } = request;
	const [from, to] = [bytesOf(source), bytesOf(destination)];
	const family = familyOf(from);
	if (length < smallLength(family) || answerLength < smallLength(family) || answerLength > length)
		throw new Error(
			`Cannot make a request of ${length} bytes with an answer of ${answerLength}: expected at least ${smallLength(family)} bytes, and an answer no longer than its request`,
		);
	const packet = room.subarray(0, length);
	packet.fill(0, 0, smallLength(family));
	const l4 = IP_HEADER[family];
	if (family === 4) {
		packet[0] = 0x45;
		packet.writeUInt16BE(length, 2);
		// With id 0, Linux would write one of its own.
		packet.writeUInt16BE((request.sequence & 0xffff) | 1, 4);
		packet.writeUInt16BE(0x4000, 6); // DF
		packet[8] = TTL;
		packet[9] = 17;
		from.copy(packet, 12, 12);
		to.copy(packet, 16, 12);
	} else {
		packet[0] = 0x60;
		packet.writeUInt16BE(length - l4, 4);
		packet[6] = 17;
		packet[7] = TTL;
		from.copy(packet, 8);
		to.copy(packet, 24);
	}
	packet.writeUInt16BE(Limit.PROBE_PORT, l4);
	packet.writeUInt16BE(Limit.PROBE_PORT, l4 + 2);
	packet.writeUInt16BE(length - l4, l4 + 4);
	Probe.write(packet, l4 + UDP_HEADER, {
		magic: Limit.PROBE_MAGIC,
		kind: ProbeKind.REQUEST,
		flags: request.hello ? ProbeFlag.HELLO : 0,
		wayThere: WAYS[request.there],
		wayBack: WAYS[request.back],
		length,
		answerLength,
		sequence: request.sequence,
		sentAt: 0n,
		token: 0n,
		sentPackets: 0,
		sentLarge: 0,
		receivedPackets: 0,
		receivedLarge: 0,
	});
	return packet;
}

/** Parsed addresses: the same few are used all the time. */
const known = new Map<string, Buffer>();
const KNOWN_MAX = 65_536;

function bytesOf(text: string): Buffer {
	const before = known.get(text);
	if (before !== undefined) return before;
	const bytes = parseAddress(text);
	if (bytes === undefined)
		throw new Error(`Cannot make a request: expected an address, got ${JSON.stringify(text)}`);
	if (known.size >= KNOWN_MAX) known.clear();
	known.set(text, bytes);
	return bytes;
}
