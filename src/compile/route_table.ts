/**
 * The routes table: every prefix that is not simply "outside", and the parts of the outside without SNAT.
 * The longest prefix wins, so a nested prefix repeats the flags that it must keep.
 */
import { Limit, type Route, RouteFlag, RouteKind } from "../tables/generated.js";
import { contains, type Prefix, parsePrefix } from "../tables/prefix.js";
import type { OwnNode } from "./own_node.js";

interface Entry {
	prefix: Prefix;
	kind: RouteKind;
	peer: number;
	/** RouteFlag, beside those of `routeOf`. */
	flags: number;
}

export class RouteTable {
	readonly #entries = new Map<string, Entry>();

	/** Adds a prefix. False: it already has an owner. */
	add(prefix: Prefix, kind: RouteKind, peer: number = Limit.NO_PEER, flags = 0): boolean {
		if (this.#entries.has(prefix.text)) return false;
		this.#entries.set(prefix.text, { prefix, kind, peer, flags });
		return true;
	}

	/** Adds flags to the route of a prefix that has an owner. */
	flag(prefix: string, flags: number): void {
		const entry = this.#entries.get(prefix);
		if (entry !== undefined) entry.flags |= flags;
	}

	/** With those outside prefixes that need an entry, and the flags of all. */
	routes(own: OwnNode): Map<string, Route> {
		const inner = [...this.#entries.values()].map(({ prefix }) => prefix);
		for (const prefix of outsidePrefixes(own))
			if (!inner.some((outer) => contains(outer, prefix))) this.add(prefix, RouteKind.OUTSIDE);
		if ([...this.#entries.values()].some(({ prefix }) => coversMapped(prefix)))
			this.add(ANY_IPV4, RouteKind.OUTSIDE);
		return new Map(
			[...this.#entries.values()].map(({ prefix, kind, peer, flags }) => [
				prefix.text,
				routeOf(own, prefix, kind, peer, flags),
			]),
		);
	}
}

/**
 * ROUTE_NO_SNAT is on all that lies in one of `snat.excludeCIDRs`; what is outside has the MTU that the kernel's
 * route there has (0: none).
 */
export function routeOf(
	own: OwnNode,
	prefix: Prefix,
	kind: RouteKind,
	peer: number,
	flags = 0,
): Route {
	const excluded = excludedPrefixes(own).some((outer) => contains(outer, prefix));
	const { routes: kernel } = own.context;
	return {
		kind,
		flags: (excluded ? RouteFlag.NO_SNAT : 0) | flags,
		mtu: kind === RouteKind.OUTSIDE ? (kernel.lookup(prefix.bytes)?.mtu ?? 0) : 0,
		peer,
	};
}

/**
 * The prefixes that need an entry although they are outside: without SNAT, or with an MTU of their own. Where
 * one lies in a prefix of Pods or Nodes it gets none: nothing in there is translated, and an entry would hide it.
 */
export function outsidePrefixes(own: OwnNode): Prefix[] {
	const prefixes = [...excludedPrefixes(own), ...own.context.routes.narrow()];
	return [...new Map(prefixes.map((prefix) => [prefix.text, prefix])).values()];
}

const excluded = new WeakMap<OwnNode, readonly Prefix[]>();

function excludedPrefixes(own: OwnNode): readonly Prefix[] {
	let prefixes = excluded.get(own);
	if (prefixes === undefined) {
		prefixes = own.config.snat.excludeCIDRs.map(parsePrefix);
		excluded.set(own, prefixes);
	}
	return prefixes;
}

/** IPv4 is in ::ffff:0:0/96: an IPv6 prefix that contains that must not apply to IPv4. */
export const ANY_IPV4 = parsePrefix("0.0.0.0/0");

/** True for an IPv6 prefix that contains ::ffff:0:0/96. */
export function coversMapped({ family, length, bytes }: Prefix): boolean {
	if (family !== 6 || length > 96) return false;
	for (let bit = 0; bit < length; bit++)
		if (((bytes[bit >> 3]! >> (7 - (bit & 7))) & 1) !== (bit >= 80 ? 1 : 0)) return false;
	return true;
}
