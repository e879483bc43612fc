/**
 * A private containerd: its root, state, socket and configuration are in a directory that is removed at
 * the end. Containers are started by `ctr run --cni`, with a root file system that is
 * nothing but busybox.
 *
 * ctr looks for CNI in /etc/cni/net.d and /opt/cni/bin and cannot be told otherwise, so it runs in
 * a mount namespace that has them; the machine's own /etc and /opt stay as they are.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Namespace, type Output, run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";

const commands = ["sh", "ip", "ping", "sleep"];

export interface ContainerdOptions {
	/** The namespace in which ctr, and with it the CNI plugin, runs. */
	node: Namespace;
	/** The network configuration list. */
	cni: object;
	/** Path of bin/fairway-cni. */
	plugin: string;
}

/** A container that `ctr run` waits for. */
export interface Container {
	id: string;
	/** Resolves with the output of `ctr run` when it has ended. */
	ended: Promise<Output>;
}

export class Containerd {
	readonly #directory = mkdtempSync(join(tmpdir(), "fairway-containerd-"));
	readonly #options: ContainerdOptions;
	readonly #containers = new Map<string, Promise<Output>>();
	readonly #started = new Set<string>();
	#daemon: ChildProcess | undefined;

	private constructor(options: ContainerdOptions) {
		this.#options = options;
	}

	static async up(options: ContainerdOptions): Promise<Containerd> {
		const containerd = new Containerd(options);
		try {
			await containerd.#start();
		} catch (error) {
			await containerd.down();
			throw error;
		}
		return containerd;
	}

	async #start(): Promise<void> {
		const here = this.#directory;
		for (const sub of ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "scratch", "net.d"])
			mkdirSync(join(here, sub), { recursive: true });
		copyFileSync("/bin/busybox", join(here, "rootfs/bin/busybox"));
		for (const command of commands) symlinkSync("busybox", join(here, "rootfs/bin", command));
		writeFileSync(join(here, "net.d", "10-fairway.conflist"), JSON.stringify(this.#options.cni));
		writeFileSync(
			join(here, "config.toml"),
			`version = 2
			root = "${here}/root"
			state = "${here}/state"
			disabled_plugins = ["io.containerd.grpc.v1.cri"]
			[plugins."io.containerd.internal.v1.opt"]
			path = "${here}/opt"
			[grpc]
			address = "${this.#socket}"
			[debug]
			level = "error"`,
		);
		this.#daemon = spawn("containerd", ["--config", join(here, "config.toml")], {
			stdio: "ignore",
		});
		await until("containerd answers", async () => (await this.ctr("version")).status === 0);
	}

	get #socket(): string {
		return join(this.#directory, "containerd.sock");
	}

	ctr(...args: string[]): Promise<Output> {
		return run(["ctr", "--address", this.#socket, ...args], { mayFail: true });
	}

	/** Starts a container that sleeps until it is killed; ctr then calls DEL. */
	start(id: string): Container {
		const here = this.#directory;
		// A tmpfs below the overlay: this machine's /tmp may be an overlay itself.
		const script = `
			mount -t tmpfs none "$1/scratch"
			for dir in etc opt; do
				mkdir -p "$1/scratch/$dir" "$1/scratch/$dir.work"
				mount -t overlay none -o "lowerdir=/$dir,upperdir=$1/scratch/$dir,workdir=$1/scratch/$dir.work" "/$dir"
			done
			# Whatever the machine has there is hidden, in the overlay alone: a link goes as a link.
			rm -rf /etc/cni /opt/cni
			mkdir -p /etc/cni /opt/cni/bin
			ln -s "$1/net.d" /etc/cni/net.d
			ln -s "$2" /opt/cni/bin/fairway-cni
			exec ctr --address "$3" run --cni --rm --rootfs "$1/rootfs" "$4" /bin/sleep 600`;
		const ended = this.#options.node.run(
			[
				"unshare",
				"--mount",
				"sh",
				"-euc",
				script,
				"sh",
				here,
				this.#options.plugin,
				this.#socket,
				id,
			],
			{ mayFail: true, environment: { NODE_OPTIONS: "" } },
		);
		this.#containers.set(id, ended);
		this.#started.add(id);
		return { id, ended };
	}

	async isRunning(id: string): Promise<boolean> {
		return new RegExp(`^${id}\\s+\\d+\\s+RUNNING`, "m").test((await this.ctr("task", "ls")).stdout);
	}

	/** Runs a command inside the container. */
	async exec(id: string, ...command: string[]): Promise<Output> {
		return await this.ctr(
			"task",
			"exec",
			"--exec-id",
			`x${process.hrtime.bigint()}`,
			id,
			...command,
		);
	}

	/** @returns what `ctr run` printed */
	async kill(id: string): Promise<Output> {
		await this.ctr("task", "kill", "--signal", "SIGKILL", id);
		const output = await this.#containers.get(id);
		this.#containers.delete(id);
		if (output === undefined) throw new Error(`Cannot kill ${id}: expected a container, got none`);
		return output;
	}

	async down(): Promise<void> {
		for (const id of [...this.#containers.keys()]) await this.kill(id).catch(() => undefined);
		// A container whose ADD failed was made, but never started.
		for (const id of this.#started) {
			await this.ctr("task", "rm", "--force", id);
			await this.ctr("container", "rm", id);
		}
		if (this.#daemon?.exitCode === null) {
			const exit = once(this.#daemon, "exit");
			this.#daemon.kill("SIGTERM");
			await exit;
		}
		rmSync(this.#directory, { recursive: true, force: true });
	}
}
