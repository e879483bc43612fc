/** The agents of the cluster: their commands, and what they say of peers. */
import type { PeerStatus } from "../../src/api/messages/peers.js";
import type { Status } from "../../src/api/messages/status.js";
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import type { KubernetesNode } from "./node.js";

/** Over the agent's socket, by the Node's own curl: it needs neither the API server nor a Node.js process. */
async function ask<T>(node: KubernetesNode, path: string): Promise<T> {
	const socket = "/run/fairway/agent.sock";
	const { stdout } = await node.run([
		"curl",
		"-sSf",
		"--unix-socket",
		socket,
		`http://agent${path}`,
	]);
	return JSON.parse(stdout) as T;
}

export const statusOf = (node: KubernetesNode): Promise<Status> => ask(node, "/status");
export const peersOf = (node: KubernetesNode): Promise<PeerStatus[]> => ask(node, "/peers");

export type Mode = "encap" | "noEncap" | "hybrid";
export const modes: readonly Mode[] = ["encap", "hybrid", "noEncap"];

/** The path that follows from a mode in a network that drops Pod addresses between its subnets, unless routed. */
function expectedPath(mode: Mode, from: KubernetesNode, peer: KubernetesNode): PeerStatus["path"] {
	const near = from.plan.subnet === peer.plan.subnet;
	if (mode === "noEncap") return near ? "direct" : "routed";
	return mode === "hybrid" && near ? "direct" : "geneve";
}

/** Waits until every agent has the mode, and the path that follows from it to every peer. */
export async function settled(cluster: Cluster, mode: Mode, timeoutMs = 120_000): Promise<void> {
	for (const node of cluster.nodes)
		await until(
			`${node.name} has mode ${mode} and its paths`,
			async () => {
				const status = await statusOf(node);
				const peers = await peersOf(node);
				const off = peers.filter(
					({ node: name, path }) => path !== expectedPath(mode, node, cluster.node(name)),
				);
				if (status.ready && status.mode === mode && off.length === 0)
					return peers.length === (cluster.nodes.length - 1) * 2;
				throw new Error(JSON.stringify({ mode: status.mode, ready: status.ready, off }));
			},
			timeoutMs,
		);
}
