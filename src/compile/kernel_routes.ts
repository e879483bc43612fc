/** The kernel's routes, asked as the kernel asks them: longest prefix, then least metric. */
import { type Family, PrefixTable, readPrefix } from "../tables/prefix.js";
import { isFairways, type Network, type NetworkRoute } from "./network.js";

export class KernelRoutes {
	readonly #table = new PrefixTable<NetworkRoute>();
	readonly #defaults: { 4?: NetworkRoute; 6?: NetworkRoute } = {};

	/** Ignores routes to Fairway's own devices: they are results of compile, not inputs. */
	constructor(routes: Network["routes"]) {
		for (const route of routes) {
			const read = readPrefix(route.prefix);
			if (isFairways(route.device) || !("prefix" in read)) continue;
			const { prefix } = read;
			const known = this.#table.get(prefix);
			if (known !== undefined && known.metric <= route.metric) continue;
			this.#table.set(prefix, route);
			if (prefix.length === 0) this.#defaults[prefix.family] = route;
		}
	}

	lookup(address: Uint8Array): NetworkRoute | undefined {
		return this.#table.lookup(address);
	}

	default(family: Family): NetworkRoute | undefined {
		return this.#defaults[family];
	}
}
