/** Mutates packets in ways that happen, and in ways that only an attacker would try. */
import { writeIpv4Checksum } from "../../src/forwarder/checksum.js";
import type { Random } from "./random.js";

const ETHERNET = 14;
/** BPF_PROG_TEST_RUN refuses less. */
const SHORTEST = 15;

type Mutation = (frame: Buffer, random: Random) => Buffer;

const MUTATIONS: Mutation[] = [
	// truncated, or with trailing bytes
	(frame, random) => frame.subarray(0, random.between(SHORTEST, frame.length)),
	(frame, random) => frame.subarray(0, Math.min(frame.length, random.between(SHORTEST, 80))),
	(frame, random) => Buffer.concat([frame, random.bytes(random.between(1, 40))]),
	// one byte of the headers, or anywhere
	(frame, random) =>
		set(frame, random.between(0, Math.min(frame.length, 100) - 1), random.below(256)),
	(frame, random) => set(frame, random.below(frame.length), random.below(256)),
	// one bit of the headers
	(frame, random) => {
		const offset = random.between(0, Math.min(frame.length, 100) - 1);
		return set(frame, offset, frame[offset]! ^ (1 << random.below(8)));
	},
	// version and header length, length, TTL, protocol, fragment field
	(frame, random) => set(frame, ETHERNET, random.below(256)),
	(frame, random) => set16(frame, ETHERNET + random.pick([2, 4]), random.between(0, 200)),
	(frame, random) => set(frame, ETHERNET + random.pick([7, 8]), random.pick([0, 1, 2, 255])),
	(frame, random) =>
		set(frame, ETHERNET + random.pick([6, 9]), random.pick([0, 1, 6, 17, 43, 44, 51, 58, 60, 132])),
	(frame, random) =>
		set16(frame, ETHERNET + 6, random.pick([0x2000, 0x4000, 0x6000, 0x0001, 0x3fff, 0x8000])),
	// ethertype and MACs
	(frame, random) =>
		set16(frame, 12, random.pick([0x0800, 0x86dd, 0x0806, 0x8100, 0x8847, 0x0000])),
	(frame, random) => set(frame, random.below(12), random.below(256)),
	// a word that carries checksums at their limits
	(frame, random) => set16(frame, random.pick([24, 40, 50, 60, 36, 56]), random.pick([0, 0xffff])),
];

/** The frame after one to three mutations; half of the time with a valid IPv4 header checksum. */
export function mutated(frame: Buffer, random: Random): Buffer {
	let result = Buffer.from(frame);
	for (let i = random.pick([1, 1, 2, 3]); i > 0; i--) {
		result = Buffer.from(random.pick(MUTATIONS)(result, random));
		if (result.length < ETHERNET + 1) break;
	}
	const headerLength = (result[ETHERNET] ?? 0) & 0x0f;
	if (random.chance(0.5) && headerLength >= 5 && result.length >= ETHERNET + headerLength * 4) {
		if (result.readUInt16BE(12) === 0x0800) writeIpv4Checksum(result, ETHERNET);
	}
	return result;
}

function set(frame: Buffer, offset: number, value: number): Buffer {
	if (offset < frame.length) frame[offset] = value;
	return frame;
}

function set16(frame: Buffer, offset: number, value: number): Buffer {
	if (offset + 2 <= frame.length) frame.writeUInt16BE(value, offset);
	return frame;
}
