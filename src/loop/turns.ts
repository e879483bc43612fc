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

/** Work that stops for a moment where others may run. */
export type Steps<T> = Generator<void, T>;

/** Does all of it, with turns of the event loop between. */
export async function inTurns<T>(
	steps: Steps<T>,
	turns: Pick<Turns, "due" | "pass"> = new Turns(),
): Promise<T> {
	for (;;) {
		const { done, value } = steps.next();
		if (done === true) return value as T;
		if (turns.due) await turns.pass();
	}
}

/** Does all of it at once. */
export function atOnce<T>(steps: Steps<T>): T {
	for (;;) {
		const { done, value } = steps.next();
		if (done === true) return value as T;
	}
}
