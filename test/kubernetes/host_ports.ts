/**
 * hostPort: Pods with a port of their Node, by the reference plugin portmap behind fairway-cni, under policies.
 *
 *   client, stranger on every Node ─┐
 *   every Node                      ├─ NODE:8088 (TCP), NODE:8053 (UDP) ── published, a Pod on every Node
 *   outside                         ┘
 *
 *  1. everybody reaches every Node's port
 *  2. an isolated Pod is reached from its own Node alone
 *  3. Pods that its policy names, and blocks outside the cluster
 *  4. egress: a Node's address is the destination that the policy of a client sees
 */
import { join } from "node:path";
import type { Test } from "tap";
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import { type Client, outside } from "./connections.js";
import { folders, subnets } from "./layout.js";
import type { KubernetesNode } from "./node.js";
import { podSpec, startOnEveryNode, type TestPod, testNamespace } from "./pods.js";

const ports = { TCP: 8088, UDP: 8053 } as const;
/** Of a caller, for all answers together. */
const PATIENCE_MS = 3_000;
const askProgram = join(folders.source, "node/ask.mjs");
/** UDP port of the program in the Pods. */
const NETEXEC_UDP = 8081;

/** Who connects; `node`: where it is, if it is in the cluster. */
interface Caller {
	name: string;
	node?: string;
	run: Client["run"];
}

export async function hostPortTests(t: Test, cluster: Cluster): Promise<void> {
	const published = await publish(cluster);
	const clients = (await startOnEveryNode(cluster, "client")).map(asCaller);
	const strangers = (await startOnEveryNode(cluster, "stranger")).map(asCaller);
	const nodes: Caller[] = cluster.nodes.map((node) => ({
		...{ name: node.name, node: node.name },
		run: (command, options) => node.run(command, options),
	}));
	const callers = [...nodes, ...clients, ...strangers, outside];

	/** "client of n1 → n2 TCP v4": each caller that the right Pod answers. */
	const reached = async (): Promise<string[]> => {
		const targets = cluster.nodes.flatMap(targetsOf);
		const all = callers.map(async (caller) => {
			const answers = await ask(caller, targets);
			return targets
				.filter(({ node }, at) => answers[at] === published.find((one) => one.node === node)?.name)
				.map(({ shown }) => `${caller.name} → ${shown}`);
		});
		return (await Promise.all(all)).flat().toSorted();
	};
	/** What is reached if only these callers reach these Nodes. */
	const those = (may: (caller: Caller, node: KubernetesNode) => boolean): string[] =>
		callers
			.flatMap((caller) =>
				cluster.nodes
					.filter((node) => may(caller, node))
					.flatMap((node) => targetsOf(node).map(({ shown }) => `${caller.name} → ${shown}`)),
			)
			.toSorted();
	const becomes = async (t: Test, what: string, wanted: readonly string[]): Promise<void> => {
		await until(
			what,
			async () => {
				const now = await reached();
				const missing = wanted.filter((one) => !now.includes(one));
				const more = now.filter((one) => !wanted.includes(one));
				if (missing.length === 0 && more.length === 0) return true;
				throw new Error(`missing: ${missing.join(", ")}; too much: ${more.join(", ")}`);
			},
			60_000,
		);
		t.pass(what);
	};
	const ownNode = (caller: Caller, node: KubernetesNode): boolean =>
		nodes.includes(caller) && caller.node === node.name;

	await t.test("Pods, Nodes and others reach a hostPort", async (t) => {
		await becomes(
			t,
			"everybody reaches every Node's port",
			those(() => true),
		);
		for (const node of nodes) {
			const loopback = { protocol: "TCP", address: "127.0.0.1" } as const;
			t.match(await ask(node, [loopback]), [/^published-/], `${node.name} by loopback`);
		}
	});

	await t.test("a Pod without allowed peers has its hostPort for its own Node", async (t) => {
		await cluster.apply([ingressOf([])]);
		await becomes(t, "only the own Node reaches it", those(ownNode));
	});

	await t.test("a policy's Pods and blocks reach a hostPort by their addresses", async (t) => {
		// A Pod has its own address on its own Node only: others' packets to a Node have their Node's.
		await cluster.apply([ingressOf([{ podSelector: { matchLabels: { app: "client" } } }])]);
		await becomes(
			t,
			"Pods of the Node that the policy selects reach it",
			those(
				(caller, node) =>
					ownNode(caller, node) || (clients.includes(caller) && caller.node === node.name),
			),
		);
		const routerAddresses = subnets.flatMap((subnet) => [
			`192.168.${subnet}.1/32`,
			`fd00:${subnet}::1/128`,
		]);
		await cluster.apply([ingressOf(routerAddresses.map((cidr) => ({ ipBlock: { cidr } })))]);
		await becomes(
			t,
			"the block outside reaches it",
			those((caller, node) => ownNode(caller, node) || caller === outside),
		);
		await cluster.kubectl("-n", testNamespace, "delete", "networkpolicy", "published");
	});

	await t.test("egress to a hostPort is judged by the Node's address", async (t) => {
		const [n1] = cluster.nodes;
		await cluster.apply([egressTo([`${n1!.plan.v4}/32`, `${n1!.plan.v6}/128`])]);
		await becomes(
			t,
			"strangers reach the port of n1 alone",
			those((caller, node) => !strangers.includes(caller) || node === n1),
		);
		await cluster.kubectl("-n", testNamespace, "delete", "networkpolicy", "strangers");
		await becomes(
			t,
			"everybody reaches every Node's port",
			those(() => true),
		);
	});
	await cluster.kubectl("-n", testNamespace, "delete", "daemonset", "published");
}

const asCaller = (pod: TestPod): Caller => ({
	...{ name: `${pod.name.replace(/-.*/, "")} of ${pod.node}`, node: pod.node },
	run: (command, options) => pod.run(command, options),
});

interface Target {
	protocol: keyof typeof ports;
	address: string;
}

/** Both protocols in both families; `shown` as "n2 TCP v4". */
const targetsOf = ({ name, plan }: KubernetesNode): (Target & { node: string; shown: string })[] =>
	(["TCP", "UDP"] as const).flatMap((protocol) =>
		([4, 6] as const).map((family) => ({
			...{ protocol, address: family === 4 ? plan.v4 : plan.v6, node: name },
			shown: `${name} ${protocol} v${family}`,
		})),
	);

/** The names of the Pods that answer; "": none. */
async function ask({ run }: Caller, targets: readonly Target[]): Promise<string[]> {
	const words = targets.flatMap(({ protocol, address }) => [
		...[protocol, address, String(ports[protocol])],
	]);
	const { stdout } = await run([process.execPath, askProgram, String(PATIENCE_MS), ...words]);
	return JSON.parse(stdout);
}

/** Pods with a TCP and a UDP port of their Node. */
function publish(cluster: Cluster): Promise<TestPod[]> {
	const spec = podSpec();
	const mappings = [
		{ containerPort: 80, hostPort: ports.TCP, protocol: "TCP" },
		{ containerPort: NETEXEC_UDP, hostPort: ports.UDP, protocol: "UDP" },
	];
	const containers = [{ ...spec.containers[0], ports: mappings }];
	return startOnEveryNode(cluster, "published", { ...spec, containers });
}

const ingressOf = (peers: readonly object[]): object => ({
	apiVersion: "networking.k8s.io/v1",
	kind: "NetworkPolicy",
	metadata: { name: "published", namespace: testNamespace },
	spec: {
		podSelector: { matchLabels: { app: "published" } },
		policyTypes: ["Ingress"],
		ingress: peers.length === 0 ? [] : [{ from: peers }],
	},
});

const egressTo = (cidrs: readonly string[]): object => ({
	apiVersion: "networking.k8s.io/v1",
	kind: "NetworkPolicy",
	metadata: { name: "strangers", namespace: testNamespace },
	spec: {
		podSelector: { matchLabels: { app: "stranger" } },
		policyTypes: ["Egress"],
		egress: [{ to: cidrs.map((cidr) => ({ ipBlock: { cidr } })) }],
	},
});
