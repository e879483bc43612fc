/**
 * The classes of prefixes: every prefix and except of a block has an entry of its own, with the class of an address
 * that nothing but blocks names.
 */
import type { Steps } from "../loop/turns.js";
import { type Prefix, parsePrefix } from "../tables/prefix.js";
import type { NumberedAtom } from "./atoms.js";
import { type BlockEntry, Blocks, type Cover } from "./blocks.js";
import type { HeldAddresses } from "./held_addresses.js";
import type { InForce } from "./in_force.js";
import { CLUSTER } from "./limits.js";
import { CLASS_OVERFLOW, type WriteTable } from "./policy_tables.js";

type BlockAtom = Extract<NumberedAtom, { kind: "block" }>;

export class PrefixClasses {
	readonly #inForce: InForce;
	readonly #write: WriteTable;
	#blocks = new Blocks();
	/** The class of each prefix in the tables. */
	readonly #written = new Map<string, number>();
	#coverClasses = new Map<number, number>();
	readonly #changed = new Set<BlockEntry>();
	/** Those whose class found no room, and why. */
	readonly #overflowed = new Map<BlockEntry, string>();
	/** Prefixes that only an earlier agent had, until the round after. */
	#left: string[] = [];

	constructor({ inForce, write }: { inForce: InForce; write: WriteTable }) {
		this.#inForce = inForce;
		this.#write = write;
	}

	/** Others after a restart. */
	get blocks(): Blocks {
		return this.#blocks;
	}

	/** Prefixes in the tables. */
	get written(): number {
		return this.#written.size;
	}

	/** Something of an earlier agent is still there. */
	get hasLeft(): boolean {
		return this.#left.length > 0;
	}

	/** Why prefixes have no class. */
	problems(): Iterable<string> {
		return this.#overflowed.values();
	}

	/** Returns the prefixes within which addresses may be covered otherwise. */
	*add(atoms: readonly BlockAtom[]): Steps<readonly Prefix[]> {
		const { changed, within } = yield* this.#blocks.add(atoms);
		for (const entry of changed) this.#changed.add(entry);
		return within;
	}

	/** With these blocks alone, and classes anew. */
	*restart(atoms: readonly BlockAtom[]): Steps<void> {
		this.#coverClasses = new Map();
		this.#blocks = new Blocks();
		this.#changed.clear();
		yield* this.#blocks.add(atoms);
		const kept = new Set(this.#blocks.entries().map(({ prefix }) => prefix.text));
		for (const text of this.#written.keys()) {
			yield;
			if (!kept.has(text)) this.#remove(text);
		}
		for (const entry of this.#blocks.entries()) this.#changed.add(entry);
		this.#overflowed.clear();
	}

	/** What only an earlier agent had goes in the round after the first. */
	removeLeft(): void {
		for (const text of this.#left) if (!this.#blocks.has(parsePrefix(text))) this.#remove(text);
		this.#left = [];
	}

	/** There is room again. */
	tryAgain(): void {
		for (const entry of this.#overflowed.keys()) this.#changed.add(entry);
		this.#overflowed.clear();
	}

	/** Finds the class of every prefix that may have another one. @param held in the first round */
	*classify(held: HeldAddresses | undefined): Steps<void> {
		for (const entry of this.#changed) {
			const number = yield* this.#set(entry.prefix, entry.cover, held);
			if (number === CLASS_OVERFLOW) this.#overflowed.set(entry, this.#inForce.overflow);
			yield;
		}
		this.#changed.clear();
	}

	/** Prefixes that only an earlier agent had stay for the first round. */
	*takeHeld(held: HeldAddresses): Steps<void> {
		for (const prefix of held.prefixes()) {
			if (!this.#blocks.has(prefix)) {
				yield* this.#set(prefix, this.#blocks.coverOf(prefix), held);
				this.#left.push(prefix.text);
			}
			yield;
		}
	}

	/** The class of an address that only these blocks name; CLASS_OVERFLOW. */
	*classOf(cover: Cover): Steps<number> {
		const known = this.#coverClasses.get(cover.id);
		if (known !== undefined) return known;
		const number = yield* this.#inForce.classOf(cover.atoms, CLUSTER);
		if (number !== CLASS_OVERFLOW) this.#coverClasses.set(cover.id, number);
		return number;
	}

	*#set(prefix: Prefix, cover: Cover, held: HeldAddresses | undefined): Steps<number> {
		const { text } = prefix;
		const number =
			held === undefined
				? yield* this.classOf(cover)
				: yield* held.number(cover, cover, held.classOf(prefix), (before) =>
						this.#inForce.classOf(cover.atoms, CLUSTER, before),
					);
		if (this.#written.get(text) === number) return number;
		this.#written.set(text, number);
		if (held?.blocks.get(text) !== number) this.#write(4, "blocks", text, number);
		return number;
	}

	#remove(text: string): void {
		this.#written.delete(text);
		this.#write(4, "blocks", text, undefined);
	}
}
