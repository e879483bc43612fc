/**
 * The stages of one apply, in order (reconciler.ts explains it). Their only state is what is done once, after
 * the first successful apply.
 */
import { NodeFlag } from "../tables/generated.js";
import type { Tables } from "../tables/tables.js";
import type { Attachments, Hook } from "./attachments.js";
import type { Datapath, Programs } from "./datapath.js";
import type { GroDevice } from "./gro_device.js";
import type { HostState } from "./host_state.js";
import type { IpRoute } from "./iproute.js";
import type { PodRoute } from "./kernel_routes.js";
import { Links } from "./links.js";
import type { Log } from "./log.js";
import { HOST_DEVICE, isPodInterface } from "./names.js";
import { knobsOf } from "./object_file.js";
import type { Pass } from "./pass.js";
import { removeOrphans } from "./pod_interfaces.js";
import { sysctls } from "./sysctls.js";
import type { TableState } from "./table_state.js";
import type { Wire, WireDevice } from "./wire.js";

export interface StagesOptions {
	ip: IpRoute;
	log: Log;
	runDir: string;
	host: HostState;
	tables: TableState;
	attachments: Attachments;
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
	readonly #attachments: Attachments;
	readonly #wire: Wire;
	readonly #gro: GroDevice;
	readonly #datapath: () => Datapath;
	#formerPods: string[] | undefined;
	/** Indexes of devices whose sysctls are set; the kernel does not reuse indexes. */
	readonly #configured = new Set<number>();
	#podProblems = new Map<string, string>();

	constructor(options: StagesOptions) {
		this.#ip = options.ip;
		this.#log = options.log;
		this.#runDir = options.runDir;
		this.#host = options.host;
		this.#tables = options.tables;
		this.#attachments = options.attachments;
		this.#wire = options.wire;
		this.#gro = options.gro;
		this.#datapath = options.datapath;
		this.#formerPods = options.formerPods;
	}

	/** Why the Pod behind this host interface was not attached the last time. */
	podProblem(hostInterface: string): string | undefined {
		return this.#podProblems.get(hostInterface);
	}

	/** Runs all stages; resolves with true if packets flow. */
	async run(tables: Tables, pass: Pass): Promise<boolean> {
		const { nodeConfig } = tables;
		pass.sysctls(sysctls.node({ first: nodeConfig.snatPortFirst, last: nodeConfig.snatPortLast }));

		await pass.try(0, () =>
			this.#host.applyDevice({
				addresses: tables.gatewayAddresses,
				mac: tables.gatewayMac,
				mtu: nodeConfig.transportMtu,
			}),
		);

		const links = await pass.try(undefined, () => Links.read(this.#ip));
		if (links === undefined) return false;
		// Even if part of it was refused: that is better than nothing.
		const hostIfindex = links.named(HOST_DEVICE)?.ifindex ?? 0;
		pass.add(this.#tables.apply(tables, links, hostIfindex));

		const wires = this.#wireDevices(tables, links, pass);
		const programs = await pass.try(undefined, () => this.#loadPrograms(wires, tables.xdp));
		const hooks = this.#hooks(tables, links, wires, pass);
		if (programs !== undefined) await this.#attach(hooks, wires, tables, programs, pass);

		const podRoutes = podRoutesOf(tables, links);
		const complete = pass.problems.length === 0;
		const routes = await pass.try(undefined, () =>
			this.#host.applyRoutes(tables.hostRoutes, podRoutes),
		);
		if (routes !== undefined) pass.add(routes);

		if (programs !== undefined) this.#attachments.sweep(hooks, wires);
		if (complete) await this.#sweepFormerPods();
		const configured = (this.#tables.nodeConfig.flags & NodeFlag.CONFIGURED) !== 0;
		return configured && hostIfindex !== 0 && pass.attached && wires.length > 0;
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
	): Promise<void> {
		const committed = await pass.try(false, () => {
			this.#datapath().commit();
			return true;
		});
		if (!committed) return;
		const { writes, failures } = this.#attachments.attach(hooks, programs);
		pass.add({ writes, problems: failures.map(({ message }) => message) });
		pass.attached = failures.every(({ device }) => isPodInterface(device));
		this.#podProblems = new Map(failures.map(({ device, message }) => [device, message]));
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
			pass.problems.push(
				`Cannot attach from_wire to ${name}: wanted an interface of that name, there is none`,
			);
			return [];
		});
	}

	/** In the order of attaching. */
	#hooks(tables: Tables, links: Links, wires: readonly WireDevice[], pass: Pass): Hook[] {
		const hooks: Hook[] = wires.map((device) => ({ program: "from_wire", device }));
		const host = links.named(HOST_DEVICE);
		if (host !== undefined) hooks.push({ program: "from_host", device: host });
		const names = new Set([...tables.endpoints.values()].map((endpoint) => endpoint.interface));
		for (const name of names) {
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

	async #sweepFormerPods(): Promise<void> {
		const former = this.#formerPods;
		if (former === undefined) return;
		this.#formerPods = undefined;
		await removeOrphans(this.#ip, former, this.#runDir, this.#log);
	}
}

function podRoutesOf(tables: Tables, links: Links): Map<string, PodRoute> {
	const routes = new Map<string, PodRoute>();
	for (const [address, { interface: name, mac }] of tables.endpoints)
		if (links.named(name) !== undefined) routes.set(address, { interface: name, mac });
	return routes;
}
