const OFFSET_BASIS = 0xcbf29ce484222325n;
const PRIME = 0x100000001b3n;

/** FNV-1a, 64 bits, of the name's UTF-8 bytes: `peer.node_hash`, which says whose a peer id is. */
export function nodeHash(name: string): bigint {
	let hash = OFFSET_BASIS;
	for (const byte of Buffer.from(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * PRIME);
	return hash;
}
