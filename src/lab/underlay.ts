/**
 * The network between the Nodes, made of namespaces, veth pairs and one bridge for each switch.
 *
 *       node1       node2                 node3       node4
 *       eth0│       eth0│                 eth0│       eth0│
 *      ─────┴───────────┴─── net1        ─────┴───────────┴─── net2
 *                  │net1     router      net2│
 *                  └──────────┤  ├───────────┘
 *                             │outside
 *                           outside
 *
 *  1. namespaces, with their sysctls, before any link exists
 *  2. links
 *  3. addresses, routes, bridges
 *  4. make the links behave like a wire, and verify it
 *  5. wait until every switch forwards on all its ports
 *
 * A veth passes packets of 64 KB without checksums. Here the switch ends have their offloads off, so
 * that every packet is segmented and checksummed on its way in, as by a NIC; and the Node ends merge
 * what they receive (GRO), as with a NIC.
 */
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Namespace, run } from "./namespace.js";
import { familyOf, withoutLength } from "./subnet.js";
import type { Topology } from "./topology.js";

export interface Machine {
	/** The name in the lab. */
	name: string;
	role: "node" | "pod" | "switch" | "router" | "outside";
	namespace: Namespace;
	sysctls: string[];
	/** Lines for `ip -batch`. */
	addresses: string[];
	/** A Node's port on its switch; "": none. */
	port: string;
	/** Interfaces that merge received packets (GRO). */
	receiving: string[];
	/** Interfaces that segment and checksum sent packets. */
	cutting: string[];
}

/** No duplicate address detection, no router advertisements. */
const QUIET_IPV6 = ["all", "default"].flatMap((which) => [
	`net.ipv6.conf.${which}.accept_dad=0`,
	`net.ipv6.conf.${which}.accept_ra=0`,
]);
const ROUTER = [
	"net.ipv4.ip_forward=1",
	"net.ipv6.conf.all.forwarding=1",
	"net.ipv4.conf.all.rp_filter=0",
	"net.ipv4.conf.default.rp_filter=0",
	// No rate limit on ICMP errors: a test may count them.
	"net.ipv4.icmp_ratelimit=0",
	"net.ipv4.icmp_msgs_per_sec=100000",
	"net.ipv6.icmp.ratelimit=0",
];

/** Packet filters do not see a switch's packets, whatever modules this machine has loaded. */
const UNFILTERED = ["arptables", "ip6tables", "iptables"]
	.map((filter) => `net.bridge.bridge-nf-call-${filter}`)
	.filter((name) => existsSync(`/proc/sys/${name.replaceAll(".", "/")}`))
	.map((name) => `${name}=0`);

/** Valid interface names; a Node's name may be longer. Bridge and router have names of their own. */
const INTERFACE_NAME = /^(?!br0$|router$)[a-z0-9-]{1,15}$/;

export class Underlay {
	readonly machines = new Map<string, Machine>();
	private readonly topology: Topology;
	private readonly links: string[] = [];
	private readonly prefix: string;

	/** @param prefix prefix of every namespace's name. */
	constructor(prefix: string, topology: Topology) {
		this.prefix = prefix;
		this.topology = topology;
		this.plan();
	}

	get namespaces(): string[] {
		return [...this.machines.values()].map(({ namespace }) => namespace.name);
	}

	async build(): Promise<void> {
		const machines = [...this.machines.values()];
		await batch(machines.map(({ namespace }) => `netns add ${namespace.name}`));
		await Promise.all(
			machines.map(({ namespace, sysctls }) =>
				namespace.script(
					`ip link set dev lo up; ${sysctls.length > 0 ? `sysctl -q -w ${sysctls.join(" ")}` : ""}`,
				),
			),
		);
		await batch(this.links);
		await Promise.all(machines.map(configure));
		await Promise.all(machines.map(verifyWire));
		await Promise.all(machines.filter(({ role }) => role === "switch").map(forwards));
	}

	/** Adds or removes the router's routes to the pod CIDRs, via each Node's address of that family. */
	async setRouterKnowsPods(known: boolean): Promise<void> {
		const lines = this.topology.nodes.flatMap(({ addresses, podCIDRs }) =>
			podCIDRs.flatMap((cidr) => {
				const via = addresses.find((address) => familyOf(address) === familyOf(cidr));
				if (via === undefined) return [];
				return known
					? [`-${familyOf(cidr)} route replace ${cidr} via ${withoutLength(via)}`]
					: [`-${familyOf(cidr)} route del ${cidr}`];
			}),
		);
		const router = this.machine("router").namespace;
		await Promise.all(
			lines.map((line) => router.run(["ip", ...line.split(" ")], { mayFail: !known })),
		);
	}

	machine(name: string): Machine {
		const machine = this.machines.get(name);
		if (machine === undefined)
			throw new Error(
				`Cannot find machine "${name}": the lab has ${[...this.machines.keys()].join(", ")}`,
			);
		return machine;
	}

	private plan(): void {
		const { subnets, nodes, pods, outside, mtu } = this.topology;
		const router = this.add("router", "router", [...QUIET_IPV6, ...ROUTER]);
		for (const subnet of subnets) {
			// A switch has no address of its own and sends nothing.
			const bridge = this.add(subnet.name, "switch", [
				"net.ipv6.conf.all.disable_ipv6=1",
				"net.ipv6.conf.default.disable_ipv6=1",
				...UNFILTERED,
			]);
			bridge.addresses.push(
				"link add dev br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
				"link set dev br0 up",
			);
			this.wire(router, subnet.name, subnet.routers, bridge, "router", mtu);
		}
		for (const [i, { name, subnet, addresses }] of nodes.entries()) {
			const node = this.add(name, "node", QUIET_IPV6);
			node.port = INTERFACE_NAME.test(name) ? name : `port${i + 1}`;
			this.wire(node, "eth0", addresses, this.machine(subnet), node.port, mtu);
			const routers = subnets.find((known) => known.name === subnet)?.routers ?? [];
			for (const via of routers.map(withoutLength))
				if (addresses.some((address) => familyOf(address) === familyOf(via)))
					node.addresses.push(`route add default via ${via}`);
		}
		if (outside !== undefined) {
			const host = this.add("outside", "outside", QUIET_IPV6);
			this.links.push(pair("eth0", host, "outside", router, mtu));
			attachTo(host, "eth0", outside.addresses);
			attachTo(router, "outside", outside.routers);
			for (const via of outside.routers)
				host.addresses.push(`route add default via ${withoutLength(via)}`);
			// There is no switch between router and host: each segments for the other.
			for (const end of [host, router]) end.cutting.push(end === host ? "eth0" : "outside");
		}
		for (const { label } of pods) this.add(label, "pod", []);
	}

	private add(name: string, role: Machine["role"], sysctls: string[]): Machine {
		const namespace = new Namespace(`${this.prefix}-${name}`);
		const machine: Machine = {
			...{ name, role, namespace, sysctls, port: "" },
			...{ addresses: [], receiving: [], cutting: [] },
		};
		this.machines.set(name, machine);
		return machine;
	}

	private wire(
		machine: Machine,
		device: string,
		addresses: string[],
		bridge: Machine,
		port: string,
		mtu: number,
	): void {
		this.links.push(pair(device, machine, port, bridge, mtu));
		attachTo(machine, device, addresses);
		machine.receiving.push(device);
		bridge.addresses.push(`link set dev ${port} master br0 up`);
		bridge.cutting.push(port);
	}
}

function pair(device: string, a: Machine, port: string, b: Machine, mtu: number): string {
	return `link add ${device} mtu ${mtu} netns ${a.namespace.name} type veth peer name ${port} mtu ${mtu} netns ${b.namespace.name}`;
}

function attachTo(machine: Machine, device: string, addresses: string[]): void {
	machine.addresses.push(`link set dev ${device} up`);
	for (const address of addresses)
		machine.addresses.push(
			`address add ${address} dev ${device}${familyOf(address) === 6 ? " nodad" : ""}`,
		);
}

async function batch(lines: string[]): Promise<void> {
	await run(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

async function configure({ namespace, addresses, receiving, cutting }: Machine): Promise<void> {
	const offloads = [
		...cutting.map((device) => `ethtool -K ${device} tx off tso off gso off gro on`),
		...receiving.map((device) => `ethtool -K ${device} gro on`),
	].join("\n");
	await namespace.script(`ip -batch -\n${offloads}`, { input: `${addresses.join("\n")}\n` });
}

/** A port notices up to a second late that its other end is up; until then it drops packets. */
async function forwards({ name, namespace, cutting }: Machine): Promise<void> {
	const end = Date.now() + 10_000;
	for (;;) {
		const { stdout } = await namespace.run(["bridge", "-json", "link"]);
		const ports = JSON.parse(stdout) as { ifname: string; state: string }[];
		const waiting = ports.filter(({ state }) => state !== "forwarding");
		if (waiting.length === 0 && ports.length === cutting.length) return;
		if (Date.now() > end)
			throw new Error(
				`Cannot bring up switch ${name}: expected all ports to forward, got ${JSON.stringify(waiting)}`,
			);
		await delay(20);
	}
}

/** Links that do not behave like a wire would show false faults and hide real ones. */
async function verifyWire({ name, namespace, receiving, cutting }: Machine): Promise<void> {
	const expectations: [string, Record<string, string>][] = [
		...receiving.map(wants({ "generic-receive-offload": "on" })),
		...cutting.map(
			wants({
				"tx-checksumming": "off",
				"tcp-segmentation-offload": "off",
				"generic-segmentation-offload": "off",
				"generic-receive-offload": "on",
			}),
		),
	];
	for (const [device, wanted] of expectations) {
		const { stdout } = await namespace.run(["ethtool", "-k", device]);
		for (const [feature, value] of Object.entries(wanted)) {
			const is = new RegExp(`^${feature}: (\\w+)`, "m").exec(stdout)?.[1];
			if (is !== value)
				throw new Error(
					`Cannot make ${device} of ${name} a wire: expected ${feature} ${value}, got ${is}`,
				);
		}
	}
}

function wants(features: Record<string, string>) {
	return (device: string): [string, Record<string, string>] => [device, features];
}
