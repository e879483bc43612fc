/**
 * The area of peers: their entries in the tables, updated in time proportional to the peers that change.
 *
 *  1. the claims of a changed or removed peer are released: addresses, gateways, pod CIDRs
 *  2. its present claims are made
 *  3. the peers that changed, and those that own something else than before, are compiled
 *  4. other routes of the outside
 *
 * One of these belongs to one `OwnNode`: where that changes, everything does.
 */
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Steps } from "../loop/turns.js";
import {
	type EntryChanges,
	type MapChanges,
	noEntries,
	noMaps,
	putEntry,
	removeEntry,
} from "../tables/changes.js";
import { DenseMap } from "../tables/dense_map.js";
import { Limit, type Peer, RouteKind } from "../tables/generated.js";
import { type Prefix, parsePrefix } from "../tables/prefix.js";
import { OutsideRoutes } from "./outside_routes.js";
import { type OwnNode, ownPrefixes } from "./own_node.js";
import { type Claimant, Owners } from "./owners.js";
import {
	compilePeer,
	gatewaysOf,
	type PathVerdicts,
	type PeerView,
	type ProbedPeer,
	pathEntry,
	sourcesOf,
} from "./peer.js";
import type { PathVerdict } from "./peer_path.js";
import { routeOf } from "./route_table.js";
import { hostPrefixOf, hostRouteOf, type ServiceRoute } from "./services/routes.js";

export interface PeersInput {
	nodeName: string;
	nodes: Pick<ReadonlyMap<string, NodeObject>, "get">;
	peerIds: Pick<ReadonlyMap<string, number>, "get">;
	verdicts: PathVerdicts;
}

export interface PeerChanges {
	maps: MapChanges;
	/** By index in peers. */
	views: EntryChanges<number, PeerView>;
	probed: EntryChanges<number, ProbedPeer>;
}

interface KnownPeer extends Claimant {
	readonly node: NodeObject;
	readonly id: number;
}

/** This Node itself. */
interface Own extends Claimant {
	readonly node: undefined;
	readonly prefix: Prefix;
	readonly kind: RouteKind;
	readonly flags: number;
}

/** Ranks of prefixes, in order of precedence. */
const Rank = { BEFORE_PEERS: 0, PEER: 1, AFTER_PEERS: 2, SERVICE: 3 } as const;

export class PeersArea {
	readonly #own: OwnNode;
	readonly #known = new Map<string, KnownPeer>();
	readonly #byId = new DenseMap<KnownPeer>();
	readonly #sources = new Owners<KnownPeer>();
	readonly #gateways = new Owners<KnownPeer>();
	readonly #prefixes = new Owners<KnownPeer | Own>();
	readonly #outside: OutsideRoutes;
	/** Nodes without an id that the tables have room for. */
	readonly #withoutId = new Set<string>();
	/** Addresses of Services that have a route of their own. */
	readonly #services = new Map<string, Own>();
	/** Flags of this Node's own addresses, beside those that they have anyway. */
	readonly #flags = new Map<string, number>();
	/** Prefixes of the Node's own stack; those of this Node with an MTU of their own. */
	readonly #stack = new Set<string>();
	readonly #withMtu = new Set<string>();

	constructor(own: OwnNode) {
		this.#own = own;
		this.#outside = new OutsideRoutes(own);
		const { before, after } = ownPrefixes(own);
		for (const [rank, prefixes] of [
			[Rank.BEFORE_PEERS, before],
			[Rank.AFTER_PEERS, after],
		] as const) {
			// The first in order has what is there twice.
			const claimed = new Set<string>();
			for (const { prefix, kind, flags } of prefixes) {
				if (claimed.has(prefix.text)) continue;
				claimed.add(prefix.text);
				this.#claimPrefix(prefix, { rank, name: "", node: undefined, prefix, kind, flags });
			}
		}
	}

	get routeCount(): number {
		return this.#prefixes.size + this.#outside.size;
	}

	/** Some route has an MTU of its own. */
	get hasRouteMtu(): boolean {
		return this.#outside.hasMtu || this.#withMtu.size > 0;
	}

	/** Some prefix is the Node's own stack's to serve. */
	get hasStackRoutes(): boolean {
		return this.#stack.size > 0;
	}

	/** In order. */
	withoutId(): string[] {
		return [...this.#withoutId].sort();
	}

	/** The Node behind a peer id. */
	nameOf(id: number): string | undefined {
		return this.#byId.get(id)?.name;
	}

	/** The short way of a verdict; see `pathEntry`. */
	entry(index: number, verdict: PathVerdict | undefined): Peer | undefined {
		const known = this.#byId.get(index >> 1);
		return known && pathEntry(this.#own, known.node, (index & 1) === 1 ? 6 : 4, verdict);
	}

	/** The route of a Service's address, until another one; it is in the next update. */
	setService(address: string, route: ServiceRoute | undefined): void {
		const text = hostPrefixOf(address);
		const before = this.#services.get(text);
		if (before !== undefined && this.#prefixes.release(text, before))
			this.#outside.uncover(before.prefix);
		this.#services.delete(text);
		if (this.#flags.delete(text)) this.#prefixes.touch(text);
		if (route === undefined) return;
		const { kind, flags } = route;
		if (kind === RouteKind.HOST) {
			this.#flags.set(text, flags);
			this.#prefixes.touch(text);
			return;
		}
		const prefix = parsePrefix(text);
		const own: Own = { rank: Rank.SERVICE, name: "", node: undefined, prefix, kind, flags };
		this.#services.set(text, own);
		this.#claimPrefix(prefix, own);
	}

	/** @param names Nodes that may have changed in any way */
	*update(names: Iterable<string>, input: PeersInput): Steps<PeerChanges> {
		const changes: PeerChanges = { maps: noMaps(), views: noEntries(), probed: noEntries() };
		const stale = new Set<KnownPeer>();
		const fresh: KnownPeer[] = [];
		for (const name of names) {
			if (name === input.nodeName) continue;
			const was = this.#known.get(name);
			const is = this.#read(name, input);
			if (was !== undefined && was.node === is?.node && was.id === is.id) {
				stale.add(was);
				continue;
			}
			if (was !== undefined) this.#release(was, changes);
			if (is !== undefined) fresh.push(is);
			yield;
		}
		for (const peer of fresh) {
			this.#claim(peer);
			stale.add(peer);
			yield;
		}
		this.#settleOwners(changes.maps, stale);
		for (const peer of stale) {
			this.#compile(peer, input.verdicts, changes);
			yield;
		}
		this.#outside.update(changes.maps.routes, (prefix) => this.#prefixes.get(prefix) !== undefined);
		return changes;
	}

	#read(name: string, { nodes, peerIds }: PeersInput): KnownPeer | undefined {
		this.#withoutId.delete(name);
		const node = nodes.get(name);
		if (node === undefined) return undefined;
		const id = peerIds.get(name);
		if (id !== undefined && id < Limit.PEERS_MAX) return { rank: Rank.PEER, name, node, id };
		this.#withoutId.add(name);
		return undefined;
	}

	#claim(peer: KnownPeer): void {
		const { node } = peer;
		this.#known.set(peer.name, peer);
		this.#byId.set(peer.id, peer);
		for (const address of sourcesOf(node))
			if (!this.#own.self.addresses.has(address)) this.#sources.claim(address, peer);
		for (const gateway of gatewaysOf(node)) this.#gateways.claim(gateway, peer);
		for (const prefix of podPrefixes(node)) this.#claimPrefix(prefix, peer);
	}

	#claimPrefix(prefix: Prefix, claimant: KnownPeer | Own): void {
		if (this.#prefixes.claim(prefix.text, claimant)) this.#outside.cover(prefix);
	}

	#release(peer: KnownPeer, { maps, views, probed }: PeerChanges): void {
		const { node, id } = peer;
		this.#known.delete(peer.name);
		if (this.#byId.get(id) === peer) this.#byId.delete(id);
		for (const address of sourcesOf(node))
			if (!this.#own.self.addresses.has(address)) this.#sources.release(address, peer);
		for (const gateway of gatewaysOf(node)) this.#gateways.release(gateway, peer);
		for (const prefix of podPrefixes(node))
			if (this.#prefixes.release(prefix.text, peer)) this.#outside.uncover(prefix);
		for (const index of [id * 2, id * 2 + 1]) {
			removeEntry(maps.peers, index);
			removeEntry(maps.peerPaths, index * 2);
			removeEntry(maps.peerPaths, index * 2 + 1);
			removeEntry(views, index);
			removeEntry(probed, index);
		}
	}

	/** Removes entries without an owner; entries with a new owner are compiled with that peer. */
	#settleOwners(maps: MapChanges, stale: Set<KnownPeer>): void {
		for (const key of this.#sources.takeTouched()) {
			const owner = this.#sources.get(key);
			if (owner === undefined) removeEntry(maps.peerAddresses, key);
			else putEntry(maps.peerAddresses, key, owner.id);
		}
		for (const key of this.#gateways.takeTouched()) {
			const owner = this.#gateways.get(key);
			if (owner === undefined) removeEntry(maps.peerGateways, key);
			else putEntry(maps.peerGateways, key, owner.id);
		}
		for (const key of this.#prefixes.takeTouched()) {
			const owner = this.#prefixes.get(key);
			// Put again by the peer that owns it.
			removeEntry(maps.hostRoutes, key);
			this.#stack.delete(key);
			this.#withMtu.delete(key);
			if (owner === undefined) removeEntry(maps.routes, key);
			else if (owner.node !== undefined) stale.add(owner);
			else this.#putOwn(owner, maps);
		}
	}

	#putOwn({ prefix, kind, flags: own }: Own, { routes, hostRoutes }: MapChanges): void {
		const { text } = prefix;
		const flags = own | (kind === RouteKind.HOST ? (this.#flags.get(text) ?? 0) : 0);
		const route = routeOf(this.#own, prefix, kind, Limit.NO_PEER, flags);
		putEntry(routes, text, route);
		if (kind === RouteKind.STACK) this.#stack.add(text);
		if (route.mtu !== 0) this.#withMtu.add(text);
		const hostRoute = hostRouteOf(this.#own, text, kind);
		if (hostRoute !== undefined) putEntry(hostRoutes, text, hostRoute);
	}

	#compile(peer: KnownPeer, verdicts: PathVerdicts, { maps, views, probed }: PeerChanges): void {
		const { node, id } = peer;
		const part = compilePeer(this.#own, node, id, verdicts);
		for (const [index, entry] of part.peers) putEntry(maps.peers, index, entry);
		for (const [index, entry] of part.paths) putEntry(maps.peerPaths, index, entry);
		for (const [index, view] of part.views) putEntry(views, index, view);
		for (const [index, entry] of part.probed) putEntry(probed, index, entry);
		for (const prefix of podPrefixes(node))
			if (this.#prefixes.get(prefix.text) === peer)
				putEntry(maps.routes, prefix.text, routeOf(this.#own, prefix, RouteKind.PEER, id));
		for (const route of part.hostRoutes)
			if (this.#prefixes.get(route.prefix) === peer) putEntry(maps.hostRoutes, route.prefix, route);
	}
}
