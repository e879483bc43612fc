/**
 * A token bucket for each destination, so that a sender with forged addresses cannot make the Node flood a host with
 * errors (RFC 1812, 4.3.2.8; RFC 4443, 2.4 (f)).
 */
export interface RateLimitOptions {
	/** Tokens a second. */
	rate: number;
	burst: number;
	/** Maximum number of destinations; the least recently used are forgotten. */
	destinations?: number;
}

interface Bucket {
	tokens: number;
	/** Milliseconds. */
	refilled: number;
}

export class RateLimit {
	readonly #options: Required<RateLimitOptions>;
	/** In order of last use. */
	readonly #buckets = new Map<string, Bucket>();

	constructor(options: RateLimitOptions) {
		this.#options = { destinations: 4096, ...options };
	}

	/** Takes a token; false: none left. `now` in milliseconds. */
	take(destination: string, now: number): boolean {
		const { rate, burst, destinations } = this.#options;
		const known = this.#buckets.get(destination) ?? { tokens: burst, refilled: now };
		const tokens = Math.min(burst, known.tokens + ((now - known.refilled) / 1000) * rate);
		const allowed = tokens >= 1;
		this.#buckets.delete(destination);
		this.#buckets.set(destination, { tokens: allowed ? tokens - 1 : tokens, refilled: now });
		if (this.#buckets.size > destinations) {
			const [oldest] = this.#buckets.keys();
			if (oldest !== undefined) this.#buckets.delete(oldest);
		}
		return allowed;
	}
}
