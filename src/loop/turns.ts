/** Splits long work into slices, so that other work on the event loop (probe answers) does not wait. */
import { setImmediate as nextTurn } from "node:timers/promises";

/** A third of the maximum duration of a piece of work, because an overrun is noticed only afterwards. */
const SLICE_MS = 3;

export class Turns {
	readonly #sliceMs: number;
	#began = performance.now();

	/** @param sliceMs time after which to yield to the event loop */
	constructor(sliceMs = SLICE_MS) {
		this.#sliceMs = sliceMs;
	}

	/** True if it is time to await `pass()`. Costs some 50 ns. */
	get due(): boolean {
		return performance.now() - this.#began >= this.#sliceMs;
	}

	/** Yields for one turn of the event loop. */
	async pass(): Promise<void> {
		await nextTurn();
		this.#began = performance.now();
	}
}
