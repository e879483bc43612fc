/**
 * What goes wrong in a network between Nodes, done to a lab that runs.
 *
 * Most of it happens in the switch that a Node is on, by a packet filter of its own for each fault:
 *
 *      node1              node2
 *        │ eth0             │ eth0
 *     ───┴── port ── br0 ── port ───
 *         from ↓            ↑ to
 *     prerouting            postrouting        table bridge fault3_random_loss
 *
 * nftables' bridge family, with counters and numgen, needs CONFIG_NF_TABLES_BRIDGE and
 * CONFIG_NFT_NUMGEN. netem, flower, matchall and gact, which would do it as well, are missing on
 * many small kernels. Nodes hand over TCP packets of up to 64 KB that are cut on their way out of
 * the switch, so that to a filter one is a packet: a share of them is lost as a whole, and only a BPF
 * program (oversize.bpf.c) can tell how long the pieces will be.
 *
 * Every table and device of a fault begins with "fault" and is in a namespace of the lab: what is
 * not undone goes with it.
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

/** Of packets, as the switch sees it: what a Node sends, what it is to receive. */
export type Direction = "from" | "to" | "both";

export interface Fault {
	/** "random loss of 10 % from node1" */
	readonly name: string;
	/** Ends it; a second call does nothing. */
	undo(): Promise<void>;
	/** Packets that it has dropped so far; 0 of a fault that drops none by itself. */
	dropped(): Promise<number>;
}

/** "pods": packets with a Pod address as they are, outside of a tunnel. */
export type What = "pods" | "all";

interface Rules {
	/** Conditions, one of which a packet must meet; [""]: every packet. */
	when: readonly string[];
	/** What happens to it. */
	action: string;
}

const DROP = "counter drop";
/** Neighbour discovery's own addresses. */
const LINK_LOCAL = ["fe80::/10", "::"];

/** Of this process: a name is never used twice. */
let made = 0;

export class Faults {
	private readonly lab: Lab;
	private readonly active = new Set<Fault>();

	/** All are undone, the last first, at the end of `t`. */
	constructor(t: Test, lab: Lab) {
		this.lab = lab;
		t.teardown(() => this.undoAll());
	}

	async undoAll(): Promise<void> {
		for (const fault of [...this.active].reverse()) await fault.undo();
	}

	/**
	 * A cloud that lets no packet leave a Node whose source is not an address of that Node. ARP,
	 * neighbour discovery and other link-local packets pass.
	 *
	 * @param alsoDestination as clouds do: nothing comes in that is not for the Node either.
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
	 * A link on the way that carries less than it should and tells nobody. Of the packet as it is on
	 * the wire, with its tunnel.
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
			// A bridge without ports: all that it is for is its MTU.
			await namespace.run(
				"ip link add dev".split(" ").concat(device, "mtu", `${bytes}`, "type", "bridge"),
			);
			const { stdout } = await namespace.run(["ip", "-j", "link", "show", "dev", device]);
			const [{ ifindex }] = JSON.parse(stdout) as [{ ifindex: number }];
			const object = compile(directory, { DEVICE: ifindex, MARK: mark });
			// Loaded by bpftool: tc would leave folders of its own on bpffs.
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

	/** @param share from 0 to 1, of packets as they come to the switch. */
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
	 * Packets vanish both ways between a Node and one peer, or between it and everybody: then, with
	 * "all", it is as dead.
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

	/** The router learns the way to the pod CIDRs, or forgets it, until undone. */
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
	 * Nobody learns the Node's MAC address: who asks gets no answer, and it does not tell by asking
	 * either. What the others knew is forgotten. The Node itself goes on with what it knows.
	 */
	async silentArp(node: string): Promise<Fault> {
		const addresses = this.node(node).addresses.map(withoutLength);
		const own = (family: Family) => addresses.filter((a) => familyOf(a) === family);
		const asks = [
			...own(4).map((address) => `arp daddr ip ${address}`),
			// The target of neighbour discovery, behind 8 bytes of ICMPv6.
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

	/** The Node's NIC is another one; as with one that was replaced, nobody is told. */
	async newMac(node: string, mac = randomMac()): Promise<Fault> {
		const namespace = this.lab.namespace(node);
		const { stdout } = await namespace.run(["ip", "-j", "link", "show", "dev", "eth0"]);
		const [{ address }] = JSON.parse(stdout) as [{ address: string }];
		const change = (to: string) =>
			namespace.run(["ip", "link", "set", "dev", "eth0", "address", to]);
		await change(mac);
		return this.add(`new MAC of ${node}`, { undo: async () => void (await change(address)) });
	}

	/** A fault that comes and goes, beginning with the fault; each state lasts half a period. */
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
	 * The first half of a reboot: the agent ends, and all that it made is gone, the Pods' interfaces
	 * too; the link is down. Undone, the Node starts again, and its Pods are attached anew, with the
	 * addresses that its agent then hands out: those from before, unless Pods have come and gone
	 * since the lab came up.
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
				// IPv6 addresses and routes went with the link; what is still there is no error.
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

	/** A port learns up to a second late that the other end is up. */
	private async linkCarries(node: string): Promise<void> {
		const { port, namespace } = this.switchOf(node);
		await until(`the port of ${node} forwards`, async () => {
			const { stdout } = await namespace.run(["bridge", "-json", "link", "show", "dev", port]);
			return (JSON.parse(stdout) as { state: string }[])[0]?.state === "forwarding";
		});
	}

	/** What others on its switch know of a Node's MAC. */
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

	/** Conditions for bare Pod packets, or for all. */
	private matching(what: What): string[] {
		if (what === "all") return [""];
		const cidrs = this.lab.topology.nodes.flatMap(({ podCIDRs }) => podCIDRs);
		return ([4, 6] as const).flatMap((family) => {
			const own = cidrs.filter((cidr) => familyOf(cidr) === family);
			const ip = family === 4 ? "ip" : "ip6";
			return own.length === 0 ? [] : [`${ip} saddr ${set(own)}`, `${ip} daddr ${set(own)}`];
		});
	}

	/** A table in the switch of a Node, for what comes from the Node's port and what goes to it. */
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

	/** One fault out of one for each Node. */
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
				// With the lab, its faults are gone.
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

	/** Commands for each port of a Node's switch. */
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

/** What has a field of this family with none of these values. */
const outside = (field: string, values: string[]): string =>
	values.length === 0 ? `ether type ${field.split(" ")[0]}` : `${field} != ${set(values)}`;

/** An IPv6 address as nftables takes raw bytes. */
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
