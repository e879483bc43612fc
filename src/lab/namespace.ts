/**
 * A network namespace by name, and commands in it.
 *
 * Entered with nsenter, not with `ip netns exec`, which mounts a new /sys over bpffs.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { readdirSync, readlinkSync, statSync } from "node:fs";

export interface Output {
	/** null: terminated by a signal. */
	status: number | null;
	stdout: string;
	stderr: string;
}

export interface RunOptions {
	input?: string;
	environment?: Record<string, string>;
	/** The command is killed after this time; default 60 s. */
	timeoutMs?: number;
	/** True: a status other than 0 is a result, not an error. */
	mayFail?: boolean;
}

export class Namespace {
	readonly name: string;
	readonly path: string;

	constructor(name: string) {
		this.name = name;
		this.path = `/run/netns/${name}`;
	}

	/** @throws Error with the command's output if it fails and mayFail is not set. */
	run(command: readonly string[], options: RunOptions = {}): Promise<Output> {
		return run(["nsenter", `--net=${this.path}`, "--", ...command], options);
	}

	/** Runs several commands in one process; stops at the first that fails. */
	script(text: string, options: RunOptions = {}): Promise<Output> {
		return this.run(["sh", "-euc", text], options);
	}

	/** nsenter replaces itself with the command: the child's pid is the command's. */
	spawn(command: readonly string[], options: SpawnOptions = {}): ChildProcess {
		const inside = [`--net=${this.path}`, "--", ...command];
		return spawn("nsenter", inside, { ...options, env: environment() });
	}
}

/**
 * Tools print English, and Node.js programs start without the options of a test runner. LAB_NODE_OPTIONS: what a
 * bench loads into every Node.js process of the lab.
 */
const environment = (): NodeJS.ProcessEnv => ({
	...process.env,
	LC_ALL: "C",
	NODE_OPTIONS: process.env.LAB_NODE_OPTIONS ?? "",
});

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
			reject(new Error(`\`${shown}\` ended with ${signal ?? `status ${status}`}: ${said}`));
		});
		// A command that exits before it reads its input explains why on standard error.
		child.stdin.on("error", () => {});
		child.stdin.end(options.input);
	});
}

/** Pids of the processes in these namespaces. All are the lab's: it made the namespaces. */
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
