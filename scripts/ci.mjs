// Runs all tests for CI and counts the results itself: `npm test`, then a real Kubernetes without kube-proxy, with the
// smoke tests and upstream's specs of conformance and network policies in one mode, and the chart as Helm renders it.
// Exit status 0 only if tests ran, none failed or was skipped, and the runners succeeded. The last line is "N passed,
// N failed", whatever happens: a build that fails, a runner that cannot start, an interrupt. What was interrupted has
// failed, and nothing else is started then.
//
// One after the other: the cluster's programs take 10 to 25 minutes to build with an empty Go build cache, on
// all cores, and tests with deadlines of a second would share these cores. Together they stay within 70 minutes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { goRefusal, goVersion } from "./kubernetes.mjs";
import { top } from "./step.mjs";
import { countTap } from "./tap_count.mjs";

/** How long an interrupted runner may remove what it made. It is killed then, or by a second signal. */
const CLEAN_UP_MS = 60_000;

const total = { passed: 0, failed: 0, skipped: 0 };
/** Told again at the end: whoever reads only the end of CI's output sees what failed. */
const allFailures = [];
let running;
let interruptedBy;
let giveUp;
/** Settles when an interrupted runner has had its time. */
const overdue = new Promise((resolve) => {
	giveUp = () => {
		running?.kill("SIGKILL");
		resolve([null, interruptedBy]);
	};
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
	process.on(signal, () => {
		if (interruptedBy) giveUp();
		else setTimeout(giveUp, CLEAN_UP_MS);
		interruptedBy ??= signal;
		running?.kill(signal);
	});

/** Runs an npm script that prints TAP. */
async function count(...script) {
	if (interruptedBy) return;
	let report = "";
	let ended;
	try {
		running = spawn("npm", script, { cwd: top, stdio: ["ignore", "pipe", "inherit"] });
		running.stdout.setEncoding("utf8").on("data", (text) => {
			report += text;
			process.stdout.write(text);
		});
		ended = await Promise.race([once(running, "close"), overdue]);
	} catch (error) {
		ended = [null, error.message];
	}
	const [status, signal] = ended;

	const { passed, failed, skipped, failures } = countTap(report);
	allFailures.push(...failures);
	// A runner that fails without a failed test has failed itself.
	const alone = failed === 0 && (status !== 0 || passed === 0);
	if (status !== 0)
		console.log(`npm ${script.join(" ")} ended with ${signal ?? `status ${status}`}`);
	total.passed += passed;
	total.failed += failed + (alone ? 1 : 0);
	total.skipped += skipped;
}

await count("test", "--", "--reporter=tap");
const refusal = goRefusal(goVersion());
if (refusal === undefined) {
	await count(
		...["run", "--silent", "test:cluster", "--"],
		...["--services", "fairway", "--mode", "hybrid"],
		...["--suite", "smoke", "--suite", "conformance", "--suite", "netpol"],
	);
	await count("run", "--silent", "test:chart");
} else {
	console.log(`The tests on a cluster did not run. ${refusal}`);
	// CI has Go. Elsewhere everything else may still be tested.
	if (process.env.CI) total.failed++;
}

if (interruptedBy) {
	console.log(`Interrupted by ${interruptedBy}`);
	if (total.failed === 0) total.failed = 1;
}
for (const { name, diagnostics } of allFailures) {
	console.log(`failed: ${name}`);
	for (const line of diagnostics) console.log(`    ${line}`);
}
if (total.skipped > 0) console.log(`${total.skipped} skipped: in CI, everything has to run`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.passed > 0 && total.failed === 0 && total.skipped === 0 ? 0 : 1;
// A runner that did not end in time would keep this process alive.
if (interruptedBy) process.stdout.write("", () => process.exit());
