/**
 * The routes table: every prefix that is not simply "outside", and the parts of the outside without SNAT.
 * The longest prefix wins, so a nested prefix repeats the flags that it must keep.
 */
import type { Steps } from "../loop/turns.js";
import { Limit, type Route, RouteFlag, RouteKind } from "../tables/generated.js";
import { contains, type Prefix, parsePrefix } from "../tables/prefix.js";
import type { KernelRoutes } from "./kernel_routes.js";

interface Entry {
	prefix: Prefix;
	kind: RouteKind;
	peer: number;
}

export class RouteTable {
	readonly #entries = new Map<string, Entry>();
	/** Adds a prefix. False: it already has an owner. */
	add(prefix: Prefix, kind: RouteKind, peer: number = Limit.NO_PEER): boolean {
		if (this.#entries.has(prefix.text)) return false;
		this.#entries.set(prefix.text, { prefix, kind, peer });
		return true;
	}

	/**
	 * With ROUTE_NO_SNAT on all that lies in one of the prefixes, and on what is outside the MTU that
	 * the kernel's route there has (0: none).
	 */
	*routes(excluded: readonly Prefix[], kernel: KernelRoutes): Steps<Map<string, Route>> {
		// Nothing inside Pods' and Nodes' prefixes is translated; an entry there would hide them.
		const inner = [...this.#entries.values()].map(({ prefix }) => prefix);
		for (const prefix of excluded)
			if (!inner.some((outer) => contains(outer, prefix))) this.add(prefix, RouteKind.OUTSIDE);
		for (const prefix of kernel.narrow())
			if (!inner.some((outer) => contains(outer, prefix))) this.add(prefix, RouteKind.OUTSIDE);
		// IPv4 is in ::ffff:0:0/96: an IPv6 prefix that contains that must not apply to IPv4.
		if ([...this.#entries.values()].some(({ prefix }) => coversMapped(prefix)))
			this.add(ANY_IPV4, RouteKind.OUTSIDE);
		const routes = new Map<string, Route>();
		for (const { prefix, kind, peer } of this.#entries.values()) {
			const flags = excluded.some((outer) => contains(outer, prefix)) ? RouteFlag.NO_SNAT : 0;
			const mtu = kind === RouteKind.OUTSIDE ? (kernel.lookup(prefix.bytes)?.mtu ?? 0) : 0;
			routes.set(prefix.text, { kind, flags, mtu, peer });
			yield;
		}
		return routes;
	}
}

const ANY_IPV4 = parsePrefix("0.0.0.0/0");

/** True for an IPv6 prefix that contains ::ffff:0:0/96. */
function coversMapped({ family, length, bytes }: Prefix): boolean {
	if (family !== 6 || length > 96) return false;
	for (let bit = 0; bit < length; bit++)
		if (((bytes[bit >> 3]! >> (7 - (bit & 7))) & 1) !== (bit >= 80 ? 1 : 0)) return false;
	return true;
}
