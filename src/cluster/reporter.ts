/** What an agent tells the cluster of itself, where its source takes that. */
export interface Reporter {
	/**
	 * Packets flow on this Node from now on.
	 *
	 * @param tunnelled every peer is reached in a tunnel: no route of the network's is needed
	 */
	ready(tunnelled: boolean): void;
	/** Paths that were in use have been replaced. */
	pathsChanged(notices: readonly PathNotice[]): void;
	/**
	 * Objects that cannot be used, or only in part.
	 *
	 * @param notices all current ones
	 * @param nodes names of all Nodes; only a few of them report what all of them see
	 */
	objectsRefused(notices: readonly ObjectNotice[], nodes: readonly string[]): void;
	/** A Pod was attached that requests a bandwidth limit, which Fairway does not enforce. */
	bandwidthUnlimited(pod: PodName): void;
}

export interface ObjectNotice {
	object: { apiVersion: string; kind: string; namespace?: string; name: string; uid?: string };
	/** Reason of the Event. */
	reason: string;
	/** A sentence without its full stop. */
	message: string;
}

export interface PodName {
	namespace: string;
	name: string;
	uid?: string | undefined;
}

export interface PathNotice {
	/** Name of the Node. */
	peer: string;
	family: 4 | 6;
	/** Kinds of path. */
	from: string;
	to: string;
	/** A sentence. */
	reason: string;
}
