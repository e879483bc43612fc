/**
 * Holds later fragments that arrived before their first one, until the first one brings the ports or the
 * time is over. Bounded: the oldest makes room.
 */
export interface HeldFragmentsOptions<T> {
	/** Tries to forward a fragment; false: its first one is still unknown. */
	attempt: (fragment: T) => boolean;
	/** A fragment whose time is over. */
	onExpired: (fragment: T) => void;
	/** How long to hold a fragment, ms; default 2000. */
	patience?: number;
	/** Milliseconds between attempts; default 5. */
	interval?: number;
	/** Maximum number of fragments; default 256. */
	most?: number;
	/** Monotonic milliseconds. */
	clock?: () => number;
}

export class HeldFragments<T> {
	readonly #options: Required<HeldFragmentsOptions<T>>;
	#held: { fragment: T; since: number }[] = [];
	#timer: NodeJS.Timeout | undefined;

	constructor(options: HeldFragmentsOptions<T>) {
		const defaults = { patience: 2000, interval: 5, most: 256, clock: () => performance.now() };
		this.#options = { ...defaults, ...options };
	}

	get size(): number {
		return this.#held.length;
	}

	hold(fragment: T): void {
		const { clock, most, onExpired } = this.#options;
		this.#held.push({ fragment, since: clock() });
		const displaced = this.#held.length > most ? this.#held.shift() : undefined;
		if (displaced) onExpired(displaced.fragment);
		this.#timer ??= setTimeout(() => this.retry(), this.#options.interval).unref();
	}

	/** Tries every fragment now, and again later while any remains. */
	retry(): void {
		const { attempt, clock, interval, onExpired, patience } = this.#options;
		clearTimeout(this.#timer);
		this.#timer = undefined;
		const waiting = this.#held;
		this.#held = [];
		for (const entry of waiting) {
			if (attempt(entry.fragment)) continue;
			if (clock() - entry.since > patience) onExpired(entry.fragment);
			else this.#held.push(entry);
		}
		if (this.#held.length > 0) this.#timer = setTimeout(() => this.retry(), interval).unref();
	}

	close(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		this.#held = [];
	}
}
