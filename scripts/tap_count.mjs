// Counts the test points of a TAP stream (version 14, with subtests, buffered or not). A parent repeats
// the result of its children, so it counts only if it failed and none of them did: a file that timed
// out, crashed, or planned more tests than it ran.

/** @returns {{ passed: number, failed: number, skipped: number, failures: string[] }} */
export function countTap(text) {
	const count = { passed: 0, failed: 0, skipped: 0, failures: [] };
	/** By depth: the points at that depth since the last point one level up. */
	const below = [];
	/** Parents whose children follow in braces. */
	const open = [];
	let inDiagnostics = false;

	const fail = (name) => {
		count.failed++;
		count.failures.push(name);
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
			continue;
		}
		if (trimmed.startsWith("Bail out!")) fail(trimmed);
		if (trimmed === "}") {
			const parent = open.pop();
			if (parent && !parent.ok && !below[parent.depth + 1]?.failed) fail(parent.name);
			if (parent) register(parent.depth, !parent.ok);
			continue;
		}
		const point = /^(not )?ok\b(?: \d+)?(?: -)? ?(.*)$/.exec(trimmed);
		if (!point) continue;
		const ok = point[1] === undefined;
		const name = point[2];
		if (name.endsWith("{")) {
			below.length = depth + 1;
			open.push({ depth, ok, name: name.slice(0, -1).trim() });
			continue;
		}
		const children = below[depth + 1];
		const directive = /(?:^|\s)# (SKIP|TODO)\b/i.test(name);
		if (children) {
			if (!ok && !children.failed) fail(name);
		} else if (directive) count.skipped++;
		else if (ok) count.passed++;
		else fail(name);
		register(depth, !ok && !directive);
	}
	return count;
}
