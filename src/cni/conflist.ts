/**
 * The container runtime's network configuration, DIR/05-fairway.conflist.
 *
 *  1 from the start: watches the other files in DIR, since the runtime takes the one whose name sorts first
 *  2 once the Node is ready: writes the file, and again when it is missing or changed
 *  3 leaves the file when the agent ends: without it Pods could not be deleted, and another network would take over
 *
 * After a reboot the file is there before the agent; ADD then answers 11 until the Node is ready.
 */
import {
	closeSync,
	fsyncSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	writeSync,
} from "node:fs";
import { join } from "node:path";
import { PathWatch } from "../files/path_watch.js";
import type { Log } from "../text/log.js";

export const CONFLIST = "05-fairway.conflist";

const NETWORK = "fairway";

/** File name endings that libcni reads. */
const CONFIGURATION = /\.(conf|conflist|json)$/;

/** Longer files are not read: no configuration is that long. */
const FILE_MAX = 1024 * 1024;

export interface ConflistOptions {
	dir: string;
	/** The agent's socket, as the runtime's plugin sees it. */
	socket: string;
	log: Pick<Log, "info" | "warn">;
	/** For tests: time between looks without an event. */
	pollMs?: number;
}

/** The content of the file. */
export function conflistText(socket: string): string {
	const plugins = [
		// Not applied; declared so that the runtime names the Pods that ask for it, see server.ts.
		{ type: "fairway-cni", socket, capabilities: { bandwidth: true } },
		{ type: "portmap", capabilities: { portMappings: true } },
	];
	const list = { cniVersion: "1.0.0", name: NETWORK, plugins };
	return `${JSON.stringify(list, undefined, 2)}\n`;
}

export class Conflist {
	readonly #options: ConflistOptions;
	readonly #path: string;
	readonly #watch: PathWatch;
	#installed = false;
	#foreign: string[] = [];
	#failure: string | undefined;

	constructor(options: ConflistOptions) {
		this.#options = options;
		this.#path = join(options.dir, CONFLIST);
		const { pollMs } = options;
		const watchOptions = pollMs === undefined ? {} : { pollMs };
		this.#watch = new PathWatch([options.dir], () => this.#look(), watchOptions);
		this.#look();
	}

	/** Writes the file, and restores it from now on when it is changed. Failures are reported and retried. */
	install(): void {
		this.#installed = true;
		this.#look();
	}

	/** Sentences for `fairway status`. */
	problems(): string[] {
		return this.#failure === undefined ? this.#foreign : [this.#failure, ...this.#foreign];
	}

	/** The file stays. */
	async close(): Promise<void> {
		await this.#watch.close();
	}

	#look(): void {
		if (this.#installed) this.#write();
		this.#foreign = foreignProblems(this.#options.dir);
	}

	#write(): void {
		const { dir, socket, log } = this.#options;
		const text = conflistText(socket);
		try {
			if (readIfFile(this.#path) !== text) {
				writeAtomically(dir, this.#path, text);
				log.info({ file: this.#path }, "wrote the CNI configuration");
			}
			this.#failure = undefined;
		} catch (error) {
			const failure = `Cannot write ${this.#path}: ${(error as Error).message}`;
			if (failure !== this.#failure)
				log.warn(
					{ file: this.#path, err: error },
					"cannot write the CNI configuration, will retry",
				);
			this.#failure = failure;
		}
	}
}

/** Removes the file if it belongs to the agent with this socket. @returns its path if it existed */
export function removeConflist(dir: string, socket: string): string | undefined {
	const path = ownConflist(dir, socket);
	if (path !== undefined) rmSync(path, { force: true });
	return path;
}

/** The file that leads to this agent's socket; undefined: there is none. */
export function ownConflist(dir: string, socket: string): string | undefined {
	const path = join(dir, CONFLIST);
	const { plugins } = decode(readIfFile(path));
	const isOwn = plugins.some((plugin) => plugin.type === "fairway-cni" && plugin.socket === socket);
	return isOwn ? path : undefined;
}

function writeAtomically(dir: string, path: string, text: string): void {
	mkdirSync(dir, { recursive: true });
	// Runtimes ignore this name.
	const aside = join(dir, `.${CONFLIST}.new`);
	rmSync(aside, { force: true });
	const file = openSync(aside, "wx", 0o644);
	try {
		writeSync(file, text);
		fsyncSync(file);
	} finally {
		closeSync(file);
	}
	renameSync(aside, path);
}

/* ------------------------------------------------------ others' configurations */

function foreignProblems(dir: string): string[] {
	let files: string[];
	try {
		files = readdirSync(dir).sort();
	} catch {
		return [];
	}
	return files
		.filter((file) => CONFIGURATION.test(file) && file !== CONFLIST)
		.flatMap((file) => foreignProblem(dir, file));
}

function foreignProblem(dir: string, file: string): string[] {
	const path = join(dir, file);
	const { name, plugins } = decode(readIfFile(path));
	const types = plugins.flatMap(({ type }) => (typeof type === "string" ? [type] : []));
	const whose = types.length === 0 ? "" : ` (${types.join(", ")})`;
	if (file < CONFLIST)
		return [
			`The container runtime uses ${path}${whose} and not ${CONFLIST}, because its name sorts first: remove it or give it a later name.`,
		];
	if (name === NETWORK)
		return [
			`${path}${whose} names the network "${NETWORK}" as ${CONFLIST} does, so the container runtime takes one for the other: remove it.`,
		];
	return [];
}

interface Configuration {
	name: unknown;
	plugins: { type?: unknown; socket?: unknown }[];
}

/** Decodes a list or a single plugin's configuration; empty for anything else. */
function decode(text: string | undefined): Configuration {
	try {
		const { name, plugins, type } = JSON.parse(text ?? "null");
		const all = Array.isArray(plugins) ? plugins : type === undefined ? [] : [{ type }];
		return { name, plugins: all.filter((one) => typeof one === "object" && one !== null) };
	} catch {
		return { name: undefined, plugins: [] };
	}
}

/** undefined: there is none, or it is no file of a reasonable size. */
function readIfFile(path: string): string | undefined {
	try {
		const stats = statSync(path);
		return stats.isFile() && stats.size <= FILE_MAX ? readFileSync(path, "utf8") : undefined;
	} catch {
		return undefined;
	}
}
