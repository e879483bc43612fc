/** The output of Go's test binaries. */
import type { SpecResult } from "./suite.js";

/**
 * What `go test -v` printed → the innermost tests, without the name of the one that has all. A test that failed
 * outside those below it is a result of its own.
 */
export function resultsIn(output: string): SpecResult[] {
	const results: SpecResult[] = [];
	const said = new Map<string, string[]>();
	let running = "";
	for (const line of output.split("\n")) {
		const runs = /^=== (?:RUN|NAME|CONT) +(\S+)/.exec(line)?.[1];
		if (runs !== undefined) running = runs;
		const ended = /^\s*--- (PASS|FAIL): (\S+) \(([\d.]+)s\)/.exec(line);
		if (ended === null) {
			if (/Error|FAILED|Expected|unable/.test(line)) push(said, running, line.trim());
			continue;
		}
		const [, verdict, name = "", seconds = ""] = ended;
		results.push({
			name,
			state: verdict === "PASS" ? "passed" : "failed",
			seconds: Number(seconds),
			message: verdict === "PASS" ? "" : (said.get(name) ?? []).slice(-6).join("; "),
		});
	}
	const below = (name: string, state?: string): boolean =>
		results.some((one) => one.name.startsWith(`${name}/`) && (state ?? one.state) === one.state);
	return results
		.filter(({ name, state }) => (state === "failed" ? !below(name, "failed") : !below(name)))
		.map((one) => ({ ...one, name: shown(one.name) }));
}

/** Without the test that has all others. */
function shown(name: string): string {
	const [first = "", ...rest] = name.replaceAll("_", " ").split("/");
	return rest.length === 0 ? first : rest.join(": ");
}

function push(said: Map<string, string[]>, name: string, line: string): void {
	said.set(name, [...(said.get(name) ?? []), line]);
}
