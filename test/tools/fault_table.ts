/**
 * The table of docs/FAULTS.md. With FAIRWAY_RECORD=1 the tests write it; otherwise they compare what
 * holds on any machine, the rows and how they end, with the committed table.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { Test } from "tap";
import { root } from "../../src/lab/repository.js";

export interface FaultRow {
	/** "source check of one Node" */
	fault: string;
	/** "hybrid" */
	mode: string;
	/** From the fault to the change of path; undefined: no path changed. */
	detectMs: number | undefined;
	/** Lost UDP packets, including echoes; the longest stall of a TCP stream. */
	lost: { udp: number; tcpStallMs: number };
	/** The path at the end: "geneve", "down", "direct"... */
	endState: string;
	/** The reason that `peers` gives. */
	words: string;
}

const PAGE = `${root}/docs/FAULTS.md`;
const BEGIN = "<!-- faults: begin -->\n";
const END = "<!-- faults: end -->";
const COLUMNS = ["fault", "mode", "detected", "UDP lost", "TCP stall", "ends", "what happens"];
/** The columns that hold on any machine. */
const [FAULT, MODE, ENDS] = [0, 1, 5];

export class FaultTable {
	private readonly rows: FaultRow[] = [];
	private readonly page: string;

	constructor(page = PAGE) {
		this.page = page;
	}

	add(row: FaultRow): void {
		this.rows.push(row);
	}

	/** Call after the last row: writes the table, or compares with it. */
	finish(t: Test, record = process.env.FAIRWAY_RECORD === "1"): void {
		if (record) {
			writeFileSync(this.page, withTable(readFileSync(this.page, "utf8"), this.rows));
			t.pass(`${this.page} has ${this.rows.length} rows`);
		} else {
			const differences = compare(readFileSync(this.page, "utf8"), this.rows);
			t.same(differences, [], `${this.page} tells what is; FAIRWAY_RECORD=1 writes it`);
		}
	}
}

/** The page with these rows instead of its own. @throws Error if it has no markers. */
export function withTable(page: string, rows: readonly FaultRow[]): string {
	const { before, after } = parts(page);
	const lines = [COLUMNS, COLUMNS.map(() => "---"), ...rows.map(cells)];
	return `${before}${lines.map((line) => `| ${line.join(" | ")} |\n`).join("")}${after}`;
}

/** Differences between the page and the rows, one line each. */
export function compare(page: string, rows: readonly FaultRow[]): string[] {
	const known = new Map<string, string>();
	for (const line of parts(page).table.split("\n").slice(2)) {
		const row = line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, ""));
		if (row.length === COLUMNS.length) known.set(`${row[FAULT]}, ${row[MODE]}`, row[ENDS]!);
	}
	const differences: string[] = [];
	for (const row of rows.map(cells)) {
		const name = `${row[FAULT]}, ${row[MODE]}`;
		const told = known.get(name);
		known.delete(name);
		if (told === undefined) differences.push(`${name}: not on the page`);
		else if (told !== row[ENDS])
			differences.push(`${name}: ends ${row[ENDS]}, the page says ${told}`);
	}
	return [...differences, ...[...known.keys()].map((name) => `${name}: only on the page`)];
}

function cells({ fault, mode, detectMs, lost, endState, words }: FaultRow): string[] {
	const ms = (value: number): string => `${Math.round(value)} ms`;
	const detected = detectMs === undefined ? "–" : ms(detectMs);
	const all = [fault, mode, detected, `${lost.udp}`, ms(lost.tcpStallMs), endState, words];
	return all.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " "));
}

function parts(page: string): { before: string; table: string; after: string } {
	const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
	if (begin < 0 || end < begin)
		throw new Error(
			`Cannot find the table: expected ${BEGIN.trim()} and ${END}, got a page without both`,
		);
	const start = begin + BEGIN.length;
	return { before: page.slice(0, start), table: page.slice(start, end), after: page.slice(end) };
}
