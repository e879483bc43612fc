/**
 * The maps whose elements the core reads without a second look-up (bpf/lib/element.h): the number in `element_writes`
 * is odd while one of them is written, and another one after each write. An agent that ended within a write has left
 * it odd: until the next write the core looks twice.
 */
import type { BpfMap } from "#native";
import { maps } from "../../tables/generated.js";

const KEY = maps.elementWrites.key.encode(0);

export class ElementWrites {
	readonly #map: () => BpfMap;
	/** Undefined: not read yet. */
	#number: number | undefined;

	constructor(map: (name: string) => BpfMap) {
		this.#map = () => map(maps.elementWrites.name);
	}

	/** Calls `write`, which writes to such a map. */
	around<T>(write: () => T): T {
		this.#number ??= maps.elementWrites.value.decode(this.#map().lookup(KEY)!);
		const odd = (this.#number | 1) >>> 0;
		this.#put(odd);
		try {
			return write();
		} finally {
			this.#put((odd + 1) >>> 0);
		}
	}

	#put(number: number): void {
		this.#map().update(KEY, maps.elementWrites.value.encode(number));
		this.#number = number;
	}
}
