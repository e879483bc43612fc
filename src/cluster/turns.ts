/** Long work in slices, so that the event loop's other work (answers of probes) waits for none of it. */
import { setImmediate as nextTurn } from "node:timers/promises";

/** Half of what one piece of work may take at most: what is measured is over when it is found out. */
const SLICE_MS = 5;

export class Turns {
	readonly #sliceMs: number;
	#began = performance.now();

	/** @param sliceMs a turn of the loop is given to others after so long */
	constructor(sliceMs = SLICE_MS) {
		this.#sliceMs = sliceMs;
	}

	/** True: it is time to await `pass()`. Costs some 50 ns. */
	get due(): boolean {
		return performance.now() - this.#began >= this.#sliceMs;
	}

	/** Lets the event loop turn once. */
	async pass(): Promise<void> {
		await nextTurn();
		this.#began = performance.now();
	}
}
