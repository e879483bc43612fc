// Runs `npm test` for CI and counts the results itself: exit status 0 only if tests ran, none failed or
// was skipped, and the runner succeeded. The last line is "N passed, N failed".
import { spawn } from "node:child_process";
import { once } from "node:events";
import { top } from "./step.mjs";
import { countTap } from "./tap_count.mjs";

const tests = spawn("npm", ["test", "--", "--reporter=tap"], {
	cwd: top,
	stdio: ["ignore", "pipe", "inherit"],
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => tests.kill(signal));

let report = "";
tests.stdout.setEncoding("utf8").on("data", (text) => {
	report += text;
	process.stdout.write(text);
});
const [status, signal] = await once(tests, "close");

const { passed, failed, skipped, failures } = countTap(report);
for (const failure of failures) console.log(`failed: ${failure}`);
if (skipped > 0) console.log(`${skipped} skipped: in CI, everything has to run`);
if (status !== 0) console.log(`the test runner ended with ${signal ?? `status ${status}`}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = passed > 0 && failed === 0 && skipped === 0 && status === 0 ? 0 : 1;
