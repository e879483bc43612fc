/** Addresses that a Pod or Node claims, or claimed until this round, as columns. */
import { AddressIndex } from "../columns/address_index.js";
import { AddressPages } from "../columns/address_pages.js";
import { grown } from "../columns/grow.js";

/** The address has no owner; it has no class of its own. */
export const NONE = -1;

export class Claims extends AddressIndex {
	/** For each address: owner, class, cover, and whether it was touched in this round. */
	#owners: Int32Array = new Int32Array(0);
	#classes: Int32Array = new Int32Array(0);
	#covers: Int32Array = new Int32Array(0);
	#touched: Uint8Array = new Uint8Array(0);
	/** By what they begin with. */
	readonly pages = new AddressPages(this);

	/** The claim of an address; a new one has no owner. */
	claim(address: string): number {
		const known = this.find(address);
		return known >= 0 ? known : this.#begin(this.add(address));
	}

	/** The same by its 16 bytes. */
	claimAt(bytes: Uint8Array): number {
		const known = this.findAt(bytes);
		return known >= 0 ? known : this.#begin(this.addAt(bytes));
	}

	#begin(claim: number): number {
		this.#owners = grown(this.#owners, claim + 1);
		this.#classes = grown(this.#classes, claim + 1);
		this.#covers = grown(this.#covers, claim + 1);
		this.#touched = grown(this.#touched, claim + 1);
		this.#owners[claim] = NONE;
		this.#classes[claim] = NONE;
		this.#covers[claim] = NONE;
		this.#touched[claim] = 0;
		this.pages.enter(claim);
		return claim;
	}

	override remove(claim: number): void {
		if (!this.has(claim)) return;
		this.pages.leave(claim);
		super.remove(claim);
	}

	/** See Owners; NONE. */
	owner(claim: number): number {
		return this.#owners[claim]!;
	}

	setOwner(claim: number, owner: number): void {
		this.#owners[claim] = owner;
	}

	/** As it is written; NONE: that of its prefix. */
	class(claim: number): number {
		return this.#classes[claim]!;
	}

	setClass(claim: number, number: number): void {
		this.#classes[claim] = number;
	}

	/** The number of the blocks that cover it; NONE: not looked up yet. */
	cover(claim: number): number {
		return this.#covers[claim]!;
	}

	setCover(claim: number, cover: number): void {
		this.#covers[claim] = cover;
	}

	isTouched(claim: number): boolean {
		return this.#touched[claim] === 1;
	}

	setTouched(claim: number, is: boolean): void {
		this.#touched[claim] = is ? 1 : 0;
	}
}
