/**
 * Addresses and NodePorts that Services claim: the claimants of each, and the resulting frontends and route. places.ts
 * defines the meaning of a place; this file keeps it up to date in time proportional to the changes.
 */
import type { ServiceEntry } from "../../cluster/service_catalog.js";
import type { NodeObject } from "../../cluster/snapshot.js";
import type { Steps } from "../../loop/turns.js";
import { type EntryChanges, putEntry, removeEntry } from "../../tables/changes.js";
import { type Frontend, FrontendKind, Limit } from "../../tables/generated.js";
import type { OwnNode } from "../own_node.js";
import { type ChangedAddresses, ClusterAddresses, isIn } from "./addresses.js";
import { type ServiceSpec, specOf } from "./claims.js";
import { addressKeyOf, type Claimant, isNodePort, meaningOf } from "./places.js";
import type { Port } from "./ports.js";
import { type ServiceRoute, sameRoute } from "./routes.js";

/** A Service that is compiled. */
export interface Known {
	readonly key: string;
	entry: ServiceEntry;
	places: readonly string[];
	/** In the order of its spec; undefined: there was no index for it. */
	ports: readonly (Port | undefined)[];
}

interface Place {
	claimants: readonly Known[];
	frontends: ReadonlyMap<string, Frontend>;
	route: ServiceRoute | undefined;
}

export interface PlaceTableOptions {
	/** There is no room for all frontends of this Service. */
	onFull: (known: Known) => void;
	/** Replaces the problems of a place. */
	setProblems: (whose: string, problems: readonly string[]) => void;
}

export interface ResolveInput {
	own: OwnNode;
	/** Another route for this address, or none. */
	setRoute: (address: string, route: ServiceRoute | undefined) => void;
}

/** Entries between two yields. */
const STEP = 64;
const NO_FRONTENDS: ReadonlyMap<string, Frontend> = new Map();

export class PlaceTable {
	readonly addresses = new ClusterAddresses();
	readonly #options: PlaceTableOptions;
	readonly #places = new Map<string, Place>();
	/** Addresses in no service CIDR: a Node or a Pod may have one. */
	readonly #loose = new Set<string>();
	/** Addresses outside service CIDRs that are Services' alone. */
	readonly #whole = new Set<string>();
	/** Frontends of an earlier agent that no Service has claimed yet. */
	#adopted = new Map<string, Frontend>();
	#frontends = 0;
	#hasRoom = false;

	constructor(options: PlaceTableOptions) {
		this.#options = options;
	}

	/** Takes over the frontends that an earlier agent wrote; they stay as they are until a Service claims them. */
	adopt(held: ReadonlyMap<string, Frontend>, frontends: EntryChanges<string, Frontend>): void {
		this.#adopted = new Map(held);
		for (const [key, frontend] of this.#adopted) putEntry(frontends, key, frontend);
		this.#frontends = this.#adopted.size;
	}

	/** Removes the frontends of an earlier agent that no Service has claimed. */
	dropAdopted(frontends: EntryChanges<string, Frontend>): void {
		for (const key of this.#adopted.keys()) {
			removeEntry(frontends, key);
			this.#frontends--;
		}
		this.#adopted = new Map();
	}

	/** The routes are to be set again, wherever they went. Returns all places: they are to be resolved. */
	forgetRoutes(): Iterable<string> {
		for (const place of this.#places.values()) place.route = undefined;
		return this.#places.keys();
	}

	/** Whether there has been room for more frontends since this was last called. */
	takeHasRoom(): boolean {
		const hasRoom = this.#hasRoom;
		this.#hasRoom = false;
		return hasRoom;
	}

	/** The frontend of this key. */
	frontend(key: string): Frontend | undefined {
		const [address = ""] = key.split(" ");
		const place = this.#places.get(address) ?? this.#places.get(key);
		return place?.frontends.get(key);
	}

	/** True: the address is outside service CIDRs, and a Service's alone. */
	isWhole(address: string): boolean {
		return this.#whole.has(address);
	}

	/**
	 * Notes the addresses of Nodes.
	 *
	 * @param names Nodes that may have changed; undefined: all
	 * @param places gets the addresses of Services that may mean something else now
	 */
	*takeNodes(
		names: Iterable<string> | undefined,
		nodes: Pick<ReadonlyMap<string, NodeObject>, "get" | "keys">,
		places: Set<string>,
	): Steps<void> {
		const changed: ChangedAddresses = { addresses: new Set(), podCidrs: [] };
		let steps = 0;
		for (const name of new Set(names ?? [...nodes.keys(), ...this.addresses.names()])) {
			this.addresses.set(name, nodes.get(name), changed);
			if (++steps % STEP === 0) yield;
		}
		for (const address of changed.addresses) if (this.#loose.has(address)) places.add(address);
		if (changed.podCidrs.length === 0) return;
		for (const address of this.#loose) {
			if (isIn(changed.podCidrs, address)) places.add(address);
			if (++steps % STEP === 0) yield;
		}
	}

	/** Replaces what a Service claims. @param places gets all that it claimed or claims: it is to be resolved */
	claim(known: Known, now: readonly string[], places: Set<string>): void {
		for (const place of known.places) places.add(place);
		for (const place of now) places.add(place);
		const wanted = new Set(now);
		for (const name of known.places) {
			if (wanted.delete(name)) continue;
			const place = this.#places.get(name)!;
			place.claimants = place.claimants.filter((other) => other !== known);
		}
		for (const name of wanted) {
			const place = this.#places.get(name);
			if (place !== undefined) place.claimants = [...place.claimants, known];
			else
				this.#places.set(name, { claimants: [known], frontends: NO_FRONTENDS, route: undefined });
		}
		known.places = now;
	}

	/**
	 * Compiles the frontends and the route of a place from its claimants.
	 *
	 * @param specs by Service, as far as they are known; others are added
	 * @returns whether it became a Service's alone, or is so no longer: no endpoint may have such an address
	 */
	resolve(
		name: string,
		{ own, setRoute }: ResolveInput,
		specs: Map<Known, ServiceSpec>,
		frontends: EntryChanges<string, Frontend>,
	): boolean {
		const place = this.#places.get(name);
		if (place === undefined) return false;
		const claimants = place.claimants.flatMap((known): Claimant<Known>[] => {
			let spec = specs.get(known);
			if (spec === undefined) {
				spec = specOf(known.entry.service, own.config);
				specs.set(known, spec);
			}
			const claim = spec.claims.find((claim) => claim.place === name);
			return claim === undefined ? [] : [{ service: known.entry.service, claim, tag: known }];
		});
		const use = isNodePort(name) ? "free" : this.addresses.useOf(name, own);
		const meaning = meaningOf(name, claimants, use);
		const problems = meaning.problems;
		const wanted = new Map<string, Frontend>();
		// First, so that no Service port is reachable at an address that has no entry yet.
		if (meaning.isWhole) wanted.set(addressKeyOf(name), { service: 0, kind: FrontendKind.ADDRESS });
		for (const [key, { owner, port, kind }] of meaning.frontends) {
			const index = owner.ports[port]?.index;
			if (index !== undefined) wanted.set(key, { service: index, kind });
		}
		for (const key of place.frontends.keys()) {
			if (wanted.has(key)) continue;
			removeEntry(frontends, key);
			this.#frontends--;
			this.#hasRoom = true;
		}
		for (const [key, frontend] of wanted) {
			const before = place.frontends.get(key);
			if (before?.service === frontend.service && before.kind === frontend.kind) continue;
			if (before === undefined && !this.#adopted.delete(key)) {
				if (this.#frontends >= Limit.FRONTENDS_MAX) {
					wanted.delete(key);
					problems.push(
						`Cannot serve ${key.split(" ")[0]} port ${key.split(" ")[2]}: expected at most ${Limit.FRONTENDS_MAX} addresses and ports of Services`,
					);
					for (const { tag } of claimants) this.#options.onFull(tag);
					continue;
				}
				this.#frontends++;
			}
			putEntry(frontends, key, frontend);
		}
		place.frontends = wanted;
		this.#options.setProblems(`at ${name}`, problems);
		if (!sameRoute(place.route, meaning.route)) setRoute(name, meaning.route);
		place.route = meaning.route;
		const isGone = place.claimants.length === 0;
		if (isGone) this.#places.delete(name);
		if (isNodePort(name)) return false;
		if (isGone || use === "serviceCIDR") this.#loose.delete(name);
		else this.#loose.add(name);
		const isWhole = meaning.isWhole && use === "free";
		if (isWhole === this.#whole.has(name)) return false;
		if (isWhole) this.#whole.add(name);
		else this.#whole.delete(name);
		return true;
	}
}
