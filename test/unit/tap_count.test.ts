import { spawnSync } from "node:child_process";
import t from "tap";
import { countTap } from "../../scripts/tap_count.mjs";

const rows: { shows: string; tap: string; passed: number; failed: number; skipped?: number }[] = [
	{ shows: "nothing ran", tap: "TAP version 14\n1..0\n", passed: 0, failed: 0 },
	{
		shows: "a parent is not counted beside its children",
		tap: "# Subtest: a\n    ok 1 - x\n    not ok 2 - y\n    1..2\nnot ok 1 - a\n1..1\n",
		passed: 1,
		failed: 1,
	},
	{
		shows: "a file that failed though its points passed counts once",
		tap: "# Subtest: a\n    # Subtest: b\n        ok 1 - x\n        1..1\n    ok 1 - b\nnot ok 1 - a # timeout!\n1..1\n",
		passed: 1,
		failed: 1,
	},
	{
		shows: "a passed sibling does not become a parent",
		tap: "# Subtest: a\n    ok 1 - x\n    1..1\nok 1 - a\nok 2 - b\nnot ok 3 - c\n1..3\n",
		passed: 2,
		failed: 1,
	},
	{
		shows: "buffered subtests",
		tap: "ok 1 - a {\n    ok 1 - x\n    ok 2 - y\n    1..2\n}\n\nnot ok 2 - b {\n    not ok 1 - z\n    1..1\n}\n1..2\n",
		passed: 2,
		failed: 1,
	},
	{
		shows: "a buffered parent that failed alone",
		tap: "not ok 1 - a # timeout! {\n    ok 1 - x\n    1..1\n}\n1..1\n",
		passed: 1,
		failed: 1,
	},
	{
		shows: "diagnostics are not points",
		tap: "not ok 1 - a\n  ---\n  diff: |\n    ok 1 - was\n    not ok 2 - is\n  ...\nok 2 - b\n1..2\n",
		passed: 1,
		failed: 1,
	},
	{
		shows: "skipped and todo",
		tap: "ok 1 - a # SKIP no root\nnot ok 2 - b # TODO later\nok 3 - c\n1..3\n",
		passed: 1,
		failed: 0,
		skipped: 2,
	},
	{ shows: "bailing out", tap: "ok 1 - a\nBail out! no kernel\n", passed: 1, failed: 1 },
];

for (const { shows, tap, passed, failed, skipped = 0 } of rows)
	t.test(shows, async (t) => {
		const { failures, ...count } = countTap(tap);
		t.same(count, { passed, failed, skipped });
		t.equal(failures.length, failed);
	});

t.test("output of tap itself", async (t) => {
	const folder = t.testdir({
		"mixed.test.mjs":
			'import t from "tap"; t.ok(1); t.test("s", async (t) => { t.ok(1); t.ok(0, "lost"); t.skip("later"); });',
	});
	const tap = spawnSync(process.execPath, [`${folder}/mixed.test.mjs`], {
		encoding: "utf8",
		env: { ...process.env, TAP: "1" },
	});
	t.not(tap.status, 0);
	t.match(countTap(tap.stdout), {
		passed: 2,
		failed: 1,
		skipped: 1,
		failures: [{ name: /^s > lost/ }],
	});
	t.match(countTap(tap.stdout).failures[0]!.diagnostics.join("\n"), /mixed\.test\.mjs/);
});

t.test("a failure has the names of its parents and its own diagnostics", async (t) => {
	const tap = [
		"# Subtest: file.test.ts",
		"    # Subtest: passes",
		"        ok 1 - x",
		"        1..1",
		"    ok 1 - passes",
		"    not ok 2 - braces {",
		"        not ok 1 - y",
		"          ---",
		"          diff: |",
		"            -1",
		"          ...",
		"        ok 2 - z",
		"          ---",
		"          note: not of y",
		"          ...",
		"        1..2",
		"    }",
		"    1..2",
		"not ok 1 - file.test.ts",
		"not ok 2 - alone",
	].join("\n");
	t.same(countTap(tap).failures, [
		{ name: "file.test.ts > braces > y", diagnostics: ["diff: |", "  -1"] },
		{ name: "alone", diagnostics: [] },
	]);
});
