/** `fairway check` */
import { ApiError } from "../api/client.js";
import {
	type CheckAnswer,
	type CheckedPeer,
	type CheckRequest,
	NO_SUCH_PEER,
} from "../api/messages.js";
import type { FoundCause } from "../probe/causes.js";
import type { Leg, Way } from "../probe/survey.js";
import type { Mode } from "../probe/verdict.js";
import { EXIT_DONE, EXIT_FAILED, UsageError } from "./exit.js";
import { type ClientOptions, show } from "./output.js";
import { type Column, milliseconds, percent, table, wrap } from "./table.js";

/** All peers are asked several times over every path, and who is silent has to be waited for. */
const TIMEOUT_MS = 120_000;

/** Fails when the mode that is in force loses a peer. */
export async function checkCommand(options: ClientOptions & { peer?: string }): Promise<number> {
	const body: CheckRequest = options.peer === undefined ? {} : { peer: options.peer };
	const request = { method: "POST", path: "/check", body, timeoutMs: TIMEOUT_MS } as const;
	try {
		const answer = await show<CheckAnswer>(options, request, checkText);
		const loses = answer.modes.some(({ configured, lost }) => configured && lost.length > 0);
		return loses ? EXIT_FAILED : EXIT_DONE;
	} catch (error) {
		if (error instanceof ApiError && error.status === NO_SUCH_PEER)
			throw new UsageError(error.message);
		throw error;
	}
}

const COLUMNS: readonly Column<CheckedPeer>[] = [
	{ heading: "PEER", cell: (peer) => peer.node },
	{ heading: "IP", cell: (peer) => `v${peer.family}` },
	...wayColumns("direct"),
	...wayColumns("tunnel"),
	{
		heading: "RTT",
		align: "right",
		cell: ({ findings }) =>
			milliseconds(findings.direct?.roundTripMs ?? findings.tunnel?.roundTripMs ?? null),
	},
];

function wayColumns(way: Way): Column<CheckedPeer>[] {
	const column = (end: "there" | "back", size: "small" | "full"): Column<CheckedPeer> => ({
		heading: `${end === "there" ? "→" : "←"}${size}`,
		align: "right",
		cell: ({ findings }) => {
			const direction = findings[way]?.[end];
			return direction === undefined ? "-" : legText(direction[size], size);
		},
	});
	return [
		{
			heading: way.toUpperCase(),
			cell: (peer) => {
				const path = peer[way];
				return "kind" in path ? path.kind : "none";
			},
		},
		column("there", "small"),
		column("back", "small"),
		column("there", "full"),
		column("back", "full"),
	];
}

/** "ok", "1500", "1500 -3%" with losses; "NO"; "?" */
function legText({ finding, length, loss }: Leg, size: "small" | "full"): string {
	if (finding === "unknown") return "?";
	if (finding === "fails") return "NO";
	const lossy = loss !== null && loss >= 0.005 ? ` -${percent(loss)}` : "";
	return `${size === "small" ? "ok" : length}${lossy}`;
}

/** Of the text around tables and commands. */
const WIDTH = 116;

export function checkText(answer: CheckAnswer): string {
	if (answer.peers.length === 0) return "No other Node is known.\n";
	const nameWidth = Math.max(...answer.modes.map(({ mode }) => mode.length)) + 1;
	const modes = answer.modes.map(({ mode, configured, sentence }) => {
		const lines = wrap(sentence, WIDTH - nameWidth - 3);
		const first = `${configured ? "*" : " "} ${`${mode}:`.padEnd(nameWidth)} `;
		return `${first}${lines.join(`\n${" ".repeat(first.length)}`)}\n`;
	});
	return [
		table(COLUMNS, answer.peers),
		`\nWhat each mode makes of them (* is in force on ${answer.node})\n`,
		...modes,
		verdictLines(answer.peers, answer.mode),
		causesText(answer.causes),
	].join("");
}

/** Of the mode that is in force: each peer that is not simply carried. */
function verdictLines(peers: readonly CheckedPeer[], mode: Mode): string {
	const lines = peers
		.filter(({ verdicts }) => ["lost", "unproven"].includes(verdicts[mode].outcome))
		.flatMap(({ node, family, verdicts: { [mode]: verdict } }) =>
			wrap(`${node} v${family}, ${verdict.outcome}: ${verdict.sentence}`, WIDTH - 2),
		);
	return lines.length === 0 ? "" : `\nNot proven for ${mode}\n${indent(2, lines)}`;
}

function causesText(causes: readonly FoundCause[]): string {
	if (causes.length === 0) return "";
	const texts = causes.map((cause) => {
		const width = Math.max(...cause.places.map(({ name }) => name.length)) + 2;
		const places = cause.places.map(({ name, what, change }, i) => {
			const prose = (text: string) => wrap(text, WIDTH - 2 - width);
			const [first = "", ...rest] = prose(what);
			// Commands are not wrapped, so that they can be copied.
			const steps = change.flatMap((step) => (step.startsWith("$ ") ? [step] : prose(step)));
			const title = name === cause.places[i - 1]?.name ? "" : name;
			return `  ${title.padEnd(width)}${first}\n${indent(2 + width, [...rest, ...steps])}`;
		});
		return `\n${wrap(`- ${cause.pattern}`, WIDTH).join("\n  ")}\n${indent(2, wrap(suffering(cause), WIDTH - 2))}${places.join("")}`;
	});
	return `\nWhat is known to cause this\n${texts.join("")}`;
}

/** Of many, those that are named. */
const NAMED = 8;

function suffering({ peers }: FoundCause): string {
	const direction = { there: "→", back: "←", both: "↔", unknown: "" };
	const names = peers
		.slice(0, NAMED)
		.map(({ node, family, suffers }) => `${node} v${family} ${direction[suffers]}`.trimEnd());
	const more = peers.length > NAMED ? ` and ${peers.length - NAMED} more` : "";
	return `Seen with ${names.join(", ")}${more}.`;
}

function indent(columns: number, lines: readonly string[]): string {
	return lines.map((line) => `${" ".repeat(columns)}${line}\n`).join("");
}
