/**
 * A Node: network, mount, UTS, PID and cgroup namespaces with their own containerd and kubelet
 * (node/node.sh). Its first process takes all others along when it ends, as a power failure does.
 */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Output, type RunOptions, run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { kubeconfig } from "./certificates.js";
import { removeCgroups } from "./cgroups.js";
import { Daemon } from "./daemon.js";
import { folders, inOrder, type NodePlan, PREFIX, program } from "./layout.js";
import { plugIn, unplug } from "./underlay.js";

export class KubernetesNode {
	readonly plan: NodePlan;
	#daemon: Daemon | undefined;
	#proxy: Daemon | undefined;
	/** The first process, as the machine counts. */
	#first = 0;

	constructor(plan: NodePlan) {
		this.plan = plan;
	}

	get name(): string {
		return this.plan.name;
	}

	/** Its disks: a folder of the machine, kept when the Node reboots. */
	get folder(): string {
		return join(folders.run, this.name);
	}

	/** Starts it; its network namespace is there. Resolves when commands can run in it. */
	async start(): Promise<void> {
		const { name, namespace, v4, v6, prepared } = this.plan;
		this.#daemon = new Daemon(
			name,
			[
				...[join(folders.source, "node/in_cgroup.sh"), `${PREFIX}${name}`],
				...["nsenter", `--net=${namespace.path}`, "--"],
				...["unshare", "--mount", "--uts", "--pid", "--cgroup", "--fork", "--kill-child"],
				...["--propagation", "private", join(folders.source, "node/node.sh")],
				...[name, inOrder(v4, v6).join(","), prepared ? "yes" : "no"],
			],
			{
				BIN: folders.bin,
				IMAGES: folders.images,
				FILES: join(folders.source, "files"),
				RUN: folders.run,
				PKI: folders.pki,
				LOGS: folders.logs,
				NODE: this.folder,
			},
		);
		this.#first = await until(`${name} has started`, () => childOf(this.#daemon!.pid));
	}

	/** A command inside the Node: its network, mounts, processes, cgroups and host name. */
	run(command: readonly string[], options?: RunOptions): Promise<Output> {
		return run(this.inside(command), options);
	}

	script(text: string, options?: RunOptions): Promise<Output> {
		return this.run(["sh", "-euc", text], options);
	}

	/** The command that runs `command` inside the Node. */
	inside(command: readonly string[]): string[] {
		const namespaces = ["--net", "--mount", "--uts", "--pid", "--cgroup"];
		return ["nsenter", "--target", String(this.#first), ...namespaces, "--", ...command];
	}

	/** A process inside the Node that ends with it, or before. */
	spawn(name: string, command: readonly string[]): Daemon {
		return new Daemon(`${name}-${this.name}`, this.inside(command));
	}

	/** kube-proxy: it has to see /proc of this Node's PID namespace, or it serves IPv4 alone. */
	startProxy(): void {
		const config = join(folders.run, `kube-proxy-${this.name}.yaml`);
		this.#proxy = this.spawn("kube-proxy", [program("kube-proxy"), "--config", config]);
	}

	async stopProxy(): Promise<void> {
		// nsenter has forked it, and passes no signal on.
		await this.run(["pkill", "-x", "kube-proxy"], { mayFail: true });
		this.#proxy = undefined;
	}

	/** The Node loses its power: every process and namespace ends. Its disks stay. */
	async cut(): Promise<void> {
		await this.#daemon?.end();
		this.#daemon = undefined;
		await until(`the processes of ${this.name} have ended`, () => !isAlive(this.#first));
		// The next boot finds none of its Pods', as after a reboot of a machine: kubelet looks at each for seconds.
		await until(`the cgroups of ${this.name} are gone`, () => removeCgroups(this.name));
		await unplug(this.plan);
	}

	/** Power is back: new namespaces, the old disks. kube-proxy comes back if it ran. */
	async boot(): Promise<void> {
		await plugIn(this.plan);
		await this.start();
		if (this.#proxy !== undefined) this.startProxy();
	}

	async reboot(): Promise<void> {
		await this.cut();
		await this.boot();
	}

	/** Ends containerd or kubelet; node.sh starts it again after a second. */
	async restart(service: "containerd" | "kubelet"): Promise<void> {
		const pids = await this.pidsOf(service);
		await this.run(["kill", "-9", ...pids]);
		await until(`${service} of ${this.name} has started again`, async () => {
			const now = await this.pidsOf(service);
			return now.length > 0 && !now.some((pid) => pids.includes(pid));
		});
	}

	/** Pids inside the Node. */
	async pidsOf(program: string): Promise<string[]> {
		const { stdout } = await this.run(["pgrep", "-x", program], { mayFail: true });
		return stdout.split("\n").filter((line) => line !== "");
	}

	/** Its disks are lost, as when a machine is replaced by a new one of the same name. */
	wipe(): void {
		rmSync(this.folder, { recursive: true, force: true });
	}

	/** The kubeconfig of its kubelet. */
	get kubeconfig(): string {
		return kubeconfig(this.name);
	}
}

/** A process' only child; 0: none yet. unshare forks the Node's first process and waits for it. */
function childOf(pid: number): number {
	try {
		const comm = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
		if (comm !== "unshare") return 0;
		return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ")[0]);
	} catch {
		return 0;
	}
}

function isAlive(pid: number): boolean {
	return readdirSync("/proc").includes(String(pid));
}
