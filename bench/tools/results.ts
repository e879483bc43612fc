/**
 * Generates bench/RESULTS.md, bench/results.svg and the table in README.md from what the benches
 * have recorded.
 *
 *   bench/tools/results.ts      writes them, as every bench does when it ends
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { plot } from "./plot.js";
import { type Result, readRecorded } from "./recorded.js";
import type { Table } from "./report.js";
import { shortSummary, summary } from "./summary.js";

const top = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const BEGIN = "<!-- npm run bench writes from here -->";
const END = "<!-- to here -->";

/** The generated texts, by path from the top of the checkout; `readme` is the current README. Pure. */
export function renderResults(results: readonly Result[], readme: string): Map<string, string> {
	const panels = results.flatMap(({ panels }) => panels ?? []);
	const files = new Map([["bench/RESULTS.md", markdown(results)]]);
	if (panels.length > 0) files.set("bench/results.svg", plot(panels));
	const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
	if (begin < 0 || end < begin)
		throw new Error(`Cannot write README.md: expected the lines "${BEGIN}" and "${END}"`);
	const table = rows(shortSummary(results), { words: true });
	const [first] = results;
	const when = first === undefined ? "" : `\n\n${whenAndWhere(first)}`;
	const text = `${readme.slice(0, begin)}${BEGIN}\n\n${table}${when}\n\n${readme.slice(end)}`;
	return files.set("README.md", text);
}

export function writeResults(): void {
	const readme = readFileSync(`${top}/README.md`, "utf8");
	for (const [path, text] of renderResults(readRecorded(), readme))
		writeFileSync(`${top}/${path}`, text);
}

function markdown(results: readonly Result[]): string {
	const parts = [
		"# Results",
		"Written by `npm run bench` from `results/`; `npm run bench -- NAME` renews one part. Compare absolute times only within one run. Ratios pair values that were measured one after the other in the same round; shown is their median, with the smallest and largest in brackets. CPU time per packet is that of all softirqs and threads on the packet's path, divided by the packets that arrived.",
		"## Summary",
		"Each line is a median of ratios and their spread, unless it names a unit; the sections below have the values behind it. A floor is not a target: it is the cost of the least work possible on this machine, and shows how much room is left.",
		rows(summary(results), { words: true }),
		"![Selected results as bars](results.svg)",
	];
	for (const result of results) {
		const { bench, method, tables, conditions } = result;
		const [before, after] = conditions.load.map((load) => load.toFixed(1));
		parts.push(
			`## ${bench}`,
			method,
			`${whenAndWhere(result)} Load average ${before} before, ${after} after; duration ${conditions.seconds} s.`,
			...tables.map((table) => `**${table.title}**\n\n${rows(table)}`),
		);
	}
	return `${parts.join("\n\n")}\n`;
}

function whenAndWhere({ conditions: { date, machine, kernel, node } }: Result): string {
	return `${date}, ${machine}, Linux ${kernel}, Node.js ${node}.`;
}

/** The first column holds names, the others numbers; with `words`, all hold text. */
function rows({ columns, rows }: Table, { words = false } = {}): string {
	const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
	const rule = columns.map((_, i) => (i === 0 || words ? "---" : "--:"));
	return [columns, rule, ...rows].map(line).join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeResults();
