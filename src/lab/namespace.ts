/**
 * A network namespace by name, and commands in it.
 *
 * Entered with nsenter, not `ip netns exec`: that one mounts a new /sys over bpffs.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readdirSync, readlinkSync, statSync } from "node:fs";

export interface Output {
	/** null: ended by a signal. */
	status: number | null;
	stdout: string;
	stderr: string;
}

export interface RunOptions {
	input?: string;
	environment?: Record<string, string>;
	/** Default 60 s; then the command is ended. */
	timeoutMs?: number;
	/** True: a status other than 0 is an answer, not an error. */
	mayFail?: boolean;
}

export class Namespace {
	readonly name: string;
	readonly path: string;

	constructor(name: string) {
		this.name = name;
		this.path = `/run/netns/${name}`;
	}

	/** @throws Error with what the command printed, unless it ended with 0 or mayFail is set. */
	run(command: readonly string[], options: RunOptions = {}): Promise<Output> {
		return run(["nsenter", `--net=${this.path}`, "--", ...command], options);
	}

	/** Several commands in one process; the first that fails ends it. */
	script(text: string, options: RunOptions = {}): Promise<Output> {
		return this.run(["sh", "-euc", text], options);
	}

	/** nsenter executes the command in its own place: the child's pid is the command's. */
	spawn(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
		const inside = [`--net=${this.path}`, "--", ...command];
		return spawn("nsenter", inside, { ...options, env: environment() });
	}
}

/** Tools speak English, and programs start without what a test runner wants in every Node.js. */
const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LC_ALL: "C", NODE_OPTIONS: "" });

export function run(command: readonly string[], options: RunOptions = {}): Promise<Output> {
	const [file = "", ...args] = command;
	return new Promise((resolve, reject) => {
		const child = spawn(file, args, {
			env: { ...environment(), ...options.environment },
			timeout: options.timeoutMs ?? 60_000,
			killSignal: "SIGKILL",
		});
		let stdout = "";
		let stderr = "";
		child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
		child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
		child.on("error", (error) => reject(new Error(`Cannot run ${file}: ${error.message}`)));
		child.on("close", (status, signal) => {
			if (status === 0 || (options.mayFail === true && status !== null))
				return resolve({ status, stdout, stderr });
			const shown = command.join(" ").slice(0, 300);
			const said = `${stderr}${stdout}`.trim().slice(0, 2000);
			reject(
				new Error(`Cannot run \`${shown}\`: expected success, got ${signal ?? status}: ${said}`),
			);
		});
		// A command that ended before it read its input has said why on standard error.
		child.stdin.on("error", () => {});
		child.stdin.end(options.input);
	});
}

/** The processes that run in these namespaces, by pid. Ours by construction: we made the namespaces. */
export function processesIn(namespaces: readonly string[]): number[] {
	const wanted = new Set<string>();
	for (const name of namespaces) {
		const inode = inodeOf(name);
		if (inode !== undefined) wanted.add(`net:[${inode}]`);
	}
	return readdirSync("/proc")
		.filter((entry) => /^\d+$/.test(entry))
		.map(Number)
		.filter((pid) => pid !== process.pid && wanted.has(namespaceOf(pid)));
}

function inodeOf(name: string): number | undefined {
	try {
		return statSync(`/run/netns/${name}`).ino;
	} catch {
		return undefined;
	}
}

function namespaceOf(pid: number): string {
	try {
		return readlinkSync(`/proc/${pid}/ns/net`);
	} catch {
		return "";
	}
}
