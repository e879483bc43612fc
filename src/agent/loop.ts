/**
 * Runs one apply at a time: requesting a change is cheap, applying does all the work and never runs
 * concurrently.
 *
 *  1. a change is requested; the first one starts a short wait for the rest of the burst
 *  2. the wait ends after `settleMs` without a request, or after `waitMaxMs` in any case
 *  3. apply runs; requests during an apply start again at 1 when it is done
 *  4. a failed apply is retried with growing delays, and immediately when something changes
 */

export interface LoopOptions {
	apply: () => Promise<void>;
	/** An apply failed; it will be retried in `retryMs`. */
	onError: (error: unknown, retryMs: number) => void;
	/** Default 3. */
	settleMs?: number;
	/** Default 25. */
	waitMaxMs?: number;
	/** Delay after the first failure, doubled each time; default 200. */
	retryMinMs?: number;
	/** Default 10,000. */
	retryMaxMs?: number;
}

interface Waiter {
	resolve: () => void;
	reject: (error: unknown) => void;
}

export class Loop {
	readonly #options: Required<LoopOptions>;
	#timer: NodeJS.Timeout | undefined;
	/** Start of the burst that the timer waits for; undefined: none. */
	#burstStart: number | undefined;
	#running: Promise<void> | undefined;
	/** A request is pending that no apply has started with. */
	#requested = false;
	#waiters: Waiter[] = [];
	#failures = 0;
	#stopped = false;

	constructor(options: LoopOptions) {
		this.#options = { settleMs: 3, waitMaxMs: 25, retryMinMs: 200, retryMaxMs: 10_000, ...options };
	}

	/** Requests an apply after a change. */
	request(): void {
		if (this.#stopped) {
			return;
		}
		this.#requested = true;
		if (this.#running !== undefined) {
			return;
		}
		const { settleMs, waitMaxMs } = this.#options;
		const now = performance.now();
		this.#burstStart ??= now;
		const left = this.#burstStart + waitMaxMs - now;
		this.#schedule(Math.max(0, Math.min(settleMs, left)));
	}

	/**
	 * Applies without waiting for more requests. Resolves when an apply that started after this call has
	 * succeeded; rejects with its error if it fails (it is retried nevertheless).
	 */
	flush(): Promise<void> {
		if (this.#stopped) {
			return Promise.reject(new Error("Cannot apply the change: the agent is stopping"));
		}
		this.#requested = true;
		const done = new Promise<void>((resolve, reject) => this.#waiters.push({ resolve, reject }));
		if (this.#running === undefined) {
			this.#schedule(0);
		}
		return done;
	}

	/** Starts no other apply, and waits for the current one. */
	async stop(): Promise<void> {
		this.#stopped = true;
		clearTimeout(this.#timer);
		await this.#running;
		const waiters = this.#waiters.splice(0);
		for (const { reject } of waiters) {
			reject(new Error("Cannot apply the change: the agent is stopping"));
		}
	}

	#schedule(delayMs: number): void {
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			this.#running = this.#run();
		}, delayMs);
	}

	/** Never rejects. */
	async #run(): Promise<void> {
		this.#requested = false;
		this.#burstStart = undefined;
		const waiters = this.#waiters.splice(0);
		let retryMs: number | undefined;
		try {
			await this.#options.apply();
			this.#failures = 0;
			for (const { resolve } of waiters) {
				resolve();
			}
		} catch (error) {
			const { retryMinMs, retryMaxMs, onError } = this.#options;
			retryMs = Math.min(retryMaxMs, retryMinMs * 2 ** Math.min(this.#failures, 20));
			this.#failures++;
			for (const { reject } of waiters) {
				reject(error);
			}
			onError(error, retryMs);
		}
		this.#running = undefined;
		if (this.#stopped) {
			return;
		}
		if (this.#waiters.length > 0) {
			this.#schedule(0);
		} else if (this.#requested) {
			this.request();
		} else if (retryMs !== undefined) {
			this.#schedule(retryMs);
		}
	}
}
