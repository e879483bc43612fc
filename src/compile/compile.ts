/**
 * Compiles configuration, cluster, kernel network, local Pods and probe results into the desired tables.
 * Pure: no I/O, no clock.
 *
 *  1. this Node (own_node.ts): its object, its transport addresses, its view for others
 *  2. peers (peer.ts): a path for each family, with the reason
 *  3. routes (route_table.ts): the owner of each prefix
 *  4. local Pods (endpoints.ts)
 *  5. Services (services/whole.ts)
 *
 * This is the obvious algorithm; its cost is that of the whole cluster. The agent runs `Compiler` (compiler.ts), whose
 * cost is that of the changes; a test holds their results equal.
 */

import { podPrefixes } from "../cluster/node_object.js";
import { NO_SERVICES } from "../cluster/service_catalog.js";
import type { NodeObject, Snapshot } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { Limit, RouteKind } from "../tables/generated.js";
import { type Prefix, parsePrefix } from "../tables/prefix.js";
import { type HeldPeers, type HeldServices, noServiceMaps, type Tables } from "../tables/tables.js";
import { endpointsOf, type LocalPod } from "./endpoints.js";
import { holdPeers } from "./held_peers.js";
import { type NotReady, ownNode, ownPrefixes, type SelfView, valuesWith } from "./own_node.js";
import {
	compilePeer,
	gatewaysOf,
	type PathVerdicts,
	type PeerView,
	type ProbedPeer,
	sourcesOf,
} from "./peer.js";
import { RouteTable } from "./route_table.js";
import { hostPrefixOf, hostRouteOf, returnRoutes } from "./services/routes.js";
import { compileServices } from "./services/whole.js";

export type { LocalPod } from "./endpoints.js";
export type { SelfView } from "./own_node.js";
export type { PeerView, ProbedPeer } from "./peer.js";
export type { PathVerdict } from "./peer_path.js";

export interface CompileInput {
	config: Config;
	/** Nodes are replaced, never changed. */
	snapshot: Pick<Snapshot, "nodes"> & Partial<Pick<Snapshot, "catalog" | "services" | "synced">>;
	network: Network;
	nodeName: string;
	/** Node name → peer id. */
	peerIds: Pick<ReadonlyMap<string, number>, "get">;
	endpoints: Iterable<LocalPod>;
	/** Probe results; default: none yet. */
	verdicts?: PathVerdicts;
	/** Peers of Nodes that may exist although the snapshot does not have them; default: none. */
	held?: HeldPeers | undefined;
	/** What the kernel has of Services; asked once, before anything is compiled. Default: nothing. */
	heldServices?: () => HeldServices;
	/** ms, of a clock that never goes back; default 0. */
	now?: number;
}

/** `ready: false`: this Node cannot be compiled (yet); the tables in force stay. */
export type CompileResult =
	| {
			ready: true;
			tables: Tables;
			/** In the order of their Nodes' names, IPv4 first. */
			peers: PeerView[];
			probed: ProbedPeer[];
			self: SelfView;
			problems: string[];
	  }
	| NotReady;

/** Where peers claim the same, the first by name has it. */
export function compile(input: CompileInput): CompileResult {
	const { snapshot, nodeName } = input;
	const result = ownNode(input);
	if (!result.ready) return result;
	const { own } = result;
	const problems = [...own.problems];
	const peers: PeerView[] = [];
	const probed: ProbedPeer[] = [];
	const tables: Omit<Tables, "routes" | keyof typeof own.values> = {
		peers: new Map(),
		peerPaths: new Map(),
		peerAddresses: new Map(),
		peerGateways: new Map(),
		hostRoutes: new Map(),
		sourceAddresses: own.sourceAddresses,
		endpoints: endpointsOf(input.endpoints, own.self),
		...noServiceMaps(),
	};
	const { before, after } = ownPrefixes(own);
	const table = new RouteTable();
	for (const { prefix, kind, flags } of before) table.add(prefix, kind, Limit.NO_PEER, flags);

	for (const node of byName(snapshot.nodes.values())) {
		if (node.name === nodeName) continue;
		const id = input.peerIds.get(node.name);
		if (id === undefined || id >= Limit.PEERS_MAX) {
			problems.push(noId(node.name));
			continue;
		}
		const part = compilePeer(own, node, id, input.verdicts ?? new Map());
		for (const [index, peer] of part.peers) tables.peers.set(index, peer);
		for (const [index, peer] of part.paths) tables.peerPaths.set(index, peer);
		for (const address of sourcesOf(node))
			if (!own.self.addresses.has(address) && !tables.peerAddresses.has(address))
				tables.peerAddresses.set(address, id);
		for (const gateway of gatewaysOf(node))
			if (!tables.peerGateways.has(gateway)) tables.peerGateways.set(gateway, id);
		for (const prefix of podPrefixes(node)) {
			const route = part.hostRoutes.find((route) => route.prefix === prefix.text);
			if (table.add(prefix, RouteKind.PEER, id) && route !== undefined)
				tables.hostRoutes.set(prefix.text, route);
		}
		peers.push(...part.views.map(([, view]) => view));
		probed.push(...part.probed.map(([, peer]) => peer));
	}

	const addOwn = (prefix: Prefix, kind: RouteKind, flags: number) => {
		if (!table.add(prefix, kind, Limit.NO_PEER, flags)) return;
		const route = hostRouteOf(own, prefix.text, kind);
		if (route !== undefined) tables.hostRoutes.set(prefix.text, route);
	};
	for (const { prefix, kind, flags } of after) addOwn(prefix, kind, flags);
	if (input.config.fairwayProxy.enable) {
		const services = compileServices(own, snapshot.nodes, snapshot.catalog ?? NO_SERVICES);
		Object.assign(tables, services.maps);
		problems.push(...services.problems);
		for (const [address, { kind, flags }] of services.routes) {
			const prefix = parsePrefix(hostPrefixOf(address));
			if (kind === RouteKind.HOST) table.flag(prefix.text, flags);
			else addOwn(prefix, kind, flags);
		}
	}
	for (const route of returnRoutes(own)) tables.hostRoutes.set(route.prefix, route);
	const routes = table.routes(own);
	problems.push(...tooManyRoutes(routes.size));
	const values = valuesWith(own, {
		hasOwnEndpoints: [...tables.backends.values()].some(({ address }) => own.self.owns(address)),
		hasRouteMtu: [...routes.values()].some(({ mtu }) => mtu !== 0),
		hasStackRoutes: [...routes.values()].some(({ kind }) => kind === RouteKind.STACK),
	});
	if (input.held !== undefined)
		problems.push(...holdPeers(input.held, own.self, { ...tables, routes }));
	return {
		ready: true,
		tables: { ...values, ...tables, routes },
		peers,
		probed,
		self: own.view,
		problems,
	};
}

export function noId(name: string): string {
	return `Cannot serve Node ${name}: expected a peer id below ${Limit.PEERS_MAX}`;
}

export function tooManyRoutes(count: number): string[] {
	if (count <= Limit.ROUTES_MAX) return [];
	return [`Cannot write all routes: expected at most ${Limit.ROUTES_MAX}, got ${count}`];
}

function byName(nodes: Iterable<NodeObject>): NodeObject[] {
	return [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1));
}
