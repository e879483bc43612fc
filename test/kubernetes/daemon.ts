/** A program that runs in the background, in a session of its own, so that Ctrl-C does not reach it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { folders } from "./layout.js";

export class Daemon {
	readonly name: string;
	readonly child: ChildProcess;

	/** Its output goes to `NAME.log` in the folder of logs. */
	constructor(name: string, command: readonly string[], environment: Record<string, string> = {}) {
		this.name = name;
		mkdirSync(folders.logs, { recursive: true });
		const log = openSync(join(folders.logs, `${name}.log`), "a");
		const [file = "", ...args] = command;
		this.child = spawn(file, args, {
			detached: true,
			stdio: ["ignore", log, log],
			env: { ...process.env, LC_ALL: "C", NODE_OPTIONS: "", ...environment },
		});
		closeSync(log);
		this.child.on("error", (error) =>
			process.stderr.write(`Cannot run ${name}: ${error.message}\n`),
		);
		// Whoever waits for the cluster to end waits for its processes by pid.
		this.child.unref();
	}

	get pid(): number {
		return this.child.pid!;
	}

	get running(): boolean {
		return this.child.exitCode === null && this.child.signalCode === null;
	}

	async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
		if (!this.running) return;
		this.child.ref();
		const ended = once(this.child, "exit");
		this.child.kill(signal);
		await ended;
	}
}
