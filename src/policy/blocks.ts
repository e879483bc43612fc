/**
 * The prefixes of all blocks in force, each with the exact set of blocks that hold for the addresses of which
 * it is the longest: the blocks that begin at it or above it, less those of which it is or lies in an except.
 */
import { blockOf } from "../cluster/policy_fields.js";
import { type Steps, sortInSteps } from "../loop/turns.js";
import { contains, makePrefix, type Prefix, PrefixTable } from "../tables/prefix.js";
import { union } from "./atoms.js";

/** A set of block atoms; equal sets are the same object. */
export interface Cover {
	id: number;
	atoms: readonly number[];
}

export interface BlockEntry {
	readonly prefix: Prefix;
	parent: BlockEntry | undefined;
	/** Blocks with this very prefix, and blocks that except it. */
	starts: readonly number[];
	excepts: readonly number[];
	cover: Cover;
}

export interface BlockAtom {
	id: number;
	block: string;
	except: readonly string[];
}

export class Blocks {
	/** By family, address and length: what a prefix contains follows it. */
	#entries: BlockEntry[] = [];
	readonly #table = new PrefixTable<BlockEntry>();
	readonly #covers = new Map<string, Cover>();
	readonly #coversById: Cover[] = [];
	readonly nothing: Cover = { id: 0, atoms: [] };

	constructor() {
		this.#covers.set("", this.nothing);
		this.#coversById.push(this.nothing);
	}

	get size(): number {
		return this.#entries.length;
	}

	entries(): readonly BlockEntry[] {
		return this.#entries;
	}

	coverAt(address: Uint8Array): Cover {
		return this.#table.lookup(address)?.cover ?? this.nothing;
	}

	/** By its id. */
	cover(id: number): Cover {
		return this.#coversById[id]!;
	}

	has(prefix: Prefix): boolean {
		return this.#table.get(prefix) !== undefined;
	}

	/** The cover of the addresses in this prefix that no longer prefix contains. */
	coverOf(prefix: Prefix): Cover {
		return this.#table.longest(prefix)?.cover ?? this.nothing;
	}

	/** Blocks whose prefix has this address, excepted or not. */
	over(address: Uint8Array): number[] {
		const found: number[] = [];
		for (let entry = this.#table.lookup(address); entry !== undefined; entry = entry.parent)
			found.push(...entry.starts);
		return found;
	}

	/** Returns the entries whose cover is new, and the prefixes in which something may have changed. */
	*add(atoms: readonly BlockAtom[]): Steps<{ changed: Set<BlockEntry>; within: Prefix[] }> {
		const added: BlockEntry[] = [];
		const fetch = (prefix: Prefix): BlockEntry => {
			let entry = this.#table.get(prefix);
			if (entry === undefined) {
				entry = { prefix, parent: undefined, starts: [], excepts: [], cover: this.nothing };
				this.#table.set(prefix, entry);
				added.push(entry);
			}
			return entry;
		};
		const tops: Prefix[] = [];
		// In the kernel's trie IPv4 lies within ::/0: its own root keeps IPv6 blocks away from it.
		if (atoms.length > 0) fetch(IPV4_ROOT);
		for (const { id, block, except } of atoms) {
			const entry = fetch(blockOf(block));
			entry.starts = [...entry.starts, id];
			for (const text of except) {
				const part = fetch(blockOf(text));
				part.excepts = [...part.excepts, id];
			}
			tops.push(entry.prefix);
			yield;
		}
		yield* sortInSteps(added, inOrder);
		this.#entries = yield* merge(this.#entries, added);
		const changed = new Set(added);
		yield* sortInSteps(tops, order);
		const within: Prefix[] = [];
		for (const top of tops) {
			const last = within.at(-1);
			if (last !== undefined && contains(last, top)) continue;
			within.push(top);
			yield* this.#sweep(top, changed);
		}
		return { changed, within };
	}

	/** Computes the covers of a prefix and all that it contains. */
	*#sweep(top: Prefix, changed: Set<BlockEntry>): Steps<void> {
		let at = this.#find(top);
		const above = this.#above(top);
		const way: BlockEntry[] = [];
		for (; at < this.#entries.length; at++) {
			const entry = this.#entries[at]!;
			if (!contains(top, entry.prefix)) return;
			while (way.length > 0 && !contains(way.at(-1)!.prefix, entry.prefix)) way.pop();
			entry.parent = way.at(-1) ?? above;
			const cover = this.#coverOf(entry);
			if (cover !== entry.cover) changed.add(entry);
			entry.cover = cover;
			way.push(entry);
			yield;
		}
	}

	#coverOf({ parent, starts, excepts }: BlockEntry): Cover {
		const above = parent?.cover ?? this.nothing;
		if (starts.length === 0 && excepts.length === 0) return above;
		const held = union(
			above.atoms,
			[...starts].sort((a, b) => a - b),
		);
		const atoms = excepts.length === 0 ? held : held.filter((atom) => !excepts.includes(atom));
		const text = atoms.join();
		let cover = this.#covers.get(text);
		if (cover === undefined) {
			cover = { id: this.#covers.size, atoms };
			this.#covers.set(text, cover);
			this.#coversById.push(cover);
		}
		return cover;
	}

	/** The longest prefix that has all of this one, and is not it. */
	#above({ bytes, length }: Prefix): BlockEntry | undefined {
		return length === 0 ? undefined : this.#table.longest(makePrefix(bytes, length - 1));
	}

	#find(prefix: Prefix): number {
		let [low, high] = [0, this.#entries.length];
		while (low < high) {
			const middle = (low + high) >> 1;
			if (order(this.#entries[middle]!.prefix, prefix) < 0) low = middle + 1;
			else high = middle;
		}
		return low;
	}
}

/** Entries that are merged between two steps. */
const EVERY = 1024;
const IPV4_ROOT = blockOf("0.0.0.0/0");

function order(a: Prefix, b: Prefix): number {
	if (a.family !== b.family) return a.family - b.family;
	for (let i = 0; i < 16; i++) {
		const difference = a.bytes[i]! - b.bytes[i]!;
		if (difference !== 0) return difference;
	}
	return a.length - b.length;
}

function inOrder(a: BlockEntry, b: BlockEntry): number {
	return order(a.prefix, b.prefix);
}

function* merge(a: BlockEntry[], b: BlockEntry[]): Steps<BlockEntry[]> {
	if (b.length === 0) return a;
	const all: BlockEntry[] = [];
	let [i, j] = [0, 0];
	while (i < a.length || j < b.length) {
		const isFirst = i < a.length && (j >= b.length || inOrder(a[i]!, b[j]!) < 0);
		all.push(isFirst ? a[i++]! : b[j++]!);
		if (all.length % EVERY === 0) yield;
	}
	return all;
}
