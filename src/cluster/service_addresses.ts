/**
 * The prefixes in which Services are: ServiceCIDRs, and the load balancer and external IPs of each
 * Service. Kept up to date at the cost of what has changed.
 */
import { parseAddress } from "../tables/address.js";
import { hostPrefix, type Prefix, parsePrefix } from "../tables/prefix.js";
import type { Store, StoreReader } from "./store.js";

export class ServiceAddresses {
	readonly #store: Store;
	readonly #services: StoreReader;
	readonly #cidrs: StoreReader;
	/** Prefix → how many objects have it. */
	readonly #uses = new Map<string, number>();
	/** By "Service KEY" or "ServiceCIDR KEY"; only of those that have some. */
	readonly #of = new Map<string, readonly string[]>();
	#prefixes: readonly Prefix[] = [];

	constructor(store: Store) {
		this.#store = store;
		this.#services = store.reader("Service");
		this.#cidrs = store.reader("ServiceCIDR");
	}

	/** In a stable order; the same object as before while nothing has changed. */
	update(): readonly Prefix[] {
		let changed = false;
		for (const key of this.#cidrs.take()) {
			const cidrs = this.#store.get("ServiceCIDR", key)?.cidrs ?? [];
			if (this.#set(`ServiceCIDR ${key}`, cidrs)) changed = true;
		}
		for (const key of this.#services.take()) {
			const service = this.#store.get("Service", key);
			const addresses =
				service === undefined ? [] : [...service.externalIPs, ...service.loadBalancerIPs];
			const prefixes = addresses.map((address) => hostPrefix(parseAddress(address)!).text);
			if (this.#set(`Service ${key}`, prefixes)) changed = true;
		}
		// Wide ones first: whatever there are of the others, they have room.
		if (changed)
			this.#prefixes = [...this.#uses.keys()]
				.map(parsePrefix)
				.sort((a, b) => a.length - b.length || (a.text < b.text ? -1 : 1));
		return this.#prefixes;
	}

	/** True: there are others now. */
	#set(owner: string, prefixes: readonly string[]): boolean {
		const before = this.#of.get(owner) ?? [];
		let changed = false;
		for (const prefix of prefixes) {
			const uses = this.#uses.get(prefix) ?? 0;
			this.#uses.set(prefix, uses + 1);
			changed ||= uses === 0;
		}
		for (const prefix of before) {
			const uses = this.#uses.get(prefix)! - 1;
			if (uses > 0) this.#uses.set(prefix, uses);
			else this.#uses.delete(prefix);
			changed ||= uses === 0;
		}
		if (prefixes.length > 0) this.#of.set(owner, prefixes);
		else this.#of.delete(owner);
		return changed;
	}
}
