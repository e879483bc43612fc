/**
 * Smoke tests of Fairway on the cluster, from what its users notice first to what they do to it last. They
 * follow each other on one cluster: each leaves it in mode hybrid with a Pod on every Node.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Test } from "tap";
import { until } from "../../src/lab/until.js";
import { peersOf, settled, statusOf } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { agentPods, rollOut } from "./fairway.js";
import { changeMode } from "./network.js";
import { podCIDRsOf } from "./plain.js";
import { readyPods, scale, startDeployment, unreachable } from "./pods.js";
import { serviceAddress, unanswered } from "./services.js";
import { startServed, underTraffic } from "./traffic.js";

/** Time that the API server is away. */
const OUTAGE_MS = 60_000;

export async function smokeTests(t: Test, cluster: Cluster): Promise<void> {
	let pods = await startServed(cluster);
	/** After Pods or Nodes have come back: waits until all reach each other. */
	const reachable = async (): Promise<void> => {
		await until(
			"all Pods reach each other",
			async () => {
				pods = await readyPods(cluster, "every", cluster.nodes.length);
				const failed = await unreachable(pods);
				if (failed.length > 0) throw new Error(failed.join("; "));
				return true;
			},
			120_000,
		);
	};

	const undisturbed = (t: Test, disturb: () => Promise<unknown>): Promise<void> =>
		underTraffic(t, cluster, pods, disturb);

	await t.test("Pods on all Nodes reach each other in both families", async (t) => {
		t.strictSame(await unreachable(pods), []);
	});

	await t.test("Pods on every Node reach a Service by its address and by its name", async (t) => {
		for (const address of await serviceAddress(cluster, "every"))
			for (const pod of pods) {
				const { stdout } = await until(`${pod.name} reaches ${address}`, () => pod.get(address));
				t.match(stdout, /^every-/, `${pod.node} → ${address}`);
			}
		for (const pod of pods)
			t.match((await pod.lookUp("every.fairway-test.svc.cluster.local")).length, 2, pod.node);
	});

	await t.test(
		"a Service is reached by all its addresses from Pods, Nodes and outside",
		async (t) => {
			// Nodes learn new addresses within a second.
			await until("all frontends answer", async () => {
				const failed = await unanswered(cluster, "every", pods);
				if (failed.length > 0) throw new Error(failed.join("; "));
				return true;
			});
			t.strictSame(await unanswered(cluster, "every", pods), []);
		},
	);

	await t.test("the mode changes while connections are open, and nothing is lost", async (t) => {
		for (const mode of ["encap", "noEncap", "hybrid"] as const)
			await undisturbed(t, () => changeMode(cluster, mode));
		t.strictSame(await unreachable(pods), []);
	});

	await t.test("an agent Pod is deleted under traffic, and nothing is lost", async (t) => {
		const [first] = (await agentPods(cluster)).filter(({ node }) => node === "n2");
		await undisturbed(t, async () => {
			await cluster.kubectl("-n", "kube-system", "delete", "pod", first!.name);
			await rollOut(cluster, "status");
		});
		await settled(cluster, "hybrid");
	});

	await t.test("the agents are restarted one after another, and nothing is lost", async (t) => {
		await undisturbed(t, async () => {
			await rollOut(cluster, "restart");
			await rollOut(cluster, "status");
		});
		await settled(cluster, "hybrid");
	});

	await t.test(
		"kubelet and containerd are restarted under traffic, and nothing is lost",
		async (t) => {
			await undisturbed(t, async () => {
				await cluster.node("n2").restart("containerd");
				await cluster.node("n2").restart("kubelet");
				await startDeployment(cluster, "after-restart", 6);
				await readyPods(cluster, "after-restart", 6);
			});
			await scale(cluster, "after-restart", 0);
		},
	);

	await t.test("the API server is away for a minute while Pods come and go", async (t) => {
		await startDeployment(cluster, "churn", 9);
		await readyPods(cluster, "churn", 9);
		await undisturbed(t, async () => {
			await cluster.kubectl(
				"-n",
				"fairway-test",
				"delete",
				"pods",
				"-l",
				"app=churn",
				"--wait=false",
			);
			await cluster.controlPlane.stop("api-server");
			await delay(OUTAGE_MS);
			for (const node of cluster.nodes) t.equal((await statusOf(node)).ready, true, node.name);
			cluster.controlPlane.start("api-server");
			await cluster.controlPlane.answers();
			await readyPods(cluster, "churn", 9);
		});
		const others = await readyPods(cluster, "churn", 9);
		t.strictSame(await unreachable([...pods, ...others.slice(0, 3)]), []);
		await scale(cluster, "churn", 0);
	});

	await t.test("a Node reboots, and its Pods come back", async () => {
		const node = cluster.node("n3");
		await node.reboot();
		await until("its agent is ready", async () => (await statusOf(node)).ready, 120_000);
		await settled(cluster, "hybrid");
		await reachable();
	});

	await t.test("a Node is removed and comes back with another pod CIDR", async (t) => {
		const node = cluster.node("n3");
		const before = (await podCIDRsOf(cluster)).get("n3");
		await node.cut();
		await cluster.kubectl("delete", "node", "n3");
		for (const other of ["n1", "n2"])
			await until(`${other} has no path to n3`, async () =>
				(await peersOf(cluster.node(other))).every((peer) => peer.node !== "n3"),
			);
		node.wipe();
		await node.boot();
		await until("it has registered", async () => (await podCIDRsOf(cluster)).has("n3"), 60_000);
		const after = (await podCIDRsOf(cluster)).get("n3");
		t.notSame(after, before);
		await until("its agent is ready", async () => (await statusOf(node)).ready, 120_000);
		await settled(cluster, "hybrid");
		const peers = (await peersOf(cluster.node("n1"))).filter((peer) => peer.node === "n3");
		t.strictSame(peers.flatMap((peer) => peer.podCIDRs).toSorted(), after?.toSorted());
		await reachable();
	});
}
