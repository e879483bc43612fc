/**
 * Policies on the cluster beyond the suites of others: ClusterNetworkPolicy in its older version, and what must hold
 * while a definition, an agent or the API comes and goes.
 */
import type { Test } from "tap";
import { until } from "../../src/lab/until.js";
import { statusOf } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { definition, installDefinition } from "./cluster_policy.js";
import { rollOut } from "./fairway.js";
import { startOnEveryNode, type TestPod, testNamespace } from "./pods.js";

/** Time in which the agents find a version that is served. */
const DISCOVERY_MS = 180_000;
/** Time in which the agents follow an API server that was away. */
const RECONNECT_MS = 60_000;
const GROUP = "policy.networking.k8s.io";

export async function policyTests(t: Test, cluster: Cluster): Promise<void> {
	const servers = await startOnEveryNode(cluster, "server");
	const clients = await startOnEveryNode(cluster, "client");

	/** Which of the clients reach which servers: "n1 → n2 v4", in both families, by HTTP. */
	const reached = async (): Promise<string[]> => {
		const pairs = clients.flatMap((from) => servers.flatMap((to) => pairsOf(from, to)));
		const seen = await Promise.all(
			pairs.map(async ({ from, address, shown }) =>
				(await from.get(address)) === undefined ? "" : shown,
			),
		);
		return seen.filter((one) => one !== "").toSorted();
	};
	const all = clients
		.flatMap((from) => servers.flatMap((to) => pairsOf(from, to)))
		.map(({ shown }) => shown)
		.toSorted();
	const becomes = (what: string, wanted: readonly string[], timeoutMs = 15_000): Promise<unknown> =>
		until(
			what,
			async () => {
				const now = await reached();
				if (now.join() === wanted.join()) return true;
				throw new Error(`reached: ${now.join(", ") || "none"}`);
			},
			timeoutMs,
		);

	await t.test("without a definition of ClusterNetworkPolicy there is no problem", async (t) => {
		await cluster.kubectl("delete", "--ignore-not-found", "crd", `clusternetworkpolicies.${GROUP}`);
		for (const node of cluster.nodes) t.strictSame((await statusOf(node)).problems, [], node.name);
		await becomes("all clients reach all servers", all);
	});

	await t.test("ClusterNetworkPolicy v1alpha2 is enforced where only that is served", async (t) => {
		await installDefinition(cluster, await definition(["v1alpha2"]));
		await cluster.apply([denied("v1alpha2", "client")]);
		// The agents ask for the two versions by turns.
		await becomes("no client reaches a server", [], DISCOVERY_MS);
		await cluster.apply([denied("v1alpha2", "nobody")]);
		await becomes("all clients reach all servers", all);
		t.strictSame(await reached(), all);
	});

	await t.test("it stays in force when v1beta1 is served, too, and is changed by it", async (t) => {
		await cluster.apply([denied("v1alpha2", "client")]);
		await becomes("no client reaches a server", []);
		await cluster.apply([await definition(["v1alpha2", "v1beta1"])]);
		await cluster.kubectl("annotate", "--overwrite", "clusternetworkpolicy", "lab", "lab=1");
		t.strictSame(await reached(), []);
		await cluster.apply([denied("v1beta1", "nobody")]);
		await becomes("all clients reach all servers", all);
		await cluster.kubectl("delete", "clusternetworkpolicy", "lab");
	});

	await t.test(
		"isolation outlives agents that restart, and the API while it is away",
		async (t) => {
			await cluster.apply([isolation]);
			await becomes("no client reaches a server", []);
			await rollOut(cluster, "restart");
			t.strictSame(await reached(), [], "while the agents restart");
			await rollOut(cluster, "status");
			t.strictSame(await reached(), [], "afterwards");
			await cluster.controlPlane.stop("api-server");
			t.strictSame(await reached(), [], "while the API is away");
			cluster.controlPlane.start("api-server");
			await cluster.controlPlane.answers();
			t.strictSame(await reached(), [], "when it is back");
			await cluster.kubectl("-n", testNamespace, "delete", "networkpolicy", "isolated");
			await becomes("all clients reach all servers", all, RECONNECT_MS);
		},
	);
}

const pairsOf = (from: TestPod, to: TestPod) =>
	to.addresses.map((address, at) => ({
		from,
		address,
		shown: `${from.node} → ${to.node} v${at === 0 ? 4 : 6}`,
	}));

/** Servers refuse Pods with this label. */
const denied = (version: string, app: string): object => ({
	apiVersion: `${GROUP}/${version}`,
	kind: "ClusterNetworkPolicy",
	metadata: { name: "lab" },
	spec: {
		tier: "Admin",
		priority: 10,
		subject: {
			pods: {
				namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": testNamespace } },
				podSelector: { matchLabels: { app: "server" } },
			},
		},
		ingress: [
			{
				name: "deny",
				action: "Deny",
				from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app } } } }],
			},
		],
	},
});

/** Servers take nothing but from their own Node. */
const isolation = {
	apiVersion: "networking.k8s.io/v1",
	kind: "NetworkPolicy",
	metadata: { name: "isolated", namespace: testNamespace },
	spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"] },
};
