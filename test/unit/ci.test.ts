/** .ci/run, with stand-ins for npm and go: however it ends, the last line has the counts. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import t, { type Test } from "tap";

const ci = resolve(import.meta.dirname, "../../.ci/run");

/** npm is this script: $1 is test or run, $3 is test:cluster or test:chart. */
function start(t: Test, npm: string): { process: ChildProcess; asked: () => string[] } {
	const folder = t.testdir({
		bin: { npm: `#!/bin/sh\necho "$*" >>"$ASKED"\n${npm}`, go: "#!/bin/sh\necho go1.26.0\n" },
	});
	spawnSync("chmod", ["+x", join(folder, "bin/npm"), join(folder, "bin/go")]);
	const asked = join(folder, "asked");
	return {
		process: spawn(ci, {
			env: {
				...process.env,
				PATH: `${folder}/bin:${process.env.PATH}`,
				ASKED: asked,
				NODE: process.execPath,
				CI: "1",
			},
			stdio: ["ignore", "pipe", "pipe"],
		}),
		asked: () => readFileSync(asked, "utf8").trim().split("\n"),
	};
}

async function ended(run: ChildProcess, onText: (text: string) => void = () => {}) {
	let text = "";
	run.stdout!.setEncoding("utf8").on("data", (piece: string) => {
		text += piece;
		onText(text);
	});
	const [status] = (await once(run, "close")) as [number | null];
	return { status, last: text.trimEnd().split("\n").at(-1), text };
}

t.test("all tests passed", async (t) => {
	const run = start(t, "echo 'ok 1 - a'");
	t.match(await ended(run.process), { status: 0, last: "3 passed, 0 failed" });
	t.match(run.asked(), [/^test -- /, /test:cluster/, /test:chart/]);
});

t.test("failures are told again at the end", async (t) => {
	const run = start(t, "echo 'not ok 1 - a'\necho '  ---\n  found: 2\n  ...'\necho 'ok 2 - b'");
	const { text } = await ended(run.process);
	const told = "failed: a\n    found: 2\n";
	t.ok(text.endsWith(`${told}${told}${told}3 passed, 3 failed\n`));
});

t.test("a build that fails is a failure, and the other tests run", async (t) => {
	const run = start(t, "[ $1 = test ] && exit 2\necho 'ok 1 - a'");
	t.match(await ended(run.process), { status: 1, last: "2 passed, 1 failed" });
});

t.test("a runner that fails after its tests passed is a failure", async (t) => {
	const run = start(t, "echo 'ok 1 - a'\n[ $1 != test ]");
	t.match(await ended(run.process), { status: 1, last: "3 passed, 1 failed" });
});

t.test("a runner that cannot be started is a failure", async (t) => {
	const folder = t.testdir({});
	const run = spawnSync(process.execPath, [resolve(ci, "../../scripts/ci.mjs")], {
		encoding: "utf8",
		env: { PATH: folder, CI: "1" },
	});
	t.equal(run.status, 1);
	t.equal(run.stdout.trimEnd().split("\n").at(-1), "0 passed, 2 failed");
});

t.test("a machine without Node.js", async (t) => {
	const run = spawnSync("/bin/sh", [ci], { encoding: "utf8", env: { PATH: t.testdir({}) } });
	t.equal(run.status, 1);
	t.equal(run.stdout, "0 passed, 1 failed\n");
	t.match(run.stderr, /expected Node\.js/);
});

/** An npm that runs until a signal comes. */
const untilSignal = (onSignal: string): string => `exec "$NODE" -e '
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => { ${onSignal} });
setInterval(() => {}, 1e9);
console.log("ok 1 - a");
'`;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
	t.test(`${signal}: the running tests end, the rest is not started`, async (t) => {
		const run = start(t, untilSignal(`console.log("ok 2 - removed by", signal); process.exit(1);`));
		let sent = false;
		const result = await ended(run.process, (text) => {
			if (sent || !text.includes("ok 1 - a")) return;
			sent = true;
			run.process.kill(signal);
		});
		t.match(result, { status: 1, last: "2 passed, 1 failed" });
		t.match(result.text, `removed by ${signal}`);
		t.equal(run.asked().length, 1);
	});

t.test("a second signal does not wait for tests that do not end", async (t) => {
	const run = start(t, untilSignal(`console.log("# goes on");`));
	let sent = 0;
	const result = await ended(run.process, (text) => {
		const due = text.includes("# goes on") ? 2 : text.includes("ok 1 - a") ? 1 : 0;
		for (; sent < due; sent++) run.process.kill("SIGTERM");
	});
	t.match(result, { status: 1, last: "1 passed, 1 failed" });
});
