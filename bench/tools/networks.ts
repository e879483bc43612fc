/**
 * Other dataplanes for the Nodes and Pods of a lab, built from what the kernel offers.
 */
import { BpfObject } from "#native";
import type { Lab, PodNetwork } from "../../src/lab/lab.js";
import { type Family, familyOf, withoutLength } from "../../src/lab/subnet.js";
import type { LabNode } from "../../src/lab/topology.js";
import { plainNetwork } from "../../test/tools/plain_network.js";
import { atEnd } from "./cleanup.js";
import { ETHERNET, geneveHeaders, macBytes } from "./frame.js";
import { benchObject, link, type Pktgen, setTc, setXdp } from "./pktgen.js";
import { BACKEND, CLUSTER_IP, SERVICE_PORT, servicePlans, TARGET } from "./service_plan.js";
import { iptablesRules, nftRules } from "./service_rules.js";

/** Kernel forwarding with a route for each peer, without encapsulation. */
export const kernelForwarding = plainNetwork;

/** The same, with masquerading of traffic that leaves the cluster. */
export const nftMasquerade: PodNetwork = {
	...plainNetwork,
	async start(lab) {
		await plainNetwork.start(lab);
		for (const { name, podCIDRs } of lab.topology.nodes) {
			const rules = podCIDRs.map((cidr) => {
				const ip = familyOf(cidr) === 4 ? "ip" : "ip6";
				return `add rule inet nat post ${ip} saddr ${cidr} oifname eth0 masquerade`;
			});
			const input = [
				"add table inet nat",
				"add chain inet nat post { type nat hook postrouting priority srcnat; }",
				...rules,
			].join("\n");
			await lab.run(name, ["nft", "-f", "-"], { input });
		}
	},
};

/** The kernel's vxlan device with static entries, as in flannel; no outer UDP checksum. */
export function kernelVxlan(family: Family): PodNetwork {
	return {
		...plainNetwork,
		async start(lab) {
			const { nodes } = lab.topology;
			for (const [i, node] of nodes.entries()) {
				const local = addressOf(node, family);
				const zero = family === 4 ? "noudpcsum" : "udp6zerocsumtx udp6zerocsumrx";
				const lines = [
					"sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
					`ip link add vxlan0 address ${tunnelMac(i)} type vxlan id 1 local ${local} dstport 4789 dev eth0 nolearning ${zero}`,
					"ip link set dev vxlan0 up",
				];
				for (const [j, peer] of nodes.entries()) {
					if (peer === node) continue;
					lines.push(`bridge fdb append ${tunnelMac(j)} dev vxlan0 dst ${addressOf(peer, family)}`);
					for (const cidr of peer.podCIDRs) {
						const via = withoutLength(cidr);
						const v = familyOf(cidr);
						// An anycast address cannot be a gateway, so the route uses a link-local one.
						const gateway = v === 4 ? via : `fe80::${j + 1}`;
						lines.push(
							`ip -${v} neigh replace ${gateway} lladdr ${tunnelMac(j)} dev vxlan0 nud permanent`,
							`ip -${v} route replace ${cidr} via ${gateway} dev vxlan0 onlink`,
						);
					}
				}
				await lab.namespace(node.name).script(lines.join("\n"));
			}
		},
		async attach(lab, pod) {
			const attachment = await plainNetwork.attach(lab, pod);
			await lab.run(pod.label, setMtu(family));
			return attachment;
		},
	};
}

/**
 * A vxlan device in collect-metadata mode: a TC program at the Pod sets the tunnel key of each packet
 * (bpf_skb_set_tunnel_key), another delivers from the device into the Pod (bpf_redirect_peer). IPv4,
 * two Nodes, one Pod each.
 */
export function collectMetadata(pktgen: Pktgen): PodNetwork {
	return {
		...plainNetwork,
		async start(lab) {
			for (const { name } of lab.topology.nodes)
				await lab.namespace(name).script(
					`sysctl -q -w net.ipv4.ip_forward=1
					ip link add vxlan0 type vxlan external dstport 4789
					ip link set dev vxlan0 up`,
				);
		},
		async attach(lab, pod) {
			const attachment = await plainNetwork.attach(lab, pod);
			await lab.run(pod.label, setMtu(4));
			const node = lab.namespace(pod.node);
			const inside = await link(lab.namespace(pod.label), "eth0");
			const outside = await link(node, "pod2");
			const tunnel = await link(node, "vxlan0");
			const remote = ipv4Number(addressOf(otherNode(lab, pod.node), 4));
			const [leaving, arriving] = await Promise.all([
				openWays(pktgen, "to_tunnel", { to_ifindex: tunnel.ifindex, remote_ipv4: remote }),
				openWays(pktgen, "into_pod", {
					to_ifindex: outside.ifindex,
					destination_mac: inside.mac,
					source_mac: outside.mac,
				}),
			]);
			await setTc(node, "pod2", leaving);
			await setTc(node, "vxlan0", arriving);
			return attachment;
		},
	};
}

/**
 * The least work for TC at the Pod and XDP at the other Node's NIC, without look-ups: write MAC
 * addresses and redirect and, with `tunnel`, prepend constant headers. For the generator's smallest
 * IPv4 frames; the kernel forwards everything else. Two Nodes, one Pod each.
 */
export function bare(pktgen: Pktgen, { tunnel }: { tunnel: boolean }): PodNetwork {
	return {
		...plainNetwork,
		async attach(lab, pod) {
			const attachment = await plainNetwork.attach(lab, pod);
			const node = lab.namespace(pod.node);
			const peer = otherNode(lab, pod.node);
			const inside = await link(lab.namespace(pod.label), "eth0");
			const outside = await link(node, "pod2");
			const nic = await link(node, "eth0");
			const far = await link(lab.namespace(peer.name), "eth0");
			const headers = geneveHeaders({
				sourceMac: nic.mac,
				destinationMac: far.mac,
				source: addressOf(lab.topology.nodes.find(({ name }) => name === pod.node)!, 4),
				destination: addressOf(peer, 4),
				innerSize: 64,
			});
			const [leaving, arriving] = await Promise.all([
				openWays(pktgen, tunnel ? "bare_tunnel" : "bare_send", {
					to_ifindex: nic.ifindex,
					...(tunnel
						? { outer_headers: headers }
						: { destination_mac: far.mac, source_mac: nic.mac }),
				}),
				openWays(pktgen, tunnel ? "bare_strip" : "bare_redirect", {
					to_ifindex: outside.ifindex,
					destination_mac: inside.mac,
					source_mac: outside.mac,
					...(tunnel ? { strip_bytes: headers.length - ETHERNET } : {}),
				}),
			]);
			await setTc(node, "pod2", leaving);
			await setXdp(node, "eth0", arriving);
			return attachment;
		},
	};
}

/**
 * The least work for TC programs between two Pods: everything from a Pod goes to the other Node,
 * everything received goes into the Pod, without look-ups or tunnel. IPv4, two Nodes, one Pod each.
 */
export function bareRedirects(pktgen: Pktgen): PodNetwork {
	return {
		...plainNetwork,
		async attach(lab, pod) {
			const attachment = await plainNetwork.attach(lab, pod);
			const node = lab.namespace(pod.node);
			const peer = otherNode(lab, pod.node);
			const [inside, outside, nic, remote] = await Promise.all([
				link(lab.namespace(pod.label), "eth0"),
				link(node, "pod2"),
				link(node, "eth0"),
				link(lab.namespace(peer.name), "eth0"),
			]);
			const [leaving, arriving] = await Promise.all([
				openWays(pktgen, "onto_wire", {
					to_ifindex: nic.ifindex,
					destination_mac: remote.mac,
					source_mac: nic.mac,
				}),
				openWays(pktgen, "into_pod", {
					to_ifindex: outside.ifindex,
					destination_mac: inside.mac,
					source_mac: outside.mac,
				}),
			]);
			await setTc(node, "pod2", leaving);
			await setTc(node, "eth0", arriving);
			return attachment;
		},
	};
}

/**
 * The least work for a Service of pod1: TC programs that translate its address to that of pod2 and back by
 * constants; everything else as with bare redirects. With `tunnel` for the generator's frames only, which
 * XDP strips at the other Node. IPv4, two Nodes, one Pod each.
 */
export function bareDnat(pktgen: Pktgen, { tunnel }: { tunnel: boolean }): PodNetwork {
	return {
		...plainNetwork,
		async attach(lab, pod) {
			const attachment = await plainNetwork.attach(lab, pod);
			const node = lab.namespace(pod.node);
			const peer = otherNode(lab, pod.node);
			const [inside, outside, nic, remote] = await Promise.all([
				link(lab.namespace(pod.label), "eth0"),
				link(node, "pod2"),
				link(node, "eth0"),
				link(lab.namespace(peer.name), "eth0"),
			]);
			const into = {
				to_ifindex: outside.ifindex,
				destination_mac: inside.mac,
				source_mac: outside.mac,
			};
			const out = {
				to_ifindex: nic.ifindex,
				destination_mac: remote.mac,
				source_mac: nic.mac,
			};
			const headers = geneveHeaders({
				sourceMac: nic.mac,
				destinationMac: remote.mac,
				source: addressOf(lab.topology.nodes.find(({ name }) => name === pod.node)!, 4),
				destination: addressOf(peer, 4),
				innerSize: 64,
			});
			if (pod.name !== "pod1") {
				await setTc(node, "pod2", await openWays(pktgen, "onto_wire", out));
				if (tunnel) {
					const strip_bytes = headers.length - ETHERNET;
					const strip = await openWays(pktgen, "bare_strip", { ...into, strip_bytes });
					await setXdp(node, "eth0", strip);
				} else await setTc(node, "eth0", await openWays(pktgen, "into_pod", into));
				return attachment;
			}
			const service = {
				service_ipv4: ipv4Number(CLUSTER_IP),
				endpoint_ipv4: ipv4Number(BACKEND),
				service_ports: portPair(SERVICE_PORT),
				endpoint_ports: portPair(TARGET),
			};
			const [leaving, arriving] = await Promise.all([
				openWays(pktgen, "dnat_send", {
					...{ ...out, ...service, tunnelled: Number(tunnel) },
					...(tunnel ? { outer_headers: headers } : {}),
				}),
				openWays(pktgen, "dnat_receive", { ...into, ...service }),
			]);
			await setTc(node, "pod2", leaving);
			await setTc(node, "eth0", arriving);
			return attachment;
		},
	};
}

/** Kernel forwarding, and these rules on every Node: iptables' by the command of this name, nftables' by nft. */
export function kubeProxyRules(
	rules: "nft" | "iptables-nft" | "iptables-legacy",
	count: number,
): PodNetwork {
	return {
		...plainNetwork,
		async start(lab) {
			await plainNetwork.start(lab);
			const plans = servicePlans(count, BACKEND);
			const [node] = lab.topology.nodes;
			const input = rules === "nft" ? nftRules(plans, addressOf(node!, 4)) : iptablesRules(plans);
			const command = rules === "nft" ? ["nft", "-f", "-"] : [`${rules}-restore`];
			await lab.run(node!.name, command, { input, timeoutMs: 600_000 });
		},
	};
}

function ipv4Number(address: string): number {
	return address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

/** Two ports as the programs have them, TCP's first. */
function portPair({ tcp, udp }: { tcp: number; udp: number }): Buffer {
	const pair = Buffer.alloc(4);
	pair.writeUInt16LE(tcp, 0);
	pair.writeUInt16LE(udp, 2);
	return pair;
}

/** Loads a program of bench/bpf/ways.bpf.c with its constants. Returns the path of its pin. */
export async function openWays(
	pktgen: Pktgen,
	program: string,
	constants: Record<string, number | string | Buffer>,
): Promise<string> {
	const object = BpfObject.open(await benchObject("ways"));
	atEnd(() => object.close());
	for (const name of object.programNames) object.setAutoload(name, name === program);
	for (const [name, value] of Object.entries(constants)) {
		const place = object.readOnlyVariables[name];
		if (place === undefined) throw new Error(`Cannot set ${name}: there is no such constant`);
		const bytes = Buffer.alloc(place.size);
		if (typeof value === "number") bytes.writeUInt32LE(value);
		else (typeof value === "string" ? macBytes(value) : value).copy(bytes);
		object.setReadOnlyData(place.offset, bytes);
	}
	object.load();
	return pktgen.pin(object.program(program));
}

export function addressOf({ name, addresses }: LabNode, family: Family): string {
	const address = addresses.find((known) => familyOf(known) === family);
	if (address === undefined) throw new Error(`Cannot find the IPv${family} address of ${name}`);
	return withoutLength(address);
}

function otherNode(lab: Lab, name: string): LabNode {
	const other = lab.topology.nodes.find((node) => node.name !== name);
	if (other === undefined) throw new Error("Cannot tunnel: expected two Nodes, got one");
	return other;
}

const tunnelMac = (node: number): string => `02:00:00:00:be:0${node + 1}`;

const setMtu = (family: Family): string[] =>
	`ip link set dev eth0 mtu ${family === 4 ? 1450 : 1430}`.split(" ");
