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

/** Elements that are sorted or merged between two steps: some 0.3 ms. */
const SORTED = 1024;

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

/** Sorts an array in place, in runs that are merged, with a step every so many elements. */
export function* sortInSteps<T>(all: T[], order: (a: T, b: T) => number): Steps<void> {
	let from = all;
	for (let at = 0; at < from.length; at += SORTED) {
		const run = from.slice(at, at + SORTED).sort(order);
		for (const [i, one] of run.entries()) from[at + i] = one;
		yield;
	}
	let to: T[] = new Array(from.length);
	for (let width = SORTED; width < from.length; width *= 2) {
		for (let start = 0; start < from.length; start += 2 * width) {
			const middle = Math.min(start + width, from.length);
			const end = Math.min(middle + width, from.length);
			let [i, j] = [start, middle];
			for (let at = start; at < end; at++) {
				const isFirst = i < middle && (j >= end || order(from[i]!, from[j]!) <= 0);
				to[at] = isFirst ? from[i++]! : from[j++]!;
				if (at % SORTED === 0) yield;
			}
		}
		[from, to] = [to, from];
	}
	if (from !== all) for (const [i, one] of from.entries()) all[i] = one;
}
