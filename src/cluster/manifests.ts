/**
 * A directory of Kubernetes manifests as a source of the store.
 *
 *  1. look: at the files that an event names; at all of them when anything may have changed; without
 *     an event at the directory and some of the files in turn (manifest_listing.ts)
 *  2. read those that changed; what cannot be read or parsed keeps what it said before
 *  3. where several files name an object, one of them speaks for it (file_objects.ts)
 *  4. what differs is written to the store, all of one look at once
 *
 * Nothing in the directory ends the agent, and nothing keeps its event loop for more than a few
 * milliseconds: looks are made in slices, large documents are parsed in a worker thread while the
 * other files go on. Small files are read synchronously: a thousand of them take a tenth of the time
 * that they take through the thread pool.
 */
import { existsSync, lstatSync, readFileSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Cause, PathWatch, type PathWatchOptions } from "../files/path_watch.js";
import { firstLine } from "../files/yaml.js";
import { Turns } from "../loop/turns.js";
import { DocumentReader, type DocumentReaderOptions } from "./document_reader.js";
import { FileObjects } from "./file_objects.js";
import { ALL_KINDS, type Reading } from "./kinds.js";
import { type DocumentCache, type ManifestResult, readManifest } from "./manifest_file.js";
import { isSettled, ManifestListing, signatureOf } from "./manifest_listing.js";
import type { Kind, Source, SourceFacts, Store } from "./store.js";

export interface ManifestDirectoryOptions extends PathWatchOptions {
	/** Paths of files in the directory that are something else (the agent's configuration). */
	ignore?: readonly string[];
	/** A file that became empty counts after this time: a writer may just have truncated it. */
	emptyMs?: number;
	/** How long the first look waits for large documents. */
	largeMs?: number;
	/** For large documents. */
	reader?: DocumentReaderOptions;
}

/**
 * An unusable object of these kinds counts as absent, as with the API. If all waited for it, one bad object would keep,
 * after a restart of the agent, endpoints that left a Service and Services that were deleted.
 */
const LEAVABLE: ReadonlySet<Kind> = new Set(["Service", "ServiceCIDR", "EndpointSlice"]);
const BYTES_MAX = 64 << 20;
/** Larger files are read through the thread pool. */
const SYNC_BYTES_MAX = 256 << 10;
/** How long the first look waits for large documents, as a rule; others are ready earlier. */
const LARGE_MS = 2000;

interface ManifestFile {
	/** Signature of the content of `readings`. */
	signature: string;
	/** True: a file with this signature has this content. */
	settled: boolean;
	/** When this signature was first seen, on the monotonic clock. */
	seenAt: number;
	readings: readonly Reading[];
	cache: DocumentCache;
	/** True: `readings` was read from the file; false: the file was never valid. */
	understood: boolean;
	/** Why the last look did not change `readings`. */
	problem: string | undefined;
	symlink: boolean;
}

export class ManifestDirectory implements Source {
	readonly #directory: string;
	readonly #listing: ManifestListing;
	readonly #store: Store;
	readonly #emptyMs: number;
	readonly #objects = new FileObjects();
	readonly #reader: DocumentReader;
	readonly #watch: PathWatch;
	/** By name. */
	#files = new Map<string, ManifestFile>();
	/** Files whose large documents are being parsed, and those that are done. */
	readonly #jobs = new Map<string, Promise<void>>();
	readonly #parsed = new Map<string, { signature: string; result: ManifestResult }>();
	/** Why not all objects of a kind are known. */
	readonly #missingOf = new Map<Kind, string>();
	/** When the directory was last looked at, on the monotonic clock. */
	#lookedAt: number | undefined;
	#closed = false;

	/** Resolves after the first look; a directory that is not there is a problem. */
	static async open(
		directory: string,
		store: Store,
		options: ManifestDirectoryOptions = {},
	): Promise<ManifestDirectory> {
		const source = new ManifestDirectory(directory, store, options);
		await source.resync();
		const jobs = [...source.#jobs.values()];
		const patience = options.largeMs ?? LARGE_MS;
		if (jobs.length > 0)
			await Promise.race([Promise.all(jobs), delay(patience, undefined, { ref: false })]);
		return source;
	}

	private constructor(directory: string, store: Store, options: ManifestDirectoryOptions) {
		const { ignore, emptyMs, reader, ...watchOptions } = options;
		this.#directory = resolve(directory);
		this.#store = store;
		this.#listing = new ManifestListing(
			this.#directory,
			(ignore ?? []).map((path) => resolve(path)),
		);
		this.#emptyMs = emptyMs ?? 500;
		this.#reader = new DocumentReader(reader);
		this.#watch = new PathWatch([this.#directory], (cause) => this.#look(cause), watchOptions);
	}

	/** Looks at the whole directory now. */
	resync(): Promise<void> {
		return this.#watch.now();
	}

	facts(): SourceFacts[] {
		const lookedAt = this.#lookedAt;
		const ageSeconds =
			lookedAt === undefined ? null : Math.round((performance.now() - lookedAt) / 1000);
		const stale = this.#listing.problem !== undefined;
		return ALL_KINDS.map((kind) => {
			const missing = this.#missingOf.get(kind);
			const synced = this.#store.isSynced(kind);
			const facts = { kind, synced, stale, absent: false, ageSeconds, reconnects: 0 };
			return missing === undefined ? facts : { ...facts, missing };
		});
	}

	async close(): Promise<void> {
		this.#closed = true;
		await Promise.all([this.#watch.close(), this.#reader.close()]);
		await Promise.all(this.#jobs.values());
	}

	// ------------------------------------------------------------ 1. look

	async #look(cause: Cause): Promise<void> {
		const turns = new Turns();
		const wasListed = this.#listing.path !== undefined;
		const names =
			this.#listing.namesFor(cause, this.#files) ??
			(await this.#listing.read(this.#files.keys(), turns));
		const changed = new Set<string>();
		if (names !== undefined) {
			const emptied: string[] = [];
			for (const name of names) {
				if (turns.due) await turns.pass();
				if (await this.#lookAt(name, turns, emptied)) changed.add(name);
			}
			if (emptied.length > 0) {
				await delay(this.#emptyMs);
				for (const name of emptied) if (await this.#lookAt(name, turns)) changed.add(name);
			}
		}
		if (names !== undefined) this.#lookedAt = performance.now();
		if (this.#closed || (wasListed && names !== undefined && changed.size === 0)) return;
		// Where the files' symlinks lead is watched as well.
		const links = [...this.#files].filter(([, { symlink }]) => symlink);
		this.#watch.setPaths([this.#directory, ...links.map(([name]) => join(this.#directory, name))]);
		this.#write(changed);
	}

	/** What these files say, to the store. */
	#write(changed: ReadonlySet<string>): void {
		const touched = new Set<string>();
		for (const file of changed)
			for (const name of this.#objects.set(file, this.#files.get(file)?.readings ?? []))
				touched.add(name);
		const files = [...this.#files];
		const problems = files
			.flatMap(([file, { problem }]) => (problem === undefined ? [] : [{ file, message: problem }]))
			.sort((a, b) => (a.file < b.file ? -1 : 1));
		this.#store.update((store) => {
			for (const name of touched) {
				const holder = this.#objects.resolve(name);
				const [kind, key] = name.split(" ") as [Kind, string];
				if (holder === undefined) store.remove(kind, key);
				else store.put(kind, key, holder.record, holder.file);
			}
			const missing = this.#missing();
			this.#missingOf.clear();
			for (const kind of ALL_KINDS) {
				const unknown = LEAVABLE.has(kind) ? undefined : this.#objects.firstUnknown(kind);
				const why = missing ?? (unknown && `${unknown} cannot be used`);
				if (why !== undefined) this.#missingOf.set(kind, why);
				store.setSynced(kind, why === undefined);
			}
			const { problem } = this.#listing;
			const unreadable = problem === undefined ? [] : [{ message: problem }];
			store.report("manifests", [...unreadable, ...problems, ...this.#objects.problems()]);
		});
	}

	/** Why the files do not say all that there is; undefined: they do. */
	#missing(): string | undefined {
		if (this.#listing.path === undefined) return "the directory cannot be read";
		const others = [...this.#files.keys(), ...this.#jobs.keys()].filter(
			(name) => this.#files.get(name)?.understood !== true,
		);
		const [name, ...more] = [...new Set(others)].sort();
		if (name === undefined) return undefined;
		const names = more.length === 0 ? name : `${name} and ${more.length} more`;
		return this.#jobs.has(name) ? `${names} is being read` : `${names} cannot be read`;
	}

	// ------------------------------------------------------------ 2. read

	/**
	 * True: the content of the directory may have changed. With `emptied`, a file that has become empty is
	 * added there and keeps its content.
	 */
	async #lookAt(name: string, turns: Turns, emptied?: string[]): Promise<boolean> {
		const before = this.#files.get(name);
		const after = await this.#read(name, before, turns, emptied);
		if (after === before) return false;
		if (after === undefined) this.#files.delete(name);
		else this.#files.set(name, after);
		return true;
	}

	/** Undefined: the file does not exist (any more). */
	async #read(
		name: string,
		before: ManifestFile | undefined,
		turns: Turns,
		emptied: string[] | undefined,
	): Promise<ManifestFile | undefined> {
		const path = join(this.#directory, name);
		let symlink = before?.symlink ?? false;
		let signature = "";
		let settled = false;
		const seenAt = () => (before?.signature === signature ? before.seenAt : performance.now());
		const failed = (why: string, foreign = false): ManifestFile => {
			const stays = (before?.readings.length ?? 0) > 0;
			// A foreign file hides no policy that something may have to wait for.
			const understood = foreign || before?.understood === true;
			const problem = `Cannot use this manifest: ${why}${stays ? "; what it said before stays in force" : ""}`;
			const same = before?.problem === problem && before.symlink === symlink;
			if (before !== undefined && same) return Object.assign(before, { signature, settled });
			const seen = { signature, settled, seenAt: seenAt() };
			return { ...(before ?? NOTHING), ...seen, understood, problem, symlink };
		};
		const take = (result: ManifestResult): ManifestFile => {
			if ("fault" in result) return failed(result.fault, result.foreign);
			const { readings, cache } = result;
			const known = { signature, settled, seenAt: seenAt(), cache };
			const same =
				before?.understood &&
				before.problem === undefined &&
				before.symlink === symlink &&
				before.readings.length === readings.length &&
				readings.every((reading, i) => reading === before.readings[i]);
			if (same) return Object.assign(before, known);
			return { ...known, readings, understood: true, problem: undefined, symlink };
		};
		try {
			const link = lstatSync(path, { throwIfNoEntry: false });
			// If the directory itself is gone, that says nothing about the file.
			if (link === undefined) return existsSync(this.#directory) ? undefined : before;
			symlink = link.isSymbolicLink();
			const stats = statSync(path, { bigint: true });
			if (!stats.isFile()) return failed("expected a file, got something else");
			signature = signatureOf(stats);
			if (stats.size > BYTES_MAX)
				return failed(`expected at most ${BYTES_MAX} bytes, got ${stats.size}`);
			if (before?.signature === signature && before.symlink === symlink && before.settled)
				return before;
			settled = isSettled(stats, performance.now() - seenAt());
			const parsed = this.#parsed.get(name);
			this.#parsed.delete(name);
			if (parsed?.signature === signature) return take(parsed.result);
			// When the job ends, it looks at this file again.
			if (this.#jobs.has(name)) return before;
			const bytes = stats.size <= SYNC_BYTES_MAX ? readFileSync(path) : await readFile(path);
			const empty = bytes.length <= SYNC_BYTES_MAX && bytes.toString("latin1").trim() === "";
			if (empty && emptied !== undefined && (before?.readings.length ?? 0) > 0) {
				emptied.push(name);
				return before;
			}
			const result = await readManifest(bytes, before?.cache ?? new Map(), this.#reader, turns);
			if (typeof result !== "function") return take(result);
			this.#parseLarge(name, signature, result);
			return before;
		} catch (error) {
			return failed(firstLine(error));
		}
	}

	/** Parses in the worker thread, while other files continue. */
	#parseLarge(name: string, signature: string, parse: () => Promise<ManifestResult>): void {
		const job = async () => {
			const result = await parse().catch((error) => ({ fault: `1:1: ${firstLine(error)}` }));
			this.#jobs.delete(name);
			if (this.#closed) return;
			this.#parsed.set(name, { signature, result });
			const path = join(this.#listing.path ?? this.#directory, name);
			await this.#watch.now({ kind: "paths", paths: new Set([path]) });
			// The file may be gone: then nothing else says that it is no longer waited for.
			this.#write(new Set());
		};
		this.#jobs.set(name, job());
	}
}

const NOTHING = {
	readings: [],
	cache: new Map(),
	understood: false,
};
