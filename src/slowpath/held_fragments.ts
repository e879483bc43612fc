/**
 * Later fragments that came before their first one, kept until it has told the ports or for as
 * long as is worth waiting. Bounded: the oldest makes room.
 */
export interface HeldFragmentsOptions<T> {
	/** Tries to finish a fragment; false: its first one is still unknown. */
	attempt: (fragment: T) => boolean;
	/** A fragment that waited in vain. */
	onExpired: (fragment: T) => void;
	/** Milliseconds; 2000. */
	patience?: number;
	/** Milliseconds between attempts; 5. */
	interval?: number;
	/** Fragments; 256. */
	most?: number;
	/** Milliseconds, monotonic. */
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

	/** Tries every fragment once, and again later while any is left. */
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
