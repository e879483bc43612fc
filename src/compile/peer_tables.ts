/** The tables about peers, and their view for `fairway peers`. */

import { nodeHash } from "../cluster/node_hash.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import type { Network } from "../linux/network.js";
import { formatAddress } from "../tables/address.js";
import { Path, type Peer, PeerFlag, ProbeWay } from "../tables/generated.js";
import { type Family, firstAddress, type Prefix } from "../tables/prefix.js";
import type { HostRoute, Tables } from "../tables/tables.js";
import {
	choosePath,
	type PathChoice,
	type PathContext,
	type PathVerdict,
	type PeerPath,
	pathOptions,
} from "./peer_path.js";
import type { Self } from "./self.js";

/** A peer in one family of Pod packets, for `fairway peers`. */
export interface PeerView {
	id: number;
	node: string;
	family: Family;
	/** Pod CIDRs of this family. */
	podCIDRs: string[];
	/** The outer destination, or the address whose MAC or next hop is resolved; "": none. */
	transportAddress: string;
	path: PeerPath;
	/** One plain sentence. */
	reason: string;
	/** MTU for Pod packets on this path; 0: down. */
	mtu: number;
}

/** A peer in one family, for src/probe. */
export interface ProbedPeer {
	/** Index in peers. */
	index: number;
	node: string;
	family: Family;
	/** Gateway addresses of this Node and of the peer. */
	source: string;
	destination: string;
	/** Both paths, in any mode; undefined: there is none, and why. */
	direct: PathChoice | undefined;
	tunnel: PathChoice | undefined;
	lacks: { direct: string; tunnel: string };
	/** True: the mode can use the direct path, but only while it is proven. */
	candidate: boolean;
}

/** Verdicts by index in peers. */
export type PathVerdicts = Pick<ReadonlyMap<number, PathVerdict>, "get">;

const PATHS: Readonly<Record<PeerPath, Path>> = {
	direct: Path.DIRECT,
	routed: Path.ROUTED,
	geneve: Path.GENEVE,
	vxlan: Path.VXLAN,
	down: Path.DOWN,
};

/** The contribution of one peer. Shared between results, so it must not be changed. */
interface PeerPart {
	prefixes: readonly Prefix[];
	entries: readonly [index: number, peer: Peer][];
	paths: readonly [index: number, peer: Peer][];
	gateways: readonly string[];
	probed: readonly ProbedPeer[];
	hostRoutes: readonly HostRoute[];
	views: readonly PeerView[];
}

/** Everything that a part depends on besides the peer itself. */
interface Origin {
	config: Config;
	network: Network;
	self: NodeObject;
	id: number;
	verdict4: PathVerdict | undefined;
	verdict6: PathVerdict | undefined;
}

/**
 * The last part of each peer: most changes concern one Node of many. This is valid because input objects are
 * replaced, never changed.
 */
const memo = new WeakMap<NodeObject, { origin: Origin; part: PeerPart }>();

/** The tables, filled one Node at a time. */
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
	/** By peer id. */
	readonly #nodes = new Map<number, NodeObject>();

	constructor(context: PathContext, self: Self, verdicts: PathVerdicts) {
		this.#context = context;
		this.#self = self;
		this.#verdicts = verdicts;
	}

	add(node: NodeObject, id: number): void {
		this.#nodes.set(id, node);
		const { prefixes, entries, paths, gateways, probed, hostRoutes, views } = this.#part(node, id);
		for (const prefix of prefixes) this.prefixes.push({ prefix, id });
		// Another Node's packets may come from any of its addresses.
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

	/**
	 * The short way of a verdict: a peer's entry in `peers` as it would be with this verdict. All other
	 * tables stay as they are, but for the MTU of its host routes. Undefined: no such entry.
	 */
	entry(index: number, verdict: PathVerdict | undefined): Peer | undefined {
		const node = this.#nodes.get(index >> 1);
		const family = (index & 1) === 1 ? 6 : 4;
		if (!node || !podPrefixes(node).some((prefix) => prefix.family === family)) return undefined;
		const choice = choosePath(this.#context, pathOptions(this.#context, node, family), verdict);
		const { config } = this.#context;
		const flags = peerFlags(config, verdict?.untunnelled);
		return peerEntry(choice, config, nodeHash(node.name), flags);
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
			// Written nevertheless, because the hash records the id's owner.
			part.entries.push([index, noPath(hash)]);
			continue;
		}
		const options = pathOptions(context, node, family);
		const verdict = family === 4 ? origin.verdict4 : origin.verdict6;
		const choice = choosePath(context, options, verdict);
		const { path, remote, mtu, reason } = choice;
		const flags = peerFlags(context.config, verdict?.untunnelled);
		part.entries.push([index, peerEntry(choice, context.config, hash, flags)]);
		const [direct, tunnel] = [existing(options.direct), existing(options.tunnel)];
		for (const [way, existing] of [
			[ProbeWay.DIRECT, direct],
			[ProbeWay.TUNNEL, tunnel],
		] as const)
			if (existing !== undefined)
				part.paths.push([index * 2 + way, peerEntry(existing, context.config, hash)]);
		const source = self.gateway(family);
		// Also while the peer is down; otherwise these packets would leave by the default route.
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

/** How the peer's Pod packets come: as it announces; else as this Node's mode has it. */
function peerFlags({ trafficEncapMode }: Config, untunnelled: PathVerdict["untunnelled"]): number {
	switch (untunnelled) {
		case undefined:
			return trafficEncapMode === "encap" ? PeerFlag.TUNNELLED_ONLY : 0;
		case "taken":
			return PeerFlag.ANNOUNCED;
		case "ending":
			return PeerFlag.ANNOUNCED | PeerFlag.ENDING;
		case "refused":
			return PeerFlag.ANNOUNCED | PeerFlag.TUNNELLED_ONLY;
	}
}

function peerEntry(choice: PathChoice, config: Config, nodeHash: bigint, flags = 0): Peer {
	const { path, outerFamily, port, local, remote, mtu } = choice;
	const vni = port === 0 ? 0 : config.tunnelVNI;
	// Written out instead of spread: V8 gives every object made by spreading a hidden class of its own,
	// which is larger than the object.
	return { path: PATHS[path], outerFamily, port, vni, local, remote, mtu, flags, nodeHash };
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
		flags: 0,
		nodeHash,
	};
}
