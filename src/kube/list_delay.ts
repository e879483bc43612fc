/**
 * How long an agent waits before a list that all agents need at the same moment: in a roll-out, or when the first
 * policy that selects Pods concerns many Nodes.
 */
import type { Store } from "../cluster/store.js";
import type { Clock } from "./clock.js";

export interface ListDelay {
	/** Nodes share the time, as many ms as there are of them... */
	msPerNode: number;
	/** ...but no more than this. */
	most: number;
}

/** ms, by chance. */
export function listDelay(clock: Clock, store: Store, { msPerNode, most }: ListDelay): number {
	return clock.random() * Math.min(most, store.size("Node") * msPerNode);
}
