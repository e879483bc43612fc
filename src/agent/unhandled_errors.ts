/**
 * Unhandled errors. A resync recomputes everything, so it is safe to go on after one; but an error that comes back
 * with each resync must not keep the agent busy. Then the agent ends and its supervisor restarts it, while
 * forwarding goes on.
 */
import type { Logger } from "./log.js";

export interface UnhandledErrorsOptions {
	log: Pick<Logger, "error" | "fatal">;
	resync: () => void;
	/** Called when there were too many. */
	giveUp: () => void;
	/** Milliseconds, monotonic. */
	clock?: () => number;
}

const RESYNC_MS = 10_000;
/** More of them within this time are too many. */
const WINDOW = { errors: 20, ms: 60_000 };

export class UnhandledErrors {
	readonly #options: Required<UnhandledErrorsOptions>;
	/** Times of the last errors, ms. */
	#times: number[] = [];
	#resyncedAt = Number.NEGATIVE_INFINITY;
	#resync: NodeJS.Timeout | undefined;

	constructor(options: UnhandledErrorsOptions) {
		this.#options = { clock: () => performance.now(), ...options };
	}

	/** @param message "unhandled rejection", for one */
	take(message: string, error: unknown): void {
		const { log, giveUp, clock } = this.#options;
		const now = clock();
		this.#times = [...this.#times.filter((time) => now - time < WINDOW.ms), now];
		if (this.#times.length > WINDOW.errors) {
			log.fatal({ err: error, errors: this.#times.length }, "too many unhandled errors, exiting");
			giveUp();
			return;
		}
		log.error({ err: error }, message);
		this.#resyncSoon(now);
	}

	/** At once, but with a pause after the last time. */
	#resyncSoon(now: number): void {
		if (this.#resync !== undefined) return;
		const wait = this.#resyncedAt + RESYNC_MS - now;
		const resync = () => {
			this.#resync = undefined;
			this.#resyncedAt = this.#options.clock();
			this.#options.resync();
		};
		if (wait <= 0) resync();
		else this.#resync = setTimeout(resync, wait).unref();
	}
}
