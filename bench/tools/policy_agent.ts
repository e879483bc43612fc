/**
 * What network policy costs an agent at the limits of a cluster (policy_cluster.ts), from the API server into the
 * kernel's maps: memory, CPU time, the longest piece of the event loop, at the start, at changes of each kind and at a
 * restart. The agent's parts are a process of their own (policy_agent_parts.ts), with the options of bin/fairway.
 */
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { NetworkPolicyObject } from "../../src/cluster/network_policy_object.js";
import { FakeCluster } from "../../test/tools/fake_api/cluster.js";
import { FakeServer } from "../../test/tools/fake_api/server.js";
import type { Longest } from "./pieces.js";
import type { Figures, Order } from "./policy_agent_parts.js";
import { apiNamespace, apiNode, apiPod, apiPolicy } from "./policy_api.js";
import { is, NAMESPACES, objects, pod, policy } from "./policy_cluster.js";

export const EVENTS = { perSecond: 50, seconds: 20 };

interface Measured extends Figures {
	what: string;
}

export interface Stage extends Measured {
	longest: Longest;
}

const own = (name: string, more: Partial<NetworkPolicyObject>): NetworkPolicyObject => ({
	...{ namespace: "ns1", name, pods: [], ingress: undefined, egress: undefined, audit: false },
	...more,
});

/** Policies of local Pods that touch much. */
const WIDE: Record<string, NetworkPolicyObject> = {
	"a policy comes with a block of its own": own("block", {
		egress: [{ peers: [{ block: "100.64.1.0/24", except: [] }], ports: undefined }],
	}),
	"a policy comes with a new selector for 50,000 Pods": own("select", {
		ingress: [
			{
				peers: [{ namespaces: [], pods: is("tier", "t1") }],
				ports: [{ protocol: 6, first: 1000, last: 1000 }],
			},
		],
	}),
	"a policy comes with 6,000 blocks": own("blocks", {
		egress: [
			{
				peers: Array.from({ length: 6000 }, (_, i) => ({
					block: `101.${i >> 8}.${i & 255}.0/24`,
					except: [],
				})),
				ports: undefined,
			},
		],
	}),
	"a policy comes with 0.0.0.0/0": own("every", {
		egress: [{ peers: [{ block: "0.0.0.0/0", except: ["10.0.0.0/8"] }], ports: undefined }],
	}),
};

/**
 * In a network namespace of its own, with a mount namespace. Two agents in turn: the longest pieces are the second's.
 *
 * @param each is told each stage as it ends
 */
export async function measureAgent(each: (stage: Stage) => void): Promise<void> {
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

	const first = await run({ server, cluster, runDir: join(runDir, "first") }, 0);
	const second = await run({ server, cluster, runDir: join(runDir, "second") }, 1);
	for (const [i, stage] of first.entries()) each({ ...stage, longest: second[i]!.longest! });
	await server.stop();
}

interface Api {
	server: FakeServer;
	cluster: FakeCluster;
	runDir: string;
}

/** One agent. @param turn 0: its CPU time and memory count; 1: its longest pieces do */
async function run({ server, cluster, runDir }: Api, turn: number): Promise<Measured[]> {
	mkdirSync(runDir);
	const program = fileURLToPath(new URL("policy_agent_parts.ts", import.meta.url));
	const child = fork(program, [server.url, runDir, ...(turn === 0 ? [] : ["pieces"])], {
		execArgv: [
			"--import=tsx",
			"--max-semi-space-size=2",
			...(process.env.BENCH_NODE ?? "").split(" ").filter(Boolean),
		],
		env: { ...process.env, MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" },
	});
	child.send(server.authority.certificate);

	const ask = async (order: Order): Promise<Figures> => {
		child.send(order);
		const [figures] = (await once(child, "message")) as [Figures];
		return figures;
	};
	const stages: Measured[] = [];
	const time = async (what: string, act: () => Promise<unknown>): Promise<Figures> => {
		await ask("begin");
		await act();
		const figures = await ask("flush");
		stages.push({ what, ...figures });
		return figures;
	};
	/** A change of a policy, until the watch has it and unused entries are removed. */
	const change = async (what: string, one: NetworkPolicyObject) => {
		const { inForce, problems } = await time(what, async () => {
			cluster.put("networkpolicies", apiPolicy(one));
			await delay(3000);
		});
		if (inForce.length !== 1 || problems.length > 0)
			throw new Error(
				`Cannot measure "${what}": expected one change that is in force, got ${inForce.length}; ${problems.join("; ")}`,
			);
	};

	await once(child, "message");
	await time("empty", async () => {});
	await time("all is listed and compiled", () => ask("start"));
	await time("10 s later", () => delay(10_000));
	await time(`${EVENTS.perSecond} changed Pods a second`, async () => {
		const began = performance.now();
		for (let i = 0; i < EVENTS.seconds * EVENTS.perSecond; i++) {
			cluster.put("pods", apiPod(pod(20_000 + i * 7, `app${turn}-${i}`)));
			const due = began + ((i + 1) * 1000) / EVENTS.perSecond;
			await delay(Math.max(0, due - performance.now()));
		}
		cluster.events = [];
	});
	await change("a policy of local Pods changes", policy(1, 99 + turn));
	for (const [what, one] of Object.entries(WIDE)) await change(what, one);
	await time("all Pods are listed again", async () => {
		cluster.compact();
		for (const watch of server.watches) if (watch.plural === "pods") watch.response.end();
		await delay(15_000);
	});
	await time("a restart, until policies are in force", () => ask("restart"));
	child.send("end" satisfies Order);
	await once(child, "exit");
	for (const one of Object.values(WIDE))
		cluster.remove("networkpolicies", `${one.namespace}/${one.name}`);
	return stages;
}
