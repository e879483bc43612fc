/** Fairway as a process on every Node, with the Nodes copied from the API into a directory of manifests. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "../../src/lab/repository.js";
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import { folders, serviceCIDRs } from "./layout.js";
import { podCIDRsOf } from "./plain.js";

const conflist = {
	cniVersion: "1.0.0",
	name: "fairway",
	plugins: [
		{ type: "fairway-cni", socket: "/run/fairway/agent.sock" },
		{ type: "portmap", capabilities: { portMappings: true } },
	],
};

const folder = join(folders.run, "fairway");

export function configureByHand(settings: object): void {
	writeFileSync(join(folder, "config.yaml"), JSON.stringify({ serviceCIDRs, ...settings }));
}

export async function startByHand(cluster: Cluster, settings: object): Promise<void> {
	mkdirSync(join(folder, "manifests"), { recursive: true });
	configureByHand(settings);
	await podCIDRsOf(cluster);
	for (const { name } of cluster.nodes)
		writeFileSync(
			join(folder, "manifests", `${name}.json`),
			await cluster.kubectl("get", "node", name, "-o", "json"),
		);
	for (const node of cluster.nodes) {
		await node.script(`
			mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
			cp /usr/lib/cni/loopback /usr/lib/cni/portmap /opt/cni/bin/
			ln -sf ${command("fairway-cni")} /opt/cni/bin/fairway-cni`);
		node.spawn("fairway", [
			...[command("fairway"), "agent", "--node-name", node.name],
			...["--config", join(folder, "config.yaml"), "--manifests", join(folder, "manifests")],
		]);
		await until(
			"the agent listens",
			async () =>
				(await node.run(["test", "-S", "/run/fairway/agent.sock"], { mayFail: true })).status === 0,
		);
		writeFileSync(join(node.folder, "etc/cni/net.d/05-fairway.conflist"), JSON.stringify(conflist));
	}
	await cluster.nodesReady();
}
