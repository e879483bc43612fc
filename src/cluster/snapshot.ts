/** What is known of the cluster at one moment: a plain value, the same whatever source it came from. */
export interface Snapshot {
	/** Accepted Nodes by name. No two have overlapping pod CIDRs or an InternalIP in common. */
	nodes: ReadonlyMap<string, NodeObject>;
	/** What is wrong in the source, in a stable order. */
	problems: readonly Problem[];
}

/** Addresses and prefixes are canonical text. */
export interface NodeObject {
	name: string;
	/** At least one; none overlaps another. */
	podCIDRs: readonly string[];
	internalIPs: readonly string[];
	/** Annotation `node.fairway.io/transport-addresses`, else the InternalIPs; in order of preference. */
	transportAddresses: readonly string[];
}

export interface Problem {
	/** File, relative to its directory; absent where the source has none. */
	file?: string;
	message: string;
}

/** `FILE: message`, or the message alone. */
export function formatProblem(problem: Problem): string {
	return problem.file === undefined ? problem.message : `${problem.file}: ${problem.message}`;
}

/** Something that says what the cluster is, and says it again when that changes. */
export interface SnapshotSource {
	/** The latest one. */
	readonly snapshot: Snapshot;
	close(): Promise<void>;
}
