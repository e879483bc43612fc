/** Fairway as a process on every Node, for a checkout without deploy/fairway.yaml. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { command } from "../../src/lab/repository.js";
import { kubeconfig } from "./certificates.js";
import type { Cluster } from "./cluster.js";
import { folders } from "./layout.js";

const folder = join(folders.run, "fairway");
const config = join(folder, "config.yaml");

export function configureByHand(settings: object): void {
	writeFileSync(config, JSON.stringify(settings));
}

export async function startByHand(cluster: Cluster, settings: object): Promise<void> {
	mkdirSync(folder, { recursive: true });
	configureByHand(settings);
	for (const node of cluster.nodes) {
		await node.script(`
			mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
			cp /usr/lib/cni/loopback /usr/lib/cni/portmap /opt/cni/bin/
			ln -sf ${command("fairway-cni")} /opt/cni/bin/fairway-cni`);
		node.spawn("fairway", [
			...[command("fairway"), "agent", "--node-name", node.name],
			...["--config", config, "--kubeconfig", kubeconfig("admin")],
		]);
	}
	await cluster.nodesReady();
}
