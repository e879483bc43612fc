/** The tables that speak of peers, and what `fairway peers` shows of them. */

import { nodeHash } from "../cluster/node_hash.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import { Path, type Peer } from "../tables/generated.js";
import type { Family, Prefix } from "../tables/prefix.js";
import type { HostRoute, Tables } from "../tables/tables.js";
import type { Network } from "./network.js";
import { choosePath, type PathContext, type PeerPath } from "./peer_path.js";
import type { Self } from "./self.js";

/** A peer in one family of Pod packets, as `fairway peers` shows it. */
export interface PeerView {
	id: number;
	node: string;
	family: Family;
	/** Of this family. */
	podCIDRs: string[];
	/** Outer destination, or whose MAC or next hop is asked for; "" for none. */
	transportAddress: string;
	path: PeerPath;
	/** One plain sentence. */
	reason: string;
	/** Largest IP packet of a Pod on this path; 0 when it is down. */
	mtu: number;
}

const PATHS: Readonly<Record<PeerPath, Path>> = {
	direct: Path.DIRECT,
	routed: Path.ROUTED,
	geneve: Path.GENEVE,
	vxlan: Path.VXLAN,
	down: Path.DOWN,
};

/** What one peer contributes. Shared between results, so nobody may change it. */
interface PeerPart {
	prefixes: readonly Prefix[];
	entries: readonly [index: number, peer: Peer][];
	hostRoutes: readonly HostRoute[];
	views: readonly PeerView[];
}

/** All that a part depends on besides the peer itself. */
interface Origin {
	config: Config;
	network: Network;
	self: NodeObject;
	id: number;
}

/**
 * The last part of each peer: most changes concern one Node of many. It stays true because objects
 * that come from outside are replaced, never changed.
 */
const memo = new WeakMap<NodeObject, { origin: Origin; part: PeerPart }>();

/** Filled a Node at a time. */
export class PeerTables {
	readonly views: PeerView[] = [];
	readonly peers: Tables["peers"] = new Map();
	readonly addresses: Tables["peerAddresses"] = new Map();
	readonly hostRoutes: Tables["hostRoutes"] = new Map();
	readonly prefixes: { prefix: Prefix; id: number }[] = [];
	readonly #context: PathContext;
	readonly #self: Self;

	constructor(context: PathContext, self: Self) {
		this.#context = context;
		this.#self = self;
	}

	add(node: NodeObject, id: number): void {
		const { prefixes, entries, hostRoutes, views } = this.#part(node, id);
		for (const prefix of prefixes) this.prefixes.push({ prefix, id });
		// Another Node's packets come from any of its addresses.
		for (const address of [...node.transportAddresses, ...node.internalIPs])
			if (!this.#self.addresses.has(address) && !this.addresses.has(address))
				this.addresses.set(address, id);
		for (const [index, peer] of entries) this.peers.set(index, peer);
		for (const route of hostRoutes) this.hostRoutes.set(route.prefix, route);
		this.views.push(...views);
	}

	#part(node: NodeObject, id: number): PeerPart {
		const { config, network } = this.#context;
		const origin = { config, network, self: this.#self.node, id };
		const known = memo.get(node);
		if (known !== undefined && sameOrigin(known.origin, origin)) return known.part;
		const part = compilePeer(this.#context, this.#self, node, id);
		memo.set(node, { origin, part });
		return part;
	}
}

function sameOrigin(a: Origin, b: Origin): boolean {
	return a.config === b.config && a.network === b.network && a.self === b.self && a.id === b.id;
}

function compilePeer(context: PathContext, self: Self, node: NodeObject, id: number): PeerPart {
	const prefixes = podPrefixes(node);
	const hash = nodeHash(node.name);
	const entries: [number, Peer][] = [];
	const hostRoutes: HostRoute[] = [];
	const views: PeerView[] = [];
	for (const family of [4, 6] as const) {
		const index = id * 2 + (family === 6 ? 1 : 0);
		const podCIDRs = prefixes.filter((prefix) => prefix.family === family).map(({ text }) => text);
		if (podCIDRs.length === 0) {
			// Written all the same: the hash says whose the id is.
			entries.push([index, noPath(hash)]);
			continue;
		}
		const choice = choosePath(context, node, family);
		const { path, outerFamily, port, local, remote, mtu, reason } = choice;
		const vni = port === 0 ? 0 : context.config.tunnelVNI;
		// Written out, not spread: V8 gives every object that is made by spreading a shape of its own,
		// which is larger than the object.
		entries.push([
			index,
			{ path: PATHS[path], outerFamily, port, vni, local, remote, mtu, nodeHash: hash },
		]);
		const source = self.gateway(family);
		// Also when it is down: else these packets would leave by the default route.
		for (const prefix of podCIDRs)
			if (source !== "") hostRoutes.push({ prefix, mtu: mtu || self.mtu, source });
		views.push({
			id,
			node: node.name,
			family,
			podCIDRs,
			transportAddress: remote,
			path,
			reason,
			mtu,
		});
	}
	return { prefixes, entries, hostRoutes, views };
}

function noPath(nodeHash: bigint): Peer {
	return {
		path: Path.NONE,
		outerFamily: 0,
		port: 0,
		vni: 0,
		local: "",
		remote: "",
		mtu: 0,
		nodeHash,
	};
}
