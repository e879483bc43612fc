/** Services from Fairway to kube-proxy, and back, on a living cluster: the steps that the README names. */
import type { Test } from "tap";
import { until } from "../../src/lab/until.js";
import type { Cluster } from "./cluster.js";
import { Connection, Requests } from "./connections.js";
import { configure, provideEnvironment, rollOut } from "./fairway.js";
import { environments } from "./network.js";
import type { KubernetesNode } from "./node.js";
import type { TestPod } from "./pods.js";
import { serviceAddress, unanswered } from "./services.js";
import { startServed } from "./traffic.js";

/** At most one request of a client, which makes one after the other, is under way when its Node changes. */
const UNDER_WAY = 1;

export async function handoverTests(t: Test, cluster: Cluster): Promise<void> {
	const pods = await startServed(cluster);
	const podOn = (node: string): TestPod => pods.find((pod) => pod.node === node)!;
	const [v4 = "", v6 = ""] = await serviceAddress(cluster, "every");

	/** Changes who serves while clients go on; afterwards every frontend answers from everywhere. */
	const change = async (t: Test, to: string, act: () => Promise<void>): Promise<void> => {
		const [target4 = "", target6 = ""] = podOn("n3").addresses;
		const direct = await Promise.all([
			Connection.open(podOn("n1"), target4),
			Connection.open(podOn("n2"), target6),
		]);
		const requests = await Promise.all([
			Requests.start(podOn("n1"), v4),
			Requests.start(podOn("n3"), v6),
		]);
		try {
			await act();
		} finally {
			for (const client of requests) {
				const { sent, failures } = await client.end();
				const title = `${failures.length} of ${sent} requests failed when Services passed to ${to}`;
				t.ok(sent > 0 && failures.length <= UNDER_WAY, title, { failures });
			}
			for (const connection of direct)
				t.equal((await connection.end()).error, null, "a connection to a Pod lives");
		}
		t.strictSame(await unanswered(cluster, "every", pods), [], `${to} serves every frontend`);
	};

	await t.test("Services pass from Fairway to kube-proxy while clients go on", async (t) => {
		await provideEnvironment(cluster, { ...environments.fairway, ...environments["kube-proxy"] });
		await rollOut(cluster, "restart");
		await rollOut(cluster, "status");
		await change(t, "kube-proxy", async () => {
			cluster.startProxies();
			for (const node of cluster.nodes) await proxyIsReady(node, v4);
			await configure(cluster, { fairwayProxy: { enable: false } });
			await served(cluster, false);
		});
	});

	await t.test(
		"Services pass back to Fairway, beside the rules that kube-proxy leaves",
		async (t) => {
			await change(t, "Fairway", async () => {
				await configure(cluster, { fairwayProxy: { enable: true } });
				await served(cluster, true);
				for (const node of cluster.nodes) await node.stopProxy();
			});
			for (const node of cluster.nodes)
				t.equal(await hasProxyRules(node), true, `${node.name} still has kube-proxy's rules`);
			await provideEnvironment(cluster, environments.fairway);
		},
	);
}

const proxyTable = ["nft", "list", "table", "ip", "kube-proxy"];

const hasProxyRules = async (node: KubernetesNode): Promise<boolean> =>
	(await node.run(proxyTable, { mayFail: true })).status === 0;

/** kube-proxy has rules for the cluster IP. */
async function proxyIsReady(node: KubernetesNode, address: string): Promise<void> {
	await until(
		`kube-proxy of ${node.name} serves ${address}`,
		async () => (await node.run(proxyTable, { mayFail: true })).stdout.includes(address),
		60_000,
	);
}

/** Waits until every agent has taken the change, as its metrics say. */
async function served(cluster: Cluster, byFairway: boolean): Promise<void> {
	for (const node of cluster.nodes)
		await until(
			`${node.name} serves Services: ${byFairway}`,
			async () => {
				const curl = ["curl", "-sS", "--unix-socket", "/run/fairway/agent.sock"];
				const { stdout } = await node.run([...curl, "http://agent/services"], { mayFail: true });
				const rows = JSON.parse(stdout) as unknown[];
				return rows.length > 0 === byFairway;
			},
			180_000,
		);
}
