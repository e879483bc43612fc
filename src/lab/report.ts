/** The lab's measurements and counters as tables. Pure. */
import type { PeerStatus } from "../api/messages/peers.js";
import { type Column, framedTable, type Painters, painters } from "../text/table.js";
import { bytes } from "../text/units.js";
import type { Measurement } from "./measure.js";
import { kinds } from "./pairs.js";
import { policyKinds } from "./policies.js";
import { serviceKinds } from "./services.js";

/** @param terminal width in columns; undefined: no terminal, so no colours and no truncation. */
export function measurementTable(
	measurements: readonly Measurement[],
	terminal: number | undefined,
): string {
	const paint = painters(terminal !== undefined);
	const columns: Column<Measurement>[] = [
		{ heading: "pair", cell: ({ pair }) => `${pair.from} → ${pair.to}` },
		{ heading: "IP", cell: ({ pair }) => `v${pair.family}` },
		{
			heading: "path",
			cell: pathOf,
			paint: (text, row) => (row.faults.length > 0 ? paint.red(text) : paintPath(text, paint)),
		},
		{
			heading: "why",
			shortest: 12,
			cell: ({ explained, spread }) => (spread ?? explained?.reason ?? "").replace(/\.$/, ""),
		},
		{ heading: "seen there as", cell: translation },
		{ heading: "MTU", align: "right", cell: ({ explained }) => `${explained?.mtu ?? "–"}` },
		{ heading: "round trip", align: "right", cell: ({ roundTrip }) => milliseconds(roundTrip) },
		{
			heading: "TCP",
			align: "right",
			cell: ({ throughput, denied }) => (denied === undefined ? rate(throughput) : "denied"),
			paint: (text, { throughput, denied }) => {
				if (denied !== undefined) return paint.green(text);
				return throughput === undefined ? paint.red(text) : text;
			},
		},
	];
	const groups = Object.entries({ ...kinds, ...serviceKinds, ...policyKinds })
		.map(([kind, title]) => ({
			title,
			rows: measurements.filter(({ pair }) => pair.kind === kind),
		}))
		.filter(({ rows }) => rows.length > 0);
	return framedTable(columns, groups, paint, { width: terminal });
}

/** One Node's view of one peer, both families side by side. */
export interface PeerRow {
	node: string;
	peer: string;
	paths: { 4?: string; 6?: string };
	/** Since the agent's maps were created. */
	packets: { direct: number; tunnel: number };
	bytes: number;
	/** Packets a second since the previous rows. */
	rate: { direct: number; tunnel: number };
}

/** @param earlier the previous rows, from @param seconds ago. */
export function peerRows(
	peers: ReadonlyMap<string, readonly PeerStatus[]>,
	earlier: readonly PeerRow[],
	seconds: number,
): PeerRow[] {
	const rows = new Map<string, PeerRow>();
	for (const [node, all] of peers)
		for (const { node: peer, family, path, packets, bytes } of all) {
			const key = `${node} ${peer}`;
			const row = rows.get(key) ?? {
				...{ node, peer, paths: {}, bytes: 0 },
				packets: { direct: 0, tunnel: 0 },
				rate: { direct: 0, tunnel: 0 },
			};
			row.paths[family] = path;
			row.packets.direct += packets.direct;
			row.packets.tunnel += packets.tunnel;
			row.bytes += bytes.direct + bytes.tunnel;
			rows.set(key, row);
		}
	for (const row of rows.values()) {
		const last = earlier.find(({ node, peer }) => node === row.node && peer === row.peer);
		if (last === undefined) continue;
		for (const way of ["direct", "tunnel"] as const)
			row.rate[way] = Math.max(0, row.packets[way] - last.packets[way]) / seconds;
	}
	return [...rows.values()];
}

export function peerTable(rows: readonly PeerRow[], colours: boolean): string {
	const paint = painters(colours);
	const path = (family: 4 | 6): Column<PeerRow> => ({
		heading: `IPv${family}`,
		cell: ({ paths }) => paths[family] ?? "–",
		paint: (text) => paintPath(text, paint),
	});
	const perSecond = (way: "direct" | "tunnel"): Column<PeerRow> => ({
		heading: `${way}/s`,
		align: "right",
		cell: (row) => row.rate[way].toFixed(0),
		paint: (text, row) => (row.rate[way] >= 0.5 ? paint.bold(text) : paint.dim(text)),
	});
	const total = (way: "direct" | "tunnel"): Column<PeerRow> => ({
		heading: `${way} packets`,
		align: "right",
		cell: (row) => row.packets[way].toLocaleString("en"),
	});
	const columns: Column<PeerRow>[] = [
		{ heading: "Node", cell: ({ node }) => node },
		{ heading: "peer", cell: ({ peer }) => peer },
		path(4),
		path(6),
		total("direct"),
		perSecond("direct"),
		total("tunnel"),
		perSecond("tunnel"),
		{ heading: "bytes", align: "right", cell: ({ bytes: b }) => bytes(b) },
	];
	const nodes = [...new Set(rows.map(({ node }) => node))];
	return framedTable(
		columns,
		nodes.map((node) => ({ rows: rows.filter((row) => row.node === node) })),
		paint,
	);
}

export function milliseconds(value: number | null | undefined): string {
	if (value === null) return "–";
	return value === undefined ? "lost" : `${value.toFixed(value < 10 ? 2 : 0)} ms`;
}

function rate(bitsPerSecond: number | undefined): string {
	if (bitsPerSecond === undefined) return "failed";
	return bitsPerSecond < 1e9
		? `${(bitsPerSecond / 1e6).toFixed(0)} Mb/s`
		: `${(bitsPerSecond / 1e9).toFixed(1)} Gb/s`;
}

function pathOf({ explained }: Measurement): string {
	if (explained?.path != null) return explained.path;
	// One of several backends.
	const paths = new Set(explained?.backends.map(({ path }) => path));
	return paths.size === 0 ? "–" : [...paths].join("/");
}

/** Shows the source that the receiver sees if it is not the sender's own. */
function translation({ explained, seenAs, spread }: Measurement): string {
	if (spread !== undefined) return seenAs === explained?.source ? "" : (seenAs ?? "");
	return explained?.snat == null ? "" : (seenAs ?? "");
}

function paintPath(text: string, paint: Painters): string {
	switch (text.trim()) {
		case "direct":
		case "routed":
			return paint.green(text);
		case "geneve":
		case "vxlan":
			return paint.yellow(text);
		case "down":
			return paint.red(text);
		case "–":
			return paint.dim(text);
		default:
			return paint.blue(text);
	}
}
