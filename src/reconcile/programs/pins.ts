/**
 * The pin directory, where a new process finds the maps, links and programs of an earlier agent.
 *
 *   PIN_DIR/maps/NAME                     the maps in use
 *   PIN_DIR/links/HOOK-IFINDEX[-MODE]     what is attached where
 *   PIN_DIR/programs/IDENTITY/NAME        the programs of one object file, set of knobs and maps
 *
 * bpffs does not allow names with a dot.
 */
import {
	chmodSync,
	closeSync,
	constants,
	existsSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	rmdirSync,
	statfsSync,
	unlinkSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { IpRoute } from "../../linux/iproute.js";

const BPF_FS_MAGIC = 0xcafe4a11;
const KINDS = ["maps", "links", "programs"] as const;
const SYSTEM_MOUNT = "/sys/fs/bpf";
/** Agents of several namespaces may start together and must not mount over each other's pins. */
const MOUNT_LOCK = "/run/fairway-bpffs.lock";

export class Pins {
	readonly directory: string;

	private constructor(directory: string) {
		this.directory = directory;
	}

	/** Creates the directories with their parents, and mounts bpffs if it is missing. */
	static async open(directory: string): Promise<Pins> {
		const pins = new Pins(resolve(directory));
		await mountBpffs(pins.directory);
		// An agent's lock is on it (src/linux/lock.ts).
		if (pins.directory !== SYSTEM_MOUNT) {
			mkdirSync(pins.directory, { recursive: true, mode: 0o700 });
			chmodSync(pins.directory, 0o700);
		}
		for (const kind of KINDS)
			mkdirSync(join(pins.directory, kind), { recursive: true, mode: 0o700 });
		return pins;
	}

	/** Opens existing pins without creating anything; undefined if there are none. */
	static existing(directory: string): Pins | undefined {
		const pins = new Pins(resolve(directory));
		return existsSync(pins.directory) ? pins : undefined;
	}

	map(name: string): string {
		return join(this.directory, "maps", name);
	}

	link(name: string): string {
		return join(this.directory, "links", name);
	}

	programs(identity: string): string {
		return join(this.directory, "programs", identity);
	}

	mapNames(): string[] {
		return list(join(this.directory, "maps"));
	}

	linkNames(): string[] {
		return list(join(this.directory, "links"));
	}

	programIdentities(): string[] {
		return list(join(this.directory, "programs"));
	}

	/** Removes a pin, or a directory of pins, if it exists. */
	remove(path: string): void {
		for (const name of list(path)) this.remove(join(path, name));
		try {
			if (isDirectory(path)) rmdirSync(path);
			else unlinkSync(path);
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
		}
	}

	/** Removes all pins, and the mount if it was made for this directory alone. */
	async removeAll(): Promise<void> {
		for (const kind of KINDS) this.remove(join(this.directory, kind));
		if (this.directory === SYSTEM_MOUNT) return;
		// Lazily, because the caller holds the directory locked, and an open directory makes the mount busy.
		if (isMountPoint(this.directory))
			await new IpRoute().command("umount", "--lazy", this.directory);
		this.remove(this.directory);
	}
}

function list(path: string): string[] {
	try {
		return readdirSync(path);
	} catch (error) {
		const code = (error as NodeJS.ErrnoException).code;
		if (code === "ENOENT" || code === "ENOTDIR") return [];
		throw error;
	}
}

function isDirectory(path: string): boolean {
	try {
		readdirSync(path);
		return true;
	} catch {
		return false;
	}
}

/** The statfs(2) type of the file system that holds `path`, or will hold it when it exists. */
function fileSystem(path: string): number {
	let existing = path;
	while (!existsSync(existing)) existing = dirname(existing);
	return statfsSync(existing).type >>> 0;
}

function isMountPoint(path: string): boolean {
	return readFileSync("/proc/self/mountinfo", "utf8")
		.split("\n")
		.some((line) => line.split(" ")[4] === path);
}

async function mountBpffs(directory: string): Promise<void> {
	if (fileSystem(directory) === BPF_FS_MAGIC) return;
	const inSystemMount = directory === SYSTEM_MOUNT || directory.startsWith(`${SYSTEM_MOUNT}/`);
	const mountPoint = inSystemMount ? SYSTEM_MOUNT : directory;
	mkdirSync(mountPoint, { recursive: true, mode: 0o700 });
	mkdirSync(dirname(MOUNT_LOCK), { recursive: true });
	// Closed to others, who could hold it otherwise (flock(1) makes it readable).
	closeSync(
		openSync(MOUNT_LOCK, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600),
	);
	// A bpffs is open to everybody by default; the system's own stays as others expect it.
	const options = inSystemMount ? "" : "-o mode=0700";
	const mountOnce = `test "$(stat -f -c %t "$0")" = cafe4a11 || mount -t bpf ${options} bpf "$0"`;
	await new IpRoute().command("flock", MOUNT_LOCK, "sh", "-c", mountOnce, mountPoint);
	if (fileSystem(directory) !== BPF_FS_MAGIC)
		throw new Error(
			`Cannot open pin directory ${directory}: expected a BPF file system, got another one`,
		);
}
