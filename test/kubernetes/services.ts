/** Services for tests: their objects, and from where they are reached. */
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import { type Client, outside, request } from "./connections.js";
import { ipv4First } from "./layout.js";
import type { KubernetesNode } from "./node.js";
import { type TestPod, testNamespace } from "./pods.js";

/** A dual-stack Service of the Pods `app=NAME`: port 80, and 9000 for long connections. */
export async function startService(
	cluster: Cluster,
	name: string,
	type: "ClusterIP" | "LoadBalancer" = "ClusterIP",
): Promise<void> {
	await cluster.apply([
		{
			apiVersion: "v1",
			kind: "Service",
			metadata: { name, namespace: testNamespace },
			spec: {
				type,
				selector: { app: name },
				ports: [80, 9000].map((port) => ({ name: `port-${port}`, port })),
				ipFamilyPolicy: "RequireDualStack",
			},
		},
	]);
}

interface ServiceObject {
	spec: { clusterIPs: string[]; ports: { port: number; nodePort?: number }[] };
	status: { loadBalancer: { ingress?: { ip: string }[] } };
}

const read = (cluster: Cluster, name: string): Promise<ServiceObject> =>
	cluster.get<ServiceObject>("-n", testNamespace, "service", name);

/** Its cluster IPs, IPv4 first. */
export async function serviceAddress(cluster: Cluster, name: string): Promise<string[]> {
	return ipv4First((await read(cluster, name)).spec.clusterIPs);
}

/** Port 80 of a Service of type LoadBalancer, by every kind of address: all of them reach it from everywhere. */
export async function frontends(
	cluster: Cluster,
	name: string,
): Promise<{ kind: string; address: string; port: number }[]> {
	const { spec, status } = await until(`${name} has load balancer IPs`, async () => {
		const service = await read(cluster, name);
		return service.status.loadBalancer.ingress?.length === 2 ? service : undefined;
	});
	const nodePort = spec.ports.find(({ port }) => port === 80)?.nodePort ?? 0;
	return [
		...spec.clusterIPs.map((address) => ({ kind: "cluster IP", address, port: 80 })),
		...cluster.nodes
			.flatMap(({ plan }) => [plan.v4, plan.v6])
			.map((address) => ({ kind: "NodePort", address, port: nodePort })),
		...(status.loadBalancer.ingress ?? []).map(({ ip }) => ({
			kind: "load balancer IP",
			address: ip,
			port: 80,
		})),
	];
}

/** Asks every frontend from Pods, Nodes and outside. @returns those that did not answer */
export async function unanswered(
	cluster: Cluster,
	name: string,
	pods: readonly TestPod[],
): Promise<string[]> {
	const all = await frontends(cluster, name);
	const clients: Pick<Client | KubernetesNode, "name" | "run">[] = [
		...pods,
		...cluster.nodes,
		outside,
	];
	const failed: string[] = [];
	for (const client of clients)
		for (const { kind, address, port } of all) {
			// Cluster IPs mean nothing outside.
			if (client === outside && kind === "cluster IP") continue;
			if ((await request(client, address, port))?.startsWith(name)) continue;
			failed.push(`${client.name} → ${kind} ${address} port ${port}`);
		}
	return failed;
}
