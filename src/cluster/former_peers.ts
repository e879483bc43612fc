/**
 * The peers that an earlier agent left in the kernel and that this one has not seen yet. While the list of Nodes is
 * incomplete (a manifest cannot be read since the restart, a list is still coming), they may still exist, so their
 * entries in the kernel stay.
 */
import { nodeHash } from "./node_hash.js";
import type { Snapshot } from "./snapshot.js";

export class FormerPeers {
	readonly #nodeName: string;
	readonly #hashes: ReadonlySet<bigint>;
	/** Peer ids that no known Node has, by the hash of the Node name. */
	readonly #missing: Map<bigint, number>;

	/** @param adopted peer ids in the kernel, and the hashes of their Node names */
	constructor(nodeName: string, adopted: Iterable<{ id: number; nodeHash: bigint }>) {
		this.#nodeName = nodeName;
		this.#missing = new Map([...adopted].map(({ id, nodeHash }) => [nodeHash, id]));
		this.#hashes = new Set(this.#missing.keys());
	}

	/** An earlier agent of this Node had a Node of that name. */
	had(name: string): boolean {
		return name === this.#nodeName || this.#hashes.has(nodeHash(name));
	}

	/**
	 * Ids that are to be kept. A Node that was seen once is known: when it goes, it goes.
	 *
	 * @param changed names of Nodes that may be new in it
	 */
	missing({ nodes, synced }: Snapshot, changed: Iterable<string>): ReadonlySet<number> {
		if (synced) this.#missing.clear();
		if (this.#missing.size > 0)
			for (const name of changed) if (nodes.has(name)) this.#missing.delete(nodeHash(name));
		return new Set(this.#missing.values());
	}
}
