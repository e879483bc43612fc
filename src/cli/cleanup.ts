/** `fairway cleanup` */
import { existsSync, rmdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { agentSocket } from "../api/client.js";
import { ownConflist, removeConflist } from "../cni/conflist.js";
import { DirectoryLock } from "../linux/lock.js";
import { Reconciler } from "../reconcile/reconciler.js";
import type { Log } from "../text/log.js";
import { EXIT_DONE, UsageError } from "./exit.js";

export async function cleanupCommand(options: {
	runDir: string;
	pinDir: string;
	cniConfDir: string;
	/** Reports what would be removed, also beside a running agent. */
	dryRun?: boolean;
}): Promise<number> {
	// Without root, everything looks clean.
	if (process.getuid?.() !== 0) {
		throw new UsageError("Cannot clean up: must run as root");
	}
	const runDir = resolve(options.runDir);
	const pinDir = resolve(options.pinDir);
	if (options.dryRun) {
		const conflist = ownConflist(resolve(options.cniConfDir), agentSocket(runDir));
		if (conflist !== undefined)
			terminalLog.info({ file: conflist }, "would remove the CNI configuration");
		await Reconciler.cleanup({ pinDir, runDir, log: terminalLog, isDryRun: true });
		for (const file of RUN_FILES.map((name) => join(runDir, name)).filter((path) =>
			existsSync(path),
		))
			terminalLog.info({ file }, "would remove a file of the agent");
		return EXIT_DONE;
	}
	const locks: DirectoryLock[] = [];
	// A running agent would create everything again.
	for (const directory of [runDir, pinDir].filter((path) => existsSync(path))) {
		const lock = DirectoryLock.take(directory);
		if (lock === undefined) {
			throw new Error(`Cannot clean up: ${directory} is locked by a running agent`);
		}
		locks.push(lock);
	}
	// First, so that no Pods are added meanwhile.
	const conflist = removeConflist(resolve(options.cniConfDir), agentSocket(runDir));
	if (conflist !== undefined) terminalLog.info({ file: conflist }, "removed the CNI configuration");
	await Reconciler.cleanup({ pinDir, runDir, log: terminalLog });
	for (const lock of locks) {
		lock.release();
	}
	removeRunDir(runDir);
	process.stdout.write(
		"Removed everything that Fairway made in the kernel. Sysctls and offloads keep their values.\n",
	);
	return EXIT_DONE;
}

const RUN_FILES = [
	...["agent.sock", "endpoints", "deletions", "lock", "paths.json", "policies.json"],
	"cluster.json",
];

/**
 * Removes the files of agent and plugin; the directory stays if it has others, and where it is a mount
 * (in a container).
 */
function removeRunDir(runDir: string): void {
	for (const name of RUN_FILES) {
		rmSync(join(runDir, name), { recursive: true, force: true });
	}
	try {
		rmdirSync(runDir);
	} catch (error) {
		const { code = "" } = error as NodeJS.ErrnoException;
		if (!["EBUSY", "ENOENT", "ENOTEMPTY", "EROFS"].includes(code)) {
			throw error;
		}
	}
}

/** The reconciler's log for a terminal: removed objects, and on standard error the failures. */
const terminalLog: Log = {
	debug: () => undefined,
	info: (fields, message) => void process.stdout.write(`${lineOf(fields, message)}\n`),
	warn: (fields, message) => void process.stderr.write(`fairway: ${lineOf(fields, message)}\n`),
	error: (fields, message) => void process.stderr.write(`fairway: ${lineOf(fields, message)}\n`),
};

/** "detached a program: from_wire-2", with the error where there is one. */
export function lineOf(fields: object, message: string): string {
	const {
		interface: device,
		link,
		sysctl,
		file,
		routes,
		ports,
		err,
	} = fields as Readonly<Record<string, unknown>>;
	const about = [device, link, sysctl, file, ports].filter((name) => typeof name === "string");
	if (typeof routes === "number") about.push(String(routes));
	if (err !== undefined) about.push(err instanceof Error ? err.message : String(err));
	return about.length === 0 ? message : `${message}: ${about.join(", ")}`;
}
