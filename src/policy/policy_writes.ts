/**
 * The writes of one round in their order. Those of identities, of which there may be two for each Pod of the cluster,
 * are columns.
 */
import type { AddressIndex } from "../columns/address_index.js";
import { grown } from "../columns/grow.js";
import { ADDRESS_SIZE, formatAddress, parseAddress } from "../tables/address.js";
import type { PolicyTableName, PolicyWrite } from "./policy_tables.js";

/** Writes in their order; an array is one, too. */
export interface PolicyWriteList extends Iterable<PolicyWrite> {
	readonly length: number;
}

const STEPS = [1, 2, 3, 4, 5, 7];
const IDENTITIES_STEP = 4;

const WORDS = ADDRESS_SIZE / 4;

/** Addresses, each once, with their classes or that they have none of their own any more. */
export class IdentityWrites {
	/** Four words each, and the same memory. */
	#words: Uint32Array = new Uint32Array(0);
	#bytes: Uint8Array = new Uint8Array(0);
	#classes: Uint32Array = new Uint32Array(0);
	/** 1: it is removed. */
	#removed: Uint8Array = new Uint8Array(0);
	#length = 0;

	get length(): number {
		return this.#length;
	}

	/** @param number undefined: the entry is removed */
	add(address: Uint8Array, number: number | undefined): void {
		const at = this.#grow();
		for (let i = 0; i < ADDRESS_SIZE; i++) this.#bytes[ADDRESS_SIZE * at + i] = address[i]!;
		this.#set(at, number);
	}

	/** The same by the number of an address. */
	addOf(addresses: AddressIndex, id: number, number: number | undefined): void {
		const at = this.#grow();
		addresses.copyWords(id, this.#words, WORDS * at);
		this.#set(at, number);
	}

	address(index: number): string {
		return formatAddress(this.#bytes, ADDRESS_SIZE * index);
	}

	/** Its 16 bytes. */
	bytes(index: number): Uint8Array {
		return this.#bytes.subarray(ADDRESS_SIZE * index, ADDRESS_SIZE * (index + 1));
	}

	/** Undefined: it is removed. */
	number(index: number): number | undefined {
		return this.#removed[index] === 1 ? undefined : this.#classes[index];
	}

	#grow(): number {
		const at = this.#length++;
		if (at < this.#removed.length) return at;
		this.#removed = grown(this.#removed, at + 1);
		const room = this.#removed.length;
		this.#classes = grown(this.#classes, room);
		this.#words = grown(this.#words, WORDS * room);
		this.#bytes = new Uint8Array(this.#words.buffer);
		return at;
	}

	#set(at: number, number: number | undefined): void {
		this.#classes[at] = number ?? 0;
		this.#removed[at] = number === undefined ? 1 : 0;
	}
}

export class RoundWrites implements PolicyWriteList {
	readonly identities = new IdentityWrites();
	readonly #steps = new Map<number, PolicyWrite[]>();
	#others = 0;
	#removesRules = false;

	get length(): number {
		return this.#others + this.identities.length;
	}

	/** Ids of rules go. */
	get removesRules(): boolean {
		return this.#removesRules;
	}

	add(step: number, table: PolicyTableName, key: number | string, value: unknown): void {
		const writes = this.#steps.get(step);
		const write = { step, table, key, value };
		if (writes === undefined) this.#steps.set(step, [write]);
		else writes.push(write);
		this.#others++;
		if (table === "rules" && value === undefined) this.#removesRules = true;
	}

	/** All but identities. */
	*others(): Generator<PolicyWrite, void> {
		for (const step of STEPS) yield* this.#of(step);
	}

	#of(step: number): readonly PolicyWrite[] {
		return this.#steps.get(step) ?? [];
	}

	*[Symbol.iterator](): Generator<PolicyWrite, void> {
		for (const step of STEPS) {
			yield* this.#of(step);
			if (step !== IDENTITIES_STEP) continue;
			const { identities } = this;
			for (let i = 0; i < identities.length; i++)
				yield {
					...{ step, table: "identities", key: identities.address(i) },
					value: identities.number(i),
				};
		}
	}
}

/** Writes in whatever form. */
export function asRound(writes: PolicyWriteList): RoundWrites {
	if (writes instanceof RoundWrites) return writes;
	const round = new RoundWrites();
	for (const { step, table, key, value } of writes)
		if (table === "identities")
			round.identities.add(parseAddress(key as string)!, value as number | undefined);
		else round.add(step, table, key, value);
	return round;
}
