/**
 * A histogram with labels. There is no client library: its registry would cost an agent 12 MB of resident memory.
 */
import type { Described } from "./described.js";

interface Observed {
	/** Counts by bucket, not cumulative; the last bucket has no limit. */
	buckets: number[];
	sum: number;
	count: number;
}

export class Histogram {
	readonly #described: Described & { buckets: readonly number[] };
	/** By labels as they are printed. */
	readonly #observed = new Map<string, Observed>();

	constructor(described: Described & { buckets: readonly number[] }) {
		this.#described = described;
	}

	/** @param labels as they are printed, without braces; "": none */
	observe(labels: string, seconds: number): void {
		const { buckets: limits } = this.#described;
		let observed = this.#observed.get(labels);
		if (observed === undefined) {
			observed = { buckets: new Array(limits.length + 1).fill(0), sum: 0, count: 0 };
			this.#observed.set(labels, observed);
		}
		const found = limits.findIndex((limit) => seconds <= limit);
		const at = found < 0 ? limits.length : found;
		observed.buckets[at] = (observed.buckets[at] ?? 0) + 1;
		observed.sum += seconds;
		observed.count++;
	}

	/** In the Prometheus text format. */
	text(): string {
		const { name, type, help, buckets: limits } = this.#described;
		const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
		for (const [labels, { buckets, sum, count }] of this.#observed) {
			const more = labels === "" ? "" : `${labels},`;
			const all = labels === "" ? "" : `{${labels}}`;
			let below = 0;
			for (const [at, limit] of [...limits, "+Inf"].entries()) {
				below += buckets[at] ?? 0;
				lines.push(`${name}_bucket{${more}le="${limit}"} ${below}`);
			}
			lines.push(`${name}_sum${all} ${sum}`, `${name}_count${all} ${count}`);
		}
		return `${lines.join("\n")}\n`;
	}
}
