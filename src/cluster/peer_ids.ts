/**
 * Assigns peer ids to Nodes. An id is an index in the kernel's tables, so a Node keeps its id as long as it
 * exists, including restarts of the agent.
 */
import { Limit } from "../tables/generated.js";
import { nodeHash } from "./node_hash.js";

export class PeerIds {
	readonly #max: number;
	readonly #ids = new Map<string, number>();
	readonly #taken = new Set<number>();
	/** None below is free. */
	#lowest = 0;
	/** Nodes that no id was left for. */
	readonly #without = new Set<string>();
	/** Ids found in the kernel and not claimed yet, by the hash of the Node's name. */
	readonly #adopted = new Map<bigint, number>();
	readonly #reserved = new Set<number>();

	/**
	 * @param adopted ids that an earlier agent left in the kernel
	 * @param max upper limit of ids, exclusive
	 */
	constructor(
		adopted: Iterable<{ id: number; nodeHash: bigint }> = [],
		max: number = Limit.PEERS_MAX,
	) {
		this.#max = max;
		for (const { id, nodeHash } of adopted) {
			if (id >= max || this.#adopted.has(nodeHash)) continue;
			this.#adopted.set(nodeHash, id);
			this.#reserved.add(id);
		}
	}

	/** Node name → peer id, as it is now. */
	get ids(): ReadonlyMap<string, number> {
		return this.#ids;
	}

	/** The ids of exactly these Nodes; see `update`. */
	assign(names: Iterable<string>): ReadonlyMap<string, number> {
		const now = new Set(names);
		this.update([...now, ...this.#ids.keys()], (name) => now.has(name));
		return new Map(this.#ids);
	}

	/**
	 * Updates the ids of Nodes that may have come or gone. A new Node gets the lowest free id, but never one that this
	 * call has freed, because the kernel still has routes for it. For the same reason, ids found in the kernel are
	 * reserved for their Nodes, which may be read late, until all others are in use. If no id is left, a Node
	 * gets none until there is one. Returns the Nodes whose id has changed.
	 */
	update(names: Iterable<string>, isNode: (name: string) => boolean): Set<string> {
		const freed: number[] = [];
		const changed = new Set<string>();
		const fresh = new Set<string>();
		for (const name of this.#without) if (isNode(name)) fresh.add(name);
		this.#without.clear();
		for (const name of names) {
			const id = this.#ids.get(name);
			if (isNode(name)) {
				if (id === undefined) fresh.add(name);
				continue;
			}
			fresh.delete(name);
			if (id === undefined) continue;
			this.#ids.delete(name);
			freed.push(id);
			changed.add(name);
		}
		const give = (name: string, id: number): void => {
			this.#ids.set(name, id);
			this.#taken.add(id);
			changed.add(name);
		};
		const unclaimed = [...fresh].filter((name) => {
			const id = this.#claim(name);
			// Two names with the same hash: the second counts as new.
			if (id === undefined || this.#taken.has(id)) return true;
			give(name, id);
			return false;
		});
		for (const name of unclaimed) {
			const id = this.#free();
			if (id === undefined) this.#without.add(name);
			else give(name, id);
		}
		for (const id of freed) {
			this.#taken.delete(id);
			this.#lowest = Math.min(this.#lowest, id);
		}
		return changed;
	}

	#claim(name: string): number | undefined {
		const hash = nodeHash(name);
		const id = this.#adopted.get(hash);
		if (id === undefined) return undefined;
		this.#adopted.delete(hash);
		this.#reserved.delete(id);
		this.#lowest = Math.min(this.#lowest, id);
		return id;
	}

	/** The lowest free id; reserved ones last. */
	#free(): number | undefined {
		while (this.#lowest < this.#max && this.#isInUse(this.#lowest)) this.#lowest++;
		if (this.#lowest < this.#max) return this.#lowest;
		for (const id of this.#reserved) if (!this.#taken.has(id)) return id;
		return undefined;
	}

	#isInUse(id: number): boolean {
		return this.#taken.has(id) || this.#reserved.has(id);
	}
}
