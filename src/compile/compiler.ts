/**
 * Compiles what has changed, area by area: this Node, its Services, its peers, its Pods. The results are changes
 * to the desired tables, so that one Node more, another path or another endpoint costs the same among any number.
 *
 * An area is compiled completely when its inputs are new: after the start, with another configuration, network,
 * object of this Node or service CIDR, and while former peers are held. That of Services stays and is only
 * looked through again. `compile` (compile.ts) is the obvious way to the same tables.
 */
import { isDeepStrictEqual } from "node:util";
import { NO_SERVICES } from "../cluster/service_catalog.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import type { Network } from "../linux/network.js";
import type { Steps } from "../loop/turns.js";
import {
	addEntries,
	changedValues,
	type EntryChanges,
	type MapChanges,
	putEntry,
	removeEntry,
	type TableChanges,
	type TableValues,
} from "../tables/changes.js";
import { diffMap } from "../tables/diff.js";
import type { Peer } from "../tables/generated.js";
import type { Prefix } from "../tables/prefix.js";
import {
	type HeldServices,
	MAPS,
	type MapName,
	noServiceMaps,
	SERVICE_MAPS,
	type TableMaps,
	type Tables,
} from "../tables/tables.js";
import { type CompileInput, noId, tooManyRoutes } from "./compile.js";
import { endpointsOf } from "./endpoints.js";
import { holdPeers } from "./held_peers.js";
import {
	type NotReady,
	type OwnNode,
	ownNode,
	type SelfView,
	servicePrefixes,
	valuesWith,
} from "./own_node.js";
import type { PeerView, ProbedPeer } from "./peer.js";
import type { PathVerdict } from "./peer_path.js";
import { PeersArea } from "./peers.js";
import { ServicesArea, type ServicesInput } from "./services/area.js";
import { holdServiceRoutes } from "./services/held.js";
import { noServiceChanges, type ServiceChanges } from "./services/ports.js";
import { returnRoutes } from "./services/routes.js";
import type { ServiceViews } from "./services/view.js";

export interface CompiledChanges {
	ready: true;
	/** Where these are whole, the peers below are as well. */
	tables: TableChanges;
	/** By index in peers. */
	peers: EntryChanges<number, PeerView>;
	probed: EntryChanges<number, ProbedPeer>;
	self: SelfView;
	/** The new views of Services. */
	services: ServiceViews;
	/** All current problems. */
	problems: string[];
}

const NO_PREFIXES: readonly Prefix[] = [];
const NO_VIEWS: ServiceViews = { keys: () => [], view: () => undefined };

/** The last results, and their inputs. */
interface Known {
	config: Config;
	network: Network;
	node: NodeObject | undefined;
	services: readonly Prefix[];
	own: OwnNode;
	peers: PeersArea;
	values: TableValues;
	endpoints: Tables["endpoints"];
	/** It contains entries that an earlier agent left. */
	holds: boolean;
}

export class Compiler {
	#known: Known | undefined;
	/** Undefined: Fairway does not serve Services. */
	#services: ServicesArea | undefined;
	/** The known tables are all applied. */
	#inForce = false;
	/** Nodes that may have changed. */
	#names = new Set<string>();
	/** Indexes of peers whose verdicts have changed. */
	#verdicts = new Set<number>();
	/** Services that may have changed. */
	#keys = new Set<string>();

	/** These Nodes, or their peer ids, may have changed. */
	noteNodes(names: Iterable<string>): void {
		for (const name of names) this.#names.add(name);
	}

	/** These Services ("namespace/name"), or their endpoints, may have changed. */
	noteServices(keys: Iterable<string>): void {
		for (const key of keys) this.#keys.add(key);
	}

	/** By index in peers. */
	noteVerdict(index: number): void {
		this.#verdicts.add(index);
	}

	/** The last changes were not applied: the next ones are whole. */
	forget(): void {
		this.#inForce = false;
	}

	/** The kernel has all that came out. */
	applied(): void {
		this.#services?.applied();
	}

	/**
	 * The short way of a verdict: a peer's entry in `peers` as it would be with this verdict. All other
	 * tables stay as they are, except the MTU of its host routes. Undefined: no such entry.
	 */
	entry(index: number, verdict: PathVerdict | undefined): Peer | undefined {
		return this.#known?.peers.entry(index, verdict);
	}

	/**
	 * The changes since the last ones. One update ends before the next begins. A verdict that changes
	 * meanwhile may be in it or not, and is noted for the next.
	 */
	*update(input: CompileInput): Steps<CompiledChanges | NotReady> {
		const { config, snapshot, network, nodeName, peerIds } = input;
		const [names, verdicts, keys] = [this.#names, this.#verdicts, this.#keys];
		this.#names = new Set();
		this.#verdicts = new Set();
		this.#keys = new Set();
		const node = snapshot.nodes.get(nodeName);
		const services = snapshot.services ?? NO_PREFIXES;
		const before = this.#known;
		const current = this.#inForce;
		this.#inForce = false;
		const same =
			before !== undefined &&
			before.config === config &&
			before.network === network &&
			before.node === node &&
			samePrefixes(config, before.services, services);
		const result = same ? { ready: true as const, own: before.own } : ownNode(input);
		if (!result.ready) return result;
		const { own } = result;
		const held = this.#takeServices(input, current);
		const holds = input.held !== undefined || held !== undefined;
		const known = same && current && !before.holds && !holds ? before : undefined;

		const peers = known?.peers ?? new PeersArea(own);
		const kept = this.#services !== undefined && !this.#services.isNew;
		const serviceChanges = yield* this.#updateServices(input, {
			...{ own, keys, peers, isWhole: known === undefined },
			names: known === undefined ? undefined : names,
		});
		for (const index of verdicts) {
			const name = known?.peers.nameOf(index >> 1);
			if (name !== undefined) names.add(name);
		}
		const changes = yield* peers.update(known === undefined ? snapshot.nodes.keys() : names, {
			...{ nodeName, nodes: snapshot.nodes, peerIds },
			verdicts: input.verdicts ?? new Map(),
		});
		const maps = { ...changes.maps, ...serviceChanges };
		const problems = [
			...own.problems,
			...peers.withoutId().map(noId),
			...(this.#services?.problems() ?? []),
			...tooManyRoutes(peers.routeCount),
		];
		const values = valuesWith(own, {
			hasRouteMtu: peers.hasRouteMtu,
			hasStackRoutes: peers.hasStackRoutes,
			hasOwnEndpoints: this.#services?.hasOwnEndpoints ?? false,
		});
		const endpoints = endpointsOf(input.endpoints, own.self);
		const { put, remove } = diffMap(known?.endpoints ?? new Map(), endpoints);
		for (const [address, endpoint] of put) putEntry(maps.endpoints, address, endpoint);
		for (const address of remove) removeEntry(maps.endpoints, address);
		if (known === undefined) {
			maps.sourceAddresses.put = own.sourceAddresses;
			for (const route of returnRoutes(own)) putEntry(maps.hostRoutes, route.prefix, route);
			for (const name of MAPS) if (!kept || !isOfServices(name)) maps[name].remove.clear();
			for (const { remove } of [changes.views, changes.probed]) remove.clear();
			if (held !== undefined) holdServiceRoutes(held, own, mapsOf(maps));
			if (input.held !== undefined) problems.push(...holdPeers(input.held, own.self, mapsOf(maps)));
		}
		this.#known = { config, network, node, services, own, peers, values, endpoints, holds };
		this.#inForce = true;
		return {
			ready: true,
			tables:
				known === undefined
					? { whole: true, values, maps, kept: kept ? SERVICE_MAPS : [] }
					: { whole: false, values: changedValues(known.values, values), maps },
			peers: changes.views,
			probed: changes.probed,
			self: own.view,
			services: this.#services ?? NO_VIEWS,
			problems,
		};
	}

	/**
	 * The area of Services, if Fairway serves them. Changes that were not applied are compiled again from the kernel's entries.
	 * Returns that, while nothing of it may be removed.
	 */
	#takeServices(input: CompileInput, current: boolean): HeldServices | undefined {
		if (!input.config.fairwayProxy.enable) {
			this.#services = undefined;
			return undefined;
		}
		if (!current) this.#services = undefined;
		const isSynced = (input.snapshot.catalog ?? NO_SERVICES).isSynced;
		const holds = (this.#services?.holds ?? true) && !isSynced;
		if (this.#services !== undefined && !holds) return undefined;
		const held = input.heldServices?.() ?? { ...noServiceMaps(), routes: new Map() };
		this.#services ??= new ServicesArea(held);
		return holds ? held : undefined;
	}

	*#updateServices(
		{ snapshot, now = 0 }: CompileInput,
		{
			peers,
			...rest
		}: Pick<ServicesInput, "own" | "keys" | "names" | "isWhole"> & { peers: PeersArea },
	): Steps<ServiceChanges> {
		if (this.#services === undefined) return noServiceChanges();
		return yield* this.#services.update({
			...rest,
			...{ now, nodes: snapshot.nodes, catalog: snapshot.catalog ?? NO_SERVICES },
			setRoute: (address, route) => peers.setService(address, route),
		});
	}
}

/** True: the inputs of this Node's area are the same. */
function samePrefixes(config: Config, before: readonly Prefix[], now: readonly Prefix[]): boolean {
	if (before === now) return true;
	if (!config.fairwayProxy.enable) return false;
	const textOf = (prefixes: readonly Prefix[]) =>
		servicePrefixes(config, prefixes).map(({ text }) => text);
	return isDeepStrictEqual(textOf(before), textOf(now));
}

function isOfServices(name: MapName): boolean {
	return (SERVICE_MAPS as readonly MapName[]).includes(name);
}

/** The changes of both, one after the other. The first ones are used up. */
export function withMore(first: CompiledChanges, more: CompiledChanges): CompiledChanges {
	if (more.tables.whole) {
		const { kept = [] } = more.tables;
		if (kept.length === 0) return more;
		const both = { ...more.tables.maps };
		for (const name of kept) {
			addEntries(first.tables.maps[name] as EntryChanges<unknown, unknown>, both[name]);
			Object.assign(both, { [name]: first.tables.maps[name] });
		}
		// They stay where the first ones let them stay.
		const stay = first.tables.whole ? (first.tables.kept ?? []) : kept;
		return { ...more, tables: { ...more.tables, maps: both, kept: stay } };
	}
	addEntries(first.peers, more.peers);
	addEntries(first.probed, more.probed);
	const { maps, values } = first.tables;
	for (const name of MAPS)
		addEntries(maps[name] as EntryChanges<unknown, unknown>, more.tables.maps[name]);
	Object.assign(values, more.tables.values);
	return { ...first, self: more.self, services: more.services, problems: more.problems };
}

/** The tables of whole changes. */
function mapsOf(maps: MapChanges): TableMaps {
	return Object.fromEntries(
		Object.entries(maps).map(([name, { put }]) => [name, put]),
	) as unknown as TableMaps;
}
