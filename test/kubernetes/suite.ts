/**
 * A suite is a committed list of names, suites/LIST.txt: a spec of the list that does not run is a failure, so a
 * selection that shrinks with a new version is seen. First lines `# labels: QUERY` and `# focus: REGEX` make the
 * list exactly what they select of Kubernetes' specs; in a list that begins with `# all of PROGRAM` are all that it
 * has.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { folders } from "./layout.js";

export interface Suite {
	/** Its list. */
	name: string;
	/** What selects its specs, if not the list. */
	labels: string | undefined;
	focus: string | undefined;
	/** Nothing runs that is not listed. */
	complete: boolean;
	specs: readonly string[];
}

export interface SpecResult {
	name: string;
	/** absent: listed, and not in the program or not selected. */
	state: "passed" | "failed" | "absent";
	seconds: number;
	/** What failed, in the spec's words; "": passed. */
	message: string;
	/** What the reader should know though it passed. */
	note?: string;
}

const fileOf = (name: string): string => join(folders.source, "suites", `${name}.txt`);

export function readSuite(name: string): Suite {
	const lines = readFileSync(fileOf(name), "utf8")
		.split("\n")
		.filter((line) => line !== "");
	const head = lines.filter((line) => line.startsWith("# "));
	const value = (key: string): string | undefined =>
		head.find((line) => line.startsWith(`# ${key}: `))?.slice(`# ${key}: `.length);
	const specs = lines.filter((line) => !line.startsWith("# "));
	return { name, labels: value("labels"), focus: value("focus"), complete: head.length > 0, specs };
}

/** Makes a list of the specs that passed. */
export function writeSuite(name: string, results: readonly SpecResult[]): void {
	const passed = results.filter(({ state }) => state === "passed").map((spec) => spec.name);
	writeFileSync(fileOf(name), `${passed.toSorted().join("\n")}\n`);
}

/** A result for each spec of the list, and a failure for each that ran without being listed. */
export function compared(suite: Suite, results: readonly SpecResult[]): SpecResult[] {
	const ran = new Map(results.map((result) => [result.name, result]));
	const listed = suite.specs.map(
		(name) =>
			ran.get(name) ??
			({ name, state: "absent", seconds: 0, message: "The spec did not run." } as const),
	);
	const unlisted = results
		.filter(({ name }) => suite.complete && !suite.specs.includes(name))
		.map((result) => ({
			...result,
			state: "failed" as const,
			message: `The spec is selected, but is not in ${suite.name}.txt. ${result.message}`,
		}));
	return [...listed, ...unlisted];
}
