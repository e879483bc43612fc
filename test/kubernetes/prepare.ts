/** Fairway's image and the cluster's programs, once the options are known to be good: building takes minutes. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "../../src/lab/repository.js";

/** @param args the command's: suites and networks have programs of their own */
export function prepare(args: readonly string[]): void {
	step("locked-image");
	step("locked-kubernetes", ...args);
}

/** A step of scripts/run.mjs, under the lock of all builds. It prints to standard error. */
function step(...args: string[]): void {
	const { status } = spawnSync(
		"flock",
		[root, process.execPath, join(root, "scripts/run.mjs"), ...args],
		{ stdio: ["ignore", 2, 2] },
	);
	if (status !== 0)
		throw new Error(`Cannot prepare the cluster: the step ${args[0]} ended with status ${status}.`);
}
