/** `fairway peers` */
import type { PeerStatus } from "../api/messages.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, show } from "./output.js";
import { bytes, type Column, table } from "./table.js";

export async function peersCommand(options: ClientOptions): Promise<number> {
	await show<PeerStatus[]>(options, { method: "GET", path: "/peers" }, peersText);
	return EXIT_DONE;
}

const COLUMNS: readonly Column<PeerStatus>[] = [
	{ heading: "NODE", cell: (peer) => peer.node },
	{ heading: "IP", cell: (peer) => `v${peer.family}` },
	{ heading: "POD CIDRS", cell: (peer) => peer.podCIDRs.join(",") },
	{ heading: "TRANSPORT", cell: (peer) => peer.transportAddress || "-" },
	{ heading: "PATH", cell: (peer) => peer.path },
	{ heading: "MTU", align: "right", cell: (peer) => peer.mtu || "-" },
	{ heading: "DIRECT PKTS", align: "right", cell: (peer) => peer.packets.direct },
	{ heading: "BYTES", align: "right", cell: (peer) => bytes(peer.bytes.direct) },
	{ heading: "TUNNEL PKTS", align: "right", cell: (peer) => peer.packets.tunnel },
	{ heading: "BYTES", align: "right", cell: (peer) => bytes(peer.bytes.tunnel) },
	{ heading: "REASON", cell: (peer) => peer.reason },
];

export function peersText(peers: readonly PeerStatus[]): string {
	return peers.length === 0 ? "No other Node is known.\n" : table(COLUMNS, peers);
}
