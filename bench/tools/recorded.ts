/** Reads and writes the recorded results in bench/results/, one file for each bench. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Report } from "./report.js";

export interface Conditions {
	date: string;
	machine: string;
	kernel: string;
	node: string;
	/** Load averages of 1 minute, before and after. */
	load: [number, number];
	/** Duration of the bench, s. */
	seconds: number;
}

export type Result = Report & { conditions: Conditions };

const directory = fileURLToPath(new URL("../results", import.meta.url));

/** Order of the benches in RESULTS.md; others follow by name. */
const ORDER = [
	"pods",
	"xdp",
	"steps",
	"snat",
	"services",
	"policy",
	"tcp",
	"growth",
	"lag",
	"kube",
	"deployment",
	"probes",
	"failover",
	"quiet",
	"lookup",
	"compile",
	"reconcile",
	"cni",
];

export function record(result: Result): void {
	mkdirSync(directory, { recursive: true });
	// Six digits exceed the accuracy of any value.
	const short = (_: string, value: unknown): unknown =>
		typeof value === "number" ? Number(value.toPrecision(6)) : value;
	writeFileSync(`${directory}/${result.bench}.json`, `${JSON.stringify(result, short)}\n`);
}

export function readRecorded(): Result[] {
	if (!existsSync(directory)) return [];
	return readdirSync(directory)
		.filter((file) => file.endsWith(".json"))
		.map((file) => JSON.parse(readFileSync(`${directory}/${file}`, "utf8")) as Result)
		.sort((a, b) => place(a) - place(b) || a.bench.localeCompare(b.bench));
}

function place({ bench }: Result): number {
	const index = ORDER.indexOf(bench);
	return index < 0 ? ORDER.length : index;
}
