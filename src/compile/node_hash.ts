/** What is derived from a Node's name. */

const OFFSET_BASIS = 0xcbf29ce484222325n;
const PRIME = 0x100000001b3n;

/** FNV-1a, 64 bits, of the UTF-8 bytes (`peer.node_hash`). */
export function nodeHash(name: string): bigint {
	let hash = OFFSET_BASIS;
	for (const byte of Buffer.from(name)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * PRIME);
	return hash;
}

/** Locally administered, unicast, and the same after every restart: Pods keep it as neighbour. */
export function gatewayMac(name: string): string {
	const digits = nodeHash(name).toString(16).padStart(16, "0").slice(-10);
	return `06:${digits.match(/../g)!.join(":")}`;
}
