/**
 * A directory of Kubernetes manifests as the source of snapshots.
 *
 *  1. look: which files are there, which of them changed
 *  2. read those; what cannot be read or parsed keeps what it said before
 *  3. the registry decides who is in the cluster
 *  4. a snapshot that differs from the last one is handed on
 *
 * Nothing in the directory ends the agent. Files are read synchronously: a thousand small ones take
 * a tenth of the time that they take through the thread pool.
 */
import {
	type BigIntStats,
	lstatSync,
	readdirSync,
	readFileSync,
	realpathSync,
	statSync,
} from "node:fs";
import { extname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { PathWatch, type PathWatchOptions } from "../config/path_watch.js";
import { firstLine } from "../config/yaml.js";
import { type DocumentCache, readManifest } from "./manifest_file.js";
import type { NodeReading } from "./node_object.js";
import { NodeRegistry } from "./node_registry.js";
import type { NodeObject, Problem, Snapshot, SnapshotSource } from "./snapshot.js";

export interface ManifestDirectoryOptions extends PathWatchOptions {
	/** A snapshot that differs from the one before. Not called for the first. */
	onChange?: (snapshot: Snapshot) => void;
	/** Paths of files in the directory that are something else (the agent's configuration). */
	ignore?: readonly string[];
	/** A file that became empty is believed after so long: a writer may have just truncated it. */
	emptyMs?: number;
}

const EXTENSIONS = new Set([".yaml", ".yml", ".json"]);
const BYTES_MAX = 64 << 20;
/** A file that was touched so recently may be touched again without its times showing it. */
const UNSETTLED_MS = 100;

interface ManifestFile {
	/** Of the content that `nodes` is from; undefined: read it again. */
	signature: string | undefined;
	text: string | undefined;
	nodes: NodeReading[];
	cache: DocumentCache;
	/** Why the last look did not change `nodes`. */
	problem: string | undefined;
	symlink: boolean;
}

export class ManifestDirectory implements SnapshotSource {
	readonly #directory: string;
	readonly #onChange: (snapshot: Snapshot) => void;
	readonly #ignore: readonly string[];
	readonly #emptyMs: number;
	readonly #registry = new NodeRegistry();
	readonly #watch: PathWatch;
	#files = new Map<string, ManifestFile>();
	/** The last look could read the directory. */
	#listed = false;
	#snapshot: Snapshot = { nodes: new Map(), problems: [] };

	/** Resolves after the first look; a directory that is not there is a problem in the snapshot. */
	static async open(
		directory: string,
		options: ManifestDirectoryOptions = {},
	): Promise<ManifestDirectory> {
		let onChange: (snapshot: Snapshot) => void = () => {};
		const source = new ManifestDirectory(directory, {
			...options,
			onChange: (snapshot) => onChange(snapshot),
		});
		await source.resync();
		onChange = options.onChange ?? onChange;
		return source;
	}

	private constructor(directory: string, options: ManifestDirectoryOptions) {
		const { onChange, ignore, emptyMs, ...watchOptions } = options;
		this.#directory = resolve(directory);
		this.#onChange = onChange ?? (() => {});
		this.#ignore = (ignore ?? []).map((path) => resolve(path));
		this.#emptyMs = emptyMs ?? 500;
		this.#watch = new PathWatch([this.#directory], () => this.#look(), watchOptions);
	}

	get snapshot(): Snapshot {
		return this.#snapshot;
	}

	/** Looks at the directory now. */
	resync(): Promise<void> {
		return this.#watch.now();
	}

	close(): Promise<void> {
		return this.#watch.close();
	}

	async #look(): Promise<void> {
		const problems: Problem[] = [];
		const names = this.#list(problems);
		if (names !== undefined) {
			const files = new Map<string, ManifestFile>();
			for (const name of names) files.set(name, await this.#read(name, this.#files.get(name)));
			const before = this.#files;
			this.#files = files;
			const same =
				this.#listed &&
				files.size === before.size &&
				names.every((name) => files.get(name) === before.get(name));
			this.#listed = true;
			if (same) return;
		} else this.#listed = false;
		// Where the files' symlinks lead is watched as well.
		const links = [...this.#files].filter(([, { symlink }]) => symlink);
		this.#watch.setPaths([this.#directory, ...links.map(([name]) => join(this.#directory, name))]);

		for (const [file, { problem }] of this.#files)
			if (problem !== undefined) problems.push({ file, message: problem });
		const candidates = [...this.#files].flatMap(([file, { nodes }]) =>
			nodes.map((reading) => ({ file, reading })),
		);
		const decided = this.#registry.update(candidates);
		this.#publish({ nodes: decided.nodes, problems: [...problems, ...decided.problems] });
	}

	#publish(snapshot: Snapshot): void {
		const before = this.#snapshot;
		const same =
			sameNodes(before.nodes, snapshot.nodes) &&
			isDeepStrictEqual(before.problems, snapshot.problems);
		if (same) return;
		this.#snapshot = snapshot;
		this.#onChange(snapshot);
	}

	/** Names of the manifests, sorted; undefined: the directory cannot be read, all stays as it was. */
	#list(problems: Problem[]): string[] | undefined {
		try {
			const ignored = new Set(this.#ignore.map(realPath));
			const directory = realpathSync(this.#directory);
			const wanted: string[] = [];
			for (const entry of readdirSync(directory, { withFileTypes: true })) {
				const { name } = entry;
				if (name.startsWith(".") || !EXTENSIONS.has(extname(name))) continue;
				const path = join(directory, name);
				const target = entry.isSymbolicLink() ? realPath(path) : path;
				if (!ignored.has(path) && !ignored.has(target)) wanted.push(name);
			}
			return wanted.sort();
		} catch (error) {
			const message = `Cannot read the manifests in ${this.#directory}: ${firstLine(error)}; what they said before stays in force`;
			problems.push({ message });
			return undefined;
		}
	}

	async #read(name: string, before: ManifestFile | undefined): Promise<ManifestFile> {
		const path = join(this.#directory, name);
		let symlink = before?.symlink ?? false;
		const failed = (why: string): ManifestFile => {
			const stays = before !== undefined && before.text !== undefined;
			const problem = `Cannot use this manifest: ${why}${stays ? "; what it said before stays in force" : ""}`;
			return { ...(before ?? NOTHING), signature: undefined, problem, symlink };
		};
		try {
			symlink = lstatSync(path).isSymbolicLink();
			const stats = statSync(path, { bigint: true });
			if (!stats.isFile()) return failed("wanted a file, it is none");
			if (stats.size > BYTES_MAX)
				return failed(`wanted at most ${BYTES_MAX} bytes, it has ${stats.size}`);
			const signature = signatureOf(stats);
			if (before?.signature === signature && before.symlink === symlink) return before;
			let text = readText(path);
			if (text.trim() === "" && (before?.nodes.length ?? 0) > 0) {
				await delay(this.#emptyMs);
				text = readText(path);
			}
			const settled = Date.now() - Number(stats.mtimeMs) > UNSETTLED_MS ? signature : undefined;
			if (before !== undefined && before.text === text && before.problem === undefined)
				return { ...before, signature: settled, symlink };
			const result = readManifest(text, before?.cache);
			if ("fault" in result) return { ...failed(result.fault), signature: settled };
			return { ...result, signature: settled, text, problem: undefined, symlink };
		} catch (error) {
			return failed(firstLine(error));
		}
	}
}

const NOTHING: ManifestFile = {
	signature: undefined,
	text: undefined,
	nodes: [],
	cache: new Map(),
	problem: undefined,
	symlink: false,
};

function signatureOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
	return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

function readText(path: string): string {
	try {
		return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
	} catch (error) {
		if (error instanceof TypeError) throw new Error("wanted UTF-8 text, got other bytes");
		throw error;
	}
}

function realPath(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return path;
	}
}

function sameNodes(a: Snapshot["nodes"], b: Snapshot["nodes"]): boolean {
	if (a.size !== b.size) return false;
	for (const [name, node] of b) if (!sameNode(a.get(name), node)) return false;
	return true;
}

function sameNode(a: NodeObject | undefined, b: NodeObject): boolean {
	return a === b || isDeepStrictEqual(a, b);
}
