/**
 * Reports when the target of a path may have changed: written in place, replaced by rename, removed, created
 * again, or reached through another symlink (as Kubernetes replaces a ConfigMap).
 *
 *  1. Watches (inotify) every directory whose entries decide where the path leads.
 *  2. Collects events until there is a pause, so that a writer can finish.
 *  3. Polls slowly as a fallback, for file systems and situations without events.
 */
import { type FSWatcher, lstatSync, readlinkSync, type Stats, statSync, watch } from "node:fs";
import { basename, dirname, isAbsolute, join, parse, resolve, sep } from "node:path";

export interface PathWatchOptions {
	/** A change counts as finished after this time without an event. */
	quietMs?: number;
	/** Maximum time after which a change is looked at in any case. */
	patienceMs?: number;
	/** Interval of looks without an event. */
	pollMs?: number;
}

/** Maximum number of symlinks in one path, like the kernel's. */
const LINKS_MAX = 40;

/** The cause of a look: what may have changed. */
export type Cause =
	/** Anything. */
	| { kind: "all" }
	/** These entries of a directory that a path leads to; the directory without symlinks. */
	| { kind: "paths"; paths: ReadonlySet<string> }
	/** Nothing that made an event. */
	| { kind: "poll" };

/** The relevant entries of a directory. */
interface Names {
	/** Components of a path: if one changes, the path leads elsewhere. */
	onTheWay: Set<string>;
	/** A path leads to the directory itself, so every entry matters. */
	all: boolean;
}

interface Watched {
	names: Names;
	/** Device and inode, which change if a directory is created again. */
	identity: string;
	watcher: FSWatcher;
}

export class PathWatch {
	readonly #look: (cause: Cause) => void | Promise<void>;
	readonly #quietMs: number;
	readonly #patienceMs: number;
	readonly #pollTimer: NodeJS.Timeout;
	readonly #watched = new Map<string, Watched>();
	#paths: readonly string[];
	#timer: NodeJS.Timeout | undefined;
	#firstEvent = 0;
	#looking: Promise<void> | undefined;
	/** The cause of the next look. */
	#cause: Cause | undefined;
	/** Cause from events that wait for a pause. */
	#gathered: Cause | undefined;
	#closed = false;

	/** Calls `look` after changes, never concurrently; `look` finds what has changed. */
	constructor(
		paths: readonly string[],
		look: (cause: Cause) => void | Promise<void>,
		options: PathWatchOptions = {},
	) {
		this.#paths = paths;
		this.#look = look;
		this.#quietMs = options.quietMs ?? 100;
		this.#patienceMs = options.patienceMs ?? 1000;
		this.#rewatch();
		this.#pollTimer = setInterval(() => {
			if (this.#looking === undefined) void this.now({ kind: "poll" });
		}, options.pollMs ?? 3000);
	}

	/** Replaces the paths. */
	setPaths(paths: readonly string[]): void {
		this.#paths = paths;
		if (!this.#closed) this.#rewatch();
	}

	/** Looks without waiting for an event. Resolves after a look that began after this call. */
	async now(cause: Cause = { kind: "all" }): Promise<void> {
		if (this.#closed) return;
		this.#cause = merge(this.#cause, cause);
		if (this.#looking !== undefined) return this.#looking;
		this.#looking = this.#lookUntilDone();
		try {
			await this.#looking;
		} finally {
			this.#looking = undefined;
		}
	}

	async close(): Promise<void> {
		this.#closed = true;
		clearInterval(this.#pollTimer);
		clearTimeout(this.#timer);
		for (const { watcher } of this.#watched.values()) watcher.close();
		this.#watched.clear();
		await this.#looking;
	}

	async #lookUntilDone(): Promise<void> {
		for (let cause = this.#cause; cause !== undefined && !this.#closed; cause = this.#cause) {
			this.#cause = undefined;
			// Before looking, so that later changes cause events. Entries that are not components of a path
			// do not change the watches.
			if (cause.kind !== "paths") this.#rewatch();
			await this.#look(cause);
		}
	}

	#onEvent(cause: Cause): void {
		if (this.#closed) return;
		this.#gathered = merge(this.#gathered, cause);
		const now = performance.now();
		if (this.#timer === undefined) this.#firstEvent = now;
		clearTimeout(this.#timer);
		const patience = Math.max(0, this.#firstEvent + this.#patienceMs - now);
		this.#timer = setTimeout(
			() => {
				this.#timer = undefined;
				const gathered = this.#gathered;
				this.#gathered = undefined;
				void this.now(gathered);
			},
			Math.min(this.#quietMs, patience),
		);
	}

	#rewatch(): void {
		const wanted = new Map<string, Names>();
		for (const path of this.#paths) collect(resolve(path), wanted);
		for (const [directory, { identity, watcher }] of this.#watched) {
			if (wanted.has(directory) && identityOf(directory) === identity) continue;
			watcher.close();
			this.#watched.delete(directory);
		}
		for (const [directory, names] of wanted) {
			const watched = this.#watched.get(directory);
			if (watched === undefined) this.#watch(directory, names);
			else watched.names = names;
		}
	}

	#watch(directory: string, names: Names): void {
		const identity = identityOf(directory);
		if (identity === undefined) return;
		try {
			const watcher = watch(directory, (_event, name) => {
				const names = this.#watched.get(directory)?.names;
				// If the directory itself was moved or removed, the event has its own name.
				const itself = name === basename(directory);
				if (name === null || itself || names?.onTheWay.has(name)) this.#onEvent({ kind: "all" });
				else if (names?.all)
					this.#onEvent({ kind: "paths", paths: new Set([join(directory, name)]) });
			});
			// The directory is gone; its parent is watched as well.
			watcher.on("error", () => this.#onEvent({ kind: "all" }));
			this.#watched.set(directory, { names, identity, watcher });
		} catch {
			// Too many watches on this machine, or the directory is gone: the poll sees the change.
		}
	}
}

function merge(a: Cause | undefined, b: Cause): Cause {
	if (a === undefined || a.kind === "poll") return b;
	if (a.kind === "all" || b.kind === "poll") return a;
	return b.kind === "all" ? b : { kind: "paths", paths: new Set([...a.paths, ...b.paths]) };
}

/** Adds each directory, with its relevant entries, that decides where the path leads. */
function collect(path: string, wanted: Map<string, Names>): void {
	const namesOf = (directory: string): Names => {
		let names = wanted.get(directory);
		if (names === undefined) {
			names = { onTheWay: new Set(), all: false };
			wanted.set(directory, names);
		}
		return names;
	};
	const add = (directory: string, name: string) => namesOf(directory).onTheWay.add(name);
	let rest = path.split(sep).filter((part) => part !== "");
	let at = parse(path).root;
	for (let links = 0; rest.length > 0; ) {
		const [name = "", ...after] = rest;
		const next = join(at, name);
		const stats = tryStats(next, lstatSync);
		const link = stats?.isSymbolicLink() === true;
		if (link || stats === undefined || after.length === 0) add(at, name);
		if (stats === undefined) return;
		if (!link) {
			at = next;
			rest = after;
			continue;
		}
		if (++links > LINKS_MAX) return;
		const target = tryLink(next);
		if (target === undefined) return;
		const led = isAbsolute(target) ? resolve(target) : resolve(dirname(next), target);
		rest = [...led.split(sep).filter((part) => part !== ""), ...after];
		at = parse(led).root;
	}
	if (tryStats(at, statSync)?.isDirectory()) namesOf(at).all = true;
}

function identityOf(directory: string): string | undefined {
	const stats = tryStats(directory, statSync);
	return stats?.isDirectory() ? `${stats.dev}:${stats.ino}` : undefined;
}

function tryStats(path: string, read: (path: string) => Stats): Stats | undefined {
	try {
		return read(path);
	} catch {
		return undefined;
	}
}

function tryLink(path: string): string | undefined {
	try {
		return readlinkSync(path);
	} catch {
		return undefined;
	}
}
