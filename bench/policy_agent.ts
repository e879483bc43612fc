/**
 * What network policy costs an agent at the limits of a cluster (policy_cluster.ts), from the API server into the
 * kernel's maps: memory at each stage and at its peak, CPU time, longest piece of the event loop, a change of each kind,
 * a restart. The agent's parts are a process of their own (tools/policy_agent_parts.ts), with the options of bin/fairway.
 *
 *   unshare --net --mount --propagation private node --import=tsx bench/policy_agent.ts
 */
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FakeCluster } from "../test/tools/fake_api/cluster.js";
import { FakeServer } from "../test/tools/fake_api/server.js";
import type { Figures, Order } from "./tools/policy_agent_parts.js";
import { apiNamespace, apiNode, apiPod, apiPolicy } from "./tools/policy_api.js";
import { NAMESPACES, objects, pod, policy } from "./tools/policy_cluster.js";

const EVENTS = { perSecond: 50, seconds: 20 };

spawnSync("ip", ["link", "set", "lo", "up"]);
const cluster = new FakeCluster();
for (const node of objects.Node.values()) cluster.put("nodes", apiNode(node));
for (let i = 0; i < NAMESPACES; i++) cluster.put("namespaces", apiNamespace(`ns${i}`));
for (const one of objects.NetworkPolicy.values()) cluster.put("networkpolicies", apiPolicy(one));
for (const one of objects.Pod.values()) cluster.put("pods", apiPod(one));
for (const map of Object.values(objects)) map.clear();
cluster.events = [];
const server = await new FakeServer(cluster).start();
const runDir = mkdtempSync(join(tmpdir(), "fairway-bench-"));
process.on("exit", () => rmSync(runDir, { recursive: true, force: true }));

const program = fileURLToPath(new URL("tools/policy_agent_parts.ts", import.meta.url));
const child = fork(program, [server.url, runDir], {
	execArgv: [
		"--import=tsx",
		"--max-semi-space-size=2",
		...(process.env.BENCH_NODE ?? "").split(" ").filter(Boolean),
	],
	env: { ...process.env, MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" },
});
child.send(server.authority.certificate);

async function ask(order: Order): Promise<Figures> {
	child.send(order);
	const [figures] = (await once(child, "message")) as [Figures];
	return figures;
}

async function time(what: string, act: () => Promise<unknown>): Promise<void> {
	await ask("begin");
	await act();
	const { resident, peak, heap, outside, ms, cpu, longest } = await ask("flush");
	console.log(
		`${what}: ${ms.toFixed(0)} ms, CPU ${cpu.toFixed(0)}, longest piece ${longest.toFixed(1)}; ${resident.toFixed(0)} MB resident (peak ${peak.toFixed(0)}), heap ${heap.toFixed(0)}, outside ${outside.toFixed(0)}`,
	);
}

await once(child, "message");
await time("empty", async () => {});
await time("all but other Nodes' Pods, then these, until policies are in force", () =>
	ask("start"),
);
await time("10 s later", () => new Promise((resolve) => setTimeout(resolve, 10_000)));
await time(`${EVENTS.seconds} s with ${EVENTS.perSecond} changed Pods each second`, async () => {
	const began = performance.now();
	for (let i = 0; i < EVENTS.seconds * EVENTS.perSecond; i++) {
		cluster.put("pods", apiPod(pod(20_000 + i * 7, `app${i}`)));
		const due = began + ((i + 1) * 1000) / EVENTS.perSecond;
		await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
	}
	cluster.events = [];
});
await time("a policy of local Pods changes", async () => {
	cluster.put("networkpolicies", apiPolicy(policy(1, 99)));
});
await time("all Pods are listed again", async () => {
	cluster.compact();
	for (const watch of server.watches) if (watch.plural === "pods") watch.response.end();
	await new Promise((resolve) => setTimeout(resolve, 15_000));
});
await time("a restart of policies, until they are in force", () => ask("restart"));
child.send("end" satisfies Order);
await once(child, "exit");
await server.stop();
