/** The tables that speak of peers, and what `fairway peers` shows of them. */

import { nodeHash } from "../cluster/node_hash.js";
import type { NodeObject } from "../cluster/snapshot.js";
import { Path } from "../tables/generated.js";
import { type Family, type Prefix, parsePrefix } from "../tables/prefix.js";
import type { Tables } from "../tables/tables.js";
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

/** Filled a Node at a time. */
export class PeerTables {
	readonly views: PeerView[] = [];
	readonly peers: Tables["peers"] = new Map();
	readonly addresses: Tables["peerAddresses"] = new Map();
	readonly hostRoutes: Tables["hostRoutes"] = new Map();
	readonly prefixes: { prefix: Prefix; id: number }[] = [];
	readonly #context: PathContext;

	constructor(context: PathContext) {
		this.#context = context;
	}

	add(node: NodeObject, id: number, self: Self): void {
		const cidrs = node.podCIDRs.map(parsePrefix);
		for (const prefix of cidrs) this.prefixes.push({ prefix, id });
		// Another Node's packets come from any of its addresses.
		for (const address of [...node.transportAddresses, ...node.internalIPs])
			if (!self.addresses.has(address) && !this.addresses.has(address))
				this.addresses.set(address, id);
		const hash = nodeHash(node.name);
		for (const family of [4, 6] as const) {
			const own = cidrs.filter((prefix) => prefix.family === family);
			this.#addFamily(node, id, family, own, hash, self);
		}
	}

	#addFamily(
		node: NodeObject,
		id: number,
		family: Family,
		cidrs: Prefix[],
		hash: bigint,
		self: Self,
	): void {
		const { config } = this.#context;
		const index = id * 2 + (family === 6 ? 1 : 0);
		if (cidrs.length === 0) {
			// Written all the same: the hash says whose the id is.
			this.peers.set(index, { ...NO_PATH, nodeHash: hash });
			return;
		}
		const choice = choosePath(this.#context, node, family);
		const { path, outerFamily, port, local, remote, mtu, reason } = choice;
		const vni = port === 0 ? 0 : config.tunnelVNI;
		const entry = { path: PATHS[path], outerFamily, port, vni, local, remote, mtu };
		this.peers.set(index, { ...entry, nodeHash: hash });
		const source = self.gateway(family);
		// Also when it is down: else these packets would leave by the default route.
		for (const { text: prefix } of cidrs)
			if (source !== "") this.hostRoutes.set(prefix, { prefix, mtu: mtu || self.mtu, source });
		this.views.push({
			id,
			node: node.name,
			family,
			podCIDRs: cidrs.map(({ text }) => text),
			transportAddress: remote,
			path,
			reason,
			mtu,
		});
	}
}

const NO_PATH = {
	path: Path.NONE,
	outerFamily: 0,
	port: 0,
	vni: 0,
	local: "",
	remote: "",
	mtu: 0,
} as const;
