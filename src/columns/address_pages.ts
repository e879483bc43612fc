/**
 * The numbers of addresses by page: those that begin with the same 24 bits of IPv4, or 64 of IPv6. What a prefix has of
 * many addresses is found without a look at all of them.
 */
import { ADDRESS_SIZE } from "../tables/address.js";
import { containsAddress, type Prefix } from "../tables/prefix.js";
import { AddressIndex } from "./address_index.js";
import { grown } from "./grow.js";

/** Nothing yet, but there may be more. */
export const PAUSE = -1;
/** Bits of a page, and where the bytes after it begin. */
const PAGES = { 4: { bits: 24, end: 15 }, 6: { bits: 64, end: 8 } } as const;
/** Pages or addresses that are looked at between two steps. */
const EVERY = 256;

const asked = new Uint8Array(ADDRESS_SIZE);

export class AddressPages {
	readonly #addresses: AddressIndex;
	readonly #pages = new AddressIndex();
	/** The first address of each page. Numbers are kept plus one: 0 is none, which new elements of a column are. */
	#first: Int32Array = new Int32Array(0);
	#sizes: Int32Array = new Int32Array(0);
	/** For each address the others of its page. */
	#next: Int32Array = new Int32Array(0);
	#previous: Int32Array = new Int32Array(0);

	/** @param addresses whose numbers enter and leave */
	constructor(addresses: AddressIndex) {
		this.#addresses = addresses;
	}

	/** An address that has come. */
	enter(id: number): void {
		const page = this.#pages.addAt(this.#pageOf(id));
		this.#first = grown(this.#first, page + 1);
		this.#sizes = grown(this.#sizes, page + 1);
		this.#next = grown(this.#next, id + 1);
		this.#previous = grown(this.#previous, id + 1);
		const first = this.#first[page]!;
		this.#next[id] = first;
		this.#previous[id] = 0;
		if (first !== 0) this.#previous[first - 1] = id + 1;
		this.#first[page] = id + 1;
		this.#sizes[page]!++;
	}

	/** One that goes, while its bytes are still known. */
	leave(id: number): void {
		const page = this.#pages.findAt(this.#pageOf(id));
		const [next, previous] = [this.#next[id]!, this.#previous[id]!];
		if (next !== 0) this.#previous[next - 1] = previous;
		if (previous !== 0) this.#next[previous - 1] = next;
		else this.#first[page] = next;
		if (--this.#sizes[page]! === 0) this.#pages.remove(page);
	}

	/** How many pages and addresses `within` looks at, at most. */
	cost({ family, bytes, length }: Prefix): number {
		if (length < PAGES[family].bits) return this.#pages.size + this.#addresses.size;
		const page = this.#pages.findAt(pageOf(bytes, family));
		return page < 0 ? 1 : this.#sizes[page]!;
	}

	/** The numbers of the addresses in a prefix; PAUSE: others may have a turn. None may enter or leave meanwhile. */
	*within(prefix: Prefix): Generator<number, void> {
		const { bits } = PAGES[prefix.family];
		let looked = 0;
		const isWhole = prefix.length <= bits;
		if (prefix.length >= bits) {
			const page = this.#pages.findAt(pageOf(prefix.bytes, prefix.family));
			if (page >= 0) yield* this.#of(page, prefix, isWhole);
			return;
		}
		for (const page of this.#pages.ids()) {
			if (++looked % EVERY === 0) yield PAUSE;
			if (containsAddress(prefix, this.#pages.bytes(page))) yield* this.#of(page, prefix, isWhole);
		}
	}

	*#of(page: number, prefix: Prefix, isWhole: boolean): Generator<number, void> {
		let looked = 0;
		for (let next = this.#first[page]!; next !== 0; next = this.#next[next - 1]!) {
			if (++looked % EVERY === 0) yield PAUSE;
			const id = next - 1;
			if (isWhole || containsAddress(prefix, this.#addresses.bytes(id))) yield id;
		}
	}

	#pageOf(id: number): Uint8Array {
		return pageOf(this.#addresses.bytes(id), this.#addresses.isIPv4(id) ? 4 : 6);
	}
}

/** The first address of its page, valid until the next. */
function pageOf(bytes: Uint8Array, family: 4 | 6): Uint8Array {
	asked.set(bytes);
	return asked.fill(0, PAGES[family].end);
}
