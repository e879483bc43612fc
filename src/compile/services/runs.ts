/**
 * Places of `service_slots`, in runs of powers of two at multiples of their size (buddy allocation): a freed run
 * joins its neighbour, so room for large sets does not crumble.
 */
export class Runs {
	/** First places of free runs, by the logarithm of their size. */
	readonly #free: Set<number>[];

	/** @param places a power of two */
	constructor(places: number) {
		const most = Math.log2(places);
		this.#free = Array.from({ length: most + 1 }, () => new Set<number>());
		this.#free[most]!.add(0);
	}

	/** The first place of a run of this size, a power of two; undefined: there is no room. */
	take(size: number): number | undefined {
		const order = Math.log2(size);
		for (let from = order; from < this.#free.length; from++)
			for (const first of this.#free[from]!) {
				this.#cut(first, from, first, order);
				return first;
			}
		return undefined;
	}

	/** Takes this very run. False: it is no run, or some of it is taken. */
	takeAt(first: number, size: number): boolean {
		const order = Math.log2(size);
		if (!Number.isInteger(order) || first % size !== 0) return false;
		for (let from = order; from < this.#free.length; from++) {
			const start = first - (first % 2 ** from);
			if (!this.#free[from]!.has(start)) continue;
			this.#cut(start, from, first, order);
			return true;
		}
		return false;
	}

	/** Frees a run that was taken. */
	release(first: number, size: number): void {
		let order = Math.log2(size);
		let start = first;
		for (; order + 1 < this.#free.length; order++) {
			const length = 2 ** order;
			const buddy = start % (2 * length) === 0 ? start + length : start - length;
			if (!this.#free[order]!.delete(buddy)) break;
			start = Math.min(start, buddy);
		}
		this.#free[order]!.add(start);
	}

	/** Leaves of a free run all but the one at `first`. */
	#cut(start: number, from: number, first: number, order: number): void {
		this.#free[from]!.delete(start);
		let rest = start;
		for (let now = from - 1; now >= order; now--) {
			const half = 2 ** now;
			const isUpper = first >= rest + half;
			this.#free[now]!.add(isUpper ? rest : rest + half);
			if (isUpper) rest += half;
		}
	}
}

/** The size of a run for so many: a power of two, at least 1. */
export function runSize(count: number): number {
	return count <= 1 ? 1 : 2 ** Math.ceil(Math.log2(count));
}
