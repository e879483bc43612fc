/** The Nodes' network cards, the two subnets and the router between them. Drawn in layout.ts. */
import { run } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { balancerCIDRs, type NodePlan, router, subnets } from "./layout.js";

export async function makeRouter(): Promise<void> {
	await run(["ip", "netns", "add", router.name]);
	await router.script(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		ip link set lo up
		ip address add 198.51.100.1/32 dev lo
		ip address add 2001:db8:100::1/128 dev lo
		# Clients of one address spread over the next hops of load balancers.
		sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1
		# What is sent to a load balancer that does not exist, or has no Nodes, is lost without an error: nobody holds
		# the other end of this device.
		ip tuntap add nowhere mode tun
		ip link set nowhere up
		${balancerCIDRs.map((cidr) => `ip route add ${cidr} dev nowhere`).join("\n")}
		${subnets
			.map(
				(subnet) => `
		ip link add br${subnet} type bridge
		ip link set br${subnet} up
		ip address add 192.168.${subnet}.1/24 dev br${subnet}
		ip address add fd00:${subnet}::1/64 dev br${subnet} nodad`,
			)
			.join("\n")}`);
}

/** Makes a Node's network namespace, with its card plugged into its bridge. */
export async function plugIn(node: NodePlan): Promise<void> {
	const { name, subnet, namespace } = node;
	await run(["ip", "netns", "add", namespace.name]);
	await router.script(`
		ip link add ${name} type veth peer name eth0 netns ${namespace.name}
		ip link set ${name} master br${subnet} up`);
	await namespace.script(`
		ip link set lo up
		sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
		ip link set eth0 up
		ip address add ${node.v4}/24 dev eth0
		ip address add ${node.v6}/64 dev eth0 nodad
		ip route add default via 192.168.${subnet}.1
		ip route add default via fd00:${subnet}::1`);
}

/** Removes a Node's network namespace; a card goes with its namespace, but only a moment later. */
export async function unplug(node: NodePlan): Promise<void> {
	await run(["ip", "netns", "del", node.namespace.name]);
	await until(
		`the card of ${node.name} is gone`,
		async () =>
			(await router.run(["ip", "link", "show", node.name], { mayFail: true })).status !== 0,
	);
}
