/**
 * The state of the agent at one moment: a value that is replaced, never changed, except for its peers (peer_views.ts).
 * The API's answers and the CNI server read it.
 */
import type { SelfView } from "../compile/compile.js";
import type { ServiceViews } from "../compile/services/view.js";
import type { Network } from "../linux/network.js";
import type { PeerViews } from "./peer_views.js";

/** The result of the last successful apply. */
export interface InForce {
	readonly self: SelfView;
	/** The same object with every apply. */
	readonly peers: PeerViews;
	readonly network: Network;
	/** The present ones, created when they are read. */
	readonly services: ServiceViews;
}

export interface AgentState {
	/** Counts the changes. */
	readonly revision: number;
	/** Packets flow. */
	readonly ready: boolean;
	/** Why this Node cannot be compiled; undefined: the last compile succeeded. */
	readonly waitingFor: string | undefined;
	readonly inForce: InForce | undefined;
	/** Why the last apply failed; undefined: it succeeded. */
	readonly failure: string | undefined;
}

export const INITIAL_STATE: AgentState = {
	revision: 0,
	ready: false,
	waitingFor: "the first look at the cluster and the network",
	inForce: undefined,
	failure: undefined,
};

export function changed(
	state: AgentState,
	change: Partial<Omit<AgentState, "revision">>,
): AgentState {
	return { ...state, ...change, revision: state.revision + 1 };
}
