/**
 * A real Kubernetes on this machine. `up`:
 *
 *  1. refuse if another cluster runs here; remove what a killed run left
 *  2. underlay: router, subnets, the Nodes' network cards
 *  3. certificates, control plane
 *  4. Nodes: containerd, images, kubelet; wait until all have registered; each is a zone
 *  5. load balancers, in the router
 *
 * The Nodes are not Ready then: a network comes next (network.ts), with Services and CoreDNS.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Output, processesIn, type RunOptions, run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { kubeconfig, makeCertificates } from "./certificates.js";
import { pidsInCgroups, removeCgroups } from "./cgroups.js";
import { ControlPlane } from "./control_plane.js";
import { Daemon } from "./daemon.js";
import {
	balancerCIDRs,
	controlPlane,
	dnsAddress,
	folders,
	nodePlans,
	program,
	router,
} from "./layout.js";
import { KubernetesNode } from "./node.js";
import { makeRouter, plugIn } from "./underlay.js";

/** Another cluster runs on this machine. */
export class ClusterTaken extends Error {}

export class Cluster {
	readonly controlPlane = new ControlPlane();
	readonly nodes: readonly KubernetesNode[] = nodePlans.map((plan) => new KubernetesNode(plan));
	#lock: Server | undefined;

	/** Everything that it made is gone if it fails. */
	static async up(): Promise<Cluster> {
		const cluster = new Cluster();
		cluster.#lock = await lock();
		try {
			await cluster.#make();
		} catch (error) {
			await cluster.down();
			throw error;
		}
		return cluster;
	}

	async #make(): Promise<void> {
		await sweep();
		rmSync(folders.logs, { recursive: true, force: true });
		mkdirSync(folders.logs, { recursive: true });
		mkdirSync(folders.run, { recursive: true });
		await makeRouter();
		for (const plan of nodePlans) await plugIn(plan);
		await makeCertificates();
		await this.controlPlane.up();
		writeFileSync(join(folders.run, "resolv.conf"), `nameserver ${dnsAddress}\n`);
		fill("kubelet.yaml", "kubelet.yaml");
		for (const { name } of nodePlans) fill("kube-proxy.yaml", `kube-proxy-${name}.yaml`, name);
		for (const node of this.nodes) await node.start();
		await until(
			"all Nodes have registered",
			async () =>
				(await this.kubectl("get", "nodes", "-o", "name")).split("\n").length > nodePlans.length,
			120_000,
		);
		await this.labelZones();
		this.#startBalancers();
	}

	/** Every Node is a zone of its own; after a Node has registered anew. */
	async labelZones(): Promise<void> {
		for (const { name } of nodePlans)
			await this.kubectl(
				...["label", "--overwrite", "node", name, `topology.kubernetes.io/zone=zone-${name}`],
			);
	}

	/** In the router, as a cloud's are in its network. They end with the cluster. */
	#startBalancers(): void {
		new Daemon("balancers", [
			...["nsenter", `--net=${router.path}`, "--", program("balancers")],
			...["--kubeconfig", kubeconfig("admin"), "--ranges", balancerCIDRs.join(",")],
		]);
	}

	/** kubectl as administrator. @returns its standard output @throws Error if it fails */
	async kubectl(...args: string[]): Promise<string> {
		return (await this.kubectlResult(args)).stdout;
	}

	kubectlResult(args: readonly string[], options?: RunOptions): Promise<Output> {
		return controlPlane.namespace.run(
			[program("kubectl"), "--kubeconfig", kubeconfig("admin"), ...args],
			{ timeoutMs: 300_000, ...options },
		);
	}

	/** Applies objects, or a file of this repository. */
	async apply(what: string | readonly object[]): Promise<void> {
		if (typeof what === "string") await this.kubectl("apply", "-f", what);
		else
			await this.kubectlResult(["apply", "-f", "-"], {
				input: JSON.stringify({ apiVersion: "v1", kind: "List", items: what }),
			});
	}

	/** An object, or a list of them. */
	async get<T>(...args: string[]): Promise<T> {
		return JSON.parse(await this.kubectl("get", "-o", "json", ...args)) as T;
	}

	async nodesReady(timeoutMs = 90_000): Promise<void> {
		const seconds = Math.ceil(timeoutMs / 1000);
		await this.kubectl(
			...["wait", "--for=condition=Ready", "node", "--all", `--timeout=${seconds}s`],
		);
	}

	startProxies(): void {
		for (const node of this.nodes) node.startProxy();
	}

	/** Applies CoreDNS and waits until it answers. */
	async startDns(): Promise<void> {
		fill("coredns.yaml", "coredns.yaml");
		await this.apply(join(folders.run, "coredns.yaml"));
		await this.kubectl(
			...["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s"],
		);
	}

	node(name: string): KubernetesNode {
		const found = this.nodes.find((one) => one.name === name);
		if (found === undefined) throw new Error(`Cannot find the Node ${name} in the cluster.`);
		return found;
	}

	async down(): Promise<void> {
		await sweep();
		this.#lock?.close();
		this.#lock = undefined;
	}
}

/**
 * A name in the machine's namespace of abstract sockets: held by one process, and free as soon as that ends,
 * however it ends.
 */
function lock(): Promise<Server> {
	return new Promise((resolve, reject) => {
		const server = createServer((socket) => socket.end(`${process.pid}\n`));
		server.unref();
		server.on("error", () =>
			reject(
				new ClusterTaken(
					"Cannot bring up the cluster: another one runs on this machine, and its names and addresses are fixed.",
				),
			),
		);
		server.listen("\0fairway-k8s", () => resolve(server));
	});
}

/** Copies a configuration file, with this checkout's folders in it. */
function fill(from: string, to: string, node = ""): void {
	const text = readFileSync(join(folders.source, "files", from), "utf8");
	writeFileSync(
		join(folders.run, to),
		text
			.replaceAll("@RUN@", folders.run)
			.replaceAll("@NODE@", node)
			.replaceAll("@DNS@", dnsAddress),
	);
}

/**
 * Ends every process in the namespaces of a cluster and removes all that it made, but for the logs. Finds it
 * by name, so it also serves after a run that was killed.
 */
export async function sweep(): Promise<void> {
	const names = [...nodePlans.map((plan) => plan.namespace.name), router.name];
	const end = async (): Promise<boolean> => {
		const pids = [...processesIn(names), ...pidsInCgroups()];
		for (const pid of pids)
			try {
				process.kill(pid, "SIGKILL");
			} catch {
				// It has ended by itself.
			}
		if (pids.length === 0) return true;
		await delay(100);
		return false;
	};
	await until("the cluster's processes have ended", end, 120_000);
	for (const name of names) await run(["ip", "netns", "del", name], { mayFail: true });
	// What cannot be removed yet is removed by the next run.
	removeCgroups();
	rmSync(folders.run, { recursive: true, force: true });
}
