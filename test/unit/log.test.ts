/** The agent's log, on a FIFO in place of standard output. */
import { execFileSync, spawn } from "node:child_process";
import { constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t from "tap";
import { openLog } from "../../src/agent/log.js";
import { ProblemLog } from "../../src/agent/problem_log.js";
import { withComponent } from "../../src/text/log.js";

function fifo(t: { teardown(remove: () => void): void }): string {
	const directory = mkdtempSync(join(tmpdir(), "fairway-log-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const path = join(directory, "fifo");
	execFileSync("mkfifo", [path]);
	return path;
}

/** By another process: a read of this one that waits for ever would keep it alive. */
function lines(t: { teardown(end: () => void): void }, path: string): AsyncIterable<string> {
	const reader = spawn("cat", [path], { stdio: ["ignore", "pipe", "inherit"] });
	t.teardown(() => reader.kill());
	return createInterface({ input: reader.stdout });
}

t.test("a reader that stops reading does not block the event loop", async (t) => {
	const path = fifo(t);
	// Both ends, so that opening and writing never fail for want of a reader.
	const log = openLog("n1", "info", {
		fd: openSync(path, constants.O_RDWR),
		waitingMax: 256 * 1024,
	});
	const filler = "x".repeat(1000);
	for (let number = 0; number < 1000; number++) log.info({ number, filler }, "line");
	await new Promise((turn) => setImmediate(turn));
	t.pass("a megabyte into a pipe of 64 KiB that nobody reads");

	let expected = 0;
	for await (const text of lines(t, path)) {
		const line = JSON.parse(text);
		if (line.msg === "line") {
			if (line.number !== expected++) break;
		} else {
			t.match(line, { level: "warn", lines: 1000 - expected, msg: /^log lines dropped/ });
			break;
		}
	}
	t.ok(expected > 64 && expected < 1000, "the first lines, in order, then what was dropped");
});

t.test("a line is written at once, and says which component it is from", async (t) => {
	const path = fifo(t);
	const log = openLog("n1", "info", { fd: openSync(path, constants.O_RDWR) });
	withComponent(log, "cni").debug({}, "not at this level");
	withComponent(log, "cni").info({ pod: "web" }, "attached Pod");
	for await (const text of lines(t, path)) {
		const { time, ...line } = JSON.parse(text);
		t.type(Date.parse(time), "number");
		const wanted = { level: "info", node: "n1", component: "cni", pod: "web" };
		t.strictSame(line, { ...wanted, msg: "attached Pod" });
		break;
	}
});

t.test("a problem is logged when it appears and when it is gone", async (t) => {
	const lines: string[] = [];
	const to = (level: string) => (fields: object, message?: string) =>
		void lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
	const problems = new ProblemLog({ info: to("info"), warn: to("warn") } as never);
	for (const current of [["a"], ["a"], ["b"], []]) problems.update(current);
	t.strictSame(lines, [
		'warn problem detected {"problem":"a"}',
		'warn problem detected {"problem":"b"}',
		'info problem resolved {"problem":"a"}',
		'info problem resolved {"problem":"b"}',
	]);
});

t.test("a problem stays the same when only its count changes", (t) => {
	const lines: string[] = [];
	const to = (level: string) => (fields: object) =>
		void lines.push(`${level} ${JSON.stringify(fields)}`);
	let changes = 0;
	const problems = new ProblemLog({ info: to("info"), warn: to("warn") } as never, () => changes++);
	const forms = [
		(n: number) => `Cannot accept more than those: expected usable Pod objects, got ${n} others`,
		(n: number) => `The kernel refuses the new policies of a/p1, a/p2 and ${n} more`,
		(n: number) =>
			`Cannot enforce the egress policies of a/p3: expected at most ${n} rules, got ${n + 1}`,
		() => "Cannot use http.metrics: expected another port than that of http.health 80, got 80",
	];
	for (const n of [21, 22, 120]) {
		problems.update(forms.map((form) => form(n)));
		t.strictSame(
			problems.current,
			forms.map((form) => form(n)),
			"texts are the last ones",
		);
	}
	t.equal(changes, 3);
	t.strictSame(
		lines,
		forms.map((form) => `warn ${JSON.stringify({ problem: form(21) })}`),
	);
	// Names and ports are no counts.
	problems.update(["The kernel refuses the new policies of a/p4, a/p2 and 120 more"]);
	t.equal(lines.filter((line) => line.startsWith("info")).length, 4);
	t.equal(lines.at(4)?.includes("a/p4"), true);
	t.end();
});
