/**
 * Many Nodes at a real API server, each with an agent and one Pod of its own. This process and the server share a network
 * namespace of their own:
 *
 *   Node 1  eth0 192.168.72.11 ──┐
 *   Node 2  eth0 192.168.72.12 ──┼── bridge 192.168.72.1: kube-apiserver, etcd, this process
 *   …                            │
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BpfMap } from "#native";
import { Agent } from "../../src/lab/agent.js";
import { Namespace, run } from "../../src/lab/namespace.js";
import { attachPod } from "../../src/lab/pod.js";
import { command } from "../../src/lab/repository.js";
import { writeAddress } from "../../src/tables/address.js";
import { Endpoint } from "../../src/tables/generated.js";
import { ApiAlone, ApiUser } from "../../test/kubernetes/api_alone.js";
import { atEnd } from "./cleanup.js";
import { kubeconfigOf } from "./kubeconfig.js";

const PORT = 6443;
const API = "192.168.72.1";
const NAMESPACE = "default";
const LABEL = "measured";
const PATIENCE_MS = 180_000;
/** Agents that start at a time. */
const AT_ONCE = 4;
/** Each has a table of flows. */
const CONFIG = "trafficEncapMode: encap\nflows:\n  max: 4096\n";

interface NodeOfSite {
	agent: Agent;
	namespace: Namespace;
	endpoints: BpfMap;
	/** Of its Pod's element. */
	key: Buffer;
}

export class ApplySite {
	readonly user: ApiUser;
	readonly #nodes: NodeOfSite[] = [];

	private constructor(user: ApiUser) {
		this.user = user;
	}

	/** In this process's network namespace. Resolves when every agent is ready and has attached its Pod. */
	static async up(count: number): Promise<ApplySite> {
		await run(["ip", "link", "set", "lo", "up"]);
		await run(["ip", "link", "add", "nodes", "type", "bridge"]);
		await run(["ip", "address", "add", `${API}/24`, "dev", "nodes"]);
		await run(["ip", "link", "set", "nodes", "up"]);
		const api = new ApiAlone(API);
		atEnd(() => api.close());
		api.startEtcd();
		const unwanted = "ServiceAccount,TaintNodesByCondition";
		await api.startServer(PORT, "--disable-admission-plugins", unwanted);
		const user = new ApiUser(api.access(PORT));
		atEnd(() => user.close());
		const site = new ApplySite(user);
		const [config, kubeconfig] = [api.file("fairway.yaml"), api.file("kubeconfig")];
		writeFileSync(config, CONFIG);
		writeFileSync(kubeconfig, kubeconfigOf(api.access(PORT), `https://${API}:${PORT}`));
		for (let i = 1; i <= count; i++) await site.#addObjects(i);
		for (let from = 1; from <= count; from += AT_ONCE)
			await Promise.all(
				Array.from({ length: Math.min(AT_ONCE, count + 1 - from) }, (_, i) =>
					site.#addNode(from + i, { config, kubeconfig, api }),
				),
			);
		return site;
	}

	async #addObjects(i: number): Promise<void> {
		const [name, address] = [nodeName(i), addressOf(i)];
		const node = {
			...{ apiVersion: "v1", kind: "Node", metadata: { name } },
			spec: { podCIDR: `10.72.${i}.0/24`, podCIDRs: [`10.72.${i}.0/24`] },
		};
		const pod = {
			...{ apiVersion: "v1", kind: "Pod" },
			metadata: { namespace: NAMESPACE, name: podName(i), labels: { app: LABEL } },
			spec: { nodeName: name, containers: [{ name: "main", image: "none" }] },
		};
		const addresses = [{ type: "InternalIP", address }];
		await this.#expect(201, "POST", "/api/v1/nodes", node);
		await this.#expect(200, "PATCH", `/api/v1/nodes/${name}/status`, { status: { addresses } });
		await this.#expect(201, "POST", `/api/v1/namespaces/${NAMESPACE}/pods`, pod);
	}

	async #addNode(
		i: number,
		{ config, kubeconfig, api }: { config: string; kubeconfig: string; api: ApiAlone },
	): Promise<void> {
		const node = new Namespace(`fwB-${process.pid}-kube${i}`);
		const target = new Namespace(`fwB-${process.pid}-pod${i}-kube`);
		for (const { name } of [node, target]) {
			await run(["ip", "netns", "add", name]);
			atEnd(async () => void (await run(["ip", "netns", "del", name])));
		}
		const device = `node${i}`;
		const peer = ["peer", "name", "eth0", "netns", node.name];
		await run(["ip", "link", "add", device, "type", "veth", ...peer]);
		await run(["ip", "link", "set", device, "master", "nodes", "up"]);
		await node.script(
			`ip link set lo up; ip address add ${addressOf(i)}/24 dev eth0; ip link set eth0 up; ip route add default via ${API}`,
		);
		const directory = api.file(`agent${i}`);
		const pinDirectory = `/sys/fs/bpf/fairway-bench-${process.pid}-kube${i}`;
		const agent = new Agent({
			...{ node: nodeName(i), namespace: node, directory, pinDirectory, config },
			...{ cluster: { kubeconfig }, patienceMs: PATIENCE_MS },
		});
		atEnd(async () => {
			await agent.stop();
			const cleanup = ["--pin-dir", pinDirectory, "--run-dir", agent.runDirectory];
			await node.run([command("fairway"), "cleanup", ...cleanup]);
			rmSync(directory, { recursive: true, force: true });
		});
		await agent.start();
		const name = podName(i);
		const pod = { namespace: NAMESPACE, name, node: nodeName(i), label: name };
		const { addresses } = await attachPod({ pod, node, target, socket: agent.socket });
		const key = Buffer.alloc(16);
		writeAddress(key, 0, addresses[4]!);
		const endpoints = BpfMap.openPinned(join(pinDirectory, "maps", "endpoints"));
		atEnd(() => endpoints.close());
		this.#nodes.push({ agent, namespace: node, endpoints, key });
	}

	/** Of each Node's Pod: the id of its ingress policy. */
	policies(): number[] {
		return this.#nodes.map(({ endpoints, key }) => {
			const element = endpoints.lookup(key);
			return element === undefined ? 0 : Endpoint.decode(element).ingressPolicy;
		});
	}

	/** Applies a policy that selects every Pod, with this port. Resolves when the server has answered. */
	async apply(port: number): Promise<void> {
		const path = `/apis/networking.k8s.io/v1/namespaces/${NAMESPACE}/networkpolicies`;
		const spec = {
			podSelector: { matchLabels: { app: LABEL } },
			ingress: [{ from: [{ podSelector: {} }], ports: [{ port }] }],
		};
		const name = "applied";
		const object = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", spec };
		const status = await this.user.ask("PATCH", `${path}/${name}`, { spec });
		if (status === 200) return;
		await this.#expect(201, "POST", path, { ...object, metadata: { namespace: NAMESPACE, name } });
	}

	async #expect(wanted: number, method: "POST" | "PATCH", path: string, body: object) {
		const status = await this.user.ask(method, path, body);
		if (status !== wanted)
			throw new Error(
				`Cannot set up the Nodes: expected ${wanted} to ${method} ${path}, got ${status}`,
			);
	}
}

const nodeName = (i: number) => `node${i}`;
const podName = (i: number) => `pod${i}`;
const addressOf = (i: number) => `192.168.72.${10 + i}`;
