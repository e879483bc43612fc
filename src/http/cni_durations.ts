/** The histogram of CNI calls. */
import { CNI_DURATION } from "./durations.js";
import { Histogram } from "./histogram.js";

/** Unknown command names do not become series. */
const COMMANDS = new Set(["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"]);

export class CniDurations {
	readonly #histogram = new Histogram(CNI_DURATION);

	/** Waits for a call and counts its time; `failed` recognises an answer that reports a failure. */
	async measure<T>(command: unknown, call: Promise<T>, failed: (answer: T) => boolean): Promise<T> {
		const began = performance.now();
		let result = "error";
		try {
			const answer = await call;
			if (!failed(answer)) result = "ok";
			return answer;
		} finally {
			const known = typeof command === "string" && COMMANDS.has(command) ? command : "other";
			const seconds = (performance.now() - began) / 1000;
			this.#histogram.observe(`command="${known}",result="${result}"`, seconds);
		}
	}

	/** In the Prometheus text format. */
	text(): string {
		return this.#histogram.text();
	}
}
