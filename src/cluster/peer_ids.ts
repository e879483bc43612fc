/**
 * Which Node has which peer id. An id is an index of the kernel's tables, so a Node keeps its own
 * for as long as it is there, over restarts of the agent too.
 */
import { Limit } from "../tables/generated.js";
import { nodeHash } from "./node_hash.js";

export class PeerIds {
	readonly #max: number;
	#ids = new Map<string, number>();
	/** Ids found in the kernel, by the hash of the Node's name; until the first assignment. */
	#adopted: Map<bigint, number>;

	/**
	 * @param adopted what an earlier agent left in the kernel
	 * @param max ids are below it
	 */
	constructor(
		adopted: Iterable<{ id: number; nodeHash: bigint }> = [],
		max: number = Limit.PEERS_MAX,
	) {
		this.#max = max;
		this.#adopted = new Map();
		for (const { id, nodeHash } of adopted)
			if (id < max && !this.#adopted.has(nodeHash)) this.#adopted.set(nodeHash, id);
	}

	/**
	 * The ids of exactly these Nodes. A new one gets the lowest free id, but never one that this very
	 * call took from another: routes of that one are in the kernel still. Nodes beyond the last id
	 * get none.
	 */
	assign(names: Iterable<string>): ReadonlyMap<string, number> {
		const before = new Map(this.#ids);
		const used = new Set([...before.values(), ...this.#adopted.values()]);
		const ids = new Map<string, number>();
		const taken = new Set<number>();
		const fresh: string[] = [];
		for (const name of new Set(names)) {
			const id = before.get(name) ?? this.#adopted.get(nodeHash(name));
			// Two names of one hash: the second is new.
			if (id === undefined || taken.has(id)) fresh.push(name);
			else {
				ids.set(name, id);
				taken.add(id);
			}
		}
		let next = 0;
		for (const name of fresh) {
			while (next < this.#max && used.has(next)) next++;
			if (next >= this.#max) break;
			ids.set(name, next);
			used.add(next);
		}
		this.#ids = ids;
		this.#adopted = new Map();
		return ids;
	}
}
