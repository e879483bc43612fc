// Runs all tests for CI and counts the results itself: `npm test`, then a real Kubernetes without kube-proxy, with the
// smoke tests and upstream's specs of conformance and network policies in one mode, and the chart as Helm renders it.
// Exit status 0 only if tests ran, none failed or was skipped, and the runners succeeded. The last line is "N passed, N failed".
//
// One after the other: the cluster's programs take 10 to 25 minutes to build with an empty Go build cache, on
// all cores, and tests with deadlines of a second would share these cores. Together they stay within 70 minutes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { goRefusal, goVersion } from "./kubernetes.mjs";
import { top } from "./step.mjs";
import { countTap } from "./tap_count.mjs";

const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs an npm script that prints TAP. */
async function count(...script) {
	const tests = spawn("npm", script, { cwd: top, stdio: ["ignore", "pipe", "inherit"] });
	const passOn = (signal) => tests.kill(signal);
	for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, passOn);
	let report = "";
	tests.stdout.setEncoding("utf8").on("data", (text) => {
		report += text;
		process.stdout.write(text);
	});
	const [status, signal] = await once(tests, "close");
	for (const one of ["SIGINT", "SIGTERM"]) process.off(one, passOn);

	const { passed, failed, skipped, failures } = countTap(report);
	for (const failure of failures) console.log(`failed: ${failure}`);
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

if (total.skipped > 0) console.log(`${total.skipped} skipped: in CI, everything has to run`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.passed > 0 && total.failed === 0 && total.skipped === 0 ? 0 : 1;
