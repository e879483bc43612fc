/**
 * The histogram of CNI calls. Kept here and not by a client library, whose registry costs an agent 12 MB of
 * resident memory.
 */
import { CNI_DURATION } from "./metrics.js";

/** Names that a caller makes up do not become series. */
const COMMANDS = new Set(["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"]);

interface Observed {
	/** Calls by bucket, each without those of smaller buckets; the last one has no limit. */
	buckets: number[];
	sum: number;
	count: number;
}

export class CniDurations {
	/** By labels as they are printed. */
	readonly #observed = new Map<string, Observed>();

	/** Waits for a call and counts its time; `failed` tells a failure that is an answer. */
	async measure<T>(command: unknown, call: Promise<T>, failed: (answer: T) => boolean): Promise<T> {
		const began = performance.now();
		let result = "error";
		try {
			const answer = await call;
			if (!failed(answer)) result = "ok";
			return answer;
		} finally {
			const known = typeof command === "string" && COMMANDS.has(command) ? command : "other";
			this.#observe(`command="${known}",result="${result}"`, (performance.now() - began) / 1000);
		}
	}

	/** In the Prometheus text format. */
	text(): string {
		const { name, type, help, buckets: limits } = CNI_DURATION;
		const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
		for (const [labels, { buckets, sum, count }] of this.#observed) {
			let below = 0;
			for (const [at, limit] of [...limits, "+Inf"].entries()) {
				below += buckets[at] ?? 0;
				lines.push(`${name}_bucket{${labels},le="${limit}"} ${below}`);
			}
			lines.push(`${name}_sum{${labels}} ${sum}`, `${name}_count{${labels}} ${count}`);
		}
		return `${lines.join("\n")}\n`;
	}

	#observe(labels: string, seconds: number): void {
		const { buckets: limits } = CNI_DURATION;
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
}
