/**
 * Texts with a number each, as bytes outside V8's heap: 100,000 names take 5 MB. A Map of strings takes some 10, and
 * every garbage collection scans it. Numbers are dense; the number of a removed text is reused.
 */
import { grown, mix, SEED } from "./grow.js";
import { Numbers } from "./numbers.js";

/** The most bytes of one text. */
const BYTES_MAX = 0xffff;
/** The room of a text is a multiple of this, so that another text can reuse it. */
const GRAIN = 8;

let scratch = Buffer.alloc(1024);

export class Texts extends Numbers {
	#bytes: Uint8Array = new Uint8Array(0);
	#end = 0;
	#starts: Uint32Array = new Uint32Array(0);
	#lengths: Uint16Array = new Uint16Array(0);
	#hashes: Uint32Array = new Uint32Array(0);
	/** Starts of unused places, by size. */
	readonly #places = new Map<number, number[]>();

	protected override hashOf(id: number): number {
		return this.#hashes[id]!;
	}

	/** -1: it is not there. */
	find(text: string): number {
		const length = write(text);
		return this.#find(hashOf(length), length);
	}

	/** @throws Error for a text of more than 65,535 bytes */
	add(text: string): number {
		const length = write(text);
		if (length > BYTES_MAX)
			throw new Error(`Cannot keep a text: expected at most ${BYTES_MAX} bytes, got ${length}`);
		const hash = hashOf(length);
		const known = this.#find(hash, length);
		if (known >= 0) return known;
		return this.take(hash, (id) => {
			this.#starts = grown(this.#starts, id + 1);
			this.#lengths = grown(this.#lengths, id + 1);
			this.#hashes = grown(this.#hashes, id + 1);
			const start = this.#place(length);
			this.#bytes.set(scratch.subarray(0, length), start);
			this.#starts[id] = start;
			this.#lengths[id] = length;
			this.#hashes[id] = hash;
		});
	}

	remove(id: number): void {
		if (!this.release(id)) return;
		const size = sizeOf(this.#lengths[id]!);
		const places = this.#places.get(size);
		if (places === undefined) this.#places.set(size, [this.#starts[id]!]);
		else places.push(this.#starts[id]!);
	}

	/** The text of a number in use. */
	text(id: number): string {
		const start = this.#starts[id]!;
		const { buffer } = this.#bytes;
		return Buffer.from(buffer, start, this.#lengths[id]!).toString("utf8");
	}

	#find(hash: number, length: number): number {
		return this.findBy(hash, (id) => {
			if (this.#hashes[id] !== hash || this.#lengths[id] !== length) return false;
			const start = this.#starts[id]!;
			for (let i = 0; i < length; i++) if (this.#bytes[start + i] !== scratch[i]) return false;
			return true;
		});
	}

	#place(length: number): number {
		const size = sizeOf(length);
		const free = this.#places.get(size)?.pop();
		if (free !== undefined) return free;
		const start = this.#end;
		this.#end += size;
		this.#bytes = grown(this.#bytes, this.#end);
		return start;
	}
}

function sizeOf(length: number): number {
	return Math.ceil(length / GRAIN) * GRAIN;
}

/** Into `scratch`; returns the number of bytes. */
function write(text: string): number {
	if (text.length * 3 > scratch.length) scratch = Buffer.alloc(text.length * 3);
	return scratch.write(text, "utf8");
}

/** FNV-1a. */
function hashOf(length: number): number {
	let hash = SEED;
	for (let i = 0; i < length; i++) hash = Math.imul(hash ^ scratch[i]!, 0x01000193);
	return mix(hash);
}
