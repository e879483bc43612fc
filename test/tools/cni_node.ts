/**
 * A Node for CNI tests: a namespace with the agent of cni_agent.ts. Pods are namespaces that are
 * attached by running bin/fairway-cni as a container runtime does.
 *
 *   pod (eth0) ──veth── (fairway1a2b3c4d) node (lo: the gateway addresses)
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ask } from "../../src/api/client.js";
import type { ErrorObject } from "../../src/cni/errors.js";
import type { NodeView } from "../../src/cni/server.js";
import { Namespace, run } from "../../src/lab/namespace.js";
import type { AgentState } from "./cni_agent.js";

const root = new URL("../..", import.meta.url).pathname;

const plugin = [join(root, "bin/fairway-cni")];

export const defaultView: NodeView = {
	podCIDRs: ["10.99.1.0/24", "fd99:1::/64"],
	gateways: ["10.99.1.1", "fd99:1::1"],
	gatewayMac: "02:fa:1c:99:00:01",
	podMTU: 1450,
};

export interface Result {
	cniVersion: string;
	interfaces: { name: string; mac: string; mtu?: number; sandbox?: string }[];
	ips: { address: string; gateway: string; interface: number }[];
	routes: { dst: string; gw: string }[];
	dns: object;
}

export interface Answer {
	status: number;
	/** The parsed output; undefined: none. */
	body: (Result & ErrorObject) | undefined;
	/** Addresses of the Result, without prefix length. */
	addresses: string[];
}

export class CniNode {
	readonly namespace: Namespace;
	readonly runDir: string;
	readonly #prefix: string;
	readonly #pods: Namespace[] = [];
	#agent: ChildProcess | undefined;

	private constructor(name: string) {
		this.#prefix = `fwc-${process.pid}-${name}`;
		this.namespace = new Namespace(`${this.#prefix}-node`);
		this.runDir = mkdtempSync(join(tmpdir(), "fairway-cni-"));
	}

	static async up(name: string, view: NodeView | null = defaultView): Promise<CniNode> {
		const node = new CniNode(name);
		try {
			await run(["ip", "netns", "add", node.namespace.name]);
			const addresses = (view ?? defaultView).gateways.map((gateway) =>
				gateway.includes(":") ? `${gateway}/128 nodad` : `${gateway}/32`,
			);
			await node.namespace.script(
				`ip link set lo up
				echo 1 >/proc/sys/net/ipv4/ip_forward
				echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
				${addresses.map((address) => `ip addr add ${address} dev lo`).join("\n")}`,
			);
			await node.start(view);
		} catch (error) {
			await node.down();
			throw error;
		}
		return node;
	}

	get socket(): string {
		return join(this.runDir, "agent.sock");
	}

	async start(view: NodeView | null = defaultView): Promise<void> {
		const file = join(root, "test/tools/cni_agent.ts");
		const agent = this.namespace.spawn(
			[process.execPath, "--import=tsx", file, this.runDir, JSON.stringify(view)],
			{ cwd: root, stdio: ["ignore", "pipe", "inherit"] },
		);
		this.#agent = agent;
		const lines = createInterface({ input: agent.stdout! });
		await new Promise<void>((resolve, reject) => {
			lines.on("line", (line) => {
				if ((JSON.parse(line) as { msg: string }).msg === "ready") resolve();
			});
			agent.on("exit", (status) => reject(new Error(`The agent ended with ${status}`)));
		});
	}

	/** kill -9 */
	async kill(): Promise<void> {
		const agent = this.#agent;
		this.#agent = undefined;
		if (agent === undefined || agent.exitCode !== null) return;
		const exit = once(agent, "exit");
		agent.kill("SIGKILL");
		await exit;
	}

	async down(): Promise<void> {
		await this.kill();
		for (const { name } of [...this.#pods, this.namespace])
			await run(["ip", "netns", "del", name], { mayFail: true });
		rmSync(this.runDir, { recursive: true, force: true });
	}

	/** Creates a namespace like a runtime. */
	async pod(name: string): Promise<Namespace> {
		const pod = new Namespace(`${this.#prefix}-${name}`);
		await run(["ip", "netns", "add", pod.name]);
		this.#pods.push(pod);
		return pod;
	}

	/** Runs the plugin for that Pod. */
	async call(
		command: string,
		pod: Namespace | undefined,
		options: { config?: object; variables?: Record<string, string> } = {},
	): Promise<Answer> {
		const config = {
			cniVersion: "1.0.0",
			name: "fairway",
			type: "fairway-cni",
			socket: this.socket,
		};
		const { status, stdout, stderr } = await this.namespace.run(plugin, {
			input: JSON.stringify({ ...config, ...options.config }),
			environment: {
				CNI_COMMAND: command,
				CNI_CONTAINERID: pod?.name ?? "",
				CNI_NETNS: pod?.path ?? "",
				CNI_IFNAME: "eth0",
				CNI_PATH: "/opt/cni/bin",
				...options.variables,
			},
			mayFail: true,
		});
		if (stderr !== "") throw new Error(`fairway-cni wrote to standard error: ${stderr}`);
		const body = stdout === "" ? undefined : (JSON.parse(stdout) as Result & ErrorObject);
		const addresses = body?.ips?.map(({ address }) => address.replace(/\/\d+$/, "")) ?? [];
		return { status: status ?? -1, body, addresses };
	}

	/** Runs ADD, which must succeed. */
	async add(pod: Namespace, options?: Parameters<CniNode["call"]>[2]): Promise<Answer> {
		const answer = await this.call("ADD", pod, options);
		if (answer.status !== 0) throw new Error(`Cannot ADD: ${JSON.stringify(answer.body)}`);
		return answer;
	}

	state(): Promise<AgentState> {
		return ask<AgentState>(this.socket, "GET", "/state");
	}

	async order(what: "view" | "fail" | "mtu", body: object = {}): Promise<void> {
		await ask(this.socket, "POST", `/${what}`, { body });
	}

	/** Everything of Pods on the Node: host interfaces, routes, neighbours, records. */
	async traces(): Promise<string[]> {
		const { stdout } = await this.namespace.script(
			`ip -o link show type veth
			ip route show proto 170
			ip -6 route show proto 170
			ip neigh show nud permanent
			ip -6 neigh show nud permanent`,
		);
		const lines = stdout.split("\n").filter((line) => line !== "");
		return [...lines, ...this.#files("endpoints"), ...this.#files("deletions")];
	}

	#files(directory: string): string[] {
		try {
			return readdirSync(join(this.runDir, directory));
		} catch {
			return [];
		}
	}
}
