/**
 * A network policy is applied in a cluster of 50 Nodes: until it is in force on each. All agents share this machine's
 * CPUs, which those of a cluster do not.
 *
 *   bench/apply.ts [NODES] [CHANGES]     default 50, 40
 *
 *  1 every Node has an agent and a Pod, which the policy selects
 *  2 the policy changes its port at the API → each Node's Pod has another policy in the kernel
 *
 * Runs itself in a network namespace of its own. bench/tools/apply_site.ts has a drawing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { ApplySite } from "./tools/apply_site.js";
import { bench } from "./tools/cleanup.js";
import { inOwnNetwork } from "./tools/own_network.js";
import { publish } from "./tools/report.js";
import { quantile } from "./tools/statistics.js";

const nodes = Number(process.argv[2] ?? 50);
const changes = Number(process.argv[3] ?? 40);
const PATIENCE_MS = 30_000;

/** ms from the request until each Node has it. */
async function change(site: ApplySite, port: number): Promise<number[]> {
	const before = site.policies();
	const began = performance.now();
	const took = new Map<number, number>();
	const answer = site.apply(port);
	while (took.size < nodes) {
		const now = performance.now() - began;
		for (const [i, id] of site.policies().entries())
			if (id !== before[i] && !took.has(i)) took.set(i, now);
		if (now > PATIENCE_MS)
			throw new Error(
				`Cannot measure a change: expected it on ${nodes} Nodes, got it on ${took.size}`,
			);
		await delay(1);
	}
	await answer;
	return [...took.values()];
}

await inOwnNetwork(import.meta.url, () =>
	bench(async () => {
		const site = await ApplySite.up(nodes);
		// The first is a new object, and what it needs is compiled for the first time.
		await change(site, 1000);
		const took: number[][] = [];
		for (let i = 0; i < changes; i++) {
			// At any time in the agents' turns.
			await delay(500 + Math.random() * 100);
			took.push(await change(site, 1001 + i));
		}
		const each = took.flat();
		const last = took.map((times) => Math.max(...times));
		const shown = (values: readonly number[]) =>
			[0.5, 0.9, 0.99, 1].map((q) => quantile(values, q).toFixed(0));
		publish({
			bench: "apply",
			method: `kube-apiserver, etcd and ${nodes} agents on one machine, each with a Pod that the policy selects; its port changes ${changes} times. Timed from the request until the kernel's maps have it, the API server's part included.`,
			tables: [
				{
					title: `A policy is applied, ${nodes} Nodes: ms`,
					columns: ["", "p50", "p90", "p99", "max"],
					rows: [
						["request → in force, each Node", ...shown(each)],
						["request → in force on the last Node", ...shown(last)],
					],
				},
			],
			data: { nodes, each, last },
		});
	}),
);
