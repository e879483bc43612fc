/** Pseudo-random choices from a seed: the same seed gives the same packets. */
export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = seed >>> 0;
	}

	/** 32 bits (splitmix32). */
	#next(): number {
		this.#state = (this.#state + 0x9e3779b9) >>> 0;
		let z = this.#state;
		z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
		z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
		return (z ^ (z >>> 15)) >>> 0;
	}

	/** An integer from 0 to `below` - 1. */
	below(below: number): number {
		return Math.floor((this.#next() / 2 ** 32) * below);
	}

	between(first: number, last: number): number {
		return first + this.below(last - first + 1);
	}

	chance(probability: number): boolean {
		return this.#next() < probability * 2 ** 32;
	}

	pick<T>(from: readonly T[]): T {
		return from[this.below(from.length)]!;
	}

	bytes(length: number): Buffer {
		return Buffer.from(Array.from({ length }, () => this.below(256)));
	}

	shuffled<T>(items: readonly T[]): T[] {
		const all = [...items];
		for (let i = all.length - 1; i > 0; i--) {
			const j = this.below(i + 1);
			[all[i], all[j]] = [all[j]!, all[i]!];
		}
		return all;
	}
}
