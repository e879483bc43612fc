/** `fairway status` */
import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { AgentUnreachableError, ApiError, agentSocket, ask } from "../api/client.js";
import type { PoliciesSummary } from "../api/messages/policies.js";
import type { ServicesSummary } from "../api/messages/services.js";
import type { SourceStatus, Status } from "../api/messages/status.js";
import { facts, table } from "../text/table.js";
import { bytes, duration, milliseconds } from "../text/units.js";
import { EXIT_DONE, EXIT_NOT_READY } from "./exit.js";
import { type ClientOptions, json } from "./output.js";

export interface StatusOptions extends ClientOptions {
	/** Seconds to wait until the agent is ready; undefined: print the status as it is. */
	wait?: number;
}

export async function statusCommand(options: StatusOptions): Promise<number> {
	const look = (timeoutMs: number) =>
		ask<Status>(agentSocket(options.runDir), "GET", "/status", { timeoutMs });
	const print = (status: Status) =>
		process.stdout.write(options.output === "json" ? json(status) : statusText(status));
	if (options.wait === undefined) {
		print(await look(LOOK_MS));
		return EXIT_DONE;
	}
	const { status, why } = await waitUntilReady(look, options.wait * 1000);
	if (status !== undefined) print(status);
	if (status?.ready === true) return EXIT_DONE;
	process.stderr.write(`fairway: The agent is not ready after ${options.wait} s: ${why}\n`);
	return EXIT_NOT_READY;
}

/** One look takes this long at most. */
const LOOK_MS = 10_000;
const PAUSE_MS = 200;

/**
 * Polls until the agent is ready or the time is over, and at least once. The agent need not
 * run yet, and may start again meanwhile.
 *
 * @returns the last look's status, or undefined and why there is none
 * @throws errors that waiting does not remove: no permission, an answer that is an error
 */
export async function waitUntilReady(
	look: (timeoutMs: number) => Promise<Status>,
	waitMs: number,
): Promise<{ status: Status | undefined; why: string }> {
	const end = performance.now() + waitMs;
	for (;;) {
		let status: Status | undefined;
		let why: string;
		try {
			status = await look(Math.max(1000, Math.min(LOOK_MS, end - performance.now())));
			why = status.waitingFor === undefined ? "it is starting" : `waiting for ${status.waitingFor}`;
		} catch (error) {
			if (!passes(error)) throw error;
			why = (error as Error).message;
		}
		const left = end - performance.now();
		if (status?.ready === true || left <= 0) return { status, why };
		await delay(Math.min(PAUSE_MS, left));
	}
}

function passes(error: unknown): boolean {
	if (error instanceof ApiError) return error.status === 503;
	return error instanceof AgentUnreachableError && !["EACCES", "EPERM"].includes(error.code);
}

export function statusText(status: Status): string {
	const { transport, peers, probes, flows, mapMemory, eventLoop } = status;
	const none = (list: readonly string[]) => (list.length === 0 ? "none" : list.join(", "));
	const paths = Object.entries(peers.paths).map(([path, count]) => `${count} ${path}`);
	const text = facts([
		["Node", `${status.node}, ${status.ready ? "ready" : "not ready"}`],
		...(status.waitingFor === undefined
			? []
			: [["Waiting for", status.waitingFor] as [string, string]]),
		["Mode", `${status.mode} (${TUNNEL_NAMES[status.tunnelType]})`],
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
			`${probes.sent} sent, ${probes.answered} answered, ${probes.late} late; ${probes.changes} path changes`,
		],
		["Endpoints", String(status.endpoints)],
		["Services", servicesText(status.services)],
		["Policies", policiesText(status.policies)],
		["Flows", `${flows.used} of ${flows.max}`],
		["Maps", `${bytes(mapMemory.total)}, ${bytes(mapMemory.perCpu)} of it per-CPU`],
		[
			"Agent",
			`fairway ${status.version}, process ${status.pid}, up ${duration(status.uptimeSeconds)}`,
		],
		[
			"Loop lag",
			`p50 ${milliseconds(eventLoop.p50Ms)}, p99 ${milliseconds(eventLoop.p99Ms)}, max ${milliseconds(eventLoop.maxMs)} within ${duration(eventLoop.seconds)}`,
		],
		["Kernel", `${status.kernel}, libbpf ${status.libbpf}`],
		["Cluster", clusterText(status.sources)],
		["Pending writes", String(status.pending)],
	]);
	return [
		text,
		counters("Drops", "none", status.drops),
		counters("Events", undefined, status.events),
		counters("Slow path", undefined, status.slowPath),
		sentences("Limitations", status.limitations),
		sentences("Problems", status.problems),
	].join("");
}

function sentences(title: string, list: readonly string[] = []): string {
	return list.length === 0 ? "" : `\n${title}\n${list.map((one) => `  - ${one}\n`).join("")}`;
}

function servicesText({ servedBy, count, endpoints }: ServicesSummary): string[] {
	const states = Object.entries(endpoints)
		.filter(([, many]) => many > 0)
		.map(([state, many]) => `${many} ${state}`);
	const counted = count === 0 ? [] : [`${count} served, endpoints: ${states.join(", ") || "none"}`];
	return [...counted, ...servedBy];
}

function policiesText(policies: PoliciesSummary): string {
	const { enforced, staged, unusable, pods, synced } = policies;
	const some = (count: number, what: string) => (count === 0 ? [] : [`${count} ${what}`]);
	const those = [
		`${enforced} enforced`,
		...some(staged, "staged"),
		...some(unusable, "unusable"),
	].join(", ");
	const here = [
		`${pods.ruled} ruled`,
		`${pods.open} open`,
		...some(pods.notReady, "closed until their policies are known"),
	].join(", ");
	const before = synced
		? ""
		: "not all objects were seen yet, what an earlier agent left is in force; ";
	return `${before}${those}; Pods: ${here}`;
}

/** The kinds that are as their source has them, then those that are not, and how. */
function clusterText(sources: readonly SourceStatus[]): string {
	const served = sources.filter(({ absent }) => !absent);
	const fresh = served.filter(({ synced, stale }) => synced && !stale);
	const parts =
		fresh.length === 0 ? [] : [`${fresh.map(({ kind }) => kind).join(", ")} up to date`];
	const missing = new Map<string, string[]>();
	for (const { kind, synced, missing: why } of served)
		if (!synced && why !== undefined) missing.set(why, [...(missing.get(why) ?? []), kind]);
	for (const [why, kinds] of missing)
		parts.push(`${kinds.join(", ")} incomplete, since ${why}: what an earlier agent left stays`);
	for (const { kind, synced, stale, ageSeconds, missing: why } of served) {
		if ((synced && !stale) || (!synced && why !== undefined)) continue;
		const age = ageSeconds === null ? "" : `, last heard ${duration(ageSeconds)} ago`;
		parts.push(`${kind} ${synced ? "stale" : "not yet seen"}${age}`);
	}
	const absent = sources.filter((one) => one.absent).map(({ kind }) => kind);
	if (absent.length > 0) parts.push(`${absent.join(", ")} not served by the API`);
	return parts.join("; ");
}

const TUNNEL_NAMES = { geneve: "Geneve", vxlan: "VXLAN" } as const;

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
