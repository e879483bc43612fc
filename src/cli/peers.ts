/** `fairway peers` */
import { agentSocket, ask } from "../api/client.js";
import type { PeerStatus } from "../api/messages/peers.js";
import { type Column, table } from "../text/table.js";
import { bytes, duration, milliseconds, percent } from "../text/units.js";
import { EXIT_DONE } from "./exit.js";
import { json, terminalWidth } from "./output.js";

export interface PeersOptions {
	runDir: string;
	output: "text" | "wide" | "json";
	/** Show these Nodes only. */
	peer?: string[];
	/** Show peers with these paths only. */
	path?: PeerStatus["path"][];
}

export async function peersCommand(options: PeersOptions): Promise<number> {
	const all = await ask<PeerStatus[]>(agentSocket(options.runDir), "GET", "/peers");
	const peers = all.filter(
		({ node, path }) =>
			(options.peer?.includes(node) ?? true) && (options.path?.includes(path) ?? true),
	);
	peers.sort((a, b) => (a.node === b.node ? a.family - b.family : a.node < b.node ? -1 : 1));
	if (options.output === "json") process.stdout.write(json(peers));
	else if (peers.length === 0 && all.length > 0)
		process.stdout.write(`No peer matches${unknown(options.peer, all)}.\n`);
	else if (options.output === "wide") process.stdout.write(widePeersText(peers, Date.now()));
	else process.stdout.write(peersText(peers, Date.now(), terminalWidth()));
	return EXIT_DONE;
}

/** " (there is no peer n9)": a name that is misspelled looks like a peer without such paths. */
export function unknown(
	names: readonly string[] | undefined,
	all: readonly { node: string }[],
): string {
	const missing = names?.filter((name) => !all.some(({ node }) => node === name)) ?? [];
	return missing.length === 0 ? "" : ` (there is no peer ${missing.join(", ")})`;
}

type PeerColumn = Column<PeerStatus>;

const NODE: PeerColumn = { heading: "NODE", shortest: 20, cell: (peer) => peer.node };
const FAMILY: PeerColumn = { heading: "IP", cell: (peer) => `v${peer.family}` };
const PATH: PeerColumn = { heading: "PATH", cell: (peer) => peer.path };
const MTU: PeerColumn = { heading: "MTU", align: "right", cell: (peer) => peer.mtu || "-" };
const REASON: PeerColumn = {
	heading: "REASON",
	shortest: 24,
	cell: (peer) => withoutPath(peer.reason),
};

/** A reason where the path has a column of its own. */
export function withoutPath(reason: string): string {
	return reason.replace(/^(direct|routed|geneve|vxlan|down): /, "");
}

/** @param now epoch, ms */
const health = (now: number): PeerColumn[] => [
	{
		heading: "SINCE",
		align: "right",
		cell: ({ since }) => duration(Math.max(0, now - Date.parse(since)) / 1000),
	},
	{ heading: "CHANGES", align: "right", cell: (peer) => peer.changes },
	{ heading: "RTT", align: "right", cell: (peer) => milliseconds(peer.roundTripMs) },
	{ heading: "LOSS", align: "right", cell: (peer) => percent(peer.loss) },
];

const NONE = "There are no peers.\n";

/**
 * @param now epoch, ms
 * @param width columns of text that there are
 */
export function peersText(peers: readonly PeerStatus[], now: number, width: number): string {
	const columns = [NODE, FAMILY, PATH, MTU, ...health(now), REASON];
	return peers.length === 0 ? NONE : table(columns, peers, { width });
}

/** Everything, as wide as it is. */
export function widePeersText(peers: readonly PeerStatus[], now: number): string {
	const right = (heading: string, cell: PeerColumn["cell"]): PeerColumn => ({
		heading,
		align: "right",
		cell,
	});
	const columns: PeerColumn[] = [
		...[NODE, FAMILY],
		{ heading: "POD CIDRS", cell: (peer) => peer.podCIDRs.join(",") },
		{ heading: "TRANSPORT", cell: (peer) => peer.transportAddress || "-" },
		...[PATH, MTU, ...health(now)],
		right("DIRECT PACKETS", (peer) => peer.packets.direct),
		right("DIRECT BYTES", (peer) => bytes(peer.bytes.direct)),
		right("TUNNEL PACKETS", (peer) => peer.packets.tunnel),
		right("TUNNEL BYTES", (peer) => bytes(peer.bytes.tunnel)),
		REASON,
	];
	return peers.length === 0 ? NONE : table(columns, peers);
}
