/**
 * What a bench prints and leaves: tables, a line of JSON, and its part of bench/RESULTS.md, which
 * is put together again from what every bench last left in build/bench/results/. A run with
 * arguments of its own is a look, and leaves nothing.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import type { Panel } from "./plot.js";
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
	/** One sentence: what was done, how often. */
	method: string;
	tables: Table[];
	/** For the plot. */
	panels?: Panel[];
	/** For programs. */
	data: unknown;
}

interface Conditions {
	date: string;
	machine: string;
	kernel: string;
	node: string;
	/** Load averages of 1 minute, before and after. */
	load: [number, number];
}

export const top = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
export const resultsDirectory = `${top}/build/bench/results`;

const loadBefore = loadavg()[0]!;

export function publish(report: Report, look = process.argv.length > 2): void {
	const conditions: Conditions = {
		date: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
		machine: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
		kernel: release(),
		node: process.version,
		load: [loadBefore, loadavg()[0]!],
	};
	for (const table of report.tables) process.stdout.write(`${text(table)}\n`);
	const result = { bench: report.bench, ...conditions, method: report.method, data: report.data };
	process.stdout.write(`${JSON.stringify(result)}\n`);
	if (look) return;
	mkdirSync(resultsDirectory, { recursive: true });
	writeFileSync(
		`${resultsDirectory}/${report.bench}.json`,
		`${JSON.stringify({ ...report, conditions }, null, "\t")}\n`,
	);
	writeResults();
}

export type Result = Report & { conditions: Conditions };

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
