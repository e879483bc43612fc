/**
 * The area of Services: their table entries, kept up to date at the cost of the Services that change.
 *
 *  1. changed Nodes: Service addresses that they have or had
 *  2. changed Services: their ports, and the addresses and NodePorts that they claim
 *  3. addresses and NodePorts whose claimants changed: frontends, routes
 *  4. endpoints of the changed Services: backends, sets
 *  5. once all Services and endpoints are known: entries of an earlier agent that no Service claims are removed
 *
 * Until then nothing is removed. The area outlives `OwnNode` objects: a new one makes it check all addresses again, but
 * Services only where the change concerns them.
 */

import type { ServiceCatalogReader, ServiceEntry } from "../../cluster/service_catalog.js";
import { NO_TEXTS } from "../../cluster/shared.js";
import type { NodeObject } from "../../cluster/snapshot.js";
import type { Steps } from "../../loop/turns.js";
import { putEntry, removeEntry } from "../../tables/changes.js";
import { type Frontend, FrontendKind, Limit } from "../../tables/generated.js";
import type { HeldServices } from "../../tables/tables.js";
import type { OwnNode } from "../own_node.js";
import { type ChangedAddresses, ClusterAddresses, isIn } from "./addresses.js";
import { type ServiceSpec, specOf } from "./claims.js";
import { backendsOf, endpointProblems, placeOf, refusalOf } from "./endpoints_of.js";
import { Outsiders } from "./outsiders.js";
import { OwnEndpoints } from "./own_endpoints.js";
import { addressKeyOf, type Claimant, isNodePort, meaningOf } from "./places.js";
import { noServiceChanges, type Port, Ports, type ServiceChanges } from "./ports.js";
import { type ServiceRoute, sameRoute } from "./routes.js";
import { type ServiceView, viewOf } from "./view.js";

export interface ServicesInput {
	own: OwnNode;
	catalog: ServiceCatalogReader;
	/** Services that may have changed in any way. */
	keys: Iterable<string>;
	nodes: Pick<ReadonlyMap<string, NodeObject>, "get" | "keys">;
	/** Nodes that may have changed; undefined: all. */
	names: Iterable<string> | undefined;
	/** ms, of a clock that never goes back. */
	now: number;
	/** No routes were set yet, wherever they go now. */
	isWhole: boolean;
	/** Another route for this address, or none. */
	setRoute: (address: string, route: ServiceRoute | undefined) => void;
}

interface Known {
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

/** More problems are counted. */
const PROBLEMS_MAX = 100;
const STEP = 64;
const NO_FRONTENDS: ReadonlyMap<string, Frontend> = new Map();

export class ServicesArea {
	readonly #ports = new Ports();
	readonly #addresses = new ClusterAddresses();
	readonly #known = new Map<string, Known>();
	readonly #places = new Map<string, Place>();
	/** Addresses in no service CIDR: a Node or a Pod may have one. */
	readonly #loose = new Set<string>();
	/** Addresses outside service CIDRs that are Services' alone. */
	readonly #whole = new Set<string>();
	readonly #outsiders = new Outsiders<Known>();
	readonly #ownEndpoints = new OwnEndpoints();
	/** What there was no room for: tried again when there is. */
	readonly #starved = new Set<string>();
	#held: HeldServices | undefined;
	/** Frontends of an earlier agent that no Service has claimed yet. */
	#adopted = new Map<string, Frontend>();
	#frontends = 0;
	/** By Service or place, of those that have some. */
	readonly #problems = new Map<string, readonly string[]>();
	/** All Services and endpoints have been known once. */
	#isSynced = false;
	#own: OwnNode | undefined;
	#context = "";
	#hasRoom = false;

	/** @param held entries of an earlier agent in the kernel; they stay as they are until their Services are known */
	constructor(held: HeldServices) {
		this.#held = held;
	}

	/** True: what an earlier agent left may be of Services that are not known yet. */
	get holds(): boolean {
		return !this.#isSynced;
	}

	/** True: nothing has come out of it yet. */
	get isNew(): boolean {
		return this.#own === undefined;
	}

	/** This Node itself is an endpoint. */
	get hasOwnEndpoints(): boolean {
		return this.#ownEndpoints.serve;
	}

	/** The kernel has all changes so far. */
	applied(): void {
		this.#ports.applied();
	}

	keys(): IterableIterator<string> {
		return this.#known.keys();
	}

	*update(input: ServicesInput): Steps<ServiceChanges> {
		const { own, catalog, nodes, now } = input;
		const changes = noServiceChanges();
		if (this.#held !== undefined) yield* this.#adopt(this.#held, changes, now);
		const isNewOwn = own !== this.#own;
		const isNewContext = isNewOwn && this.#takeContext(own);
		this.#own = own;
		const becomesSynced = !this.#isSynced && catalog.isSynced;
		this.#isSynced ||= catalog.isSynced;

		const places = new Set(input.isWhole ? this.#places.keys() : []);
		if (input.isWhole) for (const place of this.#places.values()) place.route = undefined;
		yield* this.#takeNodes(
			input.names ?? [...nodes.keys(), ...this.#addresses.names()],
			nodes,
			places,
		);

		const keys = new Set(input.keys);
		if (isNewContext || becomesSynced) {
			for (const key of catalog.keys()) keys.add(key);
			for (const key of this.#known.keys()) keys.add(key);
		}
		if (this.#hasRoom || this.#ports.takeHasRoom()) for (const key of this.#starved) keys.add(key);
		this.#hasRoom = false;
		const specs = new Map<Known, ServiceSpec>();
		const stale = new Set<Known>();
		let steps = 0;
		for (const key of keys) {
			this.#takeService(key, input, { isNewContext, specs, places, stale, changes });
			if (++steps % STEP === 0) yield;
		}
		for (const place of places) {
			this.#resolve(place, input, specs, stale, changes);
			if (++steps % STEP === 0) yield;
		}
		for (const known of stale) {
			this.#updateEndpoints(known, input, changes);
			yield;
		}
		if (becomesSynced) yield* this.#dropAdopted(changes, now);
		yield* this.#ports.settle(changes, now);
		this.#ownEndpoints.take(changes, (address) => own.self.owns(address), isNewOwn);
		return changes;
	}

	/** All that there are now, in a stable order. */
	problems(): string[] {
		const problems = [...this.#problems.values()].flat().sort();
		const more = problems.length - PROBLEMS_MAX;
		if (more <= 0) return problems;
		return [
			...problems.slice(0, PROBLEMS_MAX),
			`Cannot serve all Services: there are ${more} more problems like these`,
		];
	}

	/** Undefined: there is no such Service; one that is not ours has no ports. */
	view(key: string): ServiceView | undefined {
		const known = this.#known.get(key);
		const own = this.#own;
		if (known === undefined || own === undefined) return undefined;
		return viewOf(known.entry, specOf(known.entry.service, own.config), {
			place: placeOf(own),
			ports: known.ports,
			isUsable: (address) => this.#refusal(address, own) === undefined,
			ownsFrontend: (key, port) => {
				const [address = ""] = key.split(" ");
				const place = this.#places.get(address) ?? this.#places.get(key);
				return place?.frontends.get(key)?.service === port.index;
			},
		});
	}

	*#adopt(held: HeldServices, changes: ServiceChanges, now: number): Steps<void> {
		this.#held = undefined;
		yield* this.#ports.adopt(held, changes, now);
		this.#adopted = new Map(held.frontends);
		for (const [key, frontend] of this.#adopted) putEntry(changes.frontends, key, frontend);
		this.#frontends = this.#adopted.size;
	}

	*#dropAdopted(changes: ServiceChanges, now: number): Steps<void> {
		yield* this.#ports.dropAdopted(changes, now);
		for (const key of this.#adopted.keys()) {
			removeEntry(changes.frontends, key);
			this.#frontends--;
		}
		this.#adopted = new Map();
	}

	/** Returns whether Services or their endpoints may mean something else. */
	#takeContext(own: OwnNode): boolean {
		const { fairwayProxy, snat } = own.config;
		const cidrs = own.services.map(({ text }) => text);
		const context = JSON.stringify([fairwayProxy, snat.portRange, placeOf(own), cidrs]);
		if (context === this.#context) return false;
		this.#context = context;
		return true;
	}

	*#takeNodes(
		names: Iterable<string>,
		nodes: ServicesInput["nodes"],
		places: Set<string>,
	): Steps<void> {
		const changed: ChangedAddresses = { addresses: new Set(), podCidrs: [] };
		let steps = 0;
		for (const name of new Set(names)) {
			this.#addresses.set(name, nodes.get(name), changed);
			if (++steps % STEP === 0) yield;
		}
		for (const address of changed.addresses) if (this.#loose.has(address)) places.add(address);
		if (changed.podCidrs.length === 0) return;
		for (const address of this.#loose) {
			if (isIn(changed.podCidrs, address)) places.add(address);
			if (++steps % STEP === 0) yield;
		}
	}

	#takeService(
		key: string,
		{ catalog, own, now }: ServicesInput,
		{
			isNewContext,
			specs,
			places,
			stale,
			changes,
		}: {
			isNewContext: boolean;
			specs: Map<Known, ServiceSpec>;
			places: Set<string>;
			stale: Set<Known>;
			changes: ServiceChanges;
		},
	): void {
		const entry = catalog.get(key);
		const before = this.#known.get(key);
		if (entry === undefined) {
			// It may be there all the same, and come with the rest.
			if (before === undefined || !this.#isSynced) return;
			this.#claim(before, [], places);
			this.#outsiders.set(before, new Set());
			for (const port of before.ports)
				if (port !== undefined) this.#ports.remove(port, changes, now);
			this.#known.delete(key);
			this.#problems.delete(key);
			this.#starved.delete(key);
			this.#hasRoom = true;
			return;
		}
		const known: Known = before ?? { key, entry, places: NO_TEXTS, ports: [] };
		const isSame = before !== undefined && before.entry.service === entry.service;
		known.entry = entry;
		stale.add(known);
		if (isSame && !isNewContext && !this.#starved.has(key)) return;
		this.#known.set(key, known);
		const spec = specOf(entry.service, own.config);
		specs.set(known, spec);
		const former = new Map(known.ports.flatMap((port) => (port ? [[port.spec!.id, port]] : [])));
		known.ports = spec.ports.map((port) => {
			const kept = former.get(port.id);
			former.delete(port.id);
			if (kept === undefined) return this.#ports.add(port);
			kept.spec = port;
			return kept;
		});
		for (const port of former.values()) this.#ports.remove(port, changes, now);
		this.#claim(
			known,
			spec.claims.map(({ place }) => place),
			places,
		);
	}

	/** In place of what it claimed before. All of it is to be resolved. */
	#claim(known: Known, now: readonly string[], places: Set<string>): void {
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

	#resolve(
		name: string,
		{ own, setRoute }: ServicesInput,
		specs: Map<Known, ServiceSpec>,
		stale: Set<Known>,
		{ frontends }: ServiceChanges,
	): void {
		const place = this.#places.get(name);
		if (place === undefined) return;
		const claimants = place.claimants.flatMap((known): Claimant<Known>[] => {
			let spec = specs.get(known);
			if (spec === undefined) {
				spec = specOf(known.entry.service, own.config);
				specs.set(known, spec);
			}
			const claim = spec.claims.find((claim) => claim.place === name);
			return claim === undefined ? [] : [{ service: known.entry.service, claim, tag: known }];
		});
		const use = isNodePort(name) ? "free" : this.#addresses.useOf(name, own);
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
					for (const { tag } of claimants) this.#starved.add(tag.key);
					continue;
				}
				this.#frontends++;
			}
			putEntry(frontends, key, frontend);
		}
		place.frontends = wanted;
		this.#setProblems(`at ${name}`, problems);
		if (!sameRoute(place.route, meaning.route)) setRoute(name, meaning.route);
		place.route = meaning.route;
		const isGone = place.claimants.length === 0;
		if (isGone) this.#places.delete(name);
		if (isNodePort(name)) return;
		if (isGone || use === "serviceCIDR") this.#loose.delete(name);
		else this.#loose.add(name);
		const isWhole = meaning.isWhole && use === "free";
		if (isWhole === this.#whole.has(name)) return;
		if (isWhole) this.#whole.add(name);
		else this.#whole.delete(name);
		for (const known of this.#outsiders.at(name)) stale.add(known);
	}

	#updateEndpoints(known: Known, { own, now }: ServicesInput, changes: ServiceChanges): void {
		// It may have gone since.
		if (this.#known.get(known.key) !== known) return;
		const { service, slices } = known.entry;
		const outsiders = new Set<string>();
		const refused = new Map<string, string>();
		const lacking = new Set<string>();
		for (const port of known.ports) {
			if (port?.spec === undefined) {
				lacking.add("indexes of ports");
				continue;
			}
			const wanted = backendsOf(slices, port.spec, placeOf(own), (address, isPod) => {
				// A Pod's address is in a pod CIDR, which no Service's is.
				if (!isPod || !this.#addresses.isPods(address)) outsiders.add(address);
				const why = this.#refusal(address, own);
				if (why !== undefined) refused.set(address, why);
				return why === undefined;
			});
			const keeps = !this.#isSynced;
			for (const what of this.#ports.update(port, wanted, { keeps, now, changes }))
				lacking.add(what);
		}
		const name = `${service.namespace}/${service.name}`;
		const problems = [
			...specOf(service, own.config).problems,
			...endpointProblems(name, refused),
			...[...lacking].map(
				(what) => `Cannot serve all of Service ${name}: the table of ${what} is full`,
			),
		];
		if (lacking.size > 0) this.#starved.add(known.key);
		else this.#starved.delete(known.key);
		this.#setProblems(known.key, problems);
		this.#outsiders.set(known, outsiders);
	}

	#setProblems(whose: string, problems: readonly string[]): void {
		if (problems.length > 0) this.#problems.set(whose, problems);
		else this.#problems.delete(whose);
	}

	/** Why no packet is sent to an endpoint; undefined: it is a good one. */
	#refusal(address: string, own: OwnNode): string | undefined {
		return refusalOf(address, own, (vip) => this.#whole.has(vip));
	}
}
