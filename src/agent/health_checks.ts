/** What the health check servers of Services are to serve: kept at the cost of the Services that change. */
import type { Config } from "../config/config.js";
import type { CheckedService } from "../http/service_health.js";
import type { Network } from "../linux/network.js";
import { parseAddress } from "../tables/address.js";
import { containsAddress, parsePrefix } from "../tables/prefix.js";

/** Services as they are in force. */
export interface CheckedServices {
	keys(): Iterable<string>;
	/** undefined: there is no such Service. Without ports: it is not Fairway's. */
	view(key: string): (CheckedService & { ports: readonly unknown[] }) | undefined;
}

/** Whether Fairway answers for the Services of this Node, or kube-proxy beside it does. */
export function answersForServices({ fairwayProxy }: Pick<Config, "fairwayProxy">): boolean {
	return fairwayProxy.enable && fairwayProxy.proxyAll;
}

export class HealthChecks {
	/** Those that have a health check port. */
	readonly #checked = new Map<string, CheckedService>();
	#config: Config | undefined;
	#network: Network | undefined;

	/**
	 * @param changed keys of Services that may have changed
	 * @returns undefined: all is as it was
	 */
	take(
		services: CheckedServices,
		changed: ReadonlySet<string>,
		config: Config,
		network: Network,
	): { services: Iterable<CheckedService>; addresses: string[] | undefined } | undefined {
		const isNew = config !== this.#config;
		if (!isNew && network === this.#network && changed.size === 0) return undefined;
		this.#config = config;
		this.#network = network;
		const isOurs = answersForServices(config);
		if (isNew) this.#checked.clear();
		for (const key of isNew ? (isOurs ? services.keys() : []) : changed) {
			const view = isOurs ? services.view(key) : undefined;
			if (view === undefined || view.ports.length === 0 || view.healthCheckNodePort === 0)
				this.#checked.delete(key);
			else this.#checked.set(key, view);
		}
		return {
			services: this.#checked.values(),
			addresses: nodePortAddresses(config.fairwayProxy.nodePortAddresses, network),
		};
	}
}

/** Those of the Node's addresses that are in the CIDRs; undefined: no CIDRs, so every address there is. */
function nodePortAddresses(cidrs: readonly string[], network: Network): string[] | undefined {
	if (cidrs.length === 0) return undefined;
	const prefixes = cidrs.map(parsePrefix);
	const own = network.interfaces.flatMap(({ addresses }) =>
		addresses.map(({ address }) => address),
	);
	return [...new Set(own)].filter((address) => {
		const bytes = parseAddress(address);
		// A link-local one is none without its link.
		if (bytes === undefined || /^fe[89ab]/.test(address)) return false;
		return prefixes.some((prefix) => containsAddress(prefix, bytes));
	});
}
