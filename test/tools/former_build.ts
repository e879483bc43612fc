/** A former version of Fairway, built from the history of this checkout: for upgrades and roll-backs. */
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../src/lab/namespace.js";
import { root } from "../../src/lab/repository.js";

const BUILD_MS = 600_000;

/**
 * Builds it under build/former, if that was not done before: a minute.
 *
 * @returns the directory; undefined: the history is not here, as in a shallow clone
 */
export async function formerBuild(commit: string): Promise<string | undefined> {
	const directory = join(root, "build/former", commit);
	const done = join(directory, "built");
	if (existsSync(done)) return directory;
	const known = await run(["git", "-C", root, "cat-file", "-e", `${commit}^{commit}`], {
		mayFail: true,
	});
	if (known.status !== 0) return undefined;
	rmSync(directory, { recursive: true, force: true });
	mkdirSync(directory, { recursive: true });
	const sources = 'git -C "$0" archive "$1" | tar -x -C "$2"';
	await run(["sh", "-euc", sources, root, commit, directory]);
	// A copy of its own: its build must not change the packages of this one. Those that it asks for are among them.
	await run(["cp", "-al", join(root, "node_modules"), directory]);
	copyFileSync(join(root, "package-lock.json"), join(directory, "package-lock.json"));
	await run([process.execPath, join(directory, "scripts/run.mjs"), "build"], {
		timeoutMs: BUILD_MS,
	});
	writeFileSync(done, "");
	return directory;
}
