/** The classes of addresses and prefixes in an earlier agent's tables, and the numbers that they keep. */
import { AddressNumbers } from "../columns/address_numbers.js";
import type { Steps } from "../loop/turns.js";
import { type Prefix, PrefixTable, parsePrefix } from "../tables/prefix.js";
import { type HeldPolicyTables, NO_CLASS } from "./policy_tables.js";

/** Prefixes that are read between two steps. */
const EVERY = 128;

export class HeldAddresses {
	readonly #identities: AddressNumbers;
	readonly blocks: ReadonlyMap<string, number>;
	readonly #table = new PrefixTable<number>();
	readonly #prefixes: Prefix[] = [];
	/** By the owner of the class, then by cover and held number. */
	readonly #numbers = new Map<object, Map<number, number>>();

	constructor({ identities, blocks }: HeldPolicyTables) {
		this.#identities =
			identities instanceof AddressNumbers ? identities : new AddressNumbers(identities);
		this.blocks = blocks;
	}

	/** Before anything is asked for. */
	*read(): Steps<void> {
		for (const [text, number] of this.blocks) {
			const prefix = parsePrefix(text);
			this.#prefixes.push(prefix);
			this.#table.set(prefix, number);
			if (this.#prefixes.length % EVERY === 0) yield;
		}
	}

	prefixes(): readonly Prefix[] {
		return this.#prefixes;
	}

	/** Those with a class of their own, as 16 bytes, valid until the next. */
	addresses(): Iterable<Uint8Array> {
		return this.#identities.addresses();
	}

	/** Undefined: it had the class of its prefix. */
	ownClassAt(address: Uint8Array): number | undefined {
		return this.#identities.at(address);
	}

	classAt(address: Uint8Array): number {
		return this.ownClassAt(address) ?? this.#table.lookup(address) ?? NO_CLASS;
	}

	/** The class of the addresses in this prefix that no longer prefix contains. */
	classOf(prefix: Prefix): number {
		return this.#table.longest(prefix) ?? NO_CLASS;
	}

	/** The same for the same arguments. @param make with the number that was held */
	*number(
		of: object,
		cover: { id: number },
		held: number,
		make: (held: number) => Steps<number>,
	): Steps<number> {
		let numbers = this.#numbers.get(of);
		if (numbers === undefined) {
			numbers = new Map();
			this.#numbers.set(of, numbers);
		}
		const key = cover.id * 2 ** 32 + held;
		let number = numbers.get(key);
		if (number === undefined) {
			number = yield* make(held);
			numbers.set(key, number);
		}
		return number;
	}
}
