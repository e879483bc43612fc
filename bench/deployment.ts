/**
 * A Deployment of 80 Pods on two Nodes of a real Kubernetes: how long until all are Ready, and until all are gone,
 * with Fairway and with the plain plugins; and what the agents log meanwhile.
 *
 *   bench/deployment.ts [ROUNDS [PODS]]     default 5 80
 *
 *  1 the cluster of test/kubernetes with the reference plugins, and kube-proxy
 *  2 the same, made anew, with Fairway in mode hybrid, and kube-proxy
 *
 * In each, a Deployment comes and goes once before it is timed. kubectl waits by watches, so it takes no time of
 * the Nodes.
 */

import { Cluster, sweep } from "../test/kubernetes/cluster.js";
import { agentPods } from "../test/kubernetes/fairway.js";
import { makeImages } from "../test/kubernetes/images.js";
import { type Network, startNetwork } from "../test/kubernetes/network.js";
import { makeNamespace, podSpec, testNamespace } from "../test/kubernetes/pods.js";
import { atEnd, bench } from "./tools/cleanup.js";
import { publish } from "./tools/report.js";
import { quantile } from "./tools/statistics.js";

const ROUNDS = Number(process.argv[2] ?? 5);
const PODS = Number(process.argv[3] ?? 80);
const NODES = ["n1", "n2"];
const TIMEOUT = "--timeout=300s";
/** Levels of the agent's log that are complaints. */
const COMPLAINTS = new Set(["warn", "error", "fatal"]);

interface Times {
	/** s, of each round. */
	ready: number[];
	gone: number[];
}

interface Line {
	level?: string;
	msg?: string;
}

const deployment = (replicas: number) => ({
	apiVersion: "apps/v1",
	kind: "Deployment",
	metadata: { name: "many", namespace: testNamespace },
	spec: {
		replicas,
		selector: { matchLabels: { app: "many" } },
		template: {
			metadata: { labels: { app: "many" } },
			spec: {
				...podSpec(),
				affinity: {
					nodeAffinity: {
						requiredDuringSchedulingIgnoredDuringExecution: {
							nodeSelectorTerms: [
								{
									matchExpressions: [
										{ key: "kubernetes.io/hostname", operator: "In", values: NODES },
									],
								},
							],
						},
					},
				},
			},
		},
	},
});

async function seconds(work: () => Promise<unknown>): Promise<number> {
	const start = performance.now();
	await work();
	return (performance.now() - start) / 1000;
}

async function comesAndGoes(cluster: Cluster): Promise<{ ready: number; gone: number }> {
	const within = ["-n", testNamespace];
	const ready = await seconds(async () => {
		await cluster.apply([deployment(PODS)]);
		await cluster.kubectl(...within, "rollout", "status", "deployment/many", TIMEOUT);
	});
	const gone = await seconds(async () => {
		await cluster.kubectl(...within, "delete", "deployment", "many");
		await cluster.kubectl(...within, "wait", "--for=delete", "pod", "-l", "app=many", TIMEOUT);
	});
	return { ready, gone };
}

/** What the agents complain of, with how often. */
async function complaints(cluster: Cluster): Promise<Record<string, number>> {
	const counts: Record<string, number> = {};
	for (const { name } of await agentPods(cluster)) {
		const text = await cluster.kubectl("-n", "kube-system", "logs", name, "-c", "fairway");
		for (const one of text.split("\n").filter((line) => line.startsWith("{"))) {
			const { level = "", msg = "" } = JSON.parse(one) as Line;
			if (COMPLAINTS.has(level)) counts[msg] = (counts[msg] ?? 0) + 1;
		}
	}
	return counts;
}

async function measure(
	network: Network,
): Promise<{ times: Times; logged: Record<string, number> }> {
	const cluster = await Cluster.up();
	try {
		await startNetwork(cluster, network, "kube-proxy");
		await makeNamespace(cluster);
		await comesAndGoes(cluster);
		const isOurs = network !== "plain";
		const before = isOurs ? await complaints(cluster) : {};
		const times: Times = { ready: [], gone: [] };
		for (let round = 0; round < ROUNDS; round++) {
			const { ready, gone } = await comesAndGoes(cluster);
			times.ready.push(ready);
			times.gone.push(gone);
		}
		const after = isOurs ? await complaints(cluster) : {};
		const logged = Object.entries(after)
			.map(([msg, count]) => [msg, count - (before[msg] ?? 0)] as const)
			.filter(([, count]) => count > 0);
		return { times, logged: Object.fromEntries(logged) };
	} finally {
		await cluster.down();
	}
}

const results: Partial<Record<"plain" | "fairway", Times>> = {};
let logged: Record<string, number> = {};

await bench(async () => {
	atEnd(sweep);
	await makeImages();
	results.plain = (await measure("plain")).times;
	const fairway = await measure("hybrid");
	results.fairway = fairway.times;
	logged = fairway.logged;
});

const lines = Object.values(logged).reduce((sum, count) => sum + count, 0);
const cells = (times: number[] = []) =>
	[0.5, 0, 1].map((share) => quantile(times, share).toFixed(1));
publish({
	bench: "deployment",
	method: `${ROUNDS} rounds of ${PODS} Pods on two Nodes of a cluster with each network, both with kube-proxy, one after the other; from the object to the last Pod Ready, and from its deletion to the last Pod gone.`,
	tables: [
		{
			title: `a Deployment of ${PODS} Pods: s`,
			columns: ["", "median", "least", "most"],
			rows: (["plain", "fairway"] as const).flatMap((network) => [
				[`${network}, until all are Ready`, ...cells(results[network]?.ready)],
				[`${network}, until all are gone`, ...cells(results[network]?.gone)],
			]),
		},
		{
			title: "log lines of level warn or error of three agents meanwhile",
			columns: ["", "lines"],
			rows: [["all", `${lines}`], ...Object.entries(logged).map(([msg, n]) => [msg, `${n}`])],
		},
	],
	data: { ...results, lines, logged },
});
