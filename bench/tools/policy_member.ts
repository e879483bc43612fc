/** One Node, one Pod of the cluster in policy_cluster.ts, by number. */
import type { PodObject } from "../../src/cluster/pod_object.js";

export const [NODES, NAMESPACES] = [5000, 500];
export const LOCAL = 110;
export const HERE = "n0";

/** Twenty Pods are one workload. */
export function pod(i: number, app = `app${(i / 20) | 0}`): PodObject {
	const workload = (i / 20) | 0;
	// The first ones are on this Node.
	const node = i < LOCAL ? 0 : 1 + (i % (NODES - 1));
	const host = i < LOCAL ? 2 + i : 2 + Math.floor(i / (NODES - 1));
	const [a, b] = [node >> 8, node & 255];
	return {
		...{ namespace: `ns${workload % NAMESPACES}`, name: `p${i}`, uid: `u${i}`, node: `n${node}` },
		labels: ["app", app, "tier", `t${workload % 4}`],
		addresses: [`10.${a}.${b}.${host}`, `fd00:${node.toString(16)}::${host.toString(16)}`],
		...{ hostNetwork: false, ended: false, limits: [], created: 1 },
		...{ isReady: true, isTerminating: false },
		ports: [{ name: "http", port: 8080 + (workload % 3), protocol: "TCP" }],
	};
}

/** What the API calls a Pod of this name. */
export function apiUid(name: string): string {
	return `6f1c2d3e-0000-4000-8000-${Number(name.slice(1)).toString(16).padStart(12, "0")}`;
}
