/** Messages of the agent's socket: other Nodes, and what is sent to them. */
import type { PathKind } from "../../tables/paths.js";

/** `GET /peers`: an entry for each peer and family. */
export interface PeerStatus {
	node: string;
	family: 4 | 6;
	podCIDRs: string[];
	transportAddress: string;
	path: PathKind;
	/** One plain sentence. */
	reason: string;
	mtu: number;
	/** Packets sent to the peer, as on the wire: a GSO packet counts its segments. */
	packets: { direct: number; tunnel: number };
	/** Bytes of the inner IP packets. */
	bytes: { direct: number; tunnel: number };
	/** Packets received from the peer. */
	received: { direct: number; tunnel: number };
	/** When the path last changed, or was first chosen (ISO 8601). */
	since: string;
	/** Number of path changes, without the first path. */
	changes: number;
	/** Round trip of the path in use; null: not measured. */
	roundTripMs: number | null;
	/** Share of unanswered recent probes on the path in use, 0 to 1; null: none was sent. */
	loss: number | null;
	/** Over all paths to the peer. `late`: answered after the time-out. */
	probes: { sent: number; answered: number; late: number };
}
