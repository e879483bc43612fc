/**
 * What policies forbid reaches no Pod, from the first packet of its life to the last: while a Node reboots, agents are
 * replaced, and Fairway is removed and installed again. The kernel of each Pod counts.
 *
 *   intruder on every Node ── UDP 9999 ──→ guarded (ingress isolated), open, on n3
 *   muzzled (egress isolated) ── UDP 8081 ──→ guarded, open, on every Node
 *
 * They send without a pause to all addresses that new Pods may get. In an open Pod, where nobody listens on 9999, the
 * intruders' packets count as "NoPorts", and those of muzzled Pods as "InDatagrams".
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Test } from "tap";
import { parse } from "yaml";
import { until } from "../../src/lab/until.js";
import { settled, statusOf } from "./agents.js";
import type { Cluster } from "./cluster.js";
import { agentPods, cleanupManifest, manifest, rollOut, startFairway } from "./fairway.js";
import { podCIDRsOf } from "./plain.js";
import {
	agnhost,
	daemonSet,
	makeNamespace,
	podSpec,
	readyPods,
	type TestPod,
	testNamespace,
} from "./pods.js";

const apps = ["guarded", "open", "intruder", "muzzled"] as const;
type App = (typeof apps)[number];
const BOOT_MS = 180_000;
/** New Pods get the first free addresses of their Node's pod CIDRs. */
const ADDRESSES = 16;

/** Packets that a Pod got, by family. */
interface Counts {
	/** Of intruders. */
	noPorts: { v4: number; v6: number };
	/** Of muzzled Pods. */
	datagrams: { v4: number; v6: number };
	sent: { v4: number; v6: number };
}

export async function forbiddenTests(t: Test, cluster: Cluster): Promise<void> {
	await makeNamespace(cluster);
	const receivers = [daemonSet("guarded"), daemonSet("open")];
	await cluster.apply(receivers);

	const podsOf = async (app: App): Promise<TestPod[]> =>
		(await readyPods(cluster, app, cluster.nodes.length, BOOT_MS)).toSorted((a, b) =>
			a.node < b.node ? -1 : 1,
		);
	const senders = sendersTo(await podCIDRsOf(cluster), [
		...(await podsOf("guarded")),
		...(await podsOf("open")),
	]);
	await cluster.apply(senders);
	const countsOf = async (app: App): Promise<Counts[]> =>
		Promise.all((await podsOf(app)).map(counts));
	/** What guarded Pods got of intruders, and open ones of muzzled, by Node and family. */
	const forbidden = async () => ({
		guarded: (await countsOf("guarded")).map(({ noPorts }) => noPorts),
		open: (await countsOf("open")).map(({ datagrams }) => datagrams),
	});
	/** All of them send, and to addresses that the Pods of n3 have: else nothing is shown. */
	const isShown = (): Promise<unknown> =>
		until(
			"open Pods get the packets of intruders, and muzzled Pods send",
			async () => {
				const got = [(await countsOf("open"))[2]!.noPorts];
				const sent = (await countsOf("muzzled")).map((one) => one.sent);
				const all = [...got, ...sent].flatMap(({ v4, v6 }) => [v4, v6]);
				if (all.every((number) => number > 100)) return true;
				throw new Error(JSON.stringify({ got, sent }));
			},
			BOOT_MS,
		);

	await t.test("without policies all packets arrive", async () => {
		await isShown();
		await until("guarded Pods get packets of intruders, and open ones of muzzled", async () => {
			const { guarded, open } = await forbidden();
			return [guarded[2]!, ...open].every(({ v4, v6 }) => v4 > 100 && v6 > 100);
		});
	});

	await t.test("a Node reboots under policies", async (t) => {
		await cluster.apply(policies);
		const before = await steady(forbidden);
		const rebooted = Date.now();
		await cluster.node("n3").reboot();
		await until(
			"its agent is ready",
			async () => (await statusOf(cluster.node("n3"))).ready,
			BOOT_MS,
		);
		for (const app of apps)
			await until(
				`the Pod ${app} runs again`,
				async () => (await podsOf(app))[2]!.startedAt > rebooted,
				BOOT_MS,
			);
		await isShown();
		const after = await forbidden();
		t.strictSame(after.guarded[2], none, "new Pods that are isolated got nothing from intruders");
		t.strictSame(after.open[2], none, "new Pods got nothing from Pods that may not send");
		for (const at of [0, 1]) t.strictSame(after.open[at], before.open[at], "nor did the others");
	});

	await t.test("agents are replaced under policies", async (t) => {
		const before = await forbidden();
		await rollOut(cluster, "restart");
		await rollOut(cluster, "status");
		t.strictSame(await forbidden(), before);
	});

	await t.test("Fairway is removed and installed again while policies exist", async (t) => {
		const before = await forbidden();
		interface ConfigMap {
			data: Record<string, string>;
		}
		const { data } = await cluster.get<ConfigMap>(
			...["-n", "kube-system", "configmap", "fairway-config"],
		);
		await cluster.kubectl("delete", "-f", manifest, "--wait=true");
		await until("no agent runs", async () => (await agentPods(cluster)).length === 0, 60_000);
		t.strictSame(await forbidden(), before, "without agents");
		await cluster.kubectl("-n", testNamespace, "delete", "daemonset", ...apps);
		await cluster.apply(cleanupManifest);
		const wait = ["rollout", "status", "daemonset/fairway-cleanup", "--timeout=120s"];
		await cluster.kubectl("-n", "kube-system", ...wait);
		await cluster.kubectl("delete", "-f", cleanupManifest, "--wait=true");

		await cluster.apply([...receivers, ...senders]);
		await startFairway(cluster, parse(data["fairway.yaml"]!));
		await isShown();
		const after = await forbidden();
		t.strictSame(
			[...after.guarded, ...after.open],
			cluster.nodes.flatMap(() => [none, none]),
			"no Pod got a forbidden packet",
		);
		await settled(cluster, "hybrid");
		// It has no network since the removal.
		await cluster.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns");
		await cluster.startDns();
	});
	await cluster.kubectl("-n", testNamespace, "delete", "daemonset", ...apps);
	await cluster.kubectl("-n", testNamespace, "delete", "networkpolicy", "guarded", "muzzled");
}

const none = { v4: 0, v6: 0 };

/** Reads until two readings, a second apart, are equal: the policies are in force. */
async function steady<T>(read: () => Promise<T>): Promise<T> {
	return until("nothing more arrives", async () => {
		const first = await read();
		await delay(1000);
		const second = await read();
		return JSON.stringify(first) === JSON.stringify(second) ? second : undefined;
	});
}

/** Of a Pod's network namespace, since it was made. */
async function counts(pod: TestPod): Promise<Counts> {
	const { stdout } = await pod.run(["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
	const [names = "", values = ""] = stdout.match(/^Udp: .*$/gm) ?? [];
	const v4 = (name: string): number => Number(values.split(" ")[names.split(" ").indexOf(name)]);
	const v6 = (name: string): number =>
		Number(new RegExp(`^Udp6${name}\\s+(\\d+)`, "m").exec(stdout)?.[1]);
	const both = (name: string) => ({ v4: v4(name), v6: v6(name) });
	return {
		noPorts: both("NoPorts"),
		datagrams: both("InDatagrams"),
		sent: both("OutDatagrams"),
	};
}

/** DaemonSets that send to these Pods, and to the first addresses of the Nodes' pod CIDRs. */
function sendersTo(
	podCIDRs: ReadonlyMap<string, readonly string[]>,
	pods: readonly TestPod[],
): object[] {
	const addresses = (node: string): string[] => [
		...pods.filter((pod) => pod.node === node).flatMap((pod) => pod.addresses),
		...(podCIDRs.get(node) ?? []).flatMap(firstAddresses),
	];
	const all = [...podCIDRs.keys()].flatMap(addresses);
	return [
		daemonSet("intruder", sender(addresses("n3"), 9999, 0.02)),
		daemonSet("muzzled", sender(all, 8081, 0.1)),
	];
}

function firstAddresses(cidr: string): string[] {
	const [network = ""] = cidr.split("/");
	return Array.from({ length: ADDRESSES }, (_, at) =>
		network.includes(":")
			? `${network}${(at + 1).toString(16)}`
			: network.replace(/\d+$/, String(at + 1)),
	);
}

/** A Pod that sends a datagram to each of these addresses, from a new port each time, and waits for seconds. */
const sender = (addresses: readonly string[], port: number, pause: number) => ({
	...podSpec(),
	containers: [
		{
			name: "sender",
			image: agnhost,
			command: ["bash", "-c"],
			args: [
				`while true; do
					for address in ${addresses.join(" ")}; do printf x > /dev/udp/$address/${port}; done 2> /dev/null
					sleep ${pause}
				done`,
			],
		},
	],
});

const isolating = (app: App, type: "Ingress" | "Egress"): object => ({
	apiVersion: "networking.k8s.io/v1",
	kind: "NetworkPolicy",
	metadata: { name: app, namespace: testNamespace },
	spec: { podSelector: { matchLabels: { app } }, policyTypes: [type] },
});
const policies = [isolating("guarded", "Ingress"), isolating("muzzled", "Egress")];
