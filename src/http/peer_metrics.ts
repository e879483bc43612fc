/**
 * Metrics of peers. They are read row by row: 5,000 Nodes in two families have 150,000 series, too many to keep as
 * objects and print in one piece.
 */
import type { PeerStatus } from "../api/messages/peers.js";
import type { Described } from "./described.js";
import { reasonKind } from "./reason_kind.js";

/** Read for each peer and family. */
export interface PeerMetric extends Described {
	readPeer: (peer: PeerStatus) => readonly (readonly [path: string | undefined, value: number])[];
}

const PEER = ["peer", "family"] as const;
const PATH = [...PEER, "path"] as const;

export const peerMetrics: readonly PeerMetric[] = [
	{
		name: "fairway_peer_path",
		type: "gauge",
		help: "1 for the path in use: direct, routed, geneve, vxlan or down.",
		labels: PATH,
		readPeer: ({ path }) => [[path, 1]],
	},
	{
		name: "fairway_peer_mtu_bytes",
		type: "gauge",
		help: "MTU of the path in use.",
		labels: PEER,
		readPeer: ({ mtu }) => [[undefined, mtu]],
	},
	{
		name: "fairway_peer_sent_packets_total",
		type: "counter",
		help: "Pod packets sent to the peer, by path (direct, tunnel), as on the wire.",
		labels: PATH,
		readPeer: ({ packets }) => Object.entries(packets),
	},
	{
		name: "fairway_peer_sent_bytes_total",
		type: "counter",
		help: "Bytes of these packets, without tunnel headers.",
		labels: PATH,
		readPeer: ({ bytes }) => Object.entries(bytes),
	},
	{
		name: "fairway_peer_received_packets_total",
		type: "counter",
		help: "Pod packets received from the peer, by path (direct, tunnel).",
		labels: PATH,
		readPeer: ({ received }) => Object.entries(received),
	},
	{
		name: "fairway_peer_path_changes_total",
		type: "counter",
		help: "Path changes, without the first path.",
		labels: PEER,
		readPeer: ({ changes }) => [[undefined, changes]],
	},
	{
		name: "fairway_peer_probes_sent_total",
		type: "counter",
		help: "Probes sent to the peer, over every path.",
		labels: PEER,
		readPeer: ({ probes }) => [[undefined, probes.sent]],
	},
	{
		name: "fairway_peer_probes_answered_total",
		type: "counter",
		help: "Probes that were answered in time.",
		labels: PEER,
		readPeer: ({ probes }) => [[undefined, probes.answered]],
	},
	{
		name: "fairway_peer_probe_loss_ratio",
		type: "gauge",
		help: "Share of unanswered recent probes on the path in use, 0 to 1; absent where none was sent.",
		labels: PEER,
		readPeer: ({ loss }) => (loss === null ? [] : [[undefined, loss]]),
	},
	{
		name: "fairway_peer_round_trip_seconds",
		type: "gauge",
		help: "Round trip of the path in use; absent where it is not measured.",
		labels: PEER,
		readPeer: ({ roundTripMs }) => (roundTripMs === null ? [] : [[undefined, roundTripMs / 1000]]),
	},
];

export interface PeerCount {
	path: string;
	reason: string;
	count: number;
}

/** Peers between two steps: some 2 ms. */
const PEERS_A_STEP = 500;

/** Peers by path and reason, in steps. */
export function* countPeers(peers: readonly PeerStatus[]): Generator<void, PeerCount[]> {
	const counts = new Map<string, PeerCount>();
	for (const [at, peer] of peers.entries()) {
		if (at % PEERS_A_STEP === PEERS_A_STEP - 1) yield;
		const reason = reasonKind(peer.reason, peer.node);
		const key = `${peer.path} ${reason}`;
		const entry = counts.get(key);
		if (entry === undefined) counts.set(key, { path: peer.path, reason, count: 1 });
		else entry.count++;
	}
	return [...counts.values()];
}
