/** `fairway denials` */
import type { DenialStatus } from "../api/messages/policies.js";
import { type Column, table } from "../text/table.js";
import { duration } from "../text/units.js";
import { EXIT_DONE } from "./exit.js";
import { type ClientOptions, show, terminalWidth } from "./output.js";

export async function denialsCommand(options: ClientOptions): Promise<number> {
	await show<DenialStatus[]>(options, { method: "GET", path: "/denials" }, (rows) =>
		denialsText(rows, Date.now(), terminalWidth()),
	);
	return EXIT_DONE;
}

/**
 * @param now ms since the epoch
 * @param width columns of text that there are; undefined: nothing is cut
 */
export function denialsText(
	rows: readonly DenialStatus[],
	now: number,
	width: number | undefined,
): string {
	if (rows.length === 0) return "Network policy has denied nothing here since the agent's start.\n";
	const columns: readonly Column<DenialStatus>[] = [
		{
			heading: "LAST",
			align: "right",
			cell: ({ last }) =>
				`${duration(Math.max(0, Math.round((now - Date.parse(last)) / 1000)))} ago`,
		},
		{ heading: "FROM", shortest: 16, cell: ({ source, sourcePod }) => sourcePod ?? source },
		{
			heading: "TO",
			shortest: 16,
			cell: ({ destination, destinationPod }) => destinationPod ?? destination,
		},
		{
			heading: "PORT",
			cell: ({ port, protocol }) => (port === null ? protocol : `${port}/${protocol}`),
		},
		{ heading: "DIRECTION", cell: ({ direction }) => direction },
		{
			heading: "BY",
			shortest: 16,
			cell: ({ policy, rule }) =>
				rule === null ? `isolation by ${policy}` : `rule ${rule} of ${policy}`,
		},
		{ heading: "NOTED", align: "right", cell: ({ noted }) => noted },
	];
	return table(columns, rows, { width });
}
