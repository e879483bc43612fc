/** Time and randomness of the API client, replaceable in tests. */

export interface Timer {
	cancel(): void;
}

export interface Clock {
	/** Monotonic, ms. */
	now(): number;
	/** Calls back once after `ms`, unless cancelled. A timer does not keep the process alive. */
	after(ms: number, run: () => void): Timer;
	/** From 0 up to, but not including, 1. */
	random(): number;
}

export const systemClock: Clock = {
	now: () => performance.now(),
	after: (ms, run) => {
		const timer = setTimeout(run, ms).unref();
		return { cancel: () => clearTimeout(timer) };
	},
	random: () => Math.random(),
};

/** Resolves after so many ms, or as soon as `signal` is aborted. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
	if (signal.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const end = () => {
			timer.cancel();
			signal.removeEventListener("abort", end);
			resolve();
		};
		// Node.js warns of a negative time.
		const timer = clock.after(Math.max(0, ms), end);
		signal.addEventListener("abort", end, { once: true });
	});
}
