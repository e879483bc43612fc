/** A number for each of many addresses: as a Map, in a tenth of its memory. */
import { formatAddress } from "../tables/address.js";
import { AddressIndex } from "./address_index.js";
import { grown } from "./grow.js";

export class AddressNumbers implements Iterable<[address: string, number: number]> {
	readonly #index = new AddressIndex();
	#numbers: Uint32Array = new Uint32Array(0);

	constructor(entries: Iterable<readonly [string, number]> = []) {
		for (const [address, number] of entries) this.set(address, number);
	}

	get size(): number {
		return this.#index.size;
	}

	get(address: string): number | undefined {
		const id = this.#index.find(address);
		return id < 0 ? undefined : this.#numbers[id];
	}

	/** By the 16 bytes. */
	at(bytes: Uint8Array, offset = 0): number | undefined {
		const id = this.#index.findAt(bytes, offset);
		return id < 0 ? undefined : this.#numbers[id];
	}

	/** @param number 32 bits, unsigned */
	set(address: string, number: number): void {
		this.#put(this.#index.add(address), number);
	}

	setAt(bytes: Uint8Array, offset: number, number: number): void {
		this.#put(this.#index.addAt(bytes, offset), number);
	}

	*keys(): Generator<string, void> {
		for (const id of this.#index.ids()) yield this.#index.text(id);
	}

	/** The 16 bytes of each, valid until the next. */
	*addresses(): Generator<Uint8Array, void> {
		for (const id of this.#index.ids()) yield this.#index.bytes(id);
	}

	*values(): Generator<number, void> {
		for (const id of this.#index.ids()) yield this.#numbers[id]!;
	}

	*[Symbol.iterator](): Generator<[string, number], void> {
		for (const id of this.#index.ids())
			yield [formatAddress(this.#index.bytes(id)), this.#numbers[id]!];
	}

	#put(id: number, number: number): void {
		this.#numbers = grown(this.#numbers, id + 1);
		this.#numbers[id] = number;
	}
}
