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

import type { ServiceCatalogReader } from "../../cluster/service_catalog.js";
import { NO_TEXTS } from "../../cluster/shared.js";
import type { NodeObject } from "../../cluster/snapshot.js";
import type { Steps } from "../../loop/turns.js";
import type { HeldServices } from "../../tables/tables.js";
import type { OwnNode } from "../own_node.js";
import { type ServiceSpec, specOf } from "./claims.js";
import { backendsOf, endpointProblems, placeOf, refusalOf } from "./endpoints_of.js";
import { Outsiders } from "./outsiders.js";
import { OwnEndpoints } from "./own_endpoints.js";
import { type Known, PlaceTable } from "./place_table.js";
import { noServiceChanges, Ports, type ServiceChanges } from "./ports.js";
import type { ServiceRoute } from "./routes.js";
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

/** More problems are counted. */
const PROBLEMS_MAX = 100;
const STEP = 64;

export class ServicesArea {
	readonly #ports = new Ports();
	readonly #known = new Map<string, Known>();
	readonly #places = new PlaceTable({
		onFull: (known) => this.#starved.add(known.key),
		setProblems: (whose, problems) => this.#setProblems(whose, problems),
	});
	readonly #outsiders = new Outsiders<Known>();
	readonly #ownEndpoints = new OwnEndpoints();
	/** What there was no room for: tried again when there is. */
	readonly #starved = new Set<string>();
	#held: HeldServices | undefined;
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

	/** True: the entries of an earlier agent may belong to Services that are not known yet. */
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

		const places = new Set(input.isWhole ? this.#places.forgetRoutes() : []);
		yield* this.#places.takeNodes(input.names, nodes, places);

		const keys = new Set(input.keys);
		if (isNewContext || becomesSynced) {
			for (const key of catalog.keys()) keys.add(key);
			for (const key of this.#known.keys()) keys.add(key);
		}
		const hasRoom = [this.#hasRoom, this.#places.takeHasRoom(), this.#ports.takeHasRoom()];
		if (hasRoom.includes(true)) for (const key of this.#starved) keys.add(key);
		this.#hasRoom = false;
		const specs = new Map<Known, ServiceSpec>();
		const stale = new Set<Known>();
		let steps = 0;
		for (const key of keys) {
			this.#takeService(key, input, { isNewContext, specs, places, stale, changes });
			if (++steps % STEP === 0) yield;
		}
		for (const place of places) {
			const becomesOther = this.#places.resolve(place, input, specs, changes.frontends);
			if (becomesOther) for (const known of this.#outsiders.at(place)) stale.add(known);
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
			ownsFrontend: (key, port) => this.#places.frontend(key)?.service === port.index,
		});
	}

	*#adopt(held: HeldServices, changes: ServiceChanges, now: number): Steps<void> {
		this.#held = undefined;
		yield* this.#ports.adopt(held, changes, now);
		this.#places.adopt(held.frontends, changes.frontends);
	}

	*#dropAdopted(changes: ServiceChanges, now: number): Steps<void> {
		yield* this.#ports.dropAdopted(changes, now);
		this.#places.dropAdopted(changes.frontends);
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
			this.#places.claim(before, [], places);
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
		this.#places.claim(
			known,
			spec.claims.map(({ place }) => place),
			places,
		);
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
				if (!isPod || !this.#places.addresses.isPods(address)) outsiders.add(address);
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
		return refusalOf(address, own, (vip) => this.#places.isWhole(vip));
	}
}
