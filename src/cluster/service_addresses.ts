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

	/** Wide ones first, by their text among equals; the same object as before while nothing has changed. */
	update(): readonly Prefix[] {
		/** Prefixes that came or went on the way, and whether they were there before. */
		const touched = new Map<string, boolean>();
		for (const key of this.#cidrs.take()) {
			const cidrs = this.#store.get("ServiceCIDR", key)?.cidrs ?? [];
			this.#set(`ServiceCIDR ${key}`, cidrs, touched);
		}
		for (const key of this.#services.take()) {
			const service = this.#store.get("Service", key);
			const addresses =
				service === undefined ? [] : [...service.externalIPs, ...service.loadBalancerIPs];
			const prefixes = addresses.map((address) => hostPrefix(parseAddress(address)!).text);
			this.#set(`Service ${key}`, prefixes, touched);
		}
		const added: Prefix[] = [];
		const removed = new Set<string>();
		for (const [text, was] of touched) {
			const is = this.#uses.has(text);
			if (is && !was) added.push(parsePrefix(text));
			else if (was && !is) removed.add(text);
		}
		if (added.length > 0 || removed.size > 0)
			this.#prefixes = merged(this.#prefixes, removed, added.sort(wideFirst));
		return this.#prefixes;
	}

	#set(owner: string, prefixes: readonly string[], touched: Map<string, boolean>): void {
		const before = this.#of.get(owner) ?? [];
		for (const prefix of prefixes) {
			const uses = this.#uses.get(prefix) ?? 0;
			this.#uses.set(prefix, uses + 1);
			if (uses === 0 && !touched.has(prefix)) touched.set(prefix, false);
		}
		for (const prefix of before) {
			const uses = this.#uses.get(prefix)! - 1;
			if (uses > 0) this.#uses.set(prefix, uses);
			else this.#uses.delete(prefix);
			if (uses === 0 && !touched.has(prefix)) touched.set(prefix, true);
		}
		if (prefixes.length > 0) this.#of.set(owner, prefixes);
		else this.#of.delete(owner);
	}
}

/** Whatever there are of narrow ones, the others have room. */
function wideFirst(a: Prefix, b: Prefix): number {
	return a.length - b.length || (a.text < b.text ? -1 : 1);
}

/** @param prefixes in order, as `added` is; neither sorted nor parsed again, of which there may be thousands */
function merged(
	prefixes: readonly Prefix[],
	removed: ReadonlySet<string>,
	added: readonly Prefix[],
): Prefix[] {
	const result: Prefix[] = [];
	let next = 0;
	for (const prefix of prefixes) {
		if (removed.has(prefix.text)) continue;
		while (next < added.length && wideFirst(added[next]!, prefix) < 0) result.push(added[next++]!);
		result.push(prefix);
	}
	return [...result, ...added.slice(next)];
}
