/**
 * Which files of a directory are manifests, and at which of them to look. The directory is listed again when its
 * times, or where its path leads, have changed.
 */
import { type BigIntStats, realpathSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import type { Cause } from "../files/path_watch.js";
import { firstLine } from "../files/yaml.js";
import type { Turns } from "../loop/turns.js";

const EXTENSIONS = new Set([".yaml", ".yml", ".json"]);
/** A file touched this recently may be changed again without new times. */
const UNSETTLED_MS = 100;
/** Files checked at each poll without an event. */
const FILES_A_POLL = 256;

interface Listed {
	/** Without symlinks. */
	path: string;
	signature: string;
	settled: boolean;
	seenAt: number;
}

export class ManifestListing {
	readonly #directory: string;
	readonly #ignore: readonly string[];
	/** As last listed; undefined: it could not be read. */
	#listed: Listed | undefined;
	/** Where the next poll continues. */
	#pollFrom = 0;
	#problem: string | undefined;

	/** @param ignore paths of files in the directory that are something else */
	constructor(directory: string, ignore: readonly string[]) {
		this.#directory = directory;
		this.#ignore = ignore;
	}

	/** The directory without symlinks; undefined: it could not be read. */
	get path(): string | undefined {
		return this.#listed?.path;
	}

	/** Why the directory cannot be read. */
	get problem(): string | undefined {
		return this.#problem;
	}

	/**
	 * The files to look at for this cause. Undefined: all of them, `read` names them.
	 *
	 * @param files those that are known
	 */
	namesFor(
		cause: Cause,
		files: ReadonlyMap<string, { settled: boolean }>,
	): readonly string[] | undefined {
		const listed = this.#listed;
		if (listed === undefined || cause.kind === "all") return undefined;
		if (cause.kind === "paths") {
			const paths = [...cause.paths];
			if (paths.some((path) => dirname(path) !== listed.path)) return undefined;
			const ignored = this.#ignoredPaths();
			return paths
				.filter((path) => isManifest(basename(path)) && !isIgnored(path, ignored))
				.map((path) => basename(path));
		}
		const stats = statSync(listed.path, { bigint: true, throwIfNoEntry: false });
		if (stats === undefined || !listed.settled || listed.signature !== signatureOf(stats))
			return undefined;
		const names = [...files.keys()];
		const from = this.#pollFrom < names.length ? this.#pollFrom : 0;
		this.#pollFrom = from + FILES_A_POLL;
		const unsettled = [...files].filter(([, { settled }]) => !settled);
		return [...new Set([...names.slice(from, this.#pollFrom), ...unsettled.map(([name]) => name)])];
	}

	/**
	 * Names of all manifests and of those that are known. Undefined: the directory cannot be read, all stays as it
	 * was.
	 */
	async read(known: Iterable<string>, turns: Turns): Promise<string[] | undefined> {
		try {
			const ignored = this.#ignoredPaths();
			const path = realpathSync(this.#directory);
			// Before listing: later changes give the directory other times.
			const stats = statSync(path, { bigint: true });
			const signature = signatureOf(stats);
			const now = performance.now();
			const seenAt = this.#listed?.signature === signature ? this.#listed.seenAt : now;
			const wanted = new Set<string>();
			for (const name of await readdir(path)) {
				if (turns.due) await turns.pass();
				if (isManifest(name) && !isIgnored(join(path, name), ignored)) wanted.add(name);
			}
			for (const name of known) wanted.add(name);
			this.#problem = undefined;
			this.#listed = { path, signature, settled: isSettled(stats, now - seenAt), seenAt };
			return [...wanted];
		} catch (error) {
			this.#listed = undefined;
			this.#problem = `Cannot read the manifests in ${this.#directory}: ${firstLine(error)}; what they said before stays in force`;
			return undefined;
		}
	}

	#ignoredPaths(): ReadonlySet<string> {
		return new Set(this.#ignore.flatMap((path) => [path, realPath(path)]));
	}
}

function isManifest(name: string): boolean {
	return !name.startsWith(".") && EXTENSIONS.has(extname(name));
}

function isIgnored(path: string, ignored: ReadonlySet<string>): boolean {
	return ignored.size > 0 && (ignored.has(path) || ignored.has(realPath(path)));
}

/** Another one: the content may be another. */
export function signatureOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
	return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

/**
 * Whether a file's times are in the past, or have been the same for long enough. (If the clock was set back,
 * they are never in the past.)
 *
 * @param seenFor ms on the monotonic clock since these times were first seen
 */
export function isSettled({ mtimeMs, ctimeMs }: BigIntStats, seenFor: number): boolean {
	const last = mtimeMs > ctimeMs ? mtimeMs : ctimeMs;
	return Date.now() - Number(last) > UNSETTLED_MS || seenFor > UNSETTLED_MS;
}

function realPath(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return path;
	}
}
