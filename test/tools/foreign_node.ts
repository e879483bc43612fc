/** A Node of the lab without Fairway: its manifest is marked, its Pods are attached by hand. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.js";
import { plainNetwork } from "./plain_network.js";

/** Edits the copied manifests so that this Node has no agent. */
export function withoutAgent(node: string): (directory: string) => void {
	return (directory) => {
		const file = join(directory, "nodes.yaml");
		const text = readFileSync(file, "utf8");
		const marked = `  name: ${node}\n  annotations:\n    fairway.dev/lab-agent: none\n`;
		writeFileSync(file, text.replace(`  name: ${node}\n`, marked));
	};
}

/** The MTU of Fairway's dual-stack Pods in encap mode: room for a tunnel over IPv6. */
const POD_MTU = 1430;

/** Makes veth pairs for the Node's Pods, named `pod2`, `pod3`... on the Node. Pods compute their checksums. */
export async function attachByHand(lab: Lab, node: string): Promise<void> {
	const pods = lab.topology.pods.filter((pod) => pod.node === node);
	for (const [i, pod] of pods.entries()) {
		lab.attachments.set(pod.label, await plainNetwork.attach(lab, pod));
		const script = `ip link set dev eth0 mtu ${POD_MTU}; ethtool -K eth0 tx off`;
		await lab.namespace(pod.label).script(script);
		await lab.run(node, ["ip", "link", "set", "dev", `pod${i + 2}`, "mtu", `${POD_MTU}`]);
	}
	await lab.run(node, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
	await lab.run(node, ["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1"]);
}
