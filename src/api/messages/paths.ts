/** Messages of the agent's socket: paths, and their changes. */
import type { PathKind } from "../../tables/paths.js";

/** `GET /events`: the last path changes, oldest first. */
export interface PathEvent {
	/** ISO 8601 */
	time: string;
	node: string;
	family: 4 | 6;
	/** null: its first path. */
	from: PathKind | null;
	to: PathKind;
	mtu: number;
	/** One plain sentence. */
	reason: string;
}

/** Where a packet goes next: a path to a peer, or a place on this Node, or outside the cluster. */
export type ExplainPath = PathKind | "local" | "host" | "outside";
