/**
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) with 64 bits of output.
 */

/** The key's 16 bytes as two little-endian words. */
export type SipKey = readonly [bigint, bigint];

const word = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotate = (value: bigint, bits: bigint): bigint =>
	word(value << bits) | (value >> (64n - bits));

export function siphash([low, high]: SipKey, message: Buffer): bigint {
	let v0 = low ^ 0x736f6d6570736575n;
	let v1 = high ^ 0x646f72616e646f6dn;
	let v2 = low ^ 0x6c7967656e657261n;
	let v3 = high ^ 0x7465646279746573n;
	const rounds = (count: number): void => {
		for (let i = 0; i < count; i++) {
			v0 = word(v0 + v1);
			v2 = word(v2 + v3);
			v1 = rotate(v1, 13n) ^ v0;
			v3 = rotate(v3, 16n) ^ v2;
			v0 = rotate(v0, 32n);
			v2 = word(v2 + v1);
			v0 = word(v0 + v3);
			v1 = rotate(v1, 17n) ^ v2;
			v3 = rotate(v3, 21n) ^ v0;
			v2 = rotate(v2, 32n);
		}
	};

	// The last word holds the rest of the message, with the message's length in its last byte.
	const padded = Buffer.alloc((message.length >> 3) * 8 + 8);
	message.copy(padded);
	padded[padded.length - 1] = message.length & 0xff;
	for (let offset = 0; offset < padded.length; offset += 8) {
		const m = padded.readBigUInt64LE(offset);
		v3 ^= m;
		rounds(2);
		v0 ^= m;
	}
	v2 ^= 0xffn;
	rounds(4);
	return v0 ^ v1 ^ v2 ^ v3;
}
