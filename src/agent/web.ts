/** The agent's HTTP servers, for kubelet and Prometheus. They listen in the agent's network namespace. */
import type { Config } from "../config/config.js";
import { CniDurations } from "../http/cni_durations.js";
import { healthHandler, type Readiness } from "../http/health.js";
import { Listener } from "../http/listener.js";
import type { Sample } from "../http/metrics.js";
import { metricsHandler } from "../http/scrape.js";
import type { Log } from "../text/log.js";

export interface WebOptions {
	readiness: () => Readiness;
	sample: () => Promise<Omit<Sample, "process">>;
	log: Log;
}

export class Web {
	readonly cniDurations = new CniDurations();
	readonly #health: Listener;
	readonly #metrics: Listener;

	constructor({ readiness, sample, log }: WebOptions) {
		this.#health = new Listener({ key: "http.health", handle: healthHandler(readiness) });
		this.#metrics = new Listener({
			key: "http.metrics",
			handle: metricsHandler({
				sample: async () => ({ ...(await sample()), process: processFacts() }),
				more: () => this.cniDurations.text(),
				onError: (err) => log.error({ err }, "cannot read the metrics"),
			}),
		});
	}

	/** Resolves when both listen, or have failed. */
	async configure({ health, metrics }: Config["http"]): Promise<void> {
		await Promise.all([this.#health.listen(health), this.#metrics.listen(metrics)]);
	}

	problems(): string[] {
		return [this.#health.problem, this.#metrics.problem].filter((problem) => problem !== undefined);
	}

	close(): void {
		this.#health.close();
		this.#metrics.close();
	}
}

function processFacts(): Sample["process"] {
	const { user, system } = process.cpuUsage();
	const { rss, heapUsed } = process.memoryUsage();
	return { cpuSeconds: (user + system) / 1e6, residentBytes: rss, heapBytes: heapUsed };
}
