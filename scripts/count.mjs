// node scripts/count.mjs REPORT STATUS: what a test run came to, in its own count. Exit status 0
// only when something ran, nothing failed or was skipped, and the runner's STATUS was 0.
import { existsSync, readFileSync } from "node:fs";
import { countTap } from "./tap_count.mjs";

const [report = "", status = "1"] = process.argv.slice(2);
const { passed, failed, skipped, failures } = countTap(
	existsSync(report) ? readFileSync(report, "utf8") : "",
);
for (const failure of failures) console.log(`failed: ${failure}`);
if (skipped > 0) console.log(`${skipped} skipped: in CI, everything has to run`);
if (status !== "0") console.log(`the test runner ended with status ${status}`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = passed > 0 && failed === 0 && skipped === 0 && status === "0" ? 0 : 1;
