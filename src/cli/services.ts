/** `fairway services` */
import { agentSocket, ask } from "../api/client.js";
import type {
	BackendStatus,
	FrontendStatus,
	ServiceStatus,
	ServicesRequest,
} from "../api/messages/services.js";
import { type Column, table } from "../text/table.js";
import { EXIT_DONE, UsageError } from "./exit.js";
import { json, terminalWidth } from "./output.js";

export interface ServicesOptions {
	runDir: string;
	output: "text" | "wide" | "json";
}

/** @param service "namespace/name"; undefined: all of them */
export async function servicesCommand(
	service: string | undefined,
	{ runDir, output }: ServicesOptions,
): Promise<number> {
	const socket = agentSocket(runDir);
	const body = service === undefined ? undefined : servicesRequest(service);
	const rows =
		body === undefined
			? await ask<ServiceStatus[]>(socket, "GET", "/services")
			: await ask<ServiceStatus[]>(socket, "POST", "/services", { body });
	if (output === "json") process.stdout.write(json(rows));
	else {
		const most = output === "wide" || body !== undefined ? Number.POSITIVE_INFINITY : LINES_MOST;
		const width = output === "wide" ? undefined : terminalWidth();
		process.stdout.write(servicesText(rows, most, width));
	}
	return EXIT_DONE;
}

/** @throws UsageError */
export function servicesRequest(text: string): ServicesRequest {
	const [, namespace, name] = /^([^/\s]+)\/([^/\s]+)$/.exec(text) ?? [];
	if (namespace === undefined || name === undefined)
		throw new UsageError(
			`Cannot show the Service ${JSON.stringify(text)}: expected NAMESPACE/NAME, got ${text.includes("/") ? "something else" : "no namespace"}`,
		);
	return { namespace, name };
}

/** Frontends or backends of one port in the table of all Services; the rest is counted. */
const LINES_MOST = 4;

interface Line {
	service: string;
	port: string;
	type: string;
	frontend: string;
	backend: string;
	node: string;
	state: string;
	path: string;
}

const COLUMNS: readonly Column<Line>[] = [
	{ heading: "SERVICE", shortest: 20, cell: ({ service }) => service },
	{ heading: "PORT", shortest: 12, cell: ({ port }) => port },
	{ heading: "TYPE", cell: ({ type }) => type },
	{ heading: "FRONTENDS", shortest: 20, cell: ({ frontend }) => frontend },
	{ heading: "BACKENDS", shortest: 20, cell: ({ backend }) => backend },
	{ heading: "NODE", shortest: 10, cell: ({ node }) => node },
	{ heading: "STATE", cell: ({ state }) => state },
	{ heading: "PATH", cell: ({ path }) => path },
];

/**
 * @param most lines of a Service's port
 * @param width columns of text that there are; undefined: nothing is cut
 */
export function servicesText(
	rows: readonly ServiceStatus[],
	most: number,
	width: number | undefined,
): string {
	if (rows.length === 0) return "Fairway serves no Services here.\n";
	const lines = rows.flatMap((row) => linesOf(row, most));
	const text = table(COLUMNS, lines, { width });
	if (most !== Number.POSITIVE_INFINITY) return text;
	const why = rows.flatMap(({ namespace, name, port, protocol, why }) =>
		why.map((sentence) => `${namespace}/${name} ${port}/${protocol}: ${sentence}\n`),
	);
	return `${text}\n${why.join("")}`;
}

/** Frontends and backends under each other, beside the port on its first line. */
function linesOf(row: ServiceStatus, most: number): Line[] {
	const { namespace, name, portName, port, protocol, type } = row;
	const frontends = shortened(row.frontends, most).map(frontendText);
	const backends = shortened(row.backends, most).map(backendCells);
	const count = Math.max(1, frontends.length, backends.length);
	return Array.from({ length: count }, (_, i) => ({
		service: i > 0 ? "" : row.isFormer ? "(an earlier agent's)" : `${namespace}/${name}`,
		port: i === 0 ? `${portName === "" ? "" : `${portName} `}${port}/${protocol}` : "",
		type: i === 0 ? type : "",
		frontend: frontends[i] ?? "",
		...(backends[i] ?? (i === 0 ? { ...NO_BACKEND, backend: "none" } : NO_BACKEND)),
	}));
}

const NO_BACKEND = { backend: "", node: "", state: "", path: "" };

/** The last one is a number where there are more. */
function shortened<T>(all: readonly T[], most: number): (T | number)[] {
	return all.length <= most ? [...all] : [...all.slice(0, most - 1), all.length - most + 1];
}

function frontendText(frontend: FrontendStatus | number): string {
	if (typeof frontend === "number") return `and ${frontend} more`;
	const { address, port, kind } = frontend;
	if (kind === "nodePort") return `${address.includes(":") ? "[*]" : "*"}:${port}`;
	return place(address, port);
}

function backendCells(backend: BackendStatus | number) {
	if (typeof backend === "number") return { ...NO_BACKEND, backend: `and ${backend} more` };
	const { address, port, node, state, path } = backend;
	return { backend: place(address, port), node: node === "" ? "-" : node, state, path };
}

function place(address: string, port: number): string {
	return `${address.includes(":") ? `[${address}]` : address}:${port}`;
}
