// How a set-up step prints messages, runs a program, and detects that there is nothing to do.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	writeFileSync,
} from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const top = dirname(dirname(fileURLToPath(import.meta.url)));

/** The machine does not meet a requirement: one sentence, exit status 2. */
export class Refusal extends Error {}

/** A step failed: exit status 1. */
export class Failure extends Error {}

/** Prints a message for the user to standard error; standard output belongs to the command. */
export function say(text) {
	process.stderr.write(`fairway: ${text}\n`);
}

/** Runs a program to its end. `quiet`: shows its output only if it fails. */
export function run(command, args, { quiet = false, ...options } = {}) {
	const result = spawnSync(command, args, {
		cwd: top,
		stdio: quiet ? ["ignore", "pipe", "pipe"] : ["ignore", process.stderr, process.stderr],
		encoding: "utf8",
		maxBuffer: 64 << 20,
		...options,
	});
	if (result.error?.code === "ENOENT")
		throw new Failure(`Cannot run ${command}: not found in PATH.`);
	if (result.error) throw new Failure(`Cannot run ${command}: ${result.error.message}`);
	if (result.status !== 0) {
		if (quiet) process.stderr.write(result.stdout + result.stderr);
		throw new Failure(
			`Cannot go on: \`${[command, ...args.slice(0, 4)].join(" ")}\` ended with ${result.signal ?? `status ${result.status}`}.`,
		);
	}
	return result.stdout ?? "";
}

/**
 * Hands the terminal to a program and returns its exit status. Ctrl-C reaches the program from the
 * terminal; this process only has to outlive it. Signals sent to this process alone are forwarded.
 */
export function handOver(command, args, options = {}) {
	return new Promise((resolve, reject) => {
		const child = spawn(command, args, { cwd: top, stdio: "inherit", ...options });
		const passOn = (signal) => child.kill(signal);
		const fromTerminal = () => {
			if (!process.stdin.isTTY) child.kill("SIGINT");
		};
		process.on("SIGINT", fromTerminal);
		process.on("SIGTERM", passOn);
		process.on("SIGHUP", passOn);
		child.on("error", reject);
		child.on("close", (status, signal) => {
			process.off("SIGINT", fromTerminal);
			process.off("SIGTERM", passOn);
			process.off("SIGHUP", passOn);
			resolve(status ?? 128 + constants.signals[signal]);
		});
	});
}

/** Files under `folder` (relative to the top) whose names match, sorted. */
export function filesUnder(folder, matches) {
	let entries;
	try {
		entries = readdirSync(join(top, folder), { recursive: true, withFileTypes: true });
	} catch (error) {
		if (error.code === "ENOENT") return [];
		throw error;
	}
	return entries
		.filter((entry) => entry.isFile() && matches.test(entry.name))
		.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(top.length + 1))
		.sort();
}

/** A hash over names and contents; times are wrong after a checkout. */
export function fingerprint(files, ...more) {
	const hash = createHash("sha256");
	for (const file of files)
		hash
			.update(`${file}\0`)
			.update(readFileSync(join(top, file)))
			.update("\0");
	for (const text of more) hash.update(`${text}\0`);
	return hash.digest("hex");
}

/**
 * Runs `build` unless the file `stamp` holds the current fingerprint of the `inputs`. Then writes their
 * fingerprint as it is after the build, which may have changed them.
 */
export function once(stamp, inputs, build) {
	const path = join(top, stamp);
	if (existsSync(path) && readFileSync(path, "utf8") === inputs()) return;
	build();
	mkdirSync(dirname(path), { recursive: true });
	replaceFile(path, inputs());
}

/** Replaces a file atomically: a reader sees the old content or the new. */
function replaceFile(path, content) {
	writeFileSync(`${path}.new`, content);
	renameSync(`${path}.new`, path);
}
