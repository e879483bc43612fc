/**
 * Prints and records a bench's result: tables, a line of JSON, and the same in bench/results/, from
 * which bench/RESULTS.md is generated. A run with arguments records nothing.
 */
import { cpus, loadavg, release, totalmem } from "node:os";
import type { Panel } from "./plot.js";
import { type Conditions, record } from "./recorded.js";
import { writeResults } from "./results.js";

export interface Table {
	title: string;
	columns: string[];
	/** The first cell names the row. */
	rows: string[][];
}

export interface Report {
	/** The bench's name. */
	bench: string;
	/** One sentence: the work that was measured, and how often. */
	method: string;
	tables: Table[];
	/** For the plot. */
	panels?: Panel[];
	/** For programs. */
	data: unknown;
}

const loadBefore = loadavg()[0]!;

export function publish(report: Report, look = process.argv.length > 2): void {
	const conditions: Conditions = {
		date: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
		machine: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
		kernel: release(),
		node: process.version,
		load: [loadBefore, loadavg()[0]!],
		seconds: Math.round(performance.now() / 1000),
	};
	for (const table of report.tables) process.stdout.write(`${text(table)}\n`);
	const result = { bench: report.bench, ...conditions, method: report.method, data: report.data };
	process.stdout.write(`${JSON.stringify(result)}\n`);
	if (look) return;
	record({ ...report, conditions });
	writeResults();
}

function text({ title, columns, rows }: Table): string {
	const all = [columns, ...rows];
	const widths = columns.map((_, i) => Math.max(...all.map((row) => [...(row[i] ?? "")].length)));
	const line = (row: string[]) =>
		row
			.map((cell, i) => {
				const blanks = " ".repeat(widths[i]! - [...cell].length);
				return i === 0 ? cell + blanks : blanks + cell;
			})
			.join("  ")
			.trimEnd();
	return `\n${title}\n${all.map(line).join("\n")}`;
}
