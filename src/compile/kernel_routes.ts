/** Looks up the kernel's routes like the kernel: longest prefix, then lowest metric. */

import { isFairways, type Network, type NetworkRoute } from "../linux/network.js";
import { contains, type Family, type Prefix, PrefixTable, readPrefix } from "../tables/prefix.js";

export class KernelRoutes {
	readonly #table = new PrefixTable<NetworkRoute>();
	readonly #defaults: { 4?: NetworkRoute; 6?: NetworkRoute } = {};
	readonly #prefixes = new Map<string, Prefix>();
	/** Those that allow less than their device. */
	readonly #narrow: Prefix[] = [];

	/** Ignores routes to Fairway's own devices: they are results of compile, not inputs. */
	constructor(routes: Network["routes"]) {
		for (const route of routes) {
			const read = readPrefix(route.prefix);
			if (isFairways(route.device) || !("prefix" in read)) continue;
			const { prefix } = read;
			const known = this.#table.get(prefix);
			if (known !== undefined && known.metric <= route.metric) continue;
			this.#table.set(prefix, route);
			this.#prefixes.set(prefix.text, prefix);
			if (route.mtu !== undefined) this.#narrow.push(prefix);
			if (prefix.length === 0) this.#defaults[prefix.family] = route;
		}
	}

	lookup(address: Uint8Array): NetworkRoute | undefined {
		return this.#table.lookup(address);
	}

	/** The prefixes of routes that have an MTU of their own, and those that lie in one of these. */
	narrow(): Prefix[] {
		if (this.#narrow.length === 0) return [];
		return [...this.#prefixes.values()].filter((prefix) =>
			this.#narrow.some((outer) => contains(outer, prefix)),
		);
	}

	default(family: Family): NetworkRoute | undefined {
		return this.#defaults[family];
	}
}
