/**
 * The stages of one apply, in order (reconciler.ts explains it). Their only state is whether the work that follows
 * the first successful apply has been done.
 */

import type { IpRoute } from "../linux/iproute.js";
import { HOST_DEVICE, isPodInterface, LOOPBACK_DEVICE } from "../linux/names.js";
import { NodeFlag } from "../tables/generated.js";
import type { PortRange, Tables } from "../tables/tables.js";
import type { Log } from "../text/log.js";
import type { GroDevice } from "./host/gro_device.js";
import type { PodRoute } from "./host/kernel_routes.js";
import { removeOrphans } from "./host/pod_interfaces.js";
import { ReservedPorts } from "./host/reserved_ports.js";
import type { HostState } from "./host/state.js";
import { sysctls } from "./host/sysctls.js";
import { Links } from "./links.js";
import type { TableState } from "./maps/table_state.js";
import type { Pass } from "./pass.js";
import type { Datapath, Programs } from "./programs/datapath.js";
import type { Hook, Hooks } from "./programs/hooks.js";
import { knobsOf } from "./programs/object_file.js";
import type { Wire, WireDevice } from "./programs/wire.js";

export interface StagesOptions {
	ip: IpRoute;
	log: Log;
	runDir: string;
	host: HostState;
	tables: TableState;
	hooks: Hooks;
	wire: Wire;
	gro: GroDevice;
	/** The current one; resizing the flow table replaces it. */
	datapath: () => Datapath;
	/** Host sides of Pods from before this agent started. */
	formerPods: string[];
}

export class Stages {
	readonly #ip: IpRoute;
	readonly #log: Log;
	readonly #runDir: string;
	readonly #host: HostState;
	readonly #tables: TableState;
	readonly #hooks: Hooks;
	readonly #wire: Wire;
	readonly #gro: GroDevice;
	readonly #datapath: () => Datapath;
	readonly #reservedPorts: ReservedPorts;
	#formerPods: string[] | undefined;
	/** Indexes of devices whose sysctls are set; the kernel does not reuse indexes. */
	readonly #configured = new Set<number>();
	#attachedPods: ReadonlySet<string> = new Set();
	#podProblems: ReadonlyMap<string, string> = new Map();
	/** What the last full pass found, if nothing was left to do. */
	#settled: Settled | undefined;
	/** Why a Pod of which nothing else is known is not attached. */
	#otherwise = "nothing was applied yet";

	constructor(options: StagesOptions) {
		this.#ip = options.ip;
		this.#log = options.log;
		this.#runDir = options.runDir;
		this.#host = options.host;
		this.#tables = options.tables;
		this.#hooks = options.hooks;
		this.#wire = options.wire;
		this.#gro = options.gro;
		this.#datapath = options.datapath;
		this.#formerPods = options.formerPods;
		this.#reservedPorts = new ReservedPorts(options.runDir);
	}

	/**
	 * Why the Pod behind this host interface has no data path; undefined: in the last pass its programs
	 * were in place and its table entries written. Whatever ends a pass early leaves every Pod with a
	 * reason: what was not seen to be there is not there.
	 */
	podProblem(hostInterface: string): string | undefined {
		if (this.#attachedPods.has(hostInterface)) return undefined;
		return this.#podProblems.get(hostInterface) ?? this.#otherwise;
	}

	/** True: where nothing but the tables of peers and Services has changed since the last `run`, `runTables` is enough. */
	get isSettled(): boolean {
		return this.#settled !== undefined;
	}

	/** The tables and the kernel's routes to fairway0 alone; everything else is as the last `run` left it. */
	async runTables(tables: Tables, pass: Pass): Promise<boolean> {
		const settled = this.#settled;
		if (settled === undefined) return this.run(tables, pass);
		const { links, hostIfindex, snatPorts, podRoutes, answers } = settled;
		// A full pass retries refused writes.
		this.#settled = undefined;
		const wanted = withAnswers(withSnatPorts(tables, snatPorts), answers);
		pass.add(await this.#tables.apply(wanted, links, hostIfindex));
		const routes = await pass.try(undefined, () =>
			this.#host.applyRoutes(tables.hostRoutes, podRoutes),
		);
		if (routes !== undefined) pass.add(routes);
		if (pass.problems.length === 0) this.#settled = settled;
		return true;
	}

	/** Runs all stages; resolves with true if packets flow. */
	async run(tables: Tables, pass: Pass): Promise<boolean> {
		this.#settled = undefined;
		const pods: PodOutcome = { attached: new Set(), problems: new Map() };
		try {
			return await this.#run(tables, pass, pods);
		} catch (error) {
			pass.problems.push((error as Error).message);
			pods.attached.clear();
			return false;
		} finally {
			this.#attachedPods = pods.attached;
			this.#podProblems = pods.problems;
			this.#otherwise =
				pass.problems.length === 0 ? "there is no such interface" : pass.problems.join("; ");
		}
	}

	async #run(tables: Tables, pass: Pass, pods: PodOutcome): Promise<boolean> {
		const { nodeConfig } = tables;
		pass.sysctls(sysctls.node());
		const snatPorts = await this.#reserveSnatPorts(tables, pass);

		await pass.try(0, () =>
			this.#host.applyDevice({
				addresses: tables.gatewayAddresses,
				mac: tables.gatewayMac,
				mtu: nodeConfig.transportMtu,
			}),
		);

		const links = await pass.try(undefined, () => Links.read());
		if (links === undefined) return false;
		// Even if part of it was refused: that is better than nothing.
		const hostIfindex = links.named(HOST_DEVICE)?.ifindex ?? 0;
		const answers = this.#answers(tables);
		const ported = withSnatPorts(tables, snatPorts);
		pass.add(await this.#tables.apply(withAnswers(ported, answers.inForce), links, hostIfindex));

		const wires = this.#wireDevices(tables, links, pass);
		const programs = await pass.try(undefined, () => this.#loadPrograms(wires, tables.xdp));
		const hooks = this.#hooksOf({ ...tables, stackAnswers: answers.wanted }, links, wires, pass);
		if (programs !== undefined) await this.#attach(hooks, wires, tables, programs, pass, pods);
		// Only now: a client whose answers nothing turns back would be lost.
		const turnsBack = answers.wanted && (answers.inForce || pass.attached);
		if (turnsBack !== answers.inForce)
			pass.add(await this.#tables.apply(withAnswers(ported, turnsBack), links, hostIfindex));
		this.#checkEndpoints(tables, links, pods);

		await this.#setUp(tables, links, pass);
		const podRoutes = podRoutesOf(tables, links);
		const complete = pass.problems.length === 0;
		const routes = await pass.try(undefined, () =>
			this.#host.applyRoutes(tables.hostRoutes, podRoutes),
		);
		if (routes !== undefined) pass.add(routes);

		if (programs !== undefined) this.#hooks.sweep(hooks, wires);
		if (complete) await this.#sweepFormerPods();
		this.#forgetGone(links);
		const configured = (this.#tables.nodeConfig.flags & NodeFlag.CONFIGURED) !== 0;
		const ready = configured && hostIfindex !== 0 && pass.attached && wires.length > 0;
		if (ready && pass.problems.length === 0)
			this.#settled = { links, hostIfindex, snatPorts, podRoutes, answers: turnsBack };
		return ready;
	}

	/** Before they are used. Returns those that SNAT may use. */
	async #reserveSnatPorts({ nodeConfig }: Tables, pass: Pass): Promise<PortRange> {
		const wanted = { first: nodeConfig.snatPortFirst, last: nodeConfig.snatPortLast };
		const { flags, snatPortFirst: first, snatPortLast: last } = this.#tables.nodeConfig;
		const former = flags === 0 ? undefined : { first, last };
		const result = await pass.try(undefined, () =>
			sysctls.snatPorts(wanted, former, this.#reservedPorts),
		);
		if (result === undefined) return former ?? wanted;
		pass.sysctls(result);
		return result.range;
	}

	/** Once clients are shown to the Node's own endpoints, their connections need to_wire, to their end. */
	#answers({ stackAnswers, nodeConfig }: Tables): { wanted: boolean; inForce: boolean } {
		const { STACK_ANSWERS, SERVES_ALL } = NodeFlag;
		const serves = (nodeConfig.flags & SERVES_ALL) !== 0;
		const inForce = serves && (this.#tables.nodeConfig.flags & STACK_ANSWERS) !== 0;
		return { wanted: stackAnswers || inForce, inForce };
	}

	/** A Pod whose programs are attached has a data path only if its addresses are known, too. */
	#checkEndpoints(tables: Tables, links: Links, { attached, problems }: PodOutcome): void {
		for (const [address, endpoint] of tables.endpoints) {
			const problem = this.#tables.endpointProblem(address, endpoint, links);
			if (problem === undefined) continue;
			attached.delete(endpoint.interface);
			problems.set(endpoint.interface, problem);
		}
	}

	/** Pods' interfaces that someone has set down. */
	async #setUp(tables: Tables, links: Links, pass: Pass): Promise<void> {
		const names = interfacesOf(tables).filter((name) => links.named(name)?.up === false);
		if (names.length === 0) return;
		const lines = names.map((name) => `link set dev ${name} up`);
		const failures = await pass.try([], () => this.#ip.batch(lines));
		pass.writes += lines.length - failures.length;
		this.#log.info({ interfaces: names }, "set Pod interfaces up again");
		// The kernel took their routes along.
		this.#host.doubt();
		for (const { command, message, code } of failures)
			if (code !== "ENODEV") pass.problems.push(`Cannot run "ip ${command}": ${message}`);
	}

	#loadPrograms(wires: readonly WireDevice[], xdp: Tables["xdp"]): Promise<Programs> {
		return this.#datapath().programs(
			knobsOf(
				wires.some(({ kind }) => kind === "veth"),
				xdp,
			),
		);
	}

	async #attach(
		hooks: readonly Hook[],
		wires: readonly WireDevice[],
		tables: Tables,
		programs: Programs,
		pass: Pass,
		pods: PodOutcome,
	): Promise<void> {
		const committed = await pass.try(false, () => {
			this.#datapath().commit();
			return true;
		});
		if (!committed) return;
		const { writes, failures } = this.#hooks.attach(hooks, programs);
		const problems = failures.filter(({ gone }) => !gone).map(({ message }) => message);
		pass.add({ writes, problems });
		// A link may go at any time; the network's next message says so.
		const optional = new Set(tables.linkInterfaces);
		pass.attached = failures.every(({ device }) => isPodInterface(device) || optional.has(device));
		for (const { device } of hooks) if (isPodInterface(device.name)) pods.attached.add(device.name);
		for (const { device, message } of failures) {
			pods.attached.delete(device);
			pods.problems.set(device, message);
		}
		const { tunnelPort, xdp } = tables;
		pass.add(await this.#wire.attach(wires, xdp, tunnelPort !== 0, programs));
		pass.writes += await this.#gro.apply(this.#wire.withoutXdp ? tunnelPort : 0);
		await pass.try(undefined, () => this.#datapath().settle());
	}

	#wireDevices(tables: Tables, links: Links, pass: Pass): WireDevice[] {
		return tables.wireInterfaces.flatMap((name) => {
			const device = links.named(name);
			if (device !== undefined) {
				this.#once(device, () => pass.sysctls(sysctls.wireInterface(name)));
				return [device];
			}
			pass.problems.push(`Cannot attach from_wire to ${name}: there is no such interface`);
			return [];
		});
	}

	/** In the order of attaching. */
	#hooksOf(tables: Tables, links: Links, wires: readonly WireDevice[], pass: Pass): Hook[] {
		const hooks: Hook[] = wires.map((device) => ({ program: "from_wire", device }));
		for (const name of tables.linkInterfaces) {
			const device = links.named(name);
			if (device !== undefined) hooks.push({ program: "from_link", device });
		}
		if (tables.stackSnat || tables.stackAnswers)
			for (const { device } of [...hooks]) hooks.push({ program: "to_wire", device });
		const host = links.named(HOST_DEVICE);
		if (host !== undefined) hooks.push({ program: "from_host", device: host });
		const loopback = links.named(LOOPBACK_DEVICE);
		if (loopback !== undefined && (tables.nodeConfig.flags & NodeFlag.SERVES_ALL) !== 0)
			hooks.push({ program: "from_loopback", device: loopback });
		for (const name of interfacesOf(tables)) {
			const device = links.named(name);
			if (device === undefined) continue; // Its Pod has ended: CNI DEL follows.
			this.#once(device, () => pass.sysctls(sysctls.podInterface(name)));
			hooks.push({ program: "to_pod", device }, { program: "from_pod", device });
		}
		return hooks;
	}

	/** Once for each device: reading the sysctls of a hundred Pods with every apply is noticeable. */
	#once({ ifindex }: WireDevice, act: () => void): void {
		if (this.#configured.has(ifindex)) return;
		this.#configured.add(ifindex);
		act();
	}

	#forgetGone(links: Links): void {
		for (const ifindex of this.#configured)
			if (links.at(ifindex) === undefined) this.#configured.delete(ifindex);
	}

	async #sweepFormerPods(): Promise<void> {
		if (this.#formerPods === undefined) return;
		await removeOrphans(this.#ip, this.#formerPods, this.#runDir, this.#log);
		// Only when that went through: a fork that failed is tried again.
		this.#formerPods = undefined;
	}
}

interface Settled {
	links: Links;
	hostIfindex: number;
	snatPorts: PortRange;
	podRoutes: Map<string, PodRoute>;
	answers: boolean;
}

/** What a pass came to for the Pods, by host interface. */
interface PodOutcome {
	/** Programs in place and every table entry written. */
	attached: Set<string>;
	problems: Map<string, string>;
}

function withSnatPorts(tables: Tables, { first, last }: PortRange): Tables {
	const nodeConfig = { ...tables.nodeConfig, snatPortFirst: first, snatPortLast: last };
	return { ...tables, nodeConfig };
}

function withAnswers(tables: Tables, turnsBack: boolean): Tables {
	const { STACK_ANSWERS } = NodeFlag;
	const flags = (tables.nodeConfig.flags & ~STACK_ANSWERS) | (turnsBack ? STACK_ANSWERS : 0);
	return { ...tables, nodeConfig: { ...tables.nodeConfig, flags } };
}

function interfacesOf({ endpoints }: Tables): string[] {
	return [...new Set([...endpoints.values()].map((endpoint) => endpoint.interface))];
}

function podRoutesOf(tables: Tables, links: Links): Map<string, PodRoute> {
	const routes = new Map<string, PodRoute>();
	for (const [address, { interface: name, mac }] of tables.endpoints) {
		const index = links.named(name)?.ifindex;
		if (index !== undefined) routes.set(address, { interface: name, index, mac });
	}
	return routes;
}
