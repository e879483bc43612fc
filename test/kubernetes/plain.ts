/**
 * The plainest network there is, as the measure of what this cluster can pass at all: the reference plugins
 * ptp and portmap, a router that knows every pod CIDR, no dataplane; and kube-router's firewall for it, which does
 * nothing but network policies.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../../src/lab/until.js";
import { kubeconfig } from "./certificates.js";
import type { Cluster } from "./cluster.js";
import { ipv4First, program, router, serviceCIDRs } from "./layout.js";

/** Node → its pod CIDRs, IPv4 first; waits until the controller manager has assigned them. */
export async function podCIDRsOf(cluster: Cluster): Promise<Map<string, string[]>> {
	interface NodeList {
		items: { metadata: { name: string }; spec: { podCIDRs?: string[] } }[];
	}
	return await until("every Node has pod CIDRs", async () => {
		const { items } = await cluster.get<NodeList>("nodes");
		if (items.some(({ spec }) => spec.podCIDRs?.length !== 2)) return undefined;
		return new Map(
			items.map(({ metadata, spec }) => [metadata.name, ipv4First(spec.podCIDRs ?? [])]),
		);
	});
}

/** Routes to every pod CIDR in the router, as a network has them that knows Pods. */
export async function routePodCIDRs(cluster: Cluster): Promise<void> {
	for (const [name, [cidr4, cidr6]] of await podCIDRsOf(cluster)) {
		const { v4, v6 } = cluster.node(name).plan;
		await router.script(`ip route replace ${cidr4} via ${v4}; ip route replace ${cidr6} via ${v6}`);
	}
}

export async function withdrawPodCIDRs(cluster: Cluster): Promise<void> {
	for (const cidrs of (await podCIDRsOf(cluster)).values())
		for (const cidr of cidrs) await router.run(["ip", "route", "del", cidr], { mayFail: true });
}

/** Puts the plain network on every Node, and waits until they are Ready. */
export async function startPlainNetwork(cluster: Cluster): Promise<void> {
	await routePodCIDRs(cluster);
	for (const [name, [cidr4, cidr6]] of await podCIDRsOf(cluster)) {
		const node = cluster.node(name);
		await node.script(
			`cp /usr/lib/cni/loopback /usr/lib/cni/portmap /usr/lib/cni/host-local /usr/lib/cni/ptp /opt/cni/bin/
			sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`,
		);
		const list = {
			cniVersion: "1.0.0",
			name: "plain",
			plugins: [
				{
					type: "ptp",
					ipam: {
						type: "host-local",
						ranges: [[{ subnet: cidr4 }], [{ subnet: cidr6 }]],
						routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
					},
				},
				{ type: "portmap", capabilities: { portMappings: true } },
			],
		};
		writeFileSync(join(node.folder, "etc/cni/net.d/10-plain.conflist"), JSON.stringify(list));
	}
	await cluster.nodesReady();
}

export function startFirewall(cluster: Cluster): void {
	for (const { name } of cluster.nodes)
		cluster
			.node(name)
			.spawn("kube-router", [
				...["env", `NODE_NAME=${name}`, program("kube-router")],
				...["--kubeconfig", kubeconfig("admin"), "--enable-ipv6"],
				...["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"],
				...serviceCIDRs.map((cidr) => `--service-cluster-ip-range=${cidr}`),
			]);
}
