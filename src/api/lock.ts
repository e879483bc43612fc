/**
 * A directory held by one process: flock(2), so that the kernel lets go of it when the process
 * ends, however it ends, and that no process id has to be believed (another PID namespace has the
 * same ones).
 */
import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync } from "node:fs";

export class DirectoryLock {
	readonly path: string;
	#descriptor: number | undefined;

	private constructor(path: string, descriptor: number) {
		this.path = path;
		this.#descriptor = descriptor;
	}

	/**
	 * Makes the directory where it does not exist, with its parents. Undefined: another process
	 * holds it.
	 *
	 * @throws Error when it cannot be made or locked
	 */
	static take(path: string): DirectoryLock | undefined {
		mkdirSync(path, { recursive: true, mode: 0o755 });
		const descriptor = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
		// Node has no flock. The lock belongs to the open file, which flock(1) inherits and which
		// this process keeps when flock(1) has ended.
		const { status, error, stderr } = spawnSync("flock", ["--nonblock", "--exclusive", "3"], {
			stdio: ["ignore", "ignore", "pipe", descriptor],
			encoding: "utf8",
		});
		if (status === 0) {
			return new DirectoryLock(path, descriptor);
		}
		closeSync(descriptor);
		// flock(1): 1 is "locked by another", all else is a failure.
		if (status === 1) {
			return undefined;
		}
		throw new Error(
			`Cannot lock ${path}: wanted flock(1) of util-linux to do it, ${error?.message ?? stderr.trim()}`,
		);
	}

	release(): void {
		if (this.#descriptor !== undefined) {
			closeSync(this.#descriptor);
			this.#descriptor = undefined;
		}
	}
}
