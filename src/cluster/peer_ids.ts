/**
 * Assigns peer ids to Nodes. An id is an index in the kernel's tables, so a Node keeps its id as long as it
 * exists, including restarts of the agent.
 */
import { Limit } from "../tables/generated.js";
import { nodeHash } from "./node_hash.js";

export class PeerIds {
	readonly #max: number;
	#ids = new Map<string, number>();
	/** Ids found in the kernel and not claimed yet, by the hash of the Node's name. */
	readonly #adopted = new Map<bigint, number>();

	/**
	 * @param adopted ids that an earlier agent left in the kernel
	 * @param max upper limit of ids, exclusive
	 */
	constructor(
		adopted: Iterable<{ id: number; nodeHash: bigint }> = [],
		max: number = Limit.PEERS_MAX,
	) {
		this.#max = max;
		for (const { id, nodeHash } of adopted)
			if (id < max && !this.#adopted.has(nodeHash)) this.#adopted.set(nodeHash, id);
	}

	/**
	 * The ids of exactly these Nodes. A new Node gets the lowest free id, but never one that this call has
	 * freed, because the kernel still has routes for it. For the same reason, ids found in the kernel are
	 * reserved for their Nodes, which may be read late, until all others are in use. If no id is left, a Node
	 * gets none.
	 */
	assign(names: Iterable<string>): ReadonlyMap<string, number> {
		const before = this.#ids;
		const ids = new Map<string, number>();
		const taken = new Set<number>();
		const fresh: string[] = [];
		for (const name of new Set(names)) {
			const id = before.get(name) ?? this.#claim(name);
			// Two names with the same hash: the second counts as new.
			if (id === undefined || taken.has(id)) fresh.push(name);
			else {
				ids.set(name, id);
				taken.add(id);
			}
		}
		for (const id of before.values()) taken.add(id);
		const waiting = new Set(this.#adopted.values());
		const free = this.#free((id) => !taken.has(id) && !waiting.has(id));
		const last = this.#free((id) => !taken.has(id));
		for (const name of fresh) {
			const id = free.next().value ?? last.next().value;
			if (id === undefined) break;
			ids.set(name, id);
			taken.add(id);
		}
		this.#ids = ids;
		return ids;
	}

	#claim(name: string): number | undefined {
		const hash = nodeHash(name);
		const id = this.#adopted.get(hash);
		this.#adopted.delete(hash);
		return id;
	}

	/** Free ids in ascending order, tested when they are needed. */
	*#free(isFree: (id: number) => boolean): Generator<number, undefined> {
		for (let id = 0; id < this.#max; id++) if (isFree(id)) yield id;
		return undefined;
	}
}
