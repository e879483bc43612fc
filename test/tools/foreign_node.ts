/** A Node of the lab that is not Fairway's: its manifest marked, its Pods attached by hand. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.js";
import { plainNetwork } from "./plain_network.js";

/** Edits the copied manifests: no agent on this Node. */
export function withoutAgent(node: string): (directory: string) => void {
	return (directory) => {
		const file = join(directory, "nodes.yaml");
		const text = readFileSync(file, "utf8");
		const marked = `  name: ${node}\n  annotations:\n    lab.fairway.io/agent: none\n`;
		writeFileSync(file, text.replace(`  name: ${node}\n`, marked));
	};
}

/**
 * veth pairs for the Node's Pods, `pod2`, `pod3`... on the Node's side. The MTU leaves room for a
 * tunnel over IPv6, the checksums are done by the Pod.
 */
export async function attachByHand(lab: Lab, node: string): Promise<void> {
	for (const pod of lab.topology.pods.filter((p) => p.node === node)) {
		lab.attachments.set(pod.label, await plainNetwork.attach(lab, pod));
		await lab.namespace(pod.label).script("ip link set dev eth0 mtu 1400; ethtool -K eth0 tx off");
	}
	await lab.run(node, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
	await lab.run(node, ["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1"]);
}
