/**
 * What happens to an installation in its life: the agent runs out of memory, gets a new image, etcd is restored from
 * an older copy, Fairway is uninstalled and removed. The last test leaves the cluster without Fairway.
 */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Test } from "tap";
import { until } from "../../src/lab/until.js";
import { statusOf } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { agentPods, cleanupManifest, imageName, manifest, rollOut } from "./fairway.js";
import { folders } from "./layout.js";
import type { KubernetesNode } from "./node.js";
import { readyPods, startDeployment, testNamespace, unreachable } from "./pods.js";
import { startServed, underTraffic } from "./traffic.js";

const etcdData = join(folders.run, "etcd");

export async function lifeCycleTests(t: Test, cluster: Cluster): Promise<void> {
	const pods = await startServed(cluster);
	const undisturbed = (t: Test, disturb: () => Promise<unknown>): Promise<void> =>
		underTraffic(t, cluster, pods, disturb);

	await t.test("an agent runs out of memory under traffic, and nothing is lost", async (t) => {
		const node = cluster.node("n2");
		await undisturbed(t, async () => {
			await exhaust(node);
			await until("its container was started again", () => outOfMemory(cluster, "n2"), 60_000);
			await rollOut(cluster, "status");
			await until("its agent is ready", async () => (await statusOf(node)).ready, 60_000);
		});
	});

	await t.test("the agents get a new image under traffic, and nothing is lost", async (t) => {
		const next = imageName().replace(/:.*/, ":next");
		for (const node of cluster.nodes)
			await node.run(["ctr", "-n", "k8s.io", "images", "tag", "--force", imageName(), next]);
		await undisturbed(t, async () => {
			const set = ["set", "image", "daemonset/fairway", `*=${next}`];
			await cluster.kubectl("-n", "kube-system", ...set);
			await rollOut(cluster, "status");
			await cluster.kubectl("-n", "kube-system", "rollout", "undo", "daemonset/fairway");
			await rollOut(cluster, "status");
		});
	});

	await t.test("etcd is restored from an older copy under the whole cluster", async (t) => {
		const { controlPlane } = cluster;
		const copy = `${etcdData}.copy`;
		await controlPlane.stop("api-server");
		await controlPlane.stop("etcd");
		cpSync(etcdData, copy, { recursive: true });
		controlPlane.start("etcd");
		controlPlane.start("api-server");
		await controlPlane.answers();
		await startDeployment(cluster, "forgotten", 6);
		const forgotten = await readyPods(cluster, "forgotten", 6);
		await undisturbed(t, async () => {
			await controlPlane.stop("api-server");
			await controlPlane.stop("etcd");
			rmSync(etcdData, { recursive: true });
			cpSync(copy, etcdData, { recursive: true });
			controlPlane.start("etcd");
			controlPlane.start("api-server");
			await controlPlane.answers();
			// They keep resource versions of the time that never was, as everything that watches.
			for (const part of ["controller-manager", "scheduler"] as const) {
				await controlPlane.stop(part);
				controlPlane.start(part);
			}
			for (const node of cluster.nodes) await node.restart("kubelet");
			await startDeployment(cluster, "after-restore", 6);
			await readyPods(cluster, "after-restore", 6);
		});
		const after = await readyPods(cluster, "after-restore", 6);
		t.strictSame(await unreachable([...pods, ...after.slice(0, 3)]), []);
		for (const node of cluster.nodes) {
			const { sources } = await statusOf(node);
			t.ok(
				sources.every(({ synced, stale }) => synced && !stale),
				`the sources of ${node.name} are in force`,
			);
		}
		await until("the Pods that nobody remembers have ended", async () => {
			const left = await addressesOfPods(cluster);
			return !forgotten.some(({ addresses }) => left.has(addresses[0]!));
		});
		await cluster.kubectl("-n", testNamespace, "delete", "deployment", "after-restore");
	});

	await t.test(
		"kubectl delete leaves forwarding on, and a cleanup removes everything",
		async (t) => {
			await undisturbed(t, async () => {
				await cluster.kubectl("delete", "-f", manifest, "--wait=true");
				await until("no agent runs", async () => (await agentPods(cluster)).length === 0, 60_000);
			});
			await cluster.kubectl("delete", "namespace", testNamespace, "--wait=false");
			await cluster.apply(cleanupManifest);
			const wait = ["rollout", "status", "daemonset/fairway-cleanup", "--timeout=120s"];
			await cluster.kubectl("-n", "kube-system", ...wait);
			for (const node of cluster.nodes) t.strictSame(await leftOn(node), [], node.name);
			await cluster.kubectl("delete", "-f", cleanupManifest);
		},
	);
}

/** IPv4 addresses of the Pods that run on the Nodes, by their interfaces. */
async function addressesOfPods(cluster: Cluster): Promise<Set<string>> {
	const all = await Promise.all(
		cluster.nodes.map((node) =>
			node.script(
				'for file in /run/netns/*; do nsenter --net="$file" ip -4 -o address show dev eth0; done',
				{ mayFail: true },
			),
		),
	);
	const found = all.flatMap(({ stdout }) => stdout.match(/(?<=inet )[\d.]+/g) ?? []);
	return new Set(found);
}

/** Takes a container's memory away, so that the kernel ends what runs in it. */
async function exhaust(node: KubernetesNode): Promise<void> {
	await node.script(`
		pid=$(pgrep -f '[a]gent --node-name ${node.name}' | head -n 1)
		cgroup=/sys/fs/cgroup/memory$(sed -n 's/.*:memory://p' /proc/$pid/cgroup)
		[ -d "$cgroup" ] || cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
		if [ -e "$cgroup/memory.max" ]; then
			echo 1M > "$cgroup/memory.max"
			exit
		fi
		# Version 1 refuses a limit below what is in use: down to there, and the next allocation is too much.
		limit=$(cat "$cgroup/memory.usage_in_bytes")
		while echo "$limit" > "$cgroup/memory.limit_in_bytes"; do limit=$((limit - 1048576)); done 2> /dev/null
		while kill -0 "$pid" 2> /dev/null; do
			curl -sS --max-time 1 --unix-socket /run/fairway/agent.sock http://agent/peers > /dev/null || true
		done`);
}

/** True once the kernel has ended the container of a Node's agent for its memory, and another one runs. */
async function outOfMemory(cluster: Cluster, node: string): Promise<boolean> {
	interface PodObject {
		status: {
			containerStatuses: {
				ready: boolean;
				lastState: { terminated?: { reason: string; exitCode: number } };
			}[];
		};
	}
	const name = (await agentPods(cluster)).find((pod) => pod.node === node)?.name ?? "none";
	const { status } = await cluster.get<PodObject>("-n", "kube-system", "pod", name);
	return status.containerStatuses.some(
		({ ready, lastState }) => ready && lastState.terminated?.exitCode === 137,
	);
}

/** What Fairway should not have left. */
async function leftOn(node: KubernetesNode): Promise<string[]> {
	const { stdout } = await node.script(`
		ip -o link | grep -o 'fairway[^:@ ]*' || true
		ip route show table all protocol 170
		ip -6 route show table all protocol 170
		bpftool prog show | grep -o 'name fairway.*' || true
		ls -d /sys/fs/bpf/fairway /etc/cni/net.d/05-fairway.conflist /opt/cni/bin/fairway-cni 2> /dev/null || true
		tc filter show dev eth0 ingress
		tc filter show dev eth0 egress
		cat /proc/sys/net/ipv4/ip_local_reserved_ports`);
	return stdout.split("\n").filter((line) => line.trim() !== "");
}
