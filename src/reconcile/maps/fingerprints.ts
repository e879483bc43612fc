/**
 * Fingerprints of a map's entries as they were written: they reveal foreign changes without a copy of the content.
 * 8 bytes a place, 12 to 27 an entry: 48 bits of the key's hash, 15 of the value's, and whether it was seen.
 *
 *  1. `set` and `delete` follow the writes
 *  2. a scan begins with `begin`; `see` takes each entry that the map has
 *  3. `unseen` is the number of entries that the map has lost
 *
 * An entry written during a scan counts as seen. The hashes have secret seeds, so no tenant can choose entries that
 * collide; among half a million entries two collide with a probability of 1 in 2000, until the map is read anew.
 */
import { randomBytes } from "node:crypto";

const EMPTY = 0;
const REMOVED = 1;
/** Least number of places. */
const FEWEST = 64;
const SEEN = 1;
const VALUE = 0xfffe;
const KEY = 0xffff0000;

export class Fingerprints {
	readonly #keySize: number;
	readonly #valueSize: number;
	readonly #seeds: Int32Array;
	/** First half of the key's hash; EMPTY; REMOVED. A power of two of them. */
	#places = new Uint32Array(FEWEST);
	/** 16 bits of the key's hash, 15 of the value's, SEEN. */
	#marks = new Uint32Array(FEWEST);
	#size = 0;
	/** Places that are not EMPTY. */
	#taken = 0;
	/** Place of the key that was hashed last. */
	#place = 0;
	#mark = 0;

	/** @param keySize and valueSize: bytes; multiples of 4 */
	constructor(keySize: number, valueSize: number) {
		this.#keySize = keySize;
		this.#valueSize = valueSize;
		const seeds = randomBytes(12);
		this.#seeds = new Int32Array([0, 4, 8].map((at) => seeds.readInt32LE(at)));
	}

	get size(): number {
		return this.#size;
	}

	set(keys: Buffer, keyAt: number, values: Buffer, valueAt: number): void {
		this.#hashKey(keys, keyAt);
		const value = this.#hashValue(values, valueAt);
		let index = this.#find();
		if (index < 0) {
			if (this.#taken * 4 >= this.#places.length * 3) this.#rebuild();
			index = this.#free(this.#place);
			if (this.#places[index] === EMPTY) this.#taken++;
			this.#size++;
		}
		this.#places[index] = this.#place;
		this.#marks[index] = this.#mark | value | SEEN;
	}

	delete(keys: Buffer, keyAt: number): void {
		this.#hashKey(keys, keyAt);
		const index = this.#find();
		if (index < 0) return;
		this.#places[index] = REMOVED;
		this.#size--;
	}

	/** Nothing is seen yet. */
	begin(): void {
		const marks = this.#marks;
		for (let index = 0; index < marks.length; index++) marks[index]! &= ~SEEN;
	}

	/** Whether this entry is as it was written. */
	see(keys: Buffer, keyAt: number, values: Buffer, valueAt: number): boolean {
		this.#hashKey(keys, keyAt);
		const index = this.#find();
		if (index < 0) return false;
		this.#marks[index]! |= SEEN;
		return (this.#marks[index]! & VALUE) === this.#hashValue(values, valueAt);
	}

	/** Entries that were written, and that `see` was not told since `begin`. */
	get unseen(): number {
		let count = 0;
		for (let index = 0; index < this.#places.length; index++)
			if (this.#places[index]! > REMOVED && (this.#marks[index]! & SEEN) === 0) count++;
		return count;
	}

	/** The place of the key that was hashed last; -1: it has none. */
	#find(): number {
		const last = this.#places.length - 1;
		for (let index = this.#place & last; ; index = (index + 1) & last) {
			const place = this.#places[index];
			if (place === EMPTY) return -1;
			if (place === this.#place && (this.#marks[index]! & KEY) >>> 0 === this.#mark) return index;
		}
	}

	#free(place: number): number {
		const last = this.#places.length - 1;
		let index = place & last;
		while (this.#places[index]! > REMOVED) index = (index + 1) & last;
		return index;
	}

	/** Twice to four times as many places as entries. */
	#rebuild(): void {
		const [places, marks] = [this.#places, this.#marks];
		let room = FEWEST;
		while (room < this.#size * 2) room *= 2;
		this.#places = new Uint32Array(room);
		this.#marks = new Uint32Array(room);
		for (let from = 0; from < places.length; from++) {
			if (places[from]! <= REMOVED) continue;
			const index = this.#free(places[from]!);
			this.#places[index] = places[from]!;
			this.#marks[index] = marks[from]!;
		}
		this.#taken = this.#size;
	}

	#hashKey(bytes: Buffer, at: number): void {
		let a = this.#seeds[0]!;
		let b = this.#seeds[1]!;
		for (let end = at + this.#keySize, from = at; from < end; from += 4) {
			const word = bytes.readInt32LE(from);
			a = mix(a ^ word);
			b = mix(b + word);
		}
		const place = mix(a) >>> 0;
		this.#place = place > REMOVED ? place : place + 2;
		this.#mark = (mix(b) & KEY) >>> 0;
	}

	#hashValue(bytes: Buffer, at: number): number {
		let a = this.#seeds[2]!;
		for (let end = at + this.#valueSize, from = at; from < end; from += 4)
			a = mix(a ^ bytes.readInt32LE(from));
		return mix(a) & VALUE;
	}
}

/** A permutation of 32-bit numbers in which every bit depends on every other (the end of MurmurHash3). */
function mix(number: number): number {
	let h = number | 0;
	h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
	h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
	return h ^ (h >>> 16);
}
