/** A clock that stands until a test moves it on. */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock, Timer } from "../../../src/kube/clock.js";

export class TestClock implements Clock {
	#now = 1000;
	readonly #timers = new Set<{ at: number; run: () => void }>();
	/** What `random` gives. */
	chance = 0.5;

	now(): number {
		return this.#now;
	}

	random(): number {
		return this.chance;
	}

	after(ms: number, run: () => void): Timer {
		const timer = { at: this.#now + ms, run };
		this.#timers.add(timer);
		return { cancel: () => this.#timers.delete(timer) };
	}

	/** A timer is due within so many ms. */
	isDue(ms: number): boolean {
		return [...this.#timers].some(({ at }) => at <= this.#now + ms);
	}

	/** Runs what is due on the way, with turns of the event loop between. */
	async advance(ms: number): Promise<void> {
		const end = this.#now + ms;
		for (;;) {
			const [next] = [...this.#timers].sort((a, b) => a.at - b.at);
			if (next === undefined || next.at > end) break;
			this.#timers.delete(next);
			this.#now = Math.max(this.#now, next.at);
			next.run();
			await nextTurn();
		}
		this.#now = end;
		await nextTurn();
	}
}
