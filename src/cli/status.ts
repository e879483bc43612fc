/** `fairway status` */
import type { Status } from "../api/messages.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, show } from "./output.js";
import { duration, facts, table } from "./table.js";

export async function statusCommand(options: ClientOptions): Promise<number> {
	await show<Status>(options, { method: "GET", path: "/status" }, statusText);
	return EXIT_DONE;
}

export function statusText(status: Status): string {
	const { transport, peers, probes, flows, mapMemory } = status;
	const none = (list: readonly string[]) => (list.length === 0 ? "none" : list.join(", "));
	const paths = Object.entries(peers.paths).map(([path, count]) => `${count} ${path}`);
	const text = facts([
		["Node", `${status.node}, ${status.ready ? "ready" : "not ready"}`],
		...(status.waitingFor === undefined
			? []
			: [["Waiting for", status.waitingFor] as [string, string]]),
		["Mode", `${status.mode}, tunnels are ${status.tunnelType}`],
		["XDP", status.xdp],
		["Pod CIDRs", none(status.podCIDRs)],
		[
			"Transport",
			transport.interface === ""
				? "none"
				: `${transport.interface}, ${none(transport.addresses)}, MTU ${transport.mtu}`,
		],
		["Pod MTU", String(status.podMTU)],
		["SNAT", none(status.snatAddresses)],
		["Peers", `${peers.nodes}${paths.length > 0 ? ` (paths: ${paths.join(", ")})` : ""}`],
		[
			"Probes",
			`${probes.sent} sent, ${probes.answered} answered, ${probes.late} late; paths changed ${probes.changes} times`,
		],
		["Endpoints", String(status.endpoints)],
		["Flows", `${flows.used} of ${flows.max}`],
		["Maps", `${megabytes(mapMemory.total)} MB, ${megabytes(mapMemory.perCpu)} MB of it per-CPU`],
		[
			"Agent",
			`fairway ${status.version}, process ${status.pid}, up ${duration(status.uptimeSeconds)}`,
		],
		["Kernel", `${status.kernel}, libbpf ${status.libbpf}`],
		["Pending", status.pending === 0 ? "nothing" : `${status.pending} writes`],
	]);
	return [
		text,
		counters("Drops", "no packet was dropped", status.drops),
		counters("Events", undefined, status.events),
		counters("Slow path", undefined, status.slowPath),
		status.problems.length === 0
			? ""
			: `\nProblems\n${status.problems.map((problem) => `  - ${problem}\n`).join("")}`,
	].join("");
}

function megabytes(bytes: number): string {
	return (bytes / 2 ** 20).toFixed(1);
}

function counters(
	heading: string,
	otherwise: string | undefined,
	counts: Readonly<Record<string, number>>,
): string {
	const rows = Object.entries(counts).sort(([, a], [, b]) => b - a);
	if (rows.length === 0) {
		return otherwise === undefined ? "" : `\n${heading}: ${otherwise}\n`;
	}
	const lines = table<[string, number]>(
		[
			{ heading: "REASON", cell: ([reason]) => reason },
			{ heading: "PACKETS", align: "right", cell: ([, packets]) => packets },
		],
		rows,
	);
	return `\n${heading}\n${lines.replace(/^(?=.)/gm, "  ")}`;
}
