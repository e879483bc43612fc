/** `fairway cleanup` */
import { existsSync, rmdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { DirectoryLock } from "../api/lock.js";
import { Reconciler } from "../reconcile/reconciler.js";
import { EXIT_DONE, UsageError } from "./exit.js";

export async function cleanupCommand(options: { runDir: string; pinDir: string }): Promise<number> {
	// Without root, everything looks clean.
	if (process.getuid?.() !== 0) {
		throw new UsageError("Cannot clean up: must run as root");
	}
	const runDir = resolve(options.runDir);
	const pinDir = resolve(options.pinDir);
	const locks: DirectoryLock[] = [];
	// A running agent would create everything again.
	for (const directory of [runDir, pinDir].filter((path) => existsSync(path))) {
		const lock = DirectoryLock.take(directory);
		if (lock === undefined) {
			throw new Error(`Cannot clean up: ${directory} is locked by a running agent`);
		}
		locks.push(lock);
	}
	await Reconciler.cleanup({ pinDir, runDir, log: stderrLog });
	for (const lock of locks) {
		lock.release();
	}
	removeRunDir(runDir);
	return EXIT_DONE;
}

/** Removes the files of agent and plugin; the directory stays if it has others. */
function removeRunDir(runDir: string): void {
	for (const name of ["agent.sock", "endpoints", "deletions", "lock", "paths.json"]) {
		rmSync(join(runDir, name), { recursive: true, force: true });
	}
	try {
		rmdirSync(runDir);
	} catch (error) {
		const { code = "" } = error as NodeJS.ErrnoException;
		if (!["ENOENT", "ENOTEMPTY"].includes(code)) {
			throw error;
		}
	}
}

/** Shows the warnings and errors of the reconciler's log on the terminal. */
const stderrLog = {
	debug: () => undefined,
	info: () => undefined,
	warn: (_facts: object, message: string) => void process.stderr.write(`fairway: ${message}\n`),
	error: (_facts: object, message: string) => void process.stderr.write(`fairway: ${message}\n`),
};
