/**
 * A Node of its own at a real API server. This process and the server share a network namespace of their own:
 *
 *   Node 0 eth0 192.168.71.2 ── 192.168.71.1 api: kube-apiserver, etcd
 *     its agent                              this process
 *
 * All other Nodes are objects, beyond the router that 192.168.71.1 would be.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BpfMap } from "#native";
import { Agent } from "../../src/lab/agent.js";
import { Namespace, run } from "../../src/lab/namespace.js";
import { attachPod } from "../../src/lab/pod.js";
import { command } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";
import { writeAddress } from "../../src/tables/address.js";
import { Peer } from "../../src/tables/generated.js";
import { ApiAlone, ApiUser, ETCD_PORT } from "../../test/kubernetes/api_alone.js";
import { atEnd } from "./cleanup.js";
import { Etcd } from "./etcd.js";
import { HERE, podOf } from "./kube_objects.js";
import { kubeconfigOf } from "./kubeconfig.js";

const PORT = 6443;
const API = "192.168.71.1";
const PATIENCE_MS = 180_000;
/** A refused ADD takes 10 s, of which `until` counts a tenth of a second. */
const ATTACH_PATIENCE_MS = 1000;

export class KubeSite {
	readonly agent: Agent;
	readonly user: ApiUser;
	readonly etcd = new Etcd(ETCD_PORT);
	readonly #node: Namespace;

	private constructor(agent: Agent, user: ApiUser, node: Namespace) {
		this.agent = agent;
		this.user = user;
		this.#node = node;
	}

	/** In this process's network namespace. Resolves when the API server is ready. */
	static async up(): Promise<KubeSite> {
		const node = new Namespace(`fwB-${process.pid}-kube`);
		await run(["ip", "link", "set", "lo", "up"]);
		await run(["ip", "netns", "add", node.name]);
		atEnd(() => run(["ip", "netns", "del", node.name]));
		await run([
			"ip",
			"link",
			"add",
			"api",
			"type",
			"veth",
			"peer",
			"name",
			"eth0",
			"netns",
			node.name,
		]);
		await run(["ip", "address", "add", `${API}/24`, "dev", "api"]);
		await run(["ip", "link", "set", "api", "up"]);
		await node.script(
			`ip link set lo up; ip address add 192.168.71.2/24 dev eth0; ip link set eth0 up; ip route add default via ${API}`,
		);
		const api = new ApiAlone(API);
		atEnd(() => api.close());
		api.startEtcd();
		// Pods without a service account, and Nodes that no controller looks after.
		await api.startServer(
			PORT,
			"--disable-admission-plugins",
			"ServiceAccount,TaintNodesByCondition",
		);
		const user = new ApiUser(api.access(PORT));
		atEnd(() => user.close());
		const directory = api.file("agent");
		const pinDirectory = `/sys/fs/bpf/fairway-bench-${process.pid}-kube`;
		const [config, kubeconfig] = [api.file("fairway.yaml"), api.file("kubeconfig")];
		writeFileSync(config, "trafficEncapMode: encap\n");
		writeFileSync(kubeconfig, kubeconfigOf(api.access(PORT), `https://${API}:${PORT}`));
		const agent = new Agent({
			...{ node: HERE, namespace: node, directory, pinDirectory, config },
			...{ cluster: { kubeconfig }, patienceMs: PATIENCE_MS },
		});
		const site = new KubeSite(agent, user, node);
		atEnd(() => site.etcd.close());
		atEnd(() => site.#remove());
		return site;
	}

	/** Starts the agent, with nothing of an earlier one. Returns ms until it is ready. */
	async coldStart(): Promise<number> {
		await this.#remove();
		return this.start();
	}

	/** Starts with the state of an earlier agent. Returns ms until it is ready. */
	async start(): Promise<number> {
		const began = performance.now();
		await this.agent.start();
		return performance.now() - began;
	}

	/** Resolves when so many peers are in the kernel, and what is known of the cluster is the API's. */
	async settled(peers: number): Promise<void> {
		const began = performance.now();
		for (;;) {
			const { peers: known, pending, sources } = await this.agent.status();
			const live = sources.every(({ synced, stale }) => synced && !stale);
			if (known.nodes === peers && pending === 0 && live) return;
			if (performance.now() - began > PATIENCE_MS)
				throw new Error(`Cannot measure: expected ${peers} peers, got ${known.nodes}`);
			await delay(50);
		}
	}

	/** Attaches this many of the Node's Pods, the first ones. Resolves when their policies are in force. */
	async attach(pods: number): Promise<void> {
		for (let i = 0; i < pods; i++) {
			const target = new Namespace(`fwB-${process.pid}-pod${i}`);
			await run(["ip", "netns", "add", target.name]);
			atEnd(async () => void (await run(["ip", "netns", "del", target.name])));
			const { namespace, name } = podOf(i);
			const pod = { namespace, name, node: HERE, label: name };
			// Only the first one waits, until other Nodes' Pods are read: a runtime tries again as well.
			await until(
				`${name} is attached`,
				() => attachPod({ pod, node: this.#node, target, socket: this.agent.socket }),
				ATTACH_PATIENCE_MS,
			);
		}
	}

	/** MB */
	async resident(): Promise<number> {
		const text = readFileSync(`/proc/${await this.#pid()}/status`, "utf8");
		return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1] ?? Number.NaN) / 1024;
	}

	/** Its share of a core, and the bytes a second that it receives, over that many seconds. */
	async load(seconds: number): Promise<{ cpu: number; bytes: number }> {
		const pid = await this.#pid();
		const [began, used, received] = [performance.now(), processTime(pid), await this.received()];
		await delay(seconds * 1000);
		const ms = performance.now() - began;
		return {
			cpu: (processTime(pid) - used) / ms,
			bytes: ((await this.received()) - received) / (ms / 1000),
		};
	}

	/** Bytes that the Node has received. */
	async received(): Promise<number> {
		const { stdout } = await this.#node.run(["ip", "-s", "-j", "link", "show", "dev", "eth0"]);
		return (JSON.parse(stdout) as [{ stats64: { rx: { bytes: number } } }])[0].stats64.rx.bytes;
	}

	/** True when Pod packets to the Node with this address go there. */
	tunnelsTo(address: string): boolean {
		const [addresses, peers] = ["peer_addresses", "peers"].map((name) =>
			BpfMap.openPinned(join(this.agent.pinDirectory, "maps", name)),
		) as [BpfMap, BpfMap];
		try {
			const key = Buffer.alloc(16);
			writeAddress(key, 0, address);
			const id = addresses.lookup(key)?.readUInt32LE();
			if (id === undefined) return false;
			const index = Buffer.alloc(4);
			index.writeUInt32LE(id * 2);
			const peer = peers.lookup(index);
			return peer !== undefined && Peer.decode(peer).remote === address;
		} finally {
			addresses.close();
			peers.close();
		}
	}

	async #pid(): Promise<number> {
		return (await this.agent.status()).pid;
	}

	async #remove(): Promise<void> {
		await this.agent.stop();
		const { pinDirectory, runDirectory } = this.agent;
		const cleanup = ["cleanup", "--pin-dir", pinDirectory, "--run-dir", runDirectory];
		await this.#node.run([command("fairway"), ...cleanup]);
		rmSync(runDirectory, { recursive: true, force: true });
	}
}

/** User and system time of a process, ms. */
function processTime(pid: number): number {
	const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return (Number(fields[11]) + Number(fields[12])) * 10;
}
