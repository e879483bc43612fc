/**
 * Counts the flows in the table. The kernel keeps no such number, so this walks the whole index, in
 * slices.
 */
import type { BpfMap } from "#native";
import { slicesOf } from "./slices.js";

/** The pause after a walk, as a multiple of its duration. */
const REST = 20;

export class FlowCount {
	readonly #index: () => BpfMap;
	#value = 0;
	#validUntil = 0;
	#walk: Promise<number> | undefined;

	/** @param index the map flow_index, with two tuples for each flow */
	constructor(index: () => BpfMap) {
		this.#index = index;
	}

	/** Slots in use, including expired flows, which stay until their slots are needed. */
	get(): Promise<number> {
		if (performance.now() < this.#validUntil) return Promise.resolve(this.#value);
		this.#walk ??= this.#count().finally(() => {
			this.#walk = undefined;
		});
		return this.#walk;
	}

	async #count(): Promise<number> {
		const began = performance.now();
		const map = this.#index();
		const { keySize, valueSize } = map.info;
		let tuples = 0;
		for await (const { keys } of slicesOf(map, keySize + valueSize))
			tuples += keys.length / keySize;
		const ended = performance.now();
		this.#value = Math.ceil(tuples / 2);
		this.#validUntil = ended + REST * (ended - began);
		return this.#value;
	}
}
