/**
 * Locks a directory for one process with flock(2): the kernel releases the lock however the process ends, and no
 * process id is involved (another PID namespace has the same ids).
 *
 * flock(2) needs no more than an open descriptor, so the locked file must be inaccessible to other users: a file of
 * mode 0600 in the directory; on bpffs, which has no regular files, the directory itself with mode 0700.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { flock } from "#native";

const BPF_FS_MAGIC = 0xcafe4a11;

export class DirectoryLock {
	readonly path: string;
	#descriptor: number | undefined;

	private constructor(path: string, descriptor: number) {
		this.path = path;
		this.#descriptor = descriptor;
	}

	/**
	 * Creates the directory with its parents if necessary. Undefined: another process holds the lock.
	 *
	 * @throws Error when it cannot be created or locked, or when other users could lock it as well
	 */
	static take(path: string): DirectoryLock | undefined {
		mkdirSync(path, { recursive: true, mode: 0o700 });
		const descriptor = open(path);
		try {
			const { uid, mode } = fstatSync(descriptor);
			if (uid !== process.geteuid?.() || (mode & 0o077) !== 0)
				throw new Error(
					`Cannot lock ${path}: expected the lock to be closed to other users, got mode ${(mode & 0o777).toString(8)}, user ${uid}`,
				);
			if (flock(descriptor)) return new DirectoryLock(path, descriptor);
		} catch (error) {
			closeSync(descriptor);
			throw error;
		}
		closeSync(descriptor);
		return undefined;
	}

	release(): void {
		if (this.#descriptor !== undefined) {
			closeSync(this.#descriptor);
			this.#descriptor = undefined;
		}
	}
}

function open(path: string): number {
	const { O_RDONLY, O_RDWR, O_CREAT, O_DIRECTORY, O_NOFOLLOW } = constants;
	if (statfsSync(path).type >>> 0 === BPF_FS_MAGIC) return openSync(path, O_RDONLY | O_DIRECTORY);
	return openSync(join(path, "lock"), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
}
