/**
 * Copies CNI plugins to a Node:
 *
 *  1. fairway-cni always, because a new agent may come with a new plugin
 *  2. the reference plugins only where they are missing: the Node's own are kept
 *
 * A container runtime may run a plugin at any moment, so each is copied under a temporary name in the same
 * directory and renamed over the former one.
 */
import {
	accessSync,
	chmodSync,
	constants,
	copyFileSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
} from "node:fs";
import { join } from "node:path";

const OWN = "fairway-cni";
const REFERENCE = ["loopback", "portmap"] as const;
/** Name of an interrupted copy. The runtime runs plugins by name and never looks at these. */
const TEMPORARY = /^\.fairway-[\w-]+\.new$/;

export interface InstalledPlugins {
	/** Copied, by name. */
	installed: string[];
	/** There already: the same content, or the Node's own reference plugin. */
	kept: string[];
}

/**
 * @param from the directory that holds them all
 * @param to the runtime's plugin directory, which must exist
 * @throws Error when one cannot be copied; those before it are in place
 */
export function installPlugins(from: string, to: string): InstalledPlugins {
	const result: InstalledPlugins = { installed: [], kept: [] };
	try {
		for (const name of readdirSync(to)) if (TEMPORARY.test(name)) rmSync(join(to, name));
	} catch (error) {
		throw new Error(`Cannot install CNI plugins in ${to}: ${(error as Error).message}`, {
			cause: error,
		});
	}
	for (const name of [OWN, ...REFERENCE]) {
		const source = join(from, name);
		const target = join(to, name);
		const kept = name === OWN ? isSame(source, target) : isProgram(target);
		if (!kept) replace(source, target, join(to, `.fairway-${name}.new`));
		result[kept ? "kept" : "installed"].push(name);
	}
	return result;
}

function isSame(source: string, target: string): boolean {
	return isProgram(target) && readFileSync(source).equals(readFileSync(target));
}

function isProgram(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return statSync(path).isFile();
	} catch {
		return false;
	}
}

function replace(source: string, target: string, temporary: string): void {
	try {
		copyFileSync(source, temporary);
		chmodSync(temporary, 0o755);
		renameSync(temporary, target);
	} catch (error) {
		rmSync(temporary, { force: true });
		throw new Error(`Cannot install ${target}: ${(error as Error).message}`, { cause: error });
	}
}
