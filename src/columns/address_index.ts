/**
 * Addresses with a number each: their 16 bytes, as in tables, outside V8's heap. Numbers are dense; that of an
 * address that went is given again.
 */
import { ADDRESS_SIZE, formatAddress, writeAddress } from "../tables/address.js";
import type { Prefix } from "../tables/prefix.js";
import { grown, mix, SEED } from "./grow.js";
import { Slots } from "./slots.js";

const WORDS = ADDRESS_SIZE / 4;
type Quad = [number, number, number, number];
/** What is asked for, as words and as bytes. */
const asked = new Uint32Array(WORDS);
const askedBytes = Buffer.from(asked.buffer);

export class AddressIndex {
	#words: Uint32Array = new Uint32Array(0);
	/** The same memory. */
	#bytes: Uint8Array = new Uint8Array(0);
	/** 1: it is in use. */
	#used: Uint8Array = new Uint8Array(0);
	#count = 0;
	#next = 0;
	readonly #free: number[] = [];
	readonly #slots = new Slots((id) => this.#hashOf(id));

	get size(): number {
		return this.#count;
	}

	/** Numbers are below this. */
	get end(): number {
		return this.#next;
	}

	has(id: number): boolean {
		return this.#used[id] === 1;
	}

	/** -1: it is not there. @throws Error if it is no address */
	find(text: string): number {
		writeAddress(askedBytes, 0, text);
		return this.#find();
	}

	/** The same by its 16 bytes. */
	findAt(bytes: Uint8Array, offset = 0): number {
		for (let i = 0; i < ADDRESS_SIZE; i++) askedBytes[i] = bytes[offset + i]!;
		return this.#find();
	}

	/** @throws Error if it is no address */
	add(text: string): number {
		writeAddress(askedBytes, 0, text);
		return this.#add();
	}

	/** The same by its 16 bytes. */
	addAt(bytes: Uint8Array, offset = 0): number {
		for (let i = 0; i < ADDRESS_SIZE; i++) askedBytes[i] = bytes[offset + i]!;
		return this.#add();
	}

	/** Its bytes stay until the number is given again. */
	remove(id: number): void {
		if (this.#used[id] !== 1) return;
		this.#slots.remove(id);
		this.#used[id] = 0;
		this.#count--;
		this.#free.push(id);
	}

	/** Canonical. */
	text(id: number): string {
		return formatAddress(this.#bytes, id * ADDRESS_SIZE);
	}

	/** Its 16 bytes, valid until another address is added. */
	bytes(id: number): Uint8Array {
		return this.#bytes.subarray(id * ADDRESS_SIZE, (id + 1) * ADDRESS_SIZE);
	}

	copy(id: number, to: Uint8Array, offset: number): void {
		const at = id * ADDRESS_SIZE;
		for (let i = 0; i < ADDRESS_SIZE; i++) to[offset + i] = this.#bytes[at + i]!;
	}

	/** Numbers in use from `from` to below `to` of the addresses within a prefix: some 2 ns for each number. */
	within({ family, bytes, length }: Prefix, from: number, to: number): number[] {
		const bits = family === 4 ? length + 96 : length;
		const mask = new Uint8Array(ADDRESS_SIZE).fill(0xff, 0, bits >> 3);
		if (bits < 128) mask[bits >> 3] = 0xff00 >> (bits & 7);
		const [ma, mb, mc, md] = new Uint32Array(mask.buffer) as unknown as Quad;
		const [a, b, c, d] = new Uint32Array(new Uint8Array(bytes).buffer) as unknown as Quad;
		const [words, used, found] = [this.#words, this.#used, [] as number[]];
		for (let id = from, at = from * WORDS; id < Math.min(to, this.#next); id++, at += WORDS) {
			if (((words[at + 3]! & md) ^ d) !== 0 || ((words[at + 2]! & mc) ^ c) !== 0) continue;
			if (((words[at]! & ma) ^ a) !== 0 || ((words[at + 1]! & mb) ^ b) !== 0) continue;
			// In the space that both share, IPv4 lies within ::/0.
			if (used[id] === 1 && (family === 4) === this.isIPv4(id)) found.push(id);
		}
		return found;
	}

	isIPv4(id: number): boolean {
		const at = id * WORDS;
		const words = this.#words;
		return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === MAPPED;
	}

	*ids(): Generator<number, void> {
		for (let id = 0; id < this.#next; id++) if (this.#used[id] === 1) yield id;
	}

	#find(): number {
		const [a, b, c, d] = asked as unknown as [number, number, number, number];
		const words = this.#words;
		return this.#slots.find(hashOf(a, b, c, d), (id) => {
			const at = id * WORDS;
			return words[at] === a && words[at + 1] === b && words[at + 2] === c && words[at + 3] === d;
		});
	}

	#add(): number {
		const known = this.#find();
		if (known >= 0) return known;
		const id = this.#free.pop() ?? this.#next++;
		const words = grown(this.#words, (id + 1) * WORDS);
		if (words !== this.#words) this.#bytes = new Uint8Array(words.buffer);
		this.#words = words;
		this.#used = grown(this.#used, id + 1);
		this.#words.set(asked, id * WORDS);
		this.#used[id] = 1;
		this.#count++;
		this.#slots.add(this.#hashOf(id), id);
		return id;
	}

	#hashOf(id: number): number {
		const [at, words] = [id * WORDS, this.#words];
		return hashOf(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
	}
}

/** The third word of an IPv4 address. */
const MAPPED = new Uint32Array(Uint8Array.of(0, 0, 0xff, 0xff).buffer)[0];

function hashOf(a: number, b: number, c: number, d: number): number {
	let hash = Math.imul(a ^ SEED, 0xcc9e2d51);
	hash = mix(hash ^ b);
	hash = Math.imul(hash ^ c, 0x1b873593);
	return mix(hash ^ d);
}
