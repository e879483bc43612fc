/**
 * The longest synchronous pieces of this process's event loop: a probe's answer waits for one turn of the loop at most.
 *
 * It keeps the loop turning, a whole core, so that CPU time and memory are measured without it. A piece is the smaller of
 * its time and its CPU time, since other processes may have the CPU meanwhile, without the collections of V8's heap in it.
 */
import { PerformanceObserver } from "node:perf_hooks";

/** ms */
export interface Longest {
	piece: number;
	/** One pause for V8's heap. */
	collection: number;
}

interface Span {
	start: number;
	end: number;
}

interface Turn extends Span {
	cpu: number;
}

/** Shorter turns are not kept. */
const KEPT_MS = 1;
/** Until the observer has been told of all collections. */
const TOLD_MS = 100;

export class Pieces {
	#turns: Turn[] = [];
	#pauses: Span[] = [];
	readonly #observer: PerformanceObserver;
	#immediate: NodeJS.Immediate | undefined;

	constructor() {
		this.#observer = new PerformanceObserver((list) => {
			for (const { startTime: start, duration } of list.getEntries())
				this.#pauses.push({ start, end: start + duration });
		});
		this.#observer.observe({ entryTypes: ["gc"] });
		let [start, before] = [performance.now(), process.cpuUsage()];
		const turn = () => {
			const [end, used] = [performance.now(), process.cpuUsage()];
			const cpu = (used.user - before.user + used.system - before.system) / 1000;
			if (end - start >= KEPT_MS) this.#turns.push({ start, end, cpu });
			[start, before] = [end, used];
			this.#immediate = setImmediate(turn);
		};
		turn();
	}

	begin(): void {
		this.#turns = [];
		this.#pauses = [];
	}

	/** Since `begin`. */
	async longest(): Promise<Longest> {
		await new Promise((resolve) => setTimeout(resolve, TOLD_MS));
		return longestOf(this.#turns, this.#pauses);
	}

	close(): void {
		clearImmediate(this.#immediate);
		this.#observer.disconnect();
	}
}

/** Pure. */
export function longestOf(turns: readonly Turn[], pauses: readonly Span[]): Longest {
	let [piece, collection] = [0, 0];
	for (const { start, end, cpu } of turns) {
		let paused = 0;
		for (const pause of pauses)
			paused += Math.max(0, Math.min(end, pause.end) - Math.max(start, pause.start));
		piece = Math.max(piece, Math.min(end - start, cpu) - paused);
	}
	for (const { start, end } of pauses) collection = Math.max(collection, end - start);
	return { piece, collection };
}
