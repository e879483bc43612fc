/**
 * Compiles what has changed, area by area: this Node, its peers, its Pods. What comes out are changes to the
 * desired tables, so that one Node more or another path costs the same among any number of peers.
 *
 * An area is whole when what it starts from is new: after the start, with another configuration, network,
 * object of this Node or place of Services, and while former peers are held. `compile` (compile.ts) is the obvious way to the same
 * tables.
 */
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
import { MAPS, type TableMaps, type Tables } from "../tables/tables.js";
import { type CompileInput, noId, tooManyRoutes } from "./compile.js";
import { endpointsOf } from "./endpoints.js";
import { holdPeers } from "./held_peers.js";
import { type NotReady, type OwnNode, ownNode, type SelfView, valuesWith } from "./own_node.js";
import type { PeerView, ProbedPeer } from "./peer.js";
import type { PathVerdict } from "./peer_path.js";
import { PeersArea } from "./peers.js";

export interface CompiledChanges {
	ready: true;
	/** Where these are whole, the peers below are as well. */
	tables: TableChanges;
	/** By index in peers. */
	peers: EntryChanges<number, PeerView>;
	probed: EntryChanges<number, ProbedPeer>;
	self: SelfView;
	/** All that there are now. */
	problems: string[];
}

const NO_SERVICES: readonly Prefix[] = [];

/** What has come out so far, and what it was made of. */
interface Known {
	config: Config;
	network: Network;
	node: NodeObject | undefined;
	services: readonly Prefix[];
	own: OwnNode;
	peers: PeersArea;
	values: TableValues;
	endpoints: Tables["endpoints"];
	/** Former peers are in it. */
	holds: boolean;
}

export class Compiler {
	#known: Known | undefined;
	/** All of what is known was taken in. */
	#inForce = false;
	/** Nodes that may have changed. */
	#names = new Set<string>();
	/** Indexes of peers whose verdicts have changed. */
	#verdicts = new Set<number>();

	/** These Nodes, or their peer ids, may have changed. */
	noteNodes(names: Iterable<string>): void {
		for (const name of names) this.#names.add(name);
	}

	/** By index in peers. */
	noteVerdict(index: number): void {
		this.#verdicts.add(index);
	}

	/** What came out was not taken in: the next changes are whole. */
	forget(): void {
		this.#inForce = false;
	}

	/**
	 * The short way of a verdict: a peer's entry in `peers` as it would be with this verdict. All other
	 * tables stay as they are, but for the MTU of its host routes. Undefined: no such entry.
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
		const [names, verdicts] = [this.#names, this.#verdicts];
		this.#names = new Set();
		this.#verdicts = new Set();
		const node = snapshot.nodes.get(nodeName);
		const services = snapshot.services ?? NO_SERVICES;
		const before = this.#known;
		const current = this.#inForce;
		this.#inForce = false;
		const same =
			before !== undefined &&
			before.config === config &&
			before.network === network &&
			before.node === node &&
			before.services === services;
		const result = same ? { ready: true as const, own: before.own } : ownNode(input);
		if (!result.ready) return result;
		const { own } = result;
		const holds = input.held !== undefined;
		const known = same && current && !before.holds && !holds ? before : undefined;

		const peers = known?.peers ?? new PeersArea(own);
		for (const index of verdicts) {
			const name = known?.peers.nameOf(index >> 1);
			if (name !== undefined) names.add(name);
		}
		const changes = yield* peers.update(known === undefined ? snapshot.nodes.keys() : names, {
			...{ nodeName, nodes: snapshot.nodes, peerIds },
			verdicts: input.verdicts ?? new Map(),
		});
		const { maps } = changes;
		const problems = [
			...own.problems,
			...peers.withoutId().map(noId),
			...tooManyRoutes(peers.routeCount),
		];
		const values = valuesWith(own, peers.hasRouteMtu);
		const endpoints = endpointsOf(input.endpoints, own.self);
		const { put, remove } = diffMap(known?.endpoints ?? new Map(), endpoints);
		for (const [address, endpoint] of put) putEntry(maps.endpoints, address, endpoint);
		for (const address of remove) removeEntry(maps.endpoints, address);
		if (known === undefined) {
			maps.sourceAddresses.put = own.sourceAddresses;
			for (const { remove } of [...Object.values(maps), changes.views, changes.probed])
				remove.clear();
			if (input.held !== undefined) problems.push(...holdPeers(input.held, own.self, mapsOf(maps)));
		}
		this.#known = { config, network, node, services, own, peers, values, endpoints, holds };
		this.#inForce = true;
		return {
			ready: true,
			tables:
				known === undefined
					? { whole: true, values, maps }
					: { whole: false, values: changedValues(known.values, values), maps },
			peers: changes.views,
			probed: changes.probed,
			self: own.view,
			problems,
		};
	}
}

/** The changes of both, one after the other. The first ones are used up. */
export function withMore(first: CompiledChanges, more: CompiledChanges): CompiledChanges {
	if (more.tables.whole) return more;
	addEntries(first.peers, more.peers);
	addEntries(first.probed, more.probed);
	const { maps, values } = first.tables;
	for (const name of MAPS)
		addEntries(maps[name] as EntryChanges<unknown, unknown>, more.tables.maps[name]);
	Object.assign(values, more.tables.values);
	return { ...first, self: more.self, problems: more.problems };
}

/** The tables of whole changes. */
function mapsOf(maps: MapChanges): TableMaps {
	return Object.fromEntries(
		Object.entries(maps).map(([name, { put }]) => [name, put]),
	) as unknown as TableMaps;
}
