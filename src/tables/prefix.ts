/** IP prefixes: text, containment, overlap, and longest-prefix look-up. Pure. */
import { formatAddress, isMapped, parseAddress } from "./address.js";

export type Family = 4 | 6;

export interface Prefix {
	family: Family;
	/** As in `struct address`; bits after the prefix are zero. */
	bytes: Uint8Array;
	/** 0 to 32, or 0 to 128. */
	length: number;
	/** Canonical: "10.244.1.0/24". */
	text: string;
}

/** `wanted` is what the text should have been, to stand behind "wanted". */
export type PrefixResult = { prefix: Prefix } | { wanted: string };

const EXAMPLE = "a CIDR such as 10.0.0.0/8 or fd00::/8";

/** Parses a CIDR. Rejects host bits, which usually are a mistake. */
export function readPrefix(text: string): PrefixResult {
	const slash = text.indexOf("/");
	const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
	if (address === undefined) return { wanted: EXAMPLE };
	const bits = familyOf(address) === 4 ? 32 : 128;
	const lengthText = text.slice(slash + 1);
	if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(lengthText) || Number(lengthText) > bits)
		return { wanted: `a CIDR with a prefix length from 0 to ${bits}` };
	const prefix = makePrefix(address, Number(lengthText));
	if (!sameBytes(prefix.bytes, address))
		return { wanted: `a CIDR without host bits (the network is ${prefix.text})` };
	return { prefix };
}

/** The family of the 16 bytes of an address. */
export function familyOf(address: Uint8Array): Family {
	return isMapped(address) ? 4 : 6;
}

/** Parses text that is known to be valid, such as canonical text from readPrefix. Throws otherwise. */
export function parsePrefix(text: string): Prefix {
	const read = readPrefix(text);
	if ("prefix" in read) return read.prefix;
	throw new Error(`Cannot read the prefix: expected ${read.wanted}, got ${JSON.stringify(text)}`);
}

/** The prefix of this length that contains an address. */
export function makePrefix(address: Uint8Array, length: number): Prefix {
	const family = familyOf(address);
	const bytes = new Uint8Array(address);
	const bits = keyLength(family, length);
	if (bits < 128) {
		bytes[bits >> 3]! &= 0xff00 >> (bits & 7);
		bytes.fill(0, (bits >> 3) + 1);
	}
	// A truncated IPv6 address never looks like IPv4: ::ffff:0:0 needs 96 bits.
	return { family, bytes, length, text: [formatAddress(bytes), length].join("/") };
}

/** The prefix that contains exactly one address. */
export function hostPrefix(address: Uint8Array): Prefix {
	return makePrefix(address, familyOf(address) === 4 ? 32 : 128);
}

/** True if every address of `inner` is in `outer`. */
export function contains(outer: Prefix, inner: Prefix): boolean {
	if (outer.family !== inner.family || outer.length > inner.length) return false;
	return sameBits(outer.bytes, inner.bytes, keyLength(outer.family, outer.length));
}

export function containsAddress(outer: Prefix, address: Uint8Array): boolean {
	if (outer.family !== familyOf(address)) return false;
	return sameBits(outer.bytes, address, keyLength(outer.family, outer.length));
}

/** True if they have an address in common, that is, if one contains the other. */
export function overlap(a: Prefix, b: Prefix): boolean {
	return contains(a, b) || contains(b, a);
}

/** The first address after the network address; for a single address, that address. */
export function firstAddress(prefix: Prefix): Uint8Array {
	const bytes = new Uint8Array(prefix.bytes);
	if (keyLength(prefix.family, prefix.length) < 128) bytes[15]! |= 1;
	return bytes;
}

/** Length in the 128-bit space where IPv4 follows ::ffff: (`route_key.prefix_length`). */
function keyLength(family: Family, length: number): number {
	return family === 4 ? length + 96 : length;
}

function sameBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
	const whole = bits >> 3;
	for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
	const rest = bits & 7;
	return rest === 0 || ((a[whole]! ^ b[whole]!) & (0xff00 >> rest)) === 0;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
	return sameBits(a, b, 128);
}

/** All nodes below share the first bits. Bits without a branch or value have no node. */
interface TrieNode<T> {
	bytes: Uint8Array;
	/** In the 128-bit space. */
	length: number;
	value: T | undefined;
	zero: TrieNode<T> | undefined;
	one: TrieNode<T> | undefined;
}

/** Maps prefixes of both families to values (never undefined): one compressed trie for each family. */
export class PrefixTable<T> {
	readonly #roots: { 4: TrieNode<T>; 6: TrieNode<T> } = {
		4: trieNode(EMPTY, keyLength(4, 0)),
		6: trieNode(EMPTY, keyLength(6, 0)),
	};

	/** Sets or replaces the value of exactly this prefix. */
	set(prefix: Prefix, value: T): void {
		const { bytes } = prefix;
		const end = keyLength(prefix.family, prefix.length);
		let node = this.#roots[prefix.family];
		while (node.length < end) {
			const next = child(node, bytes) ?? trieNode<T>(bytes, end);
			const common = commonBits(next.bytes, bytes, Math.min(next.length, end));
			const below = common === next.length ? next : trieNode<T>(bytes, common);
			if (below !== next) setChild(below, next);
			setChild(node, below);
			node = below;
		}
		node.value = value;
	}

	/** Forgets what that very prefix had. */
	delete(prefix: Prefix): void {
		const end = keyLength(prefix.family, prefix.length);
		const way: TrieNode<T>[] = [];
		let node: TrieNode<T> | undefined = this.#roots[prefix.family];
		while (node !== undefined && node.length < end) {
			way.push(node);
			node = child(node, prefix.bytes);
		}
		if (node?.length !== end || !sameBits(node.bytes, prefix.bytes, end)) return;
		node.value = undefined;
		// Nodes that lead to nothing any more.
		for (let above = way.pop(); above !== undefined; above = way.pop()) {
			if (node.value !== undefined || node.zero !== undefined || node.one !== undefined) return;
			if (above.zero === node) above.zero = undefined;
			else above.one = undefined;
			node = above;
		}
	}

	/** The value of exactly this prefix. */
	get(prefix: Prefix): T | undefined {
		const end = keyLength(prefix.family, prefix.length);
		const node = this.#walk(prefix.family, end, prefix.bytes, () => {});
		return node?.length === end ? node.value : undefined;
	}

	/** The value of the longest prefix that contains the address. */
	lookup(address: Uint8Array): T | undefined {
		return this.#longest(familyOf(address), 128, address);
	}

	/** The value of the longest prefix that contains or equals this one. */
	longest({ family, length, bytes }: Prefix): T | undefined {
		return this.#longest(family, keyLength(family, length), bytes);
	}

	/** The value of any prefix that overlaps this one. */
	overlapping(prefix: Prefix): T | undefined {
		let found: T | undefined;
		const end = keyLength(prefix.family, prefix.length);
		const within = this.#walk(prefix.family, end, prefix.bytes, (value) => {
			found ??= value;
		});
		return found ?? (within && anyValue(within));
	}

	/** Values of all prefixes that this one contains or equals, in no particular order. */
	*within(prefix: Prefix): Generator<T> {
		const end = keyLength(prefix.family, prefix.length);
		const top = this.#walk(prefix.family, end, prefix.bytes, () => {});
		const nodes = top === undefined ? [] : [top];
		for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
			if (node.value !== undefined) yield node.value;
			if (node.zero !== undefined) nodes.push(node.zero);
			if (node.one !== undefined) nodes.push(node.one);
		}
	}

	#longest(family: Family, end: number, bytes: Uint8Array): T | undefined {
		let found: T | undefined;
		this.#walk(family, end, bytes, (value) => {
			found = value;
		});
		return found;
	}

	/**
	 * Visits every value whose prefix contains or equals the first `end` bits, and returns the node
	 * below which all prefixes within those bits are.
	 */
	#walk(
		family: Family,
		end: number,
		bytes: Uint8Array,
		visit: (value: T) => void,
	): TrieNode<T> | undefined {
		let node: TrieNode<T> | undefined = this.#roots[family];
		while (node !== undefined && node.length <= end) {
			if (node.value !== undefined) visit(node.value);
			if (node.length === end) return node;
			const next: TrieNode<T> | undefined = child(node, bytes);
			node = next && sameBits(next.bytes, bytes, Math.min(next.length, end)) ? next : undefined;
		}
		return node;
	}
}

const EMPTY = new Uint8Array(16);

function trieNode<T>(bytes: Uint8Array, length: number): TrieNode<T> {
	return { bytes, length, value: undefined, zero: undefined, one: undefined };
}

/** The child on the path to these bytes. */
function child<T>(node: TrieNode<T>, bytes: Uint8Array): TrieNode<T> | undefined {
	return bitAt(bytes, node.length) === 0 ? node.zero : node.one;
}

function setChild<T>(node: TrieNode<T>, below: TrieNode<T>): void {
	if (bitAt(below.bytes, node.length) === 0) node.zero = below;
	else node.one = below;
}

function bitAt(bytes: Uint8Array, bit: number): number {
	return (bytes[bit >> 3]! >> (7 - (bit & 7))) & 1;
}

/** The number of leading bits, up to `most`, that are equal. */
function commonBits(a: Uint8Array, b: Uint8Array, most: number): number {
	for (let i = 0; i < 16; i++) {
		const differing = a[i]! ^ b[i]!;
		if (differing !== 0) return Math.min(most, 8 * i + Math.clz32(differing) - 24);
	}
	return most;
}

function anyValue<T>(node: TrieNode<T>): T | undefined {
	if (node.value !== undefined) return node.value;
	return (node.zero && anyValue(node.zero)) ?? (node.one && anyValue(node.one));
}
