const OFFSET_BASIS = { high: 0xcbf29ce4, low: 0x84222325 };
/** The FNV prime is 2^40 plus this. */
const PRIME = 0x1b3;

/** FNV-1a with 64 bits of the name's UTF-8 bytes: `peer.node_hash`, which records the owner of a peer id. */
export function nodeHash(name: string): bigint {
	// In two halves of 32 bits, each exact as a number: BigInts would allocate for every byte.
	let { high, low } = OFFSET_BASIS;
	for (const byte of Buffer.from(name)) {
		low = (low ^ byte) >>> 0;
		const product = low * PRIME;
		high = (high * PRIME + Math.floor(product / 2 ** 32) + low * 2 ** 8) >>> 0;
		low = product >>> 0;
	}
	return (BigInt(high) << 32n) | BigInt(low);
}
