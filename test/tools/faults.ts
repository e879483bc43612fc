/**
 * Injects network faults between the Nodes of a running lab.
 *
 * Most faults are a packet filter of their own in the switch of a Node:
 *
 *      node1              node2
 *        │ eth0             │ eth0
 *     ───┴── port ── br0 ── port ───
 *         from ↓            ↑ to
 *     prerouting            postrouting        table bridge fault3_random_loss
 *
 * nftables' bridge family, with counters and numgen, needs CONFIG_NF_TABLES_BRIDGE and
 * CONFIG_NFT_NUMGEN. The alternatives netem, flower, matchall and gact are missing in many small kernels.
 * Nodes send TCP packets of up to 64 KB, which are segmented on their way out of the switch. A filter
 * sees each as one packet: random loss drops it as a whole, and only a BPF program (oversize.bpf.c)
 * knows the length of its segments.
 *
 * The name of every table and device of a fault begins with "fault". All are in namespaces of the lab and
 * are removed with it at the latest.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import type { Lab } from "../../src/lab/lab.js";
import { run } from "../../src/lab/namespace.js";
import { command } from "../../src/lab/repository.js";
import { pinDirectory } from "../../src/lab/state.js";
import { type Family, familyOf, withoutLength } from "../../src/lab/subnet.js";
import type { LabNode } from "../../src/lab/topology.js";
import { until } from "../../src/lab/until.js";

/** The direction of packets, seen from the switch: from the Node, to the Node. */
export type Direction = "from" | "to" | "both";

export interface Fault {
	/** "random loss of 10 % from node1" */
	readonly name: string;
	/** Ends the fault; a second call does nothing. */
	undo(): Promise<void>;
	/** Packets dropped so far; 0 for a fault that drops none itself. */
	dropped(): Promise<number>;
}

/** "pods": direct packets with a Pod address, outside a tunnel. */
export type What = "pods" | "all";

interface Rules {
	/** Alternative conditions; [""] matches every packet. */
	when: readonly string[];
	/** The action for matching packets. */
	action: string;
}

const DROP = "counter drop";
/** The addresses of neighbour discovery. */
const LINK_LOCAL = ["fe80::/10", "::"];

/** Number of faults of this process, so that no name is used twice. */
let made = 0;

export class Faults {
	private readonly lab: Lab;
	private readonly active = new Set<Fault>();

	/** All faults are undone at the end of `t`, the last first. */
	constructor(t: Test, lab: Lab) {
		this.lab = lab;
		t.teardown(() => this.undoAll());
	}

	async undoAll(): Promise<void> {
		for (const fault of [...this.active].reverse()) await fault.undo();
	}

	/**
	 * A cloud's source check: drops packets from a Node whose source is not an address of that Node. ARP,
	 * neighbour discovery and other link-local packets pass.
	 *
	 * @param alsoDestination also drops packets to the Node's port that are not for the Node.
	 */
	sourceCheck(node: string | "all", alsoDestination = false): Promise<Fault> {
		const strangers = (field: "saddr" | "daddr", addresses: string[]): string[] => {
			const own = (family: Family) => addresses.filter((a) => familyOf(a) === family);
			const multicast = field === "daddr" ? ["ff00::/8"] : [];
			return [
				`${outside(`ip ${field}`, own(4))}`,
				`${outside(`ip6 ${field}`, [...own(6), ...LINK_LOCAL, ...multicast])}`,
			];
		};
		return this.all(`source check of ${node}`, this.nodes(node), ({ name, addresses }) => {
			const own = addresses.map(withoutLength);
			return this.filter(`source check of ${name}`, name, {
				from: { when: strangers("saddr", own), action: DROP },
				...(alsoDestination ? { to: { when: strangers("daddr", own), action: DROP } } : {}),
			});
		});
	}

	/**
	 * A link with a smaller MTU that sends no ICMP errors. Lengths are those on the wire, tunnel
	 * included.
	 *
	 * @param bytes the longest IP packet that passes.
	 */
	async smallerMtu(node: string, bytes: number, direction: Direction = "both"): Promise<Fault> {
		const what = `MTU of ${bytes} ${words(direction)} ${node}`;
		const id = ++made;
		const mark = 1 << (id % 31);
		const { namespace } = this.switchOf(node);
		const device = `fault${id}`;
		const directory = mkdtempSync(join(tmpdir(), "fairway-fault-"));
		const pin = `${pinDirectory(this.lab.name)}/${device}`;
		try {
			// A bridge without ports, used only for its MTU.
			await namespace.run(
				"ip link add dev".split(" ").concat(device, "mtu", `${bytes}`, "type", "bridge"),
			);
			const { stdout } = await namespace.run(["ip", "-j", "link", "show", "dev", device]);
			const [{ ifindex }] = JSON.parse(stdout) as [{ ifindex: number }];
			const object = compile(directory, { DEVICE: ifindex, MARK: mark });
			// Loaded by bpftool, because tc leaves directories of its own on bpffs.
			await run(["bpftool", "prog", "load", object, pin]);
			await this.eachPort(
				node,
				(port) => `
					tc qdisc add dev ${port} clsact 2>/dev/null || true
					tc filter add dev ${port} ingress pref ${id} bpf direct-action object-pinned ${pin}
				`,
			);
		} finally {
			rmSync(directory, { recursive: true, force: true });
			rmSync(pin, { force: true });
		}
		const rules = { when: [`meta mark & ${mark} != 0`], action: DROP };
		const filter = await this.filter(what, node, ways(direction, rules));
		return this.add(what, {
			dropped: () => filter.dropped(),
			undo: async () => {
				await filter.undo();
				await this.eachPort(node, (port) => `tc filter del dev ${port} ingress pref ${id}`);
				await namespace.run(["ip", "link", "del", "dev", device]);
			},
		});
	}

	/** @param share from 0 to 1, of the packets as they arrive at the switch. */
	randomLoss(
		node: string,
		share: number,
		{ direction = "both", what = "all" }: { direction?: Direction; what?: What } = {},
	): Promise<Fault> {
		const action = `numgen random mod 100000 < ${Math.round(share * 100_000)} ${DROP}`;
		const of = what === "pods" ? " of bare Pod packets" : "";
		return this.filter(
			`random loss of ${share * 100} %${of} ${words(direction)} ${node}`,
			node,
			ways(direction, { when: this.matching(what), action }),
		);
	}

	/**
	 * Drops packets in both directions between a Node and one peer, or all other machines; with "all",
	 * the latter is a dead Node.
	 */
	blackhole(node: string, { peer, what }: { peer?: string; what: What }): Promise<Fault> {
		const name = `black hole for ${what} between ${node} and ${peer ?? "all"}`;
		if (peer === undefined)
			return this.filter(name, node, ways("both", { when: this.matching(what), action: DROP }));
		const [own, others] = [this.node(node), this.node(peer)].map((known) =>
			what === "pods" ? known.podCIDRs : [...known.podCIDRs, ...known.addresses.map(withoutLength)],
		);
		const between = (from: string[] = [], to: string[] = []): Rules => ({
			when: ([4, 6] as const).flatMap((family) => {
				const [a, b] = [from, to].map((all) => all.filter((one) => familyOf(one) === family));
				const ip = family === 4 ? "ip" : "ip6";
				return a!.length && b!.length ? [`${ip} saddr ${set(a!)} ${ip} daddr ${set(b!)}`] : [];
			}),
			action: DROP,
		});
		return this.filter(name, node, { from: between(own, others), to: between(others, own) });
	}

	/** Adds or removes the router's routes to the pod CIDRs, until undone. */
	async router(knowsPods: boolean): Promise<Fault> {
		const { underlay, topology } = this.lab;
		await underlay.setRouterKnowsPods(knowsPods);
		return this.add(`a router ${knowsPods ? "with" : "without"} Pods`, {
			undo: () => underlay.setRouterKnowsPods(topology.routerKnowsPods),
		});
	}

	routerWithoutPods(): Promise<Fault> {
		return this.router(false);
	}

	routerWithPods(): Promise<Fault> {
		return this.router(true);
	}

	/**
	 * Nobody learns the Node's MAC address: ARP requests for it get no answer, and its own requests are
	 * dropped. The others' entries are removed; the Node keeps its own.
	 */
	async silentArp(node: string): Promise<Fault> {
		const addresses = this.node(node).addresses.map(withoutLength);
		const own = (family: Family) => addresses.filter((a) => familyOf(a) === family);
		const asks = [
			...own(4).map((address) => `arp daddr ip ${address}`),
			// The target of neighbour discovery, after 8 bytes of ICMPv6.
			...own(6).map((address) => `icmpv6 type nd-neighbor-solicit @th,64,128 ${hex(address)}`),
		];
		const tells = [
			...own(4).map((address) => `arp saddr ip ${address}`),
			...own(6).flatMap((address) => [
				`icmpv6 type nd-neighbor-advert @th,64,128 ${hex(address)}`,
				`icmpv6 type nd-neighbor-solicit ip6 saddr ${address}`,
			]),
		];
		const fault = await this.filter(`silent ARP of ${node}`, node, {
			from: { when: tells, action: DROP },
			to: { when: asks, action: DROP },
		});
		await this.forget(node);
		return fault;
	}

	/** The Node's NIC gets another MAC address without an announcement, as after a replacement. */
	async newMac(node: string, mac = randomMac()): Promise<Fault> {
		const namespace = this.lab.namespace(node);
		const { stdout } = await namespace.run(["ip", "-j", "link", "show", "dev", "eth0"]);
		const [{ address }] = JSON.parse(stdout) as [{ address: string }];
		const change = (to: string) =>
			namespace.run(["ip", "link", "set", "dev", "eth0", "address", to]);
		await change(mac);
		return this.add(`new MAC of ${node}`, { undo: async () => void (await change(address)) });
	}

	/** Switches a fault on and off, starting with on; each state lasts half a period. */
	async flapping(fault: () => Promise<Fault>, periodMs: number): Promise<Fault> {
		let on: Fault | undefined = await fault();
		const name = `flapping: ${on.name}`;
		let dropped = 0;
		let changing: Promise<void> = Promise.resolve();
		let ended = false;
		const end = async (): Promise<void> => {
			dropped += (await on?.dropped()) ?? 0;
			await on?.undo();
			on = undefined;
		};
		const change = async (): Promise<void> => {
			if (ended) return;
			if (on === undefined) on = await fault();
			else await end();
		};
		let failure: unknown;
		const timer = setInterval(() => {
			changing = changing.then(change).catch((error: unknown) => {
				failure ??= error;
			});
		}, periodMs / 2);
		return this.add(name, {
			dropped: async () => dropped + ((await on?.dropped()) ?? 0),
			undo: async () => {
				ended = true;
				clearInterval(timer);
				await changing;
				await end();
				if (failure !== undefined) throw failure;
			},
		});
	}

	/**
	 * The first half of a reboot: ends the agent, removes everything that it made, including the Pods'
	 * interfaces, and sets the link down. Undoing it starts the Node and attaches its Pods again, with the
	 * addresses that its agent then assigns: the previous ones, unless Pods have come and gone since the
	 * lab started.
	 */
	async stopNode(node: string): Promise<Fault> {
		const { lab } = this;
		const agent = lab.agent(node);
		const namespace = lab.namespace(node);
		const pods = lab.topology.pods.filter(
			(pod) => pod.node === node && lab.attachments.has(pod.label),
		);
		await agent.stop();
		await namespace.run([
			command("fairway"),
			"cleanup",
			...["--run-dir", agent.runDirectory, "--pin-dir", agent.pinDirectory],
		]);
		await namespace.run(["ip", "link", "set", "dev", "eth0", "down"]);
		return this.add(`stop of ${node}`, {
			undo: async () => {
				// IPv6 addresses and routes disappeared with the link; existing ones are not an error.
				const { addresses } = lab.underlay.machine(node);
				await namespace.run(["ip", "-force", "-batch", "-"], {
					input: `${addresses.join("\n")}\n`,
					mayFail: true,
				});
				await this.linkCarries(node);
				await agent.start();
				for (const pod of pods) await lab.attach(pod);
			},
		});
	}

	/** Waits for the port, which notices up to a second late that its other end is up. */
	private async linkCarries(node: string): Promise<void> {
		const { port, namespace } = this.switchOf(node);
		await until(`the port of ${node} forwards`, async () => {
			const { stdout } = await namespace.run(["bridge", "-json", "link", "show", "dev", port]);
			return (JSON.parse(stdout) as { state: string }[])[0]?.state === "forwarding";
		});
	}

	/** Removes the neighbour entries for a Node on its switch. */
	private async forget(node: string): Promise<void> {
		const { name } = this.switchOf(node);
		const addresses = this.node(node).addresses.map(withoutLength);
		const flush = (machine: string, device: string) =>
			this.lab
				.namespace(machine)
				.script(addresses.map((a) => `ip neigh flush to ${a} dev ${device}`).join("\n"));
		await flush("router", name);
		for (const other of this.lab.topology.nodes)
			if (other.subnet === name && other.name !== node) await flush(other.name, "eth0");
	}

	/** Conditions for direct Pod packets, or for all. */
	private matching(what: What): string[] {
		if (what === "all") return [""];
		const cidrs = this.lab.topology.nodes.flatMap(({ podCIDRs }) => podCIDRs);
		return ([4, 6] as const).flatMap((family) => {
			const own = cidrs.filter((cidr) => familyOf(cidr) === family);
			const ip = family === 4 ? "ip" : "ip6";
			return own.length === 0 ? [] : [`${ip} saddr ${set(own)}`, `${ip} daddr ${set(own)}`];
		});
	}

	/** Adds a table to a Node's switch, for packets from the Node's port and to it. */
	private async filter(
		name: string,
		node: string,
		rules: { from?: Rules | undefined; to?: Rules | undefined },
	): Promise<Fault> {
		const { port, namespace } = this.switchOf(node);
		const table = `fault${++made}_${name.replace(/\W+/g, "_")}`.slice(0, 60);
		const chain = (way: "from" | "to", hook: string, device: string): string => {
			const { when, action } = rules[way] ?? { when: [], action: "" };
			return `
				chain ${way}_hit {
					${action}
				}
				chain ${way} {
					type filter hook ${hook};
					${when.map((condition) => `${device} "${port}" ${condition} goto ${way}_hit`).join("\n")}
				}`;
		};
		const text = `table bridge ${table} {
			${chain("from", "prerouting priority -300", "iifname")}
			${chain("to", "postrouting priority 300", "oifname")}
		}\n`;
		await namespace.run(["nft", "-f", "-"], { input: text });
		return this.add(name, {
			dropped: async () => {
				const { stdout } = await namespace.run(["nft", "list", "table", "bridge", table]);
				const counts = [...stdout.matchAll(/counter packets (\d+)/g)];
				return counts.reduce((sum, [, packets]) => sum + Number(packets), 0);
			},
			undo: async () => void (await namespace.run(["nft", "delete", "table", "bridge", table])),
		});
	}

	/** Combines one fault for each Node into one. */
	private async all(
		name: string,
		nodes: LabNode[],
		make: (node: LabNode) => Promise<Fault>,
	): Promise<Fault> {
		const parts: Fault[] = [];
		for (const node of nodes) parts.push(await make(node));
		return this.add(name, {
			dropped: async () => {
				const counts = await Promise.all(parts.map((part) => part.dropped()));
				return counts.reduce((sum, count) => sum + count, 0);
			},
			undo: async () => {
				for (const part of parts) await part.undo();
			},
		});
	}

	private add(
		name: string,
		{ undo, dropped = async () => 0 }: { undo(): Promise<void>; dropped?(): Promise<number> },
	): Fault {
		const fault: Fault = {
			name,
			dropped,
			undo: async () => {
				// Without the lab, the fault is already gone.
				if (this.active.delete(fault) && existsSync(this.lab.directory)) await undo();
			},
		};
		this.active.add(fault);
		return fault;
	}

	private nodes(which: string): LabNode[] {
		return which === "all" ? this.lab.topology.nodes : [this.node(which)];
	}

	private node(name: string): LabNode {
		const node = this.lab.topology.nodes.find((known) => known.name === name);
		if (node === undefined) throw new Error(`Cannot find Node "${name}" in this lab`);
		return node;
	}

	private switchOf(node: string) {
		const name = this.node(node).subnet;
		const { port } = this.lab.underlay.machine(node);
		return { name, port, namespace: this.lab.namespace(name) };
	}

	/** Runs commands for each port of a Node's switch. */
	private async eachPort(node: string, commands: (port: string) => string): Promise<void> {
		const { name, namespace } = this.switchOf(node);
		const ports = this.lab.underlay.machine(name).cutting;
		await namespace.script(ports.map(commands).join("\n"));
	}
}

const words = (direction: Direction): string =>
	({ from: "from", to: "to", both: "from and to" })[direction];

function ways(direction: Direction, rules: Rules): { from?: Rules; to?: Rules } {
	return {
		...(direction === "to" ? {} : { from: rules }),
		...(direction === "from" ? {} : { to: rules }),
	};
}

const randomMac = (): string =>
	`02:fa:${[...randomBytes(4)].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;

const set = (elements: string[]): string => `{ ${elements.join(", ")} }`;

/** Matches packets whose field of this family has none of these values. */
const outside = (field: string, values: string[]): string =>
	values.length === 0 ? `ether type ${field.split(" ")[0]}` : `${field} != ${set(values)}`;

/** An IPv6 address as raw bytes for nftables. */
function hex(address: string): string {
	const [head = "", tail = ""] = address.split("::");
	const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
	const [left, right] = [groups(head), groups(tail)];
	const zeros = Array<string>(8 - left.length - right.length).fill("0");
	return `0x${[...left, ...zeros, ...right].map((group) => group.padStart(4, "0")).join("")}`;
}

function compile(directory: string, values: Record<string, number>): string {
	const source = new URL("oversize.bpf.c", import.meta.url).pathname;
	const object = join(directory, "oversize.bpf.o");
	const include = `/usr/include/${execFileSync("gcc", ["-print-multiarch"]).toString().trim()}`;
	const defines = Object.entries(values).map(([name, value]) => `-D${name}=${value}`);
	execFileSync(
		process.env.CLANG ?? "clang-19",
		["-target", "bpf", "-O2", "-Wall", "-Werror", `-I${include}`, ...defines].concat([
			"-c",
			source,
			"-o",
			object,
		]),
		{ stdio: ["ignore", "inherit", "inherit"] },
	);
	return object;
}
