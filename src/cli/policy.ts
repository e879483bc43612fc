/** `fairway policy check`, which needs no agent, and `fairway policy diff`. */
import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { agentSocket, ask } from "../api/client.js";
import type {
	PolicyDiffAnswer,
	PolicyDiffEntry,
	PolicyDiffRequest,
} from "../api/messages/policies.js";
import { fileError } from "../files/yaml.js";
import { checkPolicies } from "../policy/check.js";
import { clusterOf, policiesAmong, readManifestObjects } from "../policy/manifests.js";
import { type Column, table } from "../text/table.js";
import { EXIT_DONE, EXIT_FAILED, UsageError } from "./exit.js";
import { json, terminalWidth } from "./output.js";
import { policiesRequest } from "./policies.js";

export interface CheckOptions {
	/** A file or a directory with Pods, Namespaces and Nodes that selectors are tried on. */
	manifests?: string;
	output: "text" | "json";
}

/** Status 1: something in the file cannot be used. With `-o json`: an array of findings. */
export async function policyCheckCommand(file: string, options: CheckOptions): Promise<number> {
	const own = await objectsOf(file);
	const others = options.manifests === undefined ? [] : await objectsIn(options.manifests);
	const findings = checkPolicies(own, clusterOf([...others, ...own]));
	const text = findings.map(
		({ policy, where, message, kind }) =>
			`${policy}: ${where === "" ? "" : `${where}: `}${kind === "unusable" ? "cannot be used: " : ""}${message}\n`,
	);
	process.stdout.write(options.output === "json" ? json(findings) : text.join(""));
	if (options.output === "text" && findings.length === 0) {
		const count = policiesAmong(own).length;
		const none = "expected NetworkPolicies or ClusterNetworkPolicies, got none";
		process.stdout.write(`${file}: ${count === 0 ? none : "nothing to remark"}\n`);
	}
	return findings.some(({ kind }) => kind === "unusable") ? EXIT_FAILED : EXIT_DONE;
}

export interface DiffOptions {
	runDir: string;
	/** Policies that would go: "namespace/name", or the name of a ClusterNetworkPolicy. */
	delete?: readonly string[];
	output: "text" | "wide" | "json";
}

/** The agent compares in turns, beside its other work. */
const DIFF_MS = 10 * 60_000;
/** Rows of the text, of each kind. */
const ROWS_MOST = 40;

/**
 * Status 1: the file cannot be used.
 *
 * @throws UsageError
 */
export async function policyDiffCommand(
	file: string | undefined,
	{ delete: deleted = [], ...options }: DiffOptions,
): Promise<number> {
	if (file === undefined && deleted.length === 0)
		throw new UsageError(
			"Cannot compare policies: expected a file, --delete, or both, got neither",
		);
	for (const name of deleted) policiesRequest(name);
	const objects = file === undefined ? [] : policiesAmong(await objectsOf(file));
	const body: PolicyDiffRequest = { objects, ...(deleted.length > 0 && { deleted: [...deleted] }) };
	const socket = agentSocket(options.runDir);
	const call = { body, timeoutMs: DIFF_MS };
	const answer = await ask<PolicyDiffAnswer>(socket, "POST", "/policy-diff", call);
	if (options.output === "json") process.stdout.write(json(answer));
	else {
		const isWide = options.output === "wide";
		const most = isWide ? Number.POSITIVE_INFINITY : ROWS_MOST;
		process.stdout.write(diffText(answer, most, isWide ? undefined : terminalWidth()));
	}
	return EXIT_DONE;
}

/** What opens or closes between two ends. */
interface DiffLine {
	from: string;
	to: string;
	ports: string[];
	flows: number;
}

const DIFF_COLUMNS: readonly Column<DiffLine>[] = [
	{ heading: "FROM", shortest: 20, cell: ({ from }) => from },
	{ heading: "TO", shortest: 20, cell: ({ to }) => to },
	{ heading: "PORTS", shortest: 20, cell: ({ ports }) => portsText(ports) },
	{ heading: "LIVE FLOWS", align: "right", cell: ({ flows }) => flows },
];

const OTHERS = "icmp and others";
const EVERYTHING = ["all tcp", "all udp", "all sctp", OTHERS];

function portsText(ports: readonly string[]): string {
	return EVERYTHING.every((one) => ports.includes(one)) ? "everything" : ports.join(", ");
}

/** A line for each pair; those that cut or open most connections first. */
function linesOf(rows: readonly PolicyDiffEntry[]): DiffLine[] {
	const lines = new Map<string, DiffLine>();
	for (const { from, to, port, protocol, flows } of rows) {
		const key = `${from} ${to}`;
		let line = lines.get(key);
		if (line === undefined) {
			line = { from, to, ports: [], flows: 0 };
			lines.set(key, line);
		}
		const all = protocol === "other" ? OTHERS : `all ${protocol}`;
		line.ports.push(port === null ? all : `${port}/${protocol}`);
		line.flows += flows;
	}
	return [...lines.values()].sort((a, b) => b.flows - a.flows);
}

/**
 * @param most rows of each kind
 * @param width columns of text that there are; undefined: nothing is cut
 */
export function diffText(
	{ opened, closed, isCut, liveFlows, staged, pods }: PolicyDiffAnswer,
	most: number,
	width: number | undefined,
): string {
	const part = (title: string, verb: string, rows: readonly PolicyDiffEntry[], flows: number) => {
		if (rows.length === 0) return `${title}: nothing\n`;
		const lines = linesOf(rows);
		const shown = table(DIFF_COLUMNS, lines.slice(0, most), { width: width && width - 2 });
		const more = lines.length > most ? `  and ${lines.length - most} more (-o wide)\n` : "";
		const live = `${flows} live flow${flows === 1 ? "" : "s"} of this Node`;
		return `${title} (${live} would ${verb})\n${shown.replace(/^(?=.)/gm, "  ")}${more}`;
	};
	const notes = [
		...(staged.length === 0
			? []
			: [`Staged (fairway.dev/audit), so nothing changes for them: ${staged.join(", ")}.`]),
		...(pods === "local"
			? [
					"This Node knows its own Pods alone, because no policy in force speaks of Pods: other pairs of Pods are not compared.",
				]
			: []),
		...(isCut ? ["There is more than is listed; flows are counted in full."] : []),
	];
	return [
		part("Closed", "be cut", closed, liveFlows.closed),
		part("Opened", "go on", opened, liveFlows.opened),
		...notes.map((note) => `${note}\n`),
	].join("\n");
}

const unreadable = (path: string) => (error: Error) => {
	throw new Error(`Cannot read ${path}: ${fileError(error)}`);
};

async function objectsIn(path: string): Promise<unknown[]> {
	if (!(await stat(path).catch(unreadable(path))).isDirectory()) return objectsOf(path);
	const objects: unknown[] = [];
	for (const name of (await readdir(path)).sort())
		if (!name.startsWith(".") && [".yaml", ".yml", ".json"].includes(extname(name)))
			objects.push(...(await objectsOf(join(path, name))));
	return objects;
}

/** @throws Error with the file's name and a position */
async function objectsOf(file: string): Promise<unknown[]> {
	const read = readManifestObjects(await readFile(file, "utf8").catch(unreadable(file)));
	if ("fault" in read) throw new Error(`Cannot read ${file}:${read.fault}`);
	return read.objects;
}
