import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const INSIDE = "FAIRWAY_BENCH_INSIDE";

/** Runs a bench in a network namespace of its own: the program of `url` starts itself again there, with its arguments. */
export async function inOwnNetwork(url: string, bench: () => Promise<void>): Promise<void> {
	if (process.env[INSIDE] !== undefined) return await bench();
	const command = [process.execPath, "--import=tsx", fileURLToPath(url), ...process.argv.slice(2)];
	const child = spawn("unshare", ["--net", "--", ...command], {
		stdio: "inherit",
		env: { ...process.env, [INSIDE]: "1" },
	});
	for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
	const [status] = await once(child, "exit");
	process.exitCode = status ?? 1;
}
