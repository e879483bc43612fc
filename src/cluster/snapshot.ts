import type { Prefix } from "../tables/prefix.js";
import type { Labels } from "./labels.js";
import type { ServiceCatalogReader } from "./service_catalog.js";

/** The state of the cluster, independent of its source. */
export interface Snapshot {
	/** Accepted Nodes by name. No two have overlapping pod CIDRs or a common InternalIP. */
	nodes: ReadonlyMap<string, NodeObject>;
	/** Where Services are: packets of Pods to these addresses go to the proxy that serves them. */
	services: readonly Prefix[];
	/** Services with their endpoints. It is the same one in every snapshot, as it is now. */
	catalog: ServiceCatalogReader;
	/** What is wrong in the sources and among the Nodes, in a stable order. */
	problems: readonly Problem[];
	/** All Nodes are known; false: one that is not here may exist all the same. */
	synced: boolean;
}

/** Addresses and prefixes are canonical text. */
export interface NodeObject {
	name: string;
	/** At least one; they do not overlap. */
	podCIDRs: readonly string[];
	internalIPs: readonly string[];
	/** Absent: none. Policies that name Nodes mean these too. */
	externalIPs?: readonly string[];
	/** From the annotation `fairway.dev/transport-addresses`, otherwise the InternalIPs; in order of preference. */
	transportAddresses: readonly string[];
	/** Absent: none. */
	labels?: Labels;
	/** metadata.creationTimestamp, ms since the epoch; absent where it says nothing. */
	created?: number;
	/** metadata.uid */
	uid?: string;
	/** It is being deleted, or is about to be: no new connections are to be sent to it. */
	isLeaving?: true;
}

export interface Problem {
	/** The file, relative to its directory; absent for sources without files. */
	file?: string;
	message: string;
}

/** `FILE: message`, or the message alone. */
export function formatProblem(problem: Problem): string {
	return problem.file === undefined ? problem.message : `${problem.file}: ${problem.message}`;
}
