/**
 * Tells when what a path leads to may have changed: written in place, renamed over, removed,
 * made again, or reached through another symlink (how Kubernetes swaps a ConfigMap).
 *
 *  1. Every directory whose entries decide where the path leads is watched (inotify).
 *  2. Events are gathered until there is quiet, so that a writer can finish.
 *  3. A slow poll stands behind it, for file systems and moments without events.
 */
import { type FSWatcher, lstatSync, readlinkSync, type Stats, statSync, watch } from "node:fs";
import { basename, dirname, isAbsolute, join, parse, resolve, sep } from "node:path";

export interface PathWatchOptions {
	/** Without an event for so long, the change counts as finished. */
	quietMs?: number;
	/** ... but after so long it is looked at in any case. */
	patienceMs?: number;
	/** Look without any event. */
	pollMs?: number;
}

/** Symlinks on the way to one path, at most; the kernel's own limit. */
const LINKS_MAX = 40;

/** Why it is looked: what may have changed. */
export type Cause =
	/** Anything. */
	| { kind: "all" }
	/** These entries of a directory that a path leads to; their directory without symlinks. */
	| { kind: "paths"; paths: ReadonlySet<string> }
	/** Nothing that made an event. */
	| { kind: "poll" };

/** Which entries of a directory matter. */
interface Names {
	/** On the way to a path: when one changes, the path leads elsewhere. */
	onTheWay: Set<string>;
	/** A path leads to the directory itself, so every entry does. */
	all: boolean;
}

interface Watched {
	names: Names;
	/** Device and inode: a directory that was made again has others. */
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
	/** What the next look is for. */
	#cause: Cause | undefined;
	/** Of events that wait for quiet. */
	#gathered: Cause | undefined;
	#closed = false;

	/** `look` is called after changes, never twice at the same time; it decides what changed. */
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

	/** Other paths from now on. */
	setPaths(paths: readonly string[]): void {
		this.#paths = paths;
		if (!this.#closed) this.#rewatch();
	}

	/** Looks, without waiting for an event. Resolves when a look that began after this call ended. */
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
			// Before looking: what changes from here on makes an event. Entries that are on no path's way
			// change nothing about what is to be watched.
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
				// The directory itself was moved or removed: then the name is its own.
				const itself = name === basename(directory);
				if (name === null || itself || names?.onTheWay.has(name)) this.#onEvent({ kind: "all" });
				else if (names?.all)
					this.#onEvent({ kind: "paths", paths: new Set([join(directory, name)]) });
			});
			// The directory went away: its parent is watched too.
			watcher.on("error", () => this.#onEvent({ kind: "all" }));
			this.#watched.set(directory, { names, identity, watcher });
		} catch {
			// Too many watches on this machine, or gone again: the poll sees the change.
		}
	}
}

function merge(a: Cause | undefined, b: Cause): Cause {
	if (a === undefined || a.kind === "poll") return b;
	if (a.kind === "all" || b.kind === "poll") return a;
	return b.kind === "all" ? b : { kind: "paths", paths: new Set([...a.paths, ...b.paths]) };
}

/** Adds each directory, and which of its entries, that decides where the path leads. */
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
