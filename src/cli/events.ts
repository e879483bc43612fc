/** `fairway events` */
import { agentSocket, ask } from "../api/client.js";
import type { PathEvent } from "../api/messages/paths.js";
import { type Column, table } from "../text/table.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, json } from "./output.js";
import { withoutPath } from "./peers.js";

export async function eventsCommand(options: ClientOptions & { peer?: string }): Promise<number> {
	const all = await ask<PathEvent[]>(agentSocket(options.runDir), "GET", "/events");
	const events = all.filter(({ node }) => options.peer === undefined || node === options.peer);
	if (options.output === "json") process.stdout.write(json(events));
	else if (events.length === 0 && all.length > 0)
		process.stdout.write(`No path to ${options.peer} has changed, or there is no such peer.\n`);
	else process.stdout.write(eventsText(events));
	return EXIT_DONE;
}

const COLUMNS: readonly Column<PathEvent>[] = [
	{ heading: "TIME", cell: (event) => event.time },
	{ heading: "NODE", cell: (event) => event.node },
	{ heading: "IP", cell: (event) => `v${event.family}` },
	{ heading: "FROM", cell: (event) => event.from ?? "-" },
	{ heading: "TO", cell: (event) => event.to },
	{ heading: "MTU", align: "right", cell: (event) => event.mtu || "-" },
	{ heading: "REASON", cell: (event) => withoutPath(event.reason) },
];

export function eventsText(events: readonly PathEvent[]): string {
	return events.length === 0 ? "No path has changed.\n" : table(COLUMNS, events);
}
