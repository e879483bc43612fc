/**
 * One peer: its entries in the tables, its view for `fairway peers`, and its data for src/probe. It
 * depends on this Node, on the peer's own object and on its verdicts, never on other peers.
 */

import { nodeHash } from "../cluster/node_hash.js";
import { podPrefixes } from "../cluster/node_object.js";
import type { NodeObject } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import { formatAddress } from "../tables/address.js";
import { Path, type Peer, PeerFlag, ProbeWay } from "../tables/generated.js";
import { type Family, firstAddress } from "../tables/prefix.js";
import type { HostRoute } from "../tables/tables.js";
import { flat } from "../text/flat.js";
import type { OwnNode } from "./own_node.js";
import {
	choosePath,
	type PathChoice,
	type PathOptions,
	type PathVerdict,
	type PeerPath,
	pathOptions,
} from "./peer_path.js";

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

/** A path without the words about it. */
export type ProbedPath = Omit<PathChoice, "reason">;

/** A peer in one family, for src/probe. */
export interface ProbedPeer {
	/** Index in peers. */
	index: number;
	node: string;
	family: Family;
	/** Gateway addresses of this Node and of the peer. */
	source: string;
	destination: string;
	/** Both paths, in any mode; undefined: there is none. */
	direct: ProbedPath | undefined;
	tunnel: ProbedPath | undefined;
	/** Why there is none; "": there is one. */
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

/** The entries of one peer. Conflicts between peers over an address or prefix are resolved elsewhere (owners.ts). */
export interface PeerPart {
	/** By index in peers. */
	peers: [index: number, peer: Peer][];
	/** By index in peer_paths. */
	paths: [index: number, peer: Peer][];
	/** By index in peers. */
	probed: [index: number, peer: ProbedPeer][];
	views: [index: number, view: PeerView][];
	hostRoutes: HostRoute[];
}

/** The addresses that its packets may come from. */
export function sourcesOf(node: NodeObject): Set<string> {
	return new Set([...node.transportAddresses, ...node.internalIPs]);
}

/** The gateway address of each pod CIDR. */
export function gatewaysOf(node: NodeObject): Set<string> {
	return new Set(podPrefixes(node).map((prefix) => formatAddress(firstAddress(prefix))));
}

/**
 * Its entry in `peers` as it is with this verdict, which no other table depends on but for the MTU of its host
 * routes. Undefined: there is no such entry.
 */
export function pathEntry(
	own: OwnNode,
	node: NodeObject,
	family: Family,
	verdict: PathVerdict | undefined,
): Peer | undefined {
	if (!podPrefixes(node).some((prefix) => prefix.family === family)) return undefined;
	const { context, config } = own;
	const choice = choosePath(context, pathOptions(context, node, family), verdict);
	return peerEntry(choice, config, nodeHash(node.name), peerFlags(config, verdict?.untunnelled));
}

export function compilePeer(
	own: OwnNode,
	node: NodeObject,
	id: number,
	verdicts: PathVerdicts,
): PeerPart {
	const { context, config, self } = own;
	const prefixes = podPrefixes(node);
	const hash = nodeHash(node.name);
	const part: PeerPart = { peers: [], paths: [], probed: [], views: [], hostRoutes: [] };
	for (const family of [4, 6] as const) {
		const index = id * 2 + (family === 6 ? 1 : 0);
		const ofFamily = prefixes.filter((prefix) => prefix.family === family);
		const podCIDRs = ofFamily.map(({ text }) => text);
		if (ofFamily[0] === undefined) {
			// Written nevertheless, because the hash records the id's owner.
			part.peers.push([index, noPath(hash)]);
			continue;
		}
		const options = pathOptions(context, node, family);
		const verdict = verdicts.get(index);
		const choice = choosePath(context, options, verdict);
		const { path, remote, mtu, reason } = choice;
		const flags = peerFlags(config, verdict?.untunnelled);
		part.peers.push([index, peerEntry(choice, config, hash, flags)]);
		const [direct, tunnel] = [existing(options.direct), existing(options.tunnel)];
		for (const [way, existing] of [
			[ProbeWay.DIRECT, direct],
			[ProbeWay.TUNNEL, tunnel],
		] as const)
			if (existing !== undefined)
				part.paths.push([index * 2 + way, peerEntry(existing, config, hash)]);
		const source = self.gateway(family);
		// Also while the peer is down; otherwise these packets would leave by the default route.
		for (const prefix of podCIDRs)
			if (source !== "") part.hostRoutes.push({ prefix, mtu: mtu || self.mtu, source });
		if (source !== "")
			part.probed.push([
				index,
				{
					index,
					node: node.name,
					family,
					source,
					destination: formatAddress(firstAddress(ofFamily[0])),
					direct,
					tunnel,
					lacks: lacksOf(options),
					candidate: options.candidate,
				},
			]);
		part.views.push([
			index,
			// Written out, as in peerEntry.
			{
				id,
				node: node.name,
				family,
				podCIDRs,
				transportAddress: remote,
				path,
				reason: flat(reason),
				mtu,
			},
		]);
	}
	return part;
}

function existing({ path, outerFamily, port, local, remote, mtu }: PathChoice) {
	if (path === "down") return undefined;
	return { path, outerFamily, port, local, remote, mtu };
}

const LACKS_NOTHING = { direct: "", tunnel: "" };

function lacksOf({ direct, tunnel }: PathOptions): ProbedPeer["lacks"] {
	if (direct.path !== "down" && tunnel.path !== "down") return LACKS_NOTHING;
	return {
		direct: direct.path === "down" ? flat(direct.reason) : "",
		tunnel: tunnel.path === "down" ? flat(tunnel.reason) : "",
	};
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

function peerEntry(choice: ProbedPath, config: Config, nodeHash: bigint, flags = 0): Peer {
	const { path, outerFamily, port, local, remote, mtu } = choice;
	const vni = port === 0 ? 0 : config.tunnelVNI;
	// Written out instead of spread: V8 gives every object made by spreading a hidden class of its own,
	// which is larger than the object.
	return {
		path: PATHS[path],
		outerFamily,
		port,
		vni,
		local,
		remote,
		mtu,
		flags,
		policyEpoch: 0,
		nodeHash,
	};
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
		policyEpoch: 0,
		nodeHash,
	};
}
