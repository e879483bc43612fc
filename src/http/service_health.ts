/**
 * The servers of `healthCheckNodePort`: a load balancer asks each Node whether it has endpoints of the Service
 * (externalTrafficPolicy Local). The answers are kube-proxy's.
 *
 *  1. assigns ports to Services: one each, and a Service that has a port keeps it
 *  2. closes servers that are no longer needed first, since another Service may have the port now
 *  3. a server at each address; Listener retries those that are in use
 */
import type { ServerResponse } from "node:http";
import { Listener } from "./listener.js";
import { answerJson } from "./proxy_health.js";

export interface CheckedService {
	namespace: string;
	name: string;
	/** 0: none. */
	healthCheckNodePort: number;
	/** Ready endpoints on this Node. */
	localReady: number;
}

export interface ServiceHealthOptions {
	/** The proxy itself. */
	isHealthy: () => boolean;
	retryMs?: number;
}

interface Served {
	port: number;
	service: CheckedService;
	/** By address as Listener has it. */
	listeners: Map<string, Listener>;
}

export class ServiceHealth {
	readonly #options: ServiceHealthOptions;
	/** By "namespace/name". */
	readonly #served = new Map<string, Served>();
	#refused: string[] = [];

	constructor(options: ServiceHealthOptions) {
		this.#options = options;
	}

	/**
	 * @param services all Services; those without a port are skipped
	 * @param addresses canonical; undefined: every address of the Node; empty: nothing is served
	 */
	async update(
		services: Iterable<CheckedService>,
		addresses: readonly string[] | undefined,
	): Promise<void> {
		const wanted = this.#assign(services);
		const places = (port: number) =>
			addresses?.map((one) => (one.includes(":") ? `[${one}]:${port}` : `${one}:${port}`)) ?? [
				`:${port}`,
			];
		for (const [key, served] of this.#served) {
			const { healthCheckNodePort } = wanted.get(key) ?? {};
			const kept = new Set(served.port === healthCheckNodePort ? places(served.port) : []);
			for (const [place, listener] of served.listeners) {
				if (kept.has(place)) continue;
				listener.close();
				served.listeners.delete(place);
			}
			if (!wanted.has(key)) this.#served.delete(key);
		}
		const opened: Promise<void>[] = [];
		for (const [key, service] of wanted) {
			const port = service.healthCheckNodePort;
			const served = this.#served.get(key) ?? { port, service, listeners: new Map() };
			this.#served.set(key, Object.assign(served, { port, service }));
			for (const place of places(port)) {
				if (served.listeners.has(place)) continue;
				const listener = this.#listener(key, served);
				served.listeners.set(place, listener);
				opened.push(listener.listen(place));
			}
		}
		await Promise.all(opened);
	}

	/** In a stable order. */
	problems(): string[] {
		const failing = [...this.#served.values()].flatMap(({ listeners }) =>
			[...listeners.values()].map(({ problem }) => problem),
		);
		return [...this.#refused, ...failing.filter((problem) => problem !== undefined)].sort();
	}

	close(): void {
		for (const { listeners } of this.#served.values())
			for (const listener of listeners.values()) listener.close();
		this.#served.clear();
	}

	/* ------------------------------------------------------ 1 */

	#assign(services: Iterable<CheckedService>): Map<string, CheckedService> {
		const asking = new Map<string, CheckedService>();
		for (const service of services)
			if (service.healthCheckNodePort !== 0)
				asking.set(`${service.namespace}/${service.name}`, service);
		const holders = new Map<number, string>();
		for (const [key, { port }] of this.#served)
			if (asking.get(key)?.healthCheckNodePort === port) holders.set(port, key);
		this.#refused = [];
		for (const [key, { healthCheckNodePort: port }] of [...asking].sort(([a], [b]) =>
			a < b ? -1 : 1,
		)) {
			const holder = holders.get(port);
			if (holder === undefined) holders.set(port, key);
			else if (holder !== key) {
				asking.delete(key);
				this.#refused.push(
					`Cannot serve healthCheckNodePort ${port} of Service ${key}: expected a port of its own, got that of Service ${holder}`,
				);
			}
		}
		return asking;
	}

	/* ------------------------------------------------------ 3 */

	#listener(key: string, served: Served): Listener {
		const { retryMs } = this.#options;
		return new Listener({
			key: `healthCheckNodePort of Service ${key}`,
			handle: (_, response) => this.#answer(response, served.service),
			...(retryMs === undefined ? {} : { retryMs }),
		});
	}

	/** The answer for every path and method. */
	#answer(response: ServerResponse, { namespace, name, localReady }: CheckedService): void {
		const serviceProxyHealthy = this.#options.isHealthy();
		const body = { service: { namespace, name }, localEndpoints: localReady, serviceProxyHealthy };
		// Load balancers may weight by it: a Node with more endpoints gets more connections.
		const weight = { "x-load-balancing-endpoint-weight": String(localReady) };
		answerJson(response, localReady > 0 && serviceProxyHealthy ? 200 : 503, body, weight, "\t");
	}
}
