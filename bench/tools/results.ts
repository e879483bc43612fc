/** bench/RESULTS.md and bench/results.svg, put together from what each bench last left. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type Panel, plot } from "./plot.js";
import { type Result, resultsDirectory, type Table, top } from "./report.js";

/** What a reader wants to see first; others follow by name. */
const ORDER = ["pods", "xdp", "snat", "tcp", "growth", "compile", "reconcile", "cni", "pktgen"];

export function writeResults(): void {
	if (!existsSync(resultsDirectory)) return;
	const results = readdirSync(resultsDirectory)
		.filter((file) => file.endsWith(".json"))
		.map((file) => JSON.parse(readFileSync(`${resultsDirectory}/${file}`, "utf8")) as Result)
		.sort((a, b) => place(a) - place(b) || a.bench.localeCompare(b.bench));
	const panels = results.flatMap(({ panels }) => panels ?? []);
	if (panels.length > 0) writeFileSync(`${top}/bench/results.svg`, plot(panels));
	writeFileSync(`${top}/bench/RESULTS.md`, markdown(results, panels));
}

function place({ bench }: Result): number {
	const index = ORDER.indexOf(bench);
	return index < 0 ? ORDER.length : index;
}

function markdown(results: readonly Result[], panels: readonly Panel[]): string {
	const parts = [
		"# Results",
		"Written by `npm run bench`; `npm run bench -- NAME` renews one part. Times of one run are to be compared with each other only: ratios are of values that were measured one after the other, round by round, then the median of these (least to greatest in brackets). CPU time per packet is that of all softirqs and threads on the packet's way, divided by the packets that arrived.",
	];
	if (panels.length > 0) parts.push("![The same as bars](results.svg)");
	for (const { bench, method, tables, conditions } of results) {
		const { date, machine, kernel, node, load } = conditions;
		parts.push(
			`## ${bench}`,
			method,
			`${date}, ${machine}, Linux ${kernel}, Node.js ${node}; load average ${load.map((l) => l.toFixed(1)).join(" before, ")} after.`,
			...tables.map(tableMarkdown),
		);
	}
	return `${parts.join("\n\n")}\n`;
}

function tableMarkdown({ title, columns, rows }: Table): string {
	const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
	const rule = columns.map((_, i) => (i === 0 ? "---" : "--:"));
	return `**${title}**\n\n${[columns, rule, ...rows].map(line).join("\n")}`;
}
