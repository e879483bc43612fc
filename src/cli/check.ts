/** `fairway check` */
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, agentSocket, ask } from "../api/client.js";
import {
	type CheckAnswer,
	type CheckedPeer,
	type CheckProgress,
	type CheckRequest,
	type Leftovers,
	NO_SUCH_PEER,
} from "../api/messages/check.js";
import type { FoundCause } from "../probe/causes.js";
import type { Leg, Way } from "../probe/survey/survey.js";
import type { Mode, Outcome } from "../probe/verdict.js";
import { type Column, table, wrap } from "../text/table.js";
import { milliseconds, percent } from "../text/units.js";
import { EXIT_DONE, EXIT_FAILED, EXIT_NOT_CHECKED, UsageError } from "./exit.js";
import { type ClientOptions, json } from "./output.js";

const PROGRESS_MS = 1_000;

/** EXIT_FAILED: the active mode breaks a path; EXIT_NOT_CHECKED: there is no answer. */
export async function checkCommand(options: ClientOptions & { peer?: string[] }): Promise<number> {
	const body: CheckRequest = options.peer === undefined ? {} : { peer: options.peer };
	const socket = agentSocket(options.runDir);
	const end = new AbortController();
	let answer: CheckAnswer;
	try {
		// However many peers there are: it ends with the answer, with the agent, or with this process.
		answer = await Promise.race([
			ask<CheckAnswer>(socket, "POST", "/check", { body, timeoutMs: Number.POSITIVE_INFINITY }),
			follow(socket, end.signal),
		]);
	} catch (error) {
		if (error instanceof ApiError && error.status === NO_SUCH_PEER)
			throw new UsageError(error.message);
		process.stderr.write(`fairway: ${(error as Error).message}\n`);
		return EXIT_NOT_CHECKED;
	} finally {
		end.abort();
	}
	process.stdout.write(options.output === "json" ? json(answer) : checkText(answer));
	const breaks = answer.modes.some(({ configured, lost }) => configured && lost.length > 0);
	return breaks ? EXIT_FAILED : EXIT_DONE;
}

/** Shows how far the check is, on a terminal. Never resolves; rejects when the agent hangs. */
async function follow(socket: string, signal: AbortSignal): Promise<never> {
	const isTerminal = process.stderr.isTTY === true;
	let shown = "";
	try {
		for (;;) {
			await delay(PROGRESS_MS, undefined, { signal });
			const { done, total } = await ask<CheckProgress>(socket, "GET", "/check");
			if (signal.aborted || !isTerminal) continue;
			shown = `Checked ${done} of ${total} paths`;
			process.stderr.write(`\r${shown}`);
		}
	} catch (error) {
		if (isTerminal && shown !== "") process.stderr.write(`\r${" ".repeat(shown.length)}\r`);
		if (!signal.aborted && !(error instanceof ApiError)) throw error;
		return new Promise(() => undefined);
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

/** "ok", "1500", "1500 -3%" with losses; "FAIL"; "?" */
function legText({ finding, length, loss }: Leg, size: "small" | "full"): string {
	if (finding === "unknown") return "?";
	if (finding === "fails") return "FAIL";
	const lossy = loss !== null && loss >= 0.005 ? ` -${percent(loss)}` : "";
	return `${size === "small" ? "ok" : length}${lossy}`;
}

/** Columns of text around tables and commands. */
const WIDTH = 116;

export function checkText(answer: CheckAnswer): string {
	if (answer.peers.length === 0) return `There are no peers.\n${leftoversText(answer.leftovers)}`;
	const nameWidth = Math.max(...answer.modes.map(({ mode }) => mode.length)) + 1;
	const modes = answer.modes.map(({ mode, configured, sentence }) => {
		const lines = wrap(sentence, WIDTH - nameWidth - 3);
		const first = `${configured ? "*" : " "} ${`${mode}:`.padEnd(nameWidth)} `;
		return `${first}${lines.join(`\n${" ".repeat(first.length)}`)}\n`;
	});
	return [
		table(COLUMNS, answer.peers),
		`\nWhat each mode would do (* active on ${answer.node})\n`,
		...modes,
		verdictLines(answer.peers, answer.mode),
		causesText(answer.causes),
		leftoversText(answer.leftovers),
	].join("");
}

function leftoversText(leftovers: readonly Leftovers[]): string {
	if (leftovers.length === 0) return "";
	const texts = leftovers.map((found) => {
		const { cni, interfaces, routes, chains, tables, connections, files, advice } = found;
		const parts = [
			...counted(interfaces, "interface"),
			...(routes > 0 ? [`${routes} routes by them`] : []),
			...counted(chains, "iptables chain"),
			...counted(tables, "nftables table"),
			...(connections > 0 ? [`${connections} translated connections`] : []),
			...counted(files, "configuration"),
		];
		const steps = advice.flatMap((step) =>
			step.startsWith("$ ") ? [step] : wrap(step, WIDTH - 2),
		);
		return `\n${wrap(`- ${cni}: ${parts.join("; ")}`, WIDTH).join("\n  ")}\n${indent(2, steps)}`;
	});
	return `\nLeft by others\n${texts.join("")}`;
}

function counted(names: readonly string[], what: string): string[] {
	if (names.length === 0) return [];
	const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
	const noun = names.length === 1 ? what : `${what}s`;
	return [`${names.length} ${noun} (${names.slice(0, NAMED).join(", ")}${more})`];
}

/** Peers that the active mode breaks, or would use unverified. */
function verdictLines(peers: readonly CheckedPeer[], mode: Mode): string {
	const lines = peers
		.filter(({ verdicts }) => ["lost", "unproven"].includes(verdicts[mode].outcome))
		.flatMap(({ node, family, verdicts: { [mode]: verdict } }) =>
			wrap(
				`${node} v${family}, ${OUTCOME[verdict.outcome] ?? verdict.outcome}: ${verdict.sentence}`,
				WIDTH - 2,
			),
		);
	return lines.length === 0 ? "" : `\nNot verified for ${mode}\n${indent(2, lines)}`;
}

const OUTCOME: Partial<Record<Outcome, string>> = { lost: "broken", unproven: "unverified" };

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
	return `\nLikely causes\n${texts.join("")}`;
}

/** Names at most; the rest is a number. */
const NAMED = 8;

function suffering({ peers }: FoundCause): string {
	const direction = { there: "→", back: "←", both: "↔", unknown: "" };
	const names = peers
		.slice(0, NAMED)
		.map(({ node, family, suffers }) => `${node} v${family} ${direction[suffers]}`.trimEnd());
	const more = peers.length > NAMED ? ` and ${peers.length - NAMED} more` : "";
	return `Affects ${names.join(", ")}${more}.`;
}

function indent(columns: number, lines: readonly string[]): string {
	return lines.map((line) => `${" ".repeat(columns)}${line}\n`).join("");
}
