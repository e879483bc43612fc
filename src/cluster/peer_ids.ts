/**
 * Which Node has which peer id. An id is an index of the kernel's tables, so a Node keeps its own
 * for as long as it is there, over restarts of the agent too.
 */
import { Limit } from "../tables/generated.js";
import { nodeHash } from "./node_hash.js";

export class PeerIds {
	readonly #max: number;
	#ids = new Map<string, number>();
	/** Ids found in the kernel and not claimed yet, by the hash of the Node's name. */
	readonly #adopted = new Map<bigint, number>();

	/**
	 * @param adopted what an earlier agent left in the kernel
	 * @param max ids are below it
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
	 * The ids of exactly these Nodes. A new one gets the lowest free id, but never one that this very
	 * call took from another: routes of that one are in the kernel still. For the same reason ids
	 * that were found there wait for their Nodes, which may be read late, until all others are given
	 * away. Nodes beyond the last id get none.
	 */
	assign(names: Iterable<string>): ReadonlyMap<string, number> {
		const before = this.#ids;
		const ids = new Map<string, number>();
		const taken = new Set<number>();
		const fresh: string[] = [];
		for (const name of new Set(names)) {
			const id = before.get(name) ?? this.#claim(name);
			// Two names of one hash: the second is new.
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

	/** Upwards; asks at the moment when the id is wanted. */
	*#free(isFree: (id: number) => boolean): Generator<number, undefined> {
		for (let id = 0; id < this.#max; id++) if (isFree(id)) yield id;
		return undefined;
	}
}
