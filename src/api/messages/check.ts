/** Messages of the agent's socket: checks of the paths to peers, and what other CNIs have left on this Node. */
import type { HybridDirect } from "../../config/config.js";
import type { FoundCause, Suspicion } from "../../probe/causes.js";
import type { Findings, PathSurvey } from "../../probe/survey/survey.js";
import type { Mode, ModeSummary, Verdict } from "../../probe/verdict.js";

/** `POST /check` */
export interface CheckRequest {
	/** Names of Nodes; default: all of them. */
	peer?: string | string[];
}

/** HTTP status of the answer to a check of an unknown Node. */
export const NO_SUCH_PEER = 422;

export interface CheckAnswer {
	/** Where the check was made. */
	node: string;
	/** The active mode. */
	mode: Mode;
	hybridDirect: HybridDirect;
	/** An entry for each peer and family. */
	peers: CheckedPeer[];
	/** encap, hybrid, noEncap */
	modes: ModeSummary[];
	/** Only causes that were found. */
	causes: FoundCause[];
	/** What other CNIs and kube-proxy have left on this Node; an entry for each of them. */
	leftovers: Leftovers[];
}

export interface Leftovers {
	/** "flannel", "kube-proxy" */
	cni: string;
	interfaces: string[];
	/** Number of routes that lead out of the first of them. */
	routes: number;
	/** Chains of iptables, both families. */
	chains: string[];
	/** Tables of nftables: "ip kube-proxy". */
	tables: string[];
	/** Entries of the kernel's connection tracking whose destination it has translated. */
	connections: number;
	/** Network configurations of the container runtime. */
	files: string[];
	/** What to do: sentences, and commands that begin with "$ ". */
	advice: string[];
}

/** `GET /check`: paths of the checks that are under way, or were last. */
export interface CheckProgress {
	done: number;
	total: number;
}

export interface CheckedPeer extends PathSurvey {
	/** True: hybrid may use the direct path. */
	candidate: boolean;
	findings: Findings;
	verdicts: Record<Mode, Verdict>;
	suspicions: Suspicion[];
}
