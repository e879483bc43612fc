/** The tables that speak of peers, and what `fairway peers` shows of them. */

import { nodeHash } from "../cluster/node_hash.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import { formatAddress } from "../tables/address.js";
import { Path, type Peer, ProbeWay } from "../tables/generated.js";
import { type Family, firstAddress, type Prefix } from "../tables/prefix.js";
import type { HostRoute, Tables } from "../tables/tables.js";
import type { Network } from "./network.js";
import {
	choosePath,
	type PathChoice,
	type PathContext,
	type PathVerdict,
	type PeerPath,
	pathOptions,
} from "./peer_path.js";
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

/** A peer in one family, as src/probe is to ask it. */
export interface ProbedPeer {
	/** Of peers. */
	index: number;
	node: string;
	family: Family;
	/** Gateway addresses, here and there. */
	source: string;
	destination: string;
	/** Both paths, whatever the mode; undefined: there is none, and why. */
	direct: PathChoice | undefined;
	tunnel: PathChoice | undefined;
	lacks: { direct: string; tunnel: string };
	/** The mode could take the direct path, and may only while it is proven. */
	candidate: boolean;
}

/** By index of peers. */
export type PathVerdicts = Pick<ReadonlyMap<number, PathVerdict>, "get">;

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
	paths: readonly [index: number, peer: Peer][];
	gateways: readonly string[];
	probed: readonly ProbedPeer[];
	hostRoutes: readonly HostRoute[];
	views: readonly PeerView[];
}

/** All that a part depends on besides the peer itself. */
interface Origin {
	config: Config;
	network: Network;
	self: NodeObject;
	id: number;
	verdict4: PathVerdict | undefined;
	verdict6: PathVerdict | undefined;
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
	readonly paths: Tables["peerPaths"] = new Map();
	readonly probed: ProbedPeer[] = [];
	readonly addresses: Tables["peerAddresses"] = new Map();
	readonly gateways: Tables["peerGateways"] = new Map();
	readonly hostRoutes: Tables["hostRoutes"] = new Map();
	readonly prefixes: { prefix: Prefix; id: number }[] = [];
	readonly #context: PathContext;
	readonly #self: Self;

	readonly #verdicts: PathVerdicts;

	constructor(context: PathContext, self: Self, verdicts: PathVerdicts) {
		this.#context = context;
		this.#self = self;
		this.#verdicts = verdicts;
	}

	add(node: NodeObject, id: number): void {
		const { prefixes, entries, paths, gateways, probed, hostRoutes, views } = this.#part(node, id);
		for (const prefix of prefixes) this.prefixes.push({ prefix, id });
		// Another Node's packets come from any of its addresses.
		for (const address of [...node.transportAddresses, ...node.internalIPs])
			if (!this.#self.addresses.has(address) && !this.addresses.has(address))
				this.addresses.set(address, id);
		for (const [index, peer] of entries) this.peers.set(index, peer);
		for (const [index, peer] of paths) this.paths.set(index, peer);
		for (const gateway of gateways) this.gateways.set(gateway, id);
		this.probed.push(...probed);
		for (const route of hostRoutes) this.hostRoutes.set(route.prefix, route);
		this.views.push(...views);
	}

	#part(node: NodeObject, id: number): PeerPart {
		const { config, network } = this.#context;
		const verdict4 = this.#verdicts.get(id * 2);
		const verdict6 = this.#verdicts.get(id * 2 + 1);
		const origin = { config, network, self: this.#self.node, id, verdict4, verdict6 };
		const known = memo.get(node);
		if (known !== undefined && sameOrigin(known.origin, origin)) return known.part;
		const part = compilePeer(this.#context, this.#self, node, origin);
		memo.set(node, { origin, part });
		return part;
	}
}

function sameOrigin(a: Origin, b: Origin): boolean {
	return (
		a.config === b.config &&
		a.network === b.network &&
		a.self === b.self &&
		a.id === b.id &&
		a.verdict4 === b.verdict4 &&
		a.verdict6 === b.verdict6
	);
}

function compilePeer(context: PathContext, self: Self, node: NodeObject, origin: Origin): PeerPart {
	const { id } = origin;
	const prefixes = podPrefixes(node);
	const hash = nodeHash(node.name);
	const part = {
		prefixes,
		entries: [] as [number, Peer][],
		paths: [] as [number, Peer][],
		gateways: prefixes.map((prefix) => formatAddress(firstAddress(prefix))),
		probed: [] as ProbedPeer[],
		hostRoutes: [] as HostRoute[],
		views: [] as PeerView[],
	};
	for (const family of [4, 6] as const) {
		const index = id * 2 + (family === 6 ? 1 : 0);
		const own = prefixes.filter((prefix) => prefix.family === family);
		const podCIDRs = own.map(({ text }) => text);
		if (own[0] === undefined) {
			// Written all the same: the hash says whose the id is.
			part.entries.push([index, noPath(hash)]);
			continue;
		}
		const options = pathOptions(context, node, family);
		const verdict = family === 4 ? origin.verdict4 : origin.verdict6;
		const choice = choosePath(context, options, verdict);
		const { path, remote, mtu, reason } = choice;
		part.entries.push([index, peerEntry(choice, context.config, hash)]);
		const [direct, tunnel] = [existing(options.direct), existing(options.tunnel)];
		for (const [way, existing] of [
			[ProbeWay.DIRECT, direct],
			[ProbeWay.TUNNEL, tunnel],
		] as const)
			if (existing !== undefined)
				part.paths.push([index * 2 + way, peerEntry(existing, context.config, hash)]);
		const source = self.gateway(family);
		// Also when it is down: else these packets would leave by the default route.
		for (const prefix of podCIDRs)
			if (source !== "") part.hostRoutes.push({ prefix, mtu: mtu || self.mtu, source });
		if (source !== "")
			part.probed.push({
				index,
				node: node.name,
				family,
				source,
				destination: formatAddress(firstAddress(own[0])),
				direct,
				tunnel,
				lacks: { direct: options.direct.reason, tunnel: options.tunnel.reason },
				candidate: options.candidate,
			});
		part.views.push({
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
	return part;
}

function existing(choice: PathChoice): PathChoice | undefined {
	return choice.path === "down" ? undefined : choice;
}

function peerEntry(choice: PathChoice, config: Config, nodeHash: bigint): Peer {
	const { path, outerFamily, port, local, remote, mtu } = choice;
	const vni = port === 0 ? 0 : config.tunnelVNI;
	// Written out, not spread: V8 gives every object that is made by spreading a shape of its own,
	// which is larger than the object.
	return { path: PATHS[path], outerFamily, port, vni, local, remote, mtu, nodeHash };
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
