/**
 * The agent at one moment: a value that is replaced, never changed. The API's answers and the CNI take
 * it, so none of them sees half of an apply.
 */
import type { CompileResult, PeerView, ProbedPeer, SelfView } from "../compile/compile.js";
import type { Network } from "../linux/network.js";

type Compiled = Extract<CompileResult, { ready: true }>;

/** The result of the last successful apply. */
export interface InForce {
	readonly self: SelfView;
	readonly peers: readonly PeerView[];
	/** The peers and paths to probe. */
	readonly probed: readonly ProbedPeer[];
	readonly network: Network;
}

/** Gives a peer's entry for a verdict that comes after the compile. */
export type PathEntries = Compiled["paths"];

export interface AgentState {
	/** Counts the changes. */
	readonly revision: number;
	/** Packets flow. */
	readonly ready: boolean;
	/** Why this Node cannot be compiled; undefined: the last compile succeeded. */
	readonly waitingFor: string | undefined;
	readonly inForce: InForce | undefined;
	/** Why the last apply failed; undefined: it did not. */
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
