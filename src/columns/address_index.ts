/**
 * Addresses with a number each: their 16 bytes, as in tables, outside V8's heap. Numbers are dense; that of an
 * address that went is given again.
 */
import { ADDRESS_SIZE, formatAddress, writeAddress } from "../tables/address.js";
import { grown, mix, SEED } from "./grow.js";
import { Numbers } from "./numbers.js";

const WORDS = ADDRESS_SIZE / 4;
/** What is asked for, as words and as bytes. */
const asked = new Uint32Array(WORDS);
const askedBytes = Buffer.from(asked.buffer);

export class AddressIndex extends Numbers {
	#words: Uint32Array = new Uint32Array(0);
	/** The same memory. */
	#bytes: Uint8Array = new Uint8Array(0);

	protected override hashOf(id: number): number {
		const [at, words] = [id * WORDS, this.#words];
		return hashOf(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
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
		this.release(id);
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

	/** Its bytes as four words. */
	copyWords(id: number, to: Uint32Array, offset: number): void {
		const [at, words] = [id * WORDS, this.#words];
		for (let i = 0; i < WORDS; i++) to[offset + i] = words[at + i]!;
	}

	isIPv4(id: number): boolean {
		const at = id * WORDS;
		const words = this.#words;
		return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === MAPPED;
	}

	#find(): number {
		const [a, b, c, d] = asked as unknown as [number, number, number, number];
		const words = this.#words;
		return this.findBy(hashOf(a, b, c, d), (id) => {
			const at = id * WORDS;
			return words[at] === a && words[at + 1] === b && words[at + 2] === c && words[at + 3] === d;
		});
	}

	#add(): number {
		const known = this.#find();
		if (known >= 0) return known;
		const [a, b, c, d] = asked as unknown as [number, number, number, number];
		return this.take(hashOf(a, b, c, d), (id) => {
			const words = grown(this.#words, (id + 1) * WORDS);
			if (words !== this.#words) this.#bytes = new Uint8Array(words.buffer);
			this.#words = words;
			words.set(asked, id * WORDS);
		});
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
