/**
 * A cluster on this machine.
 *
 *  1. state    recorded on disk before anything is made
 *  2. underlay namespaces, switches, router, links
 *  3. agents   one for each Node
 *  4. Pods     through the CNI plugin; their addresses are written back beside the manifests
 */
import { existsSync, statfsSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Agent } from "./agent.js";
import { attachedPodsFile, writeAttachedPods } from "./attached_pods.js";
import { type Namespace, type Output, type RunOptions, run } from "./namespace.js";
import { type Attachment, attachPod, detachPod } from "./pod.js";
import { exampleDirectory } from "./repository.js";
import {
	allStates,
	createState,
	identify,
	isAbandoned,
	labDirectory,
	pinDirectory,
	readState,
	remove,
	type State,
} from "./state.js";
import { Station } from "./stations.js";
import { type Family, familyOf, withoutLength } from "./subnet.js";
import { type LabPod, readTopology, type Topology } from "./topology.js";
import { Underlay } from "./underlay.js";

export interface LabOptions {
	/** Prefix of the lab's namespaces; only one lab of a name exists at a time. */
	name: string;
	/** Default: examples/two-subnets. */
	manifests?: string;
	/**
	 * The agents' configuration file. Default: config.yaml beside the manifests, otherwise the defaults.
	 * A file config.d/NODE.yaml beside it replaces it for that Node.
	 */
	config?: string;
	/** True: the lab outlives this process. */
	detached?: boolean;
	/** The network implementation. Default: Fairway. */
	network?: PodNetwork;
	/** How long an agent may take to become ready. Default: enough for four at once on two cores. */
	patienceMs?: number;
}

const PATIENCE_MS = 60_000;

/** Carries Pod traffic. An implementation other than Fairway shows what the lab itself does. */
export interface PodNetwork {
	start(lab: Lab): Promise<void>;
	attach(lab: Lab, pod: LabPod): Promise<Attachment>;
	detach(lab: Lab, pod: LabPod): Promise<void>;
}

const BPF_FS_MAGIC = 0xcafe4a11;

export class Lab {
	readonly name: string;
	readonly topology: Topology;
	readonly underlay: Underlay;
	readonly manifests: string;
	readonly config: string;
	readonly directory: string;
	/** By Node; only Nodes that have an agent. */
	readonly agents = new Map<string, Agent>();
	/** By label. */
	readonly attachments = new Map<string, Attachment>();
	private readonly network: PodNetwork;
	private state: State | undefined;
	private starting: Promise<void> | undefined;
	private readonly stations = new Map<string, Promise<Station>>();

	private constructor(
		name: string,
		manifests: string,
		config: string,
		network: PodNetwork,
		patienceMs: number,
	) {
		this.name = name;
		this.manifests = manifests;
		this.config = config;
		this.network = network;
		this.directory = labDirectory(name);
		this.topology = readTopology(manifests);
		this.underlay = new Underlay(name, this.topology);
		for (const { name: node, agent } of this.topology.nodes) {
			if (!agent) continue;
			const options = {
				node,
				namespace: this.namespace(node),
				directory: `${this.directory}/${node}`,
				pinDirectory: `${pinDirectory(name)}/${node}`,
				config: configOf(config, node),
				cluster: { manifests },
				patienceMs,
			};
			this.agents.set(node, new Agent(options));
		}
	}

	/** @throws Error, after removing everything again. */
	static async up(options: LabOptions): Promise<Lab> {
		const lab = await Lab.prepare(options);
		await lab.start();
		return lab;
	}

	/**
	 * A lab that exists only on disk, so that it can be ended early. Removes labs whose process has
	 * died.
	 */
	static async prepare(options: LabOptions): Promise<Lab> {
		const manifests = resolve(options.manifests ?? exampleDirectory);
		const beside = `${manifests}/config.yaml`;
		const own = `${labDirectory(options.name)}/config.yaml`;
		const config = resolve(options.config ?? (existsSync(beside) ? beside : own));
		const { name, network = fairway, patienceMs = PATIENCE_MS } = options;
		const lab = new Lab(name, manifests, config, network, patienceMs);
		await Promise.all(allStates().filter(isAbandoned).map(remove));
		lab.state = {
			name: lab.name,
			owner: options.detached === true ? undefined : identify(process.pid),
			manifests,
			config,
			namespaces: lab.underlay.namespaces,
		};
		createState(lab.state);
		if (config === own) writeFileSync(own, "");
		return lab;
	}

	/** @param step is called with each step that begins. @throws Error, after removing everything again. */
	async start(step: (what: string) => void = () => undefined): Promise<void> {
		this.starting = this.build(step);
		try {
			await this.starting;
		} catch (error) {
			await this.remove();
			throw error;
		}
	}

	private async build(step: (what: string) => void): Promise<void> {
		const { nodes, pods, subnets, routerKnowsPods } = this.topology;
		step(`${nodes.length} Nodes, ${subnets.length} switches, a router`);
		await this.underlay.build();
		await this.underlay.setRouterKnowsPods(routerKnowsPods);
		step(`${this.agents.size} agents`);
		await this.network.start(this);
		step(`${pods.length} Pods, attached by fairway-cni`);
		// One after another on each Node, so that a Pod always gets the same address.
		await Promise.all(
			nodes.map(async ({ name }) => {
				for (const pod of pods) if (pod.node === name) await this.attachOnly(pod);
			}),
		);
		this.writeBack();
	}

	/** Opens a lab that another process has brought up. */
	static async open(name: string): Promise<Lab> {
		const state = readState(name);
		if (state === undefined)
			throw new Error(`Cannot find lab "${name}": there is no ${labDirectory(name)}`);
		const lab = new Lab(name, state.manifests, state.config, fairway, PATIENCE_MS);
		lab.state = state;
		for (const [node, agent] of lab.agents)
			for (const { namespace, name: pod, containerId, addresses } of await agent.endpoints()) {
				const known = lab.topology.pods.find(
					(p) => p.node === node && p.name === pod && p.namespace === namespace,
				);
				if (known === undefined) continue;
				const byFamily = Object.fromEntries(addresses.map((a) => [familyOf(a), a]));
				lab.attachments.set(known.label, { containerId, addresses: byFamily });
			}
		return lab;
	}

	/** Removes everything that the lab has made, even while it is still starting. */
	async down(): Promise<void> {
		await this.remove();
		if (this.starting === undefined) return;
		// Steps that were under way fail now, and may have made something again.
		await this.starting.catch(() => undefined);
		await this.remove();
	}

	private async remove(): Promise<void> {
		for (const station of this.stations.values()) (await station.catch(() => undefined))?.close();
		if (this.state !== undefined) await remove(this.state);
	}

	/** The namespace of a Node, a Pod, a switch, "router" or "outside". */
	namespace(machine: string): Namespace {
		return this.underlay.machine(machine).namespace;
	}

	/** @throws Error if the command fails and mayFail is not set. */
	run(machine: string, command: readonly string[], options?: RunOptions): Promise<Output> {
		return this.namespace(machine).run(command, options);
	}

	/** The traffic program in a machine, started on first use. */
	station(machine: string): Promise<Station> {
		let station = this.stations.get(machine);
		if (station === undefined) {
			station = Station.start(machine, this.namespace(machine));
			this.stations.set(machine, station);
		}
		return station;
	}

	agent(node: string): Agent {
		const agent = this.agents.get(node);
		if (agent === undefined)
			throw new Error(`Cannot find the agent of "${node}": there are ${[...this.agents.keys()]}`);
		return agent;
	}

	/** The address of a Pod, a Node or the outside host. */
	address(machine: string, family: Family): string {
		const attachment = this.attachments.get(machine);
		const known =
			attachment === undefined ? this.ownAddresses(machine) : Object.values(attachment.addresses);
		const address = known.find((one) => familyOf(one) === family);
		if (address === undefined)
			throw new Error(`Cannot find the IPv${family} address of "${machine}": it has ${known}`);
		return withoutLength(address);
	}

	hasFamily(machine: string, family: Family): boolean {
		const attachment = this.attachments.get(machine);
		if (attachment !== undefined) return attachment.addresses[family] !== undefined;
		return this.ownAddresses(machine).some((address) => familyOf(address) === family);
	}

	pod(label: string): LabPod {
		const pod = this.topology.pods.find((known) => known.label === label);
		if (pod === undefined) throw new Error(`Cannot find Pod "${label}" in ${this.manifests}`);
		return pod;
	}

	async attach(pod: LabPod): Promise<void> {
		await this.attachOnly(pod);
		this.writeBack();
	}

	async detach(pod: LabPod): Promise<void> {
		await this.network.detach(this, pod);
		this.attachments.delete(pod.label);
		this.writeBack();
	}

	private async attachOnly(pod: LabPod): Promise<void> {
		this.attachments.set(pod.label, await this.network.attach(this, pod));
	}

	/** The addresses of all Pods, for the agents of all Nodes. */
	private writeBack(): void {
		const attached = this.topology.pods.flatMap((pod) => {
			const attachment = this.attachments.get(pod.label);
			return attachment === undefined ? [] : [[pod, attachment] as const];
		});
		const file = attachedPodsFile(this.manifests, this.name);
		try {
			writeAttachedPods(file, this.name, attached);
		} catch (error) {
			// Without it, only Services whose Pods have their addresses in the manifests have endpoints.
			const { message } = error as Error;
			process.stderr.write(`fairway lab: Cannot write ${file}: ${message}\n`);
		}
	}

	private ownAddresses(machine: string): string[] {
		if (machine === "outside") return this.topology.outside?.addresses ?? [];
		return this.topology.nodes.find(({ name }) => name === machine)?.addresses ?? [];
	}
}

function configOf(config: string, node: string): string {
	const own = join(dirname(config), "config.d", `${node}.yaml`);
	return existsSync(own) ? own : config;
}

/** Pods on a Node without an agent are left to the implementation that serves that Node. */
const fairway: PodNetwork = {
	async start(lab) {
		await mountBpffs();
		await Promise.all([...lab.agents.values()].map((agent) => agent.start()));
	},
	async attach(lab, pod) {
		const agent = lab.agents.get(pod.node);
		if (agent === undefined) return { containerId: "", addresses: {} };
		return attachPod(cniOf(lab, pod, agent));
	},
	async detach(lab, pod) {
		const agent = lab.agents.get(pod.node);
		if (agent !== undefined) await detachPod(cniOf(lab, pod, agent));
	},
};

function cniOf(lab: Lab, pod: LabPod, { socket }: Agent) {
	return { pod, node: lab.namespace(pod.node), target: lab.namespace(pod.label), socket };
}

/** Mounts bpffs before the agents start: several that find it missing at once would each mount their own. */
async function mountBpffs(): Promise<void> {
	const path = "/sys/fs/bpf";
	if (statfsSync(path).type === BPF_FS_MAGIC) return;
	await run(["mount", "-t", "bpf", "bpf", path], { mayFail: true });
	const { type } = statfsSync(path);
	if (type !== BPF_FS_MAGIC)
		throw new Error(`Cannot pin BPF objects: expected bpffs at ${path}, got type ${type}`);
}
