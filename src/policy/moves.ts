/** Addresses that have another class or owner than in the round before, and the flows that look again for it. */
import { podPrefixes } from "../cluster/node_object.js";
import type { Steps } from "../loop/turns.js";
import { containsAddress, type Prefix } from "../tables/prefix.js";
import { NONE } from "./claims.js";
import type { InForce } from "./in_force.js";
import type { Owners } from "./owners.js";
import type { PolicyChanges } from "./policy_tables.js";

/** Moves that are looked at between two steps. */
const EVERY = 64;

export class Moves {
	readonly #owners: Owners;
	readonly #inForce: InForce;
	readonly #nodeName: string;
	/** Index among the owners' dirty claims, class before, class now. */
	#moves: number[] = [];
	/** All classes have new numbers, with the same meaning as before. */
	#restarted = false;
	#isFirst = true;

	constructor(owners: Owners, inForce: InForce, nodeName: string) {
		this.#owners = owners;
		this.#inForce = inForce;
		this.#nodeName = nodeName;
	}

	/** Flows of an earlier agent may be there: all of them look again. */
	get isFirst(): boolean {
		return this.#isFirst;
	}

	restart(): void {
		this.#restarted = true;
	}

	add(index: number, before: number, now: number): void {
		this.#moves.push(index, before, now);
	}

	/** @param route all flows look again anyhow */
	*epochs(route: boolean): Steps<PolicyChanges["epochs"]> {
		const moves = this.#moves;
		const [restarted, isFirst] = [this.#restarted, this.#isFirst];
		this.#moves = [];
		this.#restarted = false;
		this.#isFirst = false;
		const peers = new Set<string>();
		if (route || isFirst) return { route: true, peers };
		const { claims, pods } = this.#owners;
		const [differ, differFresh] = [this.#differences(false), this.#differences(true)];
		/** By the number of a Node: its prefixes. */
		const prefixes = new Map<number, readonly Prefix[]>();
		for (let at = 0; at < moves.length; at += 3) {
			if (at % (3 * EVERY) === 0) yield;
			const [index, before, now] = [moves[at]!, moves[at + 1]!, moves[at + 2]!];
			const differs = this.#owners.hadOwner(index) ? differ : differFresh;
			if (!this.#owners.isAnother(index) && (restarted || !differs(before, now))) continue;
			const node = this.#owners.nodeNumber(index);
			let own = prefixes.get(node);
			if (own === undefined) {
				const name = node === NONE ? "" : pods.nodeName(node);
				const owner = name === this.#nodeName ? undefined : this.#owners.node(name);
				own = owner === undefined ? [] : podPrefixes(owner.object);
				prefixes.set(node, own);
				if (own.length > 0) peers.add(name);
			}
			// The whole epoch covers all others, and a flow with another address of a Node's has none of a peer.
			const bytes = claims.bytes(this.#owners.dirty(index));
			if (!own.some((prefix) => containsAddress(prefix, bytes)))
				return { route: true, peers: new Set() };
		}
		return { route: false, peers };
	}

	/** Whether two classes differ to some policy, found out once for each pair. */
	#differences(isFresh: boolean): (before: number, now: number) => boolean {
		const known = new Map<number, Map<number, boolean>>();
		return (before, now) => {
			if (before === now) return false;
			let others = known.get(before);
			if (others === undefined) {
				others = new Map();
				known.set(before, others);
			}
			let is = others.get(now);
			if (is === undefined) {
				is = this.#inForce.differ(before, now, isFresh);
				others.set(now, is);
			}
			return is;
		};
	}
}
