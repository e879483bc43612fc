/** A queue of keys by due time: a binary heap. Putting a key again replaces its time. */
export class DueQueue {
	readonly #heap: { at: number; key: number }[] = [];
	/** Due time by key; heap entries with another time are outdated. */
	readonly #at = new Map<number, number>();

	set(key: number, at: number): void {
		if (this.#at.get(key) === at) return;
		this.#at.set(key, at);
		if (at === Number.POSITIVE_INFINITY) return;
		this.#heap.push({ at, key });
		this.#rise(this.#heap.length - 1);
	}

	delete(key: number): void {
		this.#at.delete(key);
	}

	/** When the first entry is due; undefined: the queue is empty. */
	get first(): number | undefined {
		this.#clean();
		return this.#heap[0]?.at;
	}

	/** Removes and returns the first entry if it is due by `until`. */
	take(until: number): { key: number; at: number } | undefined {
		this.#clean();
		const first = this.#heap[0];
		if (first === undefined || first.at > until) return undefined;
		this.#pop();
		this.#at.delete(first.key);
		return first;
	}

	#clean(): void {
		for (;;) {
			const first = this.#heap[0];
			if (first === undefined || this.#at.get(first.key) === first.at) return;
			this.#pop();
		}
	}

	#pop(): void {
		const last = this.#heap.pop();
		if (last === undefined || this.#heap.length === 0) return;
		this.#heap[0] = last;
		this.#sink(0);
	}

	#rise(index: number): void {
		const heap = this.#heap;
		for (let i = index; i > 0; ) {
			const parent = (i - 1) >> 1;
			if (heap[parent]!.at <= heap[i]!.at) return;
			[heap[parent], heap[i]] = [heap[i]!, heap[parent]!];
			i = parent;
		}
	}

	#sink(index: number): void {
		const heap = this.#heap;
		for (let i = index; ; ) {
			let least = i;
			for (const child of [2 * i + 1, 2 * i + 2])
				if (child < heap.length && heap[child]!.at < heap[least]!.at) least = child;
			if (least === i) return;
			[heap[least], heap[i]] = [heap[i]!, heap[least]!];
			i = least;
		}
	}
}
