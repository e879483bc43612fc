/**
 * The routes of the outside: prefixes without SNAT or with an MTU of their own, as long as no prefix of Pods,
 * Nodes or Services contains them.
 */
import { type EntryChanges, putEntry, removeEntry } from "../tables/changes.js";
import { Limit, type Route, RouteKind } from "../tables/generated.js";
import { contains, type Prefix } from "../tables/prefix.js";
import type { OwnNode } from "./own_node.js";
import { ANY_IPV4, coversMapped, outsidePrefixes, routeOf } from "./route_table.js";

export class OutsideRoutes {
	readonly #own: OwnNode;
	/** With how many prefixes contain it. */
	readonly #candidates: { prefix: Prefix; covers: number }[];
	/** Prefixes that contain all of IPv4's. */
	#mapped = 0;
	#routes: ReadonlyMap<string, Route> = new Map();
	#changed = true;

	constructor(own: OwnNode) {
		this.#own = own;
		this.#candidates = outsidePrefixes(own).map((prefix) => ({ prefix, covers: 0 }));
	}

	get size(): number {
		return this.#routes.size;
	}

	get hasMtu(): boolean {
		return [...this.#routes.values()].some(({ mtu }) => mtu !== 0);
	}

	/** This prefix has an owner now. */
	cover(prefix: Prefix): void {
		this.#count(prefix, 1);
	}

	uncover(prefix: Prefix): void {
		this.#count(prefix, -1);
	}

	/** @param isOwned this prefix has an owner */
	update(changes: EntryChanges<string, Route>, isOwned: (prefix: string) => boolean): void {
		if (!this.#changed) return;
		this.#changed = false;
		const before = this.#routes;
		const free = this.#candidates.filter(({ covers }) => covers === 0);
		const prefixes = free.map(({ prefix }) => prefix);
		const mapped = this.#mapped > 0 || prefixes.some(coversMapped);
		if (mapped && !isOwned(ANY_IPV4.text)) prefixes.push(ANY_IPV4);
		this.#routes = new Map(
			prefixes.map((prefix) => [
				prefix.text,
				routeOf(this.#own, prefix, RouteKind.OUTSIDE, Limit.NO_PEER),
			]),
		);
		for (const prefix of before.keys())
			if (!this.#routes.has(prefix) && !isOwned(prefix)) removeEntry(changes, prefix);
		for (const [prefix, route] of this.#routes) putEntry(changes, prefix, route);
	}

	#count(prefix: Prefix, one: 1 | -1): void {
		if (coversMapped(prefix)) {
			this.#mapped += one;
			this.#changed = true;
		}
		for (const candidate of this.#candidates) {
			if (!contains(prefix, candidate.prefix)) continue;
			candidate.covers += one;
			this.#changed = true;
		}
		// One of these may be ANY_IPV4.
		if (prefix.text === ANY_IPV4.text) this.#changed = true;
	}
}
