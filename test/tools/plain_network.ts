/**
 * Pod traffic over plain kernel routes, instead of Fairway. It shows the behaviour of the lab itself, so
 * that differences with Fairway are Fairway's.
 */

import type { Lab, PodNetwork } from "../../src/lab/lab.js";
import { run } from "../../src/lab/namespace.js";
import type { Attachment } from "../../src/lab/pod.js";
import { familyOf, withoutLength } from "../../src/lab/subnet.js";

const GATEWAY = { 4: "169.254.1.1", 6: "fe80::1" } as const;

export const plainNetwork: PodNetwork = {
	async start(lab) {
		await lab.underlay.setRouterKnowsPods(true);
		for (const node of lab.topology.nodes) {
			const script = ["sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"];
			for (const peer of lab.topology.nodes)
				if (peer !== node && peer.subnet === node.subnet)
					for (const cidr of peer.podCIDRs) {
						const via = peer.addresses.find((a) => familyOf(a) === familyOf(cidr)) ?? "";
						script.push(`ip route add ${cidr} via ${withoutLength(via)}`);
					}
			// IPv6 forwarding removes learned routes; these are static and stay.
			await lab.namespace(node.name).script(script.join("\n"));
		}
	},

	async attach(lab, pod) {
		const node = lab.topology.nodes.find(({ name }) => name === pod.node);
		const siblings = lab.topology.pods.filter((other) => other.node === pod.node);
		const number = siblings.indexOf(pod) + 2;
		const attachment: Attachment = { containerId: "plain", addresses: {} };
		const host = `pod${number}`;
		await run([
			..."ip link add name eth0 netns".split(" "),
			lab.namespace(pod.label).name,
			..."type veth peer name".split(" "),
			host,
			"netns",
			lab.namespace(pod.node).name,
		]);
		const inside = ["ip link set dev eth0 up", "ethtool -K eth0 gro on"];
		const outside = [`ip link set dev ${host} up`, `ip address add fe80::1/64 dev ${host} nodad`];
		outside.push(`ip address add 169.254.1.1/32 dev ${host}`);
		for (const cidr of node?.podCIDRs ?? []) {
			const family = familyOf(cidr);
			const network = cidr.split("/")[0] ?? "";
			const address = family === 4 ? network.replace(/0$/, `${number}`) : `${network}${number}`;
			attachment.addresses[family] = address;
			inside.push(`ip address add ${address} dev eth0${family === 6 ? " nodad" : ""}`);
			inside.push(`ip -${family} route add default via ${GATEWAY[family]} dev eth0 onlink`);
			outside.push(`ip route add ${address} dev ${host}`);
		}
		await lab.namespace(pod.node).script(outside.join("\n"));
		await lab.namespace(pod.label).script(inside.join("\n"));
		return attachment;
	},

	async detach(lab: Lab, pod) {
		await lab.run(pod.label, ["ip", "link", "del", "eth0"]);
	},
};
