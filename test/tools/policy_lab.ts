/**
 * Nine Pods of three namespaces on four Nodes, policies that change, and what every pair should see: by the
 * interpreter of the same objects.
 *
 *   net1: node1  x/a x/b z/c     net2: node3  y/b z/a
 *         node2  x/c y/a               node4  y/c z/b
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "tap";
import { parseAllDocuments } from "yaml";
import type { Status } from "../../src/api/messages/status.js";
import { readObject } from "../../src/cluster/kinds.js";
import { until } from "../../src/lab/until.js";
import { type Flow, interpret, type Cluster as Objects } from "../../src/policy/interpreter.js";
import { clusterOf } from "../../src/policy/manifests.js";
import { type Cluster, type Settings, startCluster } from "./cluster.js";
import {
	clusterIp,
	FAMILIES,
	type Family,
	nodePort,
	SERVICE_SETTINGS,
} from "./service_manifest.js";
import { type Protocol, type Target, Traffic } from "./traffic.js";

const HOMES: Record<string, string> = {
	...{ "x-a": "node1", "x-b": "node1", "z-c": "node1", "x-c": "node2", "y-a": "node2" },
	...{ "y-b": "node3", "z-a": "node3", "y-c": "node4", "z-b": "node4" },
};
/** By label, as "x-a". */
export const PODS = ["x-a", "x-b", "x-c", "y-a", "y-b", "y-c", "z-a", "z-b", "z-c"];
const NODES = ["node1", "node2", "node3", "node4"];
/** What every machine serves, TCP and UDP. */
const PORTS = [80, 81];
/** Of each Pod's Service. */
export const SERVICE_PORT = 8000;
const NUMBERS = { tcp: 6, udp: 17, icmp: 1 } as const;
/** UDP ports of which one alone is open: the one that names the newest state of the policies. */
const MARKERS = { first: 20_000, last: 29_999 };
const PASSED = { settle: 10_000, answers: 5000, silenceMs: 120 };

export interface Probe extends Target {
	from: string;
	/** What policies judge: after translation, before SNAT. */
	egress: Flow;
	ingress: Flow;
	what: string;
}

type Labels = Record<string, string>;

export interface PodShape {
	labels: Labels;
	ports: object[];
	/** What its manifest says besides. */
	more?: { metadata?: object; status?: object };
}

/** The manifests of a NetworkPolicy and a ClusterNetworkPolicy. */
export const network = (name: string, spec: object, metadata: object = {}): object => {
	const [namespace, plain] = name.split("/");
	return {
		...{ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
		metadata: { namespace, name: plain, ...metadata },
		spec: { podSelector: {}, ...spec },
	};
};
export const clusterNetwork = (name: string, spec: object, version = "v1beta1"): object => ({
	...{ apiVersion: `policy.networking.k8s.io/${version}`, kind: "ClusterNetworkPolicy" },
	metadata: { name },
	spec: { tier: "Admin", priority: 10, subject: { namespaces: {} }, ...spec },
});

export class PolicyLab {
	readonly cluster: Cluster;
	/** By name; the next `apply` writes them. */
	readonly policies = new Map<string, object>();
	readonly namespaces: Record<string, Labels> = {
		...{ x: { team: "x" }, y: { team: "y" }, z: { team: "z" } },
	};
	readonly pods: Record<string, PodShape> = Object.fromEntries(
		PODS.map((label) => [label, { labels: { pod: label.slice(-1) }, ports: namedPorts(label) }]),
	);
	/** By name: what the files say in place of a policy, which is to stay in force. */
	readonly instead = new Map<string, object>();
	/** Objects besides. */
	extra: object[] = [];
	traffic: ReadonlyMap<string, Traffic> = new Map();
	private readonly nodes: object[];
	private marker = MARKERS.first;

	private constructor(cluster: Cluster, nodes: object[]) {
		this.cluster = cluster;
		this.nodes = nodes;
	}

	/**
	 * Up until the end of the test; every Pod, Node and the outside has servers.
	 *
	 * @param podCIDRs of Nodes that have others than in the example
	 */
	static async start(
		t: Test,
		settings: Settings = {},
		podCIDRs: Record<string, string[]> = {},
	): Promise<PolicyLab> {
		let nodes: object[] = [];
		const cluster = await startCluster(t, { ...SERVICE_SETTINGS, ...settings }, (directory) => {
			nodes = nodesOf(directory, podCIDRs);
			writeFileSync(join(directory, "nodes.yaml"), lines(nodes));
			rmSync(join(directory, "pods.yaml"));
			writeFileSync(join(directory, "objects.yaml"), lines(PODS.map((label) => podOf(label))));
		});
		const lab = new PolicyLab(cluster, nodes);
		const { lab: machines } = cluster;
		await Promise.all(
			PODS.map((label) =>
				machines.run(label, [
					...["sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"],
				]),
			),
		);
		lab.traffic = await Traffic.start(t, machines, [...PODS, ...NODES, "outside"], PORTS);
		await lab.apply();
		// Before the first policy every marker is open.
		await until("the first policies are in force", async () => {
			const probes = lab.markers(MARKERS.last);
			return (await lab.probe(probes, () => false)).every((answer) => answer === undefined);
		});
		return lab;
	}

	async setMode(
		trafficEncapMode: "encap" | "noEncap" | "hybrid",
		xdp: "native" | "off" = "off",
	): Promise<void> {
		const { cluster } = this;
		await cluster.lab.underlay.setRouterKnowsPods(trafficEncapMode === "noEncap");
		await cluster.configure({ ...cluster.settings, trafficEncapMode, xdp });
		for (const node of NODES)
			await until(`XDP of ${node}`, async () => (await this.status(node)).xdp === xdp);
	}

	/**
	 * Writes all objects at once; resolves when they are in force at every Pod, in milliseconds.
	 *
	 * @param closed Pods that a policy which cannot be used closes: they show nothing
	 */
	async apply(closed: readonly string[] = []): Promise<number> {
		this.write();
		return this.settled(closed);
	}

	/** @param more text at the end of the file */
	write(...more: string[]): void {
		this.marker++;
		const file = join(this.cluster.lab.manifests, "objects.yaml");
		const policies = new Map([...this.policies, ...this.instead]);
		const objects = [...this.objects(policies), this.markerPolicy()];
		const text = [lines(objects), ...more].join("\n---\n");
		// What is read is the old file or the new one.
		writeFileSync(`${file}.new`, text);
		renameSync(`${file}.new`, file);
	}

	async settled(closed: readonly string[] = []): Promise<number> {
		const start = performance.now();
		const probes = this.markers(this.marker).filter(({ from }) => !closed.includes(from));
		const answers = await this.probe(probes, () => true, PASSED.settle);
		const late = probes.filter((_, i) => answers[i] === undefined);
		if (late.length > 0)
			throw new Error(
				`Cannot apply policies: expected them in force, but after ${PASSED.settle} ms they are not at ${late.map(({ what }) => what).join("; ")}`,
			);
		return performance.now() - start;
	}

	/** The problems that this Node's agent reports. */
	async problems(node: string): Promise<string> {
		return (await this.status(node)).problems.join("\n");
	}

	private status(node: string): Promise<Status> {
		return this.cluster.lab.agent(node).status();
	}

	/** The objects as the interpreter has them. */
	world(): Objects {
		const { lab } = this.cluster;
		const pods = PODS.map((label) => ({
			...podOf(label, this.pods[label]),
			status: { podIPs: FAMILIES.map((family) => ({ ip: lab.address(label, family) })) },
		}));
		const others = this.objects(this.policies).filter(
			(object) => (object as { kind: string }).kind !== "Pod",
		);
		const world = clusterOf([...this.nodes, ...others, ...pods]);
		// What cannot be used, and of which nothing was known before.
		const unknown = [...this.instead].filter(([name]) => !this.policies.has(name));
		const closed = unknown.flatMap(([, object]) => {
			const reading = readObject("NetworkPolicy", object);
			return "instead" in reading && reading.instead !== undefined ? [reading.instead] : [];
		});
		return { ...world, policies: [...world.policies, ...closed] };
	}

	/** True: both ends let it pass. */
	passes({ egress, ingress }: Probe, world = this.world()): boolean {
		return (
			interpret(world, egress).egress.verdict !== "deny" &&
			interpret(world, ingress).ingress.verdict !== "deny"
		);
	}

	/**
	 * Every probe whose result differs from the objects' meaning. Also, drops of policies must have been counted for
	 * all that is denied, none where nothing is, and `policy_incomplete` never.
	 */
	async wrong(probes: readonly Probe[]): Promise<string[]> {
		const world = this.world();
		const expected = probes.map((probe) => this.passes(probe, world));
		const before = await this.denied();
		const answers = await this.probe(probes, (i) => expected[i] === true);
		const wrong = probes.flatMap(({ what }, i) => {
			const [wanted, got] = [expected[i] ? "yes" : "nothing", answers[i] ?? "nothing"];
			return wanted === got ? [] : [`${what}: expected ${wanted}, got ${got}`];
		});
		const silent = expected.filter((passes) => !passes).length;
		const after = await this.denied();
		if (silent === 0 ? after > before : after - before < silent)
			wrong.push(`${silent} probes are denied, and ${after - before} packets were dropped`);
		const { policy_incomplete: incomplete = 0 } = await this.cluster.allDrops();
		if (incomplete > 0) wrong.push(`policy_incomplete ${incomplete}`);
		return wrong;
	}

	private async denied(): Promise<number> {
		const {
			policy_egress: egress = 0,
			policy_ingress: ingress = 0,
			policy_not_ready: closed = 0,
		} = await this.cluster.allDrops();
		return egress + ingress + closed;
	}

	/**
	 * Sends all probes at once. Waits for the answers that are expected, then a moment for those that are not.
	 *
	 * @returns the answer to each, undefined: none
	 */
	async probe(
		probes: readonly (Target & { from: string })[],
		isExpected: (index: number) => boolean,
		timeoutMs = PASSED.answers,
	): Promise<("yes" | "refused" | undefined)[]> {
		const answers: ("yes" | "refused" | undefined)[] = probes.map(() => undefined);
		const machines = new Map<string, Map<number, Target>>();
		for (const [id, probe] of probes.entries()) {
			const targets = machines.get(probe.from) ?? new Map<number, Target>();
			machines.set(probe.from, targets.set(id, probe));
		}
		let missing = probes.filter((_, i) => isExpected(i)).length;
		const silenceMs = missing === probes.length ? 0 : PASSED.silenceMs;
		await new Promise<void>((resolve) => {
			const timer = setTimeout(resolve, timeoutMs);
			const finish = () => {
				clearTimeout(timer);
				setTimeout(resolve, silenceMs);
			};
			for (const [machine, targets] of machines)
				this.traffic.get(machine)!.probe(targets, (id, answer) => {
					answers[id] = answer;
					if (isExpected(id) && --missing === 0) finish();
				});
			if (missing === 0) finish();
		});
		await Promise.all([...machines.keys()].map((one) => this.traffic.get(one)!.endProbes()));
		return answers;
	}

	/** Every pair of Pods on each port, straight and by Service; Nodes, and the outside. */
	probes(families: readonly Family[] = FAMILIES): Probe[] {
		return families.flatMap((family) => [
			...PODS.flatMap((from) => PODS.flatMap((to) => this.pair(from, to, family))),
			...NODES.flatMap((node) =>
				PODS.flatMap((pod) => [
					this.straight(node, pod, family, "tcp", 80),
					this.straight(pod, node, family, "tcp", 80),
				]),
			),
			...PODS.flatMap((pod) => [
				this.straight(pod, "outside", family, "tcp", 80),
				...["node1", "node3"].map((node) => this.byNodePort("outside", node, pod, family)),
			]),
		]);
	}

	private pair(from: string, to: string, family: Family): Probe[] {
		// A Pod's packets to its own address stay inside it.
		if (from === to) return [this.byService(from, to, family)];
		return [
			this.straight(from, to, family, "tcp", 80),
			this.straight(from, to, family, "tcp", 81),
			this.straight(from, to, family, "udp", 80),
			this.straight(from, to, family, "icmp", 0),
			this.byService(from, to, family),
		];
	}

	straight(from: string, to: string, family: Family, protocol: Protocol, port: number): Probe {
		const { lab } = this.cluster;
		const host = lab.address(to, family);
		const number = protocol === "icmp" && family === 6 ? 58 : NUMBERS[protocol];
		const flow = { source: lab.address(from, family), destination: host, protocol: number, port };
		const what = `${from} → ${to} ${protocol}/${port} IPv${family}`;
		return { from, protocol, host, port, egress: flow, ingress: flow, what };
	}

	byService(from: string, to: string, family: Family): Probe {
		const { egress } = this.straight(from, to, family, "tcp", 80);
		const host = clusterIp(family, PODS.indexOf(to) + 1);
		return {
			...{ from, protocol: "tcp", host, port: SERVICE_PORT, egress, ingress: egress },
			what: `${from} → Service of ${to} IPv${family}`,
		};
	}

	/** An endpoint of another Node sees this Node. */
	byNodePort(from: string, node: string, to: string, family: Family): Probe {
		const seen = HOMES[to] === node ? from : node;
		const { ingress } = this.straight(seen, to, family, "tcp", 80);
		const host = this.cluster.lab.address(node, family);
		const port = nodePort(PODS.indexOf(to) + 1);
		return {
			...{ from, protocol: "tcp", host, port, egress: ingress, ingress },
			what: `${from} → NodePort of ${to} at ${node} IPv${family}`,
		};
	}

	/** A probe between each Pod and the next, which passes only when this state is in force at both. */
	private markers(port: number): Probe[] {
		return FAMILIES.flatMap((family) =>
			PODS.map((pod, i) => this.straight(pod, PODS[(i + 1) % PODS.length]!, family, "udp", port)),
		);
	}

	private markerPolicy(): object {
		const open = [{ udp: { destinationPort: { number: this.marker } } }];
		const closed = [
			{ udp: { destinationPort: { range: { start: MARKERS.first, end: MARKERS.last } } } },
		];
		const to = [{ networks: ["0.0.0.0/0", "::/0"] }];
		const from = [{ namespaces: {} }];
		return clusterNetwork("marker", {
			priority: 0,
			ingress: [
				{ action: "Accept", from, protocols: open },
				{ action: "Deny", from, protocols: closed },
			],
			egress: [
				{ action: "Accept", to, protocols: open },
				{ action: "Deny", to, protocols: closed },
			],
		});
	}

	private objects(policies: ReadonlyMap<string, object>): object[] {
		return [
			...Object.entries(this.namespaces).map(([name, labels]) => ({
				...{ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } },
			})),
			...PODS.map((label) => podOf(label, this.pods[label])),
			...PODS.flatMap((label, i) => serviceOf(this.cluster, label, i + 1)),
			...policies.values(),
			...this.extra,
		];
	}
}

/** "web" and "dns" are other numbers at each second Pod. */
function namedPorts(label: string): object[] {
	const containerPort = label.endsWith("b") ? 81 : 80;
	return [
		{ name: "web", containerPort },
		{ name: "dns", containerPort, protocol: "UDP" },
	];
}

export function podOf(
	label: string,
	{ labels, ports, more = {} }: PodShape = { labels: {}, ports: [] },
): object {
	const [namespace, name] = label.split("-");
	return {
		...{ apiVersion: "v1", kind: "Pod" },
		metadata: { namespace, name, labels, ...more.metadata },
		spec: { nodeName: HOMES[label], containers: [{ name: "main", image: "none", ports }] },
		...(more.status === undefined ? {} : { status: more.status }),
	};
}

function serviceOf({ lab }: Cluster, label: string, n: number): object[] {
	const [namespace] = label.split("-");
	const name = `s${n}`;
	const port = { name: "tcp", protocol: "TCP" };
	return [
		{
			...{ apiVersion: "v1", kind: "Service", metadata: { namespace, name } },
			spec: {
				...{ type: "NodePort", clusterIPs: FAMILIES.map((family) => clusterIp(family, n)) },
				ports: [{ ...port, port: SERVICE_PORT, targetPort: 80, nodePort: nodePort(n) }],
			},
		},
		...FAMILIES.map((family) => ({
			...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice" },
			metadata: {
				...{ namespace, name: `${name}-${family}` },
				labels: { "kubernetes.io/service-name": name },
			},
			addressType: `IPv${family}`,
			ports: [{ ...port, port: 80 }],
			endpoints: [{ addresses: [lab.address(label, family)], nodeName: HOMES[label] }],
		})),
	];
}

/** Those of the example, in zones, some with other pod CIDRs. */
function nodesOf(directory: string, podCIDRs: Record<string, string[]>): object[] {
	const text = readFileSync(join(directory, "nodes.yaml"), "utf8");
	return parseAllDocuments(text).map((document) => {
		const node = document.toJS() as {
			metadata: { name: string; labels?: Labels };
			spec: { podCIDR: string; podCIDRs: string[] };
		};
		const { name } = node.metadata;
		node.metadata.labels = { zone: ["node1", "node3"].includes(name) ? "odd" : "even" };
		const others = podCIDRs[name];
		if (others !== undefined) node.spec = { podCIDR: others[0] ?? "", podCIDRs: others };
		return node;
	});
}

function lines(objects: readonly object[]): string {
	return objects.map((object) => JSON.stringify(object)).join("\n---\n");
}
