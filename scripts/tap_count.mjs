// Counts the test points of a TAP stream (version 14, with subtests, buffered or not). A parent repeats
// the result of its children, so it counts only if it failed and none of them did: a file that timed
// out, crashed, or planned more tests than it ran.

/** So many lines of a failed point's diagnostics are kept. */
const DIAGNOSTIC_LINES = 40;

/**
 * @typedef {{ name: string, diagnostics: string[] }} Failure
 * The name begins with the parents' names: "test/unit/a.test.ts > subtest > point".
 * @returns {{ passed: number, failed: number, skipped: number, failures: Failure[] }}
 */
export function countTap(text) {
	const count = { passed: 0, failed: 0, skipped: 0, failures: [] };
	/** By depth: the points at that depth since the last point one level up. */
	const below = [];
	/** Parents whose children follow in braces. */
	const open = [];
	/** By depth: the name of the parent whose children are read, from "# Subtest: name" or "name {". */
	const parents = [];
	let inDiagnostics = false;
	/** Takes the diagnostics that follow it, which are indented like their "---". */
	let lastFailure;
	let indentation = 0;

	const fail = (name, depth = 0) => {
		count.failed++;
		lastFailure = { name: [...parents.slice(0, depth), name].join(" > "), diagnostics: [] };
		count.failures.push(lastFailure);
	};
	const register = (depth, failed) => {
		below.length = depth + 1;
		below[depth] = { failed: Boolean(below[depth]?.failed) || failed };
	};

	for (const line of text.split("\n")) {
		const depth = (line.length - line.trimStart().length) >> 2;
		const trimmed = line.trim();
		if (inDiagnostics || trimmed === "---") {
			inDiagnostics = trimmed !== "...";
			if (trimmed === "---") indentation = line.indexOf("---");
			else if (inDiagnostics && lastFailure?.diagnostics.length < DIAGNOSTIC_LINES)
				lastFailure.diagnostics.push(line.slice(indentation));
			continue;
		}
		const subtest = /^# Subtest: (.*)$/.exec(trimmed);
		if (subtest) parents[depth] = subtest[1];
		if (trimmed.startsWith("Bail out!")) fail(trimmed);
		if (trimmed === "}") {
			const parent = open.pop();
			if (parent && !parent.ok && !below[parent.depth + 1]?.failed) fail(parent.name, parent.depth);
			if (parent) register(parent.depth, !parent.ok);
			continue;
		}
		const point = /^(not )?ok\b(?: \d+)?(?: -)? ?(.*)$/.exec(trimmed);
		if (!point) continue;
		lastFailure = undefined;
		const ok = point[1] === undefined;
		const name = point[2];
		if (name.endsWith("{")) {
			below.length = depth + 1;
			parents[depth] = name.slice(0, -1).trim();
			open.push({ depth, ok, name: parents[depth] });
			continue;
		}
		const children = below[depth + 1];
		const directive = /(?:^|\s)# (SKIP|TODO)\b/i.test(name);
		if (children) {
			if (!ok && !children.failed) fail(name, depth);
		} else if (directive) count.skipped++;
		else if (ok) count.passed++;
		else fail(name, depth);
		register(depth, !ok && !directive);
	}
	return count;
}
