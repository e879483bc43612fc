/** The agent's HTTP servers, for kubelet and Prometheus. They listen in the agent's network namespace. */
import type { Config } from "../config/config.js";
import { CniDurations } from "../http/cni_durations.js";
import { POLICY_LATENCY, SERVICE_LATENCY } from "../http/durations.js";
import { healthHandler, type Readiness } from "../http/health.js";
import { Histogram } from "../http/histogram.js";
import { Listener } from "../http/listener.js";
import type { Sample } from "../http/metrics.js";
import { ProxyHealth, type ProxyHealthOptions } from "../http/proxy_health.js";
import { metricsHandler } from "../http/scrape.js";
import { ServiceHealth } from "../http/service_health.js";
import type { Network } from "../linux/network.js";
import type { Log } from "../text/log.js";
import { answersForServices, type CheckedServices, HealthChecks } from "./health_checks.js";

export interface WebOptions {
	readiness: () => Readiness;
	sample: () => Promise<Omit<Sample, "process">>;
	/** Health of this Node, for load balancers. */
	proxy: Pick<ProxyHealthOptions, "isNodeEligible" | "families">;
	log: Log;
}

export class Web {
	readonly cniDurations = new CniDurations();
	readonly serviceLatency = new Histogram(SERVICE_LATENCY);
	readonly policyLatency = new Histogram(POLICY_LATENCY);
	readonly #health: Listener;
	readonly #metrics: Listener;
	readonly #proxyHealth: ProxyHealth;
	readonly #proxy: Listener;
	readonly #services: ServiceHealth;
	readonly #healthChecks = new HealthChecks();

	constructor({ readiness, sample, proxy, log }: WebOptions) {
		const proxyHealth = new ProxyHealth(proxy);
		this.#proxyHealth = proxyHealth;
		this.#proxy = new Listener({ key: "fairwayProxy.healthServer", handle: proxyHealth.handle });
		this.#services = new ServiceHealth({ isHealthy: () => proxyHealth.isHealthy });
		this.#health = new Listener({ key: "http.health", handle: healthHandler(readiness) });
		this.#metrics = new Listener({
			key: "http.metrics",
			handle: metricsHandler({
				sample: async () => ({ ...(await sample()), process: processFacts() }),
				more: () =>
					this.cniDurations.text() + this.serviceLatency.text() + this.policyLatency.text(),
				onError: (err) => log.error({ err }, "cannot read the metrics"),
			}),
		});
	}

	/** Resolves when all listen, or have failed. */
	async configure(config: Config): Promise<void> {
		const { http, fairwayProxy } = config;
		await Promise.all([
			this.#health.listen(http.health),
			this.#metrics.listen(http.metrics),
			this.#proxy.listen(answersForServices(config) ? fairwayProxy.healthServer : ""),
		]);
	}

	/** A change is to be applied, or could not be. */
	queued(): void {
		this.#proxyHealth.queued();
	}

	/**
	 * Everything is in force.
	 *
	 * @param changed keys of Services that may have changed
	 */
	inForce(
		services: CheckedServices,
		changed: ReadonlySet<string>,
		config: Config,
		network: Network,
	): void {
		this.#proxyHealth.updated();
		const checks = this.#healthChecks.take(services, changed, config, network);
		if (checks !== undefined) void this.#services.update(checks.services, checks.addresses);
	}

	problems(): string[] {
		const listeners = [this.#health, this.#metrics, this.#proxy];
		const failing = listeners.map(({ problem }) => problem).filter((one) => one !== undefined);
		return [...failing, ...this.#services.problems()];
	}

	close(): void {
		this.#health.close();
		this.#metrics.close();
		this.#proxy.close();
		this.#services.close();
	}
}

function processFacts(): Sample["process"] {
	const { user, system } = process.cpuUsage();
	const { rss, heapUsed } = process.memoryUsage();
	return { cpuSeconds: (user + system) / 1e6, residentBytes: rss, heapBytes: heapUsed };
}
