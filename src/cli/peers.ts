/** `fairway peers` */
import type { PeerStatus } from "../api/messages.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, show } from "./output.js";
import { bytes, type Column, duration, milliseconds, percent, table } from "./table.js";

export async function peersCommand(options: ClientOptions): Promise<number> {
	await show<PeerStatus[]>(options, { method: "GET", path: "/peers" }, (peers) =>
		peersText(peers, Date.now()),
	);
	return EXIT_DONE;
}

/** @param now epoch, ms */
const columns = (now: number): Column<PeerStatus>[] => [
	{ heading: "NODE", cell: (peer) => peer.node },
	{ heading: "IP", cell: (peer) => `v${peer.family}` },
	{ heading: "POD CIDRS", cell: (peer) => peer.podCIDRs.join(",") },
	{ heading: "TRANSPORT", cell: (peer) => peer.transportAddress || "-" },
	{ heading: "PATH", cell: (peer) => peer.path },
	{ heading: "MTU", align: "right", cell: (peer) => peer.mtu || "-" },
	{
		heading: "SINCE",
		align: "right",
		cell: ({ since }) => duration(Math.max(0, now - Date.parse(since)) / 1000),
	},
	{ heading: "CHG", align: "right", cell: (peer) => peer.changes },
	{ heading: "RTT", align: "right", cell: (peer) => milliseconds(peer.roundTripMs) },
	{ heading: "LOSS", align: "right", cell: (peer) => percent(peer.loss) },
	{ heading: "DIRECT PKTS", align: "right", cell: (peer) => peer.packets.direct },
	{ heading: "BYTES", align: "right", cell: (peer) => bytes(peer.bytes.direct) },
	{ heading: "TUNNEL PKTS", align: "right", cell: (peer) => peer.packets.tunnel },
	{ heading: "BYTES", align: "right", cell: (peer) => bytes(peer.bytes.tunnel) },
	{ heading: "REASON", cell: (peer) => peer.reason },
];

/** @param now epoch, ms */
export function peersText(peers: readonly PeerStatus[], now: number): string {
	return peers.length === 0 ? "No other Node is known.\n" : table(columns(now), peers);
}
