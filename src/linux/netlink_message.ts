/**
 * Messages of rtnetlink(7): a header, a structure by type, attributes. In the byte order of this machine, which
 * is little endian wherever Fairway runs; addresses are in network byte order.
 */
import { endianness } from "node:os";

if (endianness() !== "LE")
	throw new Error("Cannot speak netlink: expected a little-endian machine");

/** nlmsg_type */
export const RTM = {
	NEWLINK: 16,
	DELLINK: 17,
	GETLINK: 18,
	NEWADDR: 20,
	GETADDR: 22,
	NEWROUTE: 24,
	DELROUTE: 25,
	GETROUTE: 26,
	NEWNEIGH: 28,
	GETNEIGH: 30,
} as const;

/** nlmsg_flags */
export const NLM = {
	REQUEST: 0x1,
	ACK: 0x4,
	REPLACE: 0x100,
	EXCL: 0x200,
	DUMP: 0x300,
	CREATE: 0x400,
} as const;

/** struct nlmsghdr */
const HEADER = 16;
/** struct nlattr */
const ATTRIBUTE = 4;
const TYPE_MASK = 0x3fff;

const aligned = (length: number): number => (length + 3) & ~3;

export function bytes(...numbers: number[]): Buffer {
	return Buffer.from(numbers);
}

export function u32(number: number): Buffer {
	const buffer = Buffer.alloc(4);
	buffer.writeUInt32LE(number >>> 0);
	return buffer;
}

export function text(string: string): Buffer {
	return Buffer.from(`${string}\0`);
}

/** "02:00:00:00:00:01" */
export function mac(address: string): Buffer {
	return Buffer.from(address.replaceAll(":", ""), "hex");
}

export function attribute(type: number, ...payload: readonly Buffer[]): Buffer {
	const length = payload.reduce((sum, { length }) => sum + length, ATTRIBUTE);
	const header = Buffer.alloc(ATTRIBUTE);
	header.writeUInt16LE(length);
	header.writeUInt16LE(type, 2);
	return Buffer.concat([header, ...payload], aligned(length));
}

/** Length and sequence number are written by the addon. */
export function message(type: number, flags: number, ...parts: readonly Buffer[]): Buffer {
	const header = Buffer.alloc(HEADER);
	header.writeUInt16LE(type, 4);
	header.writeUInt16LE(NLM.REQUEST | flags, 6);
	return Buffer.concat([header, ...parts]);
}

/** The attributes of some bytes: type and payload. */
export function* attributesOf(data: Buffer): Generator<[type: number, payload: Buffer]> {
	for (let at = 0; at + ATTRIBUTE <= data.length; ) {
		const length = data.readUInt16LE(at);
		if (length < ATTRIBUTE || at + length > data.length) return;
		yield [data.readUInt16LE(at + 2) & TYPE_MASK, data.subarray(at + ATTRIBUTE, at + length)];
		at += aligned(length);
	}
}

/** The messages of an answer: type and payload. */
export function* messagesOf(data: Buffer): Generator<[type: number, body: Buffer]> {
	for (let at = 0; at + HEADER <= data.length; ) {
		const length = data.readUInt32LE(at);
		if (length < HEADER || at + length > data.length) return;
		yield [data.readUInt16LE(at + 4), data.subarray(at + HEADER, at + length)];
		at += aligned(length);
	}
}

/** A string that ends with NUL. */
export function textOf(payload: Buffer): string {
	const end = payload.indexOf(0);
	return payload.toString("utf8", 0, end < 0 ? payload.length : end);
}

export function macOf(payload: Buffer): string {
	return payload.toString("hex").replace(/..(?=.)/g, "$&:");
}
