/**
 * Runs a test file in a network namespace of its own:
 *
 *   import { inNamespace } from "./namespace.js";
 *   if (inNamespace(import.meta.url)) { ...tests... }
 *
 * The child is bound to one CPU, so that per-CPU maps have one relevant value.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const MARK = "FAIRWAY_PACKET_TEST_NAMESPACE";

/** True inside the namespace. Outside, runs the file inside and exits with its status. */
export function inNamespace(url: string): boolean {
	if (process.env[MARK] === url) return true;
	const node = [process.execPath, ...process.execArgv, fileURLToPath(url)];
	const { status, error } = spawnSync("unshare", ["--net", "taskset", "--cpu-list", "0", ...node], {
		stdio: "inherit",
		env: { ...process.env, [MARK]: url },
	});
	if (error) throw new Error(`Cannot unshare the network namespace: ${error.message}`);
	process.exitCode = status ?? 1;
	return false;
}

/** Runs iproute2 commands, one per line; throws with the kernel's message. */
export function ipBatch(lines: string[]): void {
	const { status, stderr } = spawnSync("ip", ["-batch", "-"], {
		input: lines.join("\n"),
		encoding: "utf8",
	});
	if (status !== 0) throw new Error(`Cannot set up the test network: ${stderr}`);
}
