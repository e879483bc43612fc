/**
 * An agent as a client of a real API server that has a big cluster in it: 10, 1,000 and 5,000 Nodes, 100,000 Pods
 * of which 10 are this Node's, no Services; 20 heartbeats of Nodes and 50 changes of Pods a second.
 *
 *   bench/kube.ts [SECONDS] [CHANGES] [PODS] [POLICIES]     default 30, 200, 100000, 10000
 *
 *  1 start from nothing until ready, with each number of Nodes; and again, with what was left
 *  2 its memory, CPU time and bytes received, at rest and with the changes
 *  3 among 5,000 Nodes: a Node's address changes at the API → Pod packets to it go there
 *  4 with 10,000 network policies and addresses of all Pods, its own attached: its memory, and its CPU time with changes
 *
 * Runs itself in a network namespace of its own. bench/tools/kube_site.ts has a drawing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { bench } from "./tools/cleanup.js";
import { addNamespaces, addNodes, addPods, addPolicies, Churn } from "./tools/kube_load.js";
import { internalIP, nodeName, status } from "./tools/kube_objects.js";
import { KubeSite } from "./tools/kube_site.js";
import { inOwnNetwork } from "./tools/own_network.js";
import { publish } from "./tools/report.js";
import { quantile, shownSpread, spread } from "./tools/statistics.js";

const seconds = Number(process.argv[2] ?? 30);
const changes = Number(process.argv[3] ?? 200);
const pods = Number(process.argv[4] ?? 100_000);
const policies = Number(process.argv[5] ?? 10_000);
const SIZES = [10, 1000, 5000];
const STARTS = 3;
const OWN_PODS = 10;
const RATES = { heartbeats: 20, pods: 50 };

interface Size {
	/** From start to ready, ms: with nothing, and with the state of an earlier agent. */
	cold: number[];
	warm: number[];
	/** MB that the Node received until it was ready. */
	received: number;
	/** MB, after the changes. */
	resident: number;
	/** Shares of a core and bytes a second. */
	rest: { cpu: number; bytes: number };
	busy: { cpu: number; bytes: number };
}

async function measure(site: KubeSite, nodes: number): Promise<Size> {
	const [cold, warm]: [number[], number[]] = [[], []];
	let received = 0;
	for (let i = 0; i < STARTS; i++) {
		const before = await site.received();
		cold.push(await site.coldStart());
		received = ((await site.received()) - before) / 1e6;
		await site.settled(nodes - 1);
		await site.agent.stop();
		warm.push(await site.start());
	}
	await site.settled(nodes - 1);
	// All peers are probed at first, and their paths compared.
	await delay(seconds * 1000);
	const churn = new Churn(site.user, RATES, nodes, { from: OWN_PODS, to: pods });
	await delay(1000);
	const busy = await site.load(seconds);
	const share = await churn.stop();
	if (share < 0.98)
		throw new Error(
			`Cannot measure: expected all changes to be made, got ${(100 * share).toFixed(0)} %`,
		);
	const rest = await site.load(seconds / 2);
	return { cold, warm, received, resident: await site.resident(), rest, busy };
}

/** ms from the request until the kernel has it. */
async function latencies(site: KubeSite, nodes: number): Promise<number[]> {
	const churn = new Churn(site.user, RATES, nodes, { from: OWN_PODS, to: pods });
	const took: number[] = [];
	for (let n = 0; n < changes; n++) {
		const i = 1 + ((n * 13 + 5) % (nodes - 1));
		const { addresses } = status(i, 1);
		const began = performance.now();
		const answer = site.user.ask("PATCH", `/api/v1/nodes/${nodeName(i)}/status`, {
			status: { addresses },
		});
		while (!site.tunnelsTo(internalIP(i, 1))) {
			if (performance.now() - began > 30_000)
				throw new Error("Cannot measure a change: it never came into force");
			await delay(1);
		}
		took.push(performance.now() - began);
		await answer;
		// At any time in the agent's turns.
		await delay(20 + Math.random() * 100);
	}
	await churn.stop();
	return took;
}

/** MB, and shares of a core. */
interface WithPolicies {
	resident: number;
	/** After a restart. */
	restarted: number;
	rest: number;
	busy: number;
}

/** Other Nodes' Pods are asked for from the first policy on that concerns a Pod here. */
async function withPolicies(site: KubeSite, nodes: number): Promise<WithPolicies> {
	await addPolicies(site, policies);
	await site.attach(OWN_PODS);
	await delay(5000);
	const load = async (): Promise<WithPolicies> => {
		await site.settled(nodes - 1);
		const churn = new Churn(site.user, RATES, nodes, { from: OWN_PODS, to: pods });
		const { cpu: busy } = await site.load(seconds);
		await churn.stop();
		const { cpu: rest } = await site.load(seconds / 2);
		return { resident: await site.resident(), restarted: Number.NaN, rest, busy };
	};
	const first = await load();
	await site.agent.stop();
	await site.start();
	return { ...first, restarted: (await load()).resident };
}

await inOwnNetwork(import.meta.url, () =>
	bench(async () => {
		const began = performance.now();
		const say = (text: string) =>
			process.stderr.write(
				`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}\n`,
			);
		const site = await KubeSite.up();
		await addNamespaces(site);
		const sizes = new Map<number, Size>();
		let there = 0;
		for (const nodes of SIZES) {
			await addNodes(site, there, nodes);
			if (there === 0) {
				say(`${pods} Pods`);
				await addPods(site, pods, SIZES.at(-1)!, OWN_PODS);
			}
			there = nodes;
			say(`${nodes} Nodes`);
			const size = await measure(site, nodes);
			sizes.set(nodes, size);
			say(
				`${nodes} Nodes: ${size.resident.toFixed(0)} MB, ready in ${shownSpread(spread(size.cold))} ms`,
			);
		}
		say("changes");
		const took = await latencies(site, there);
		say(
			`changes: p50 ${quantile(took, 0.5).toFixed(0)}, p99 ${quantile(took, 0.99).toFixed(0)} ms`,
		);
		say(`${policies} policies`);
		const policed = await withPolicies(site, there);
		const first = spread(sizes.get(SIZES[0]!)!.cold).median;
		publish({
			bench: "kube",
			method: `kube-apiserver and etcd of their own, with ${pods} Pods, of which the agent watches its ${OWN_PODS}, and no Services; ${STARTS} starts of each kind; after ${seconds} s, ${seconds} s with ${RATES.heartbeats} heartbeats of Nodes and ${RATES.pods} changes of Pods a second, then ${seconds / 2} s at rest. Changes are timed from the request until the kernel's maps have them, the API server's part included.`,
			tables: [
				{
					title: "The agent, by the number of Nodes",
					columns: [
						"",
						"first ready ms",
						`÷ ${SIZES[0]} Nodes`,
						"ready after restart ms",
						"received till ready MB",
						"resident MB",
						"CPU at rest %",
						"CPU with changes %",
						"received with changes kB/s",
					],
					rows: [...sizes].map(([nodes, { cold, warm, received, resident, rest, busy }]) => [
						`${nodes} Nodes`,
						shownSpread(spread(cold)),
						(spread(cold).median / first).toFixed(2),
						shownSpread(spread(warm)),
						received.toFixed(1),
						resident.toFixed(0),
						...[rest, busy].map(({ cpu }) => (100 * cpu).toFixed(2)),
						(busy.bytes / 1000).toFixed(0),
					]),
				},
				{
					title: `The agent with ${policies} policies, all Pods with addresses, ${there} Nodes`,
					columns: ["", "resident MB", "after a restart MB", "CPU at rest %", "CPU with changes %"],
					rows: [
						[
							`${policies} policies`,
							policed.resident.toFixed(0),
							policed.restarted.toFixed(0),
							(100 * policed.rest).toFixed(2),
							(100 * policed.busy).toFixed(2),
						],
					],
				},
				{
					title: `A Node's address changes, ${there} Nodes: ms`,
					columns: ["", "p50", "p99", "max"],
					rows: [
						[
							"at the API → in the kernel",
							...[0.5, 0.99, 1].map((q) => quantile(took, q).toFixed(1)),
						],
					],
				},
			],
			data: { sizes: Object.fromEntries(sizes), took, policies: policed },
		});
	}),
);
