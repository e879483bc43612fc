/**
 * Pods untunnelled between subnets, because somebody tells the network where they are: a cloud's route controller
 * or BGP. Fairway tries such peers directly (`hybrid.tryDirectCIDRs`), and proves it.
 */
import type { Test } from "tap";
import type { PeerStatus } from "../../src/api/messages/peers.js";
import { until } from "../../src/lab/until.js";
import { peersOf } from "./agents.js";
import { asnOf, Bird, routerASN } from "./bird.js";
import { kubeconfig } from "./certificates.js";
import type { Cluster } from "./cluster.js";
import { Daemon } from "./daemon.js";
import { configure } from "./fairway.js";
import { controlPlane, type NodePlan, podCIDRs, program, router } from "./layout.js";
import { podCIDRsOf } from "./plain.js";
import { Stream, startOnEveryNode, type TestPod, unreachable } from "./pods.js";

const subnetCIDRs = ["192.168.71.0/24", "192.168.72.0/24", "fd00:71::/64", "fd00:72::/64"];
/** Default of probes.holdTime doubles with each failure. */
const RETURN_MS = 90_000;

/** Waits until the paths between n3 and the other subnet are of this kind, in these families. */
async function across(
	cluster: Cluster,
	path: PeerStatus["path"],
	families: readonly number[] = [4, 6],
	timeoutMs = RETURN_MS,
): Promise<PeerStatus[]> {
	return until(
		`paths to the other subnet are ${path}`,
		async () => {
			const ofNear = (await peersOf(cluster.node("n2"))).filter(({ node }) => node === "n3");
			const ofFar = await peersOf(cluster.node("n3"));
			const all = [...ofNear, ...ofFar].filter(({ family }) => families.includes(family));
			if (all.length > 0 && all.every((peer) => peer.path === path)) return all;
			throw new Error(all.map((one) => `${one.node} v${one.family} ${one.reason}`).join("; "));
		},
		timeoutMs,
	);
}

/** Waits until noEncap says that the paths to the other subnet fail, and what it may be. */
async function saysWhatIsWrong(cluster: Cluster): Promise<void> {
	await until("noEncap says that the path fails, and what it may be", async () => {
		const peers = (await peersOf(cluster.node("n2"))).filter(({ node }) => node === "n3");
		if (peers.every(({ reason }) => /noEncap has nothing to fall back to/.test(reason)))
			return peers.length === 2;
		throw new Error(peers.map(({ path, reason }) => `${path}: ${reason}`).join("; "));
	});
}

export async function routingTests(t: Test, cluster: Cluster): Promise<void> {
	const pods = await startOnEveryNode(cluster, "routing");
	const podOn = (node: string): TestPod => pods.find((pod) => pod.node === node)!;
	const [far4 = "", far6 = ""] = (await podCIDRsOf(cluster)).get("n3") ?? [];
	const tryAll = { tryDirectCIDRs: subnetCIDRs };

	/** Packets of a stream from n2 to n3 that are lost while the path changes. */
	const lostWhile = async (change: () => Promise<unknown>): Promise<number> => {
		const stream = await Stream.start(podOn("n2"), podOn("n3"), 4);
		await change();
		return (await stream.end()).lost;
	};

	await t.test("a cloud's route controller makes paths between subnets routed", async (t) => {
		const command = [
			...["nsenter", `--net=${controlPlane.namespace.path}`, program("routes")],
			...["--kubeconfig", kubeconfig("admin"), "--router", router.path],
			...["--cluster-cidr", podCIDRs.join(",")],
		];
		let controller = new Daemon("routes", command);
		try {
			await configure(cluster, { trafficEncapMode: "hybrid", hybrid: tryAll });
			for (const { reason } of await across(cluster, "routed")) t.match(reason, /routed/);
			t.strictSame(await unreachable(pods), []);
			t.match(await condition(cluster, "n3"), "RouteCreated");

			const lost = await lostWhile(async () => {
				await router.script(`ip route del ${far4}; ip route del ${far6}`);
				await across(cluster, "geneve", [4], 5_000);
			});
			t.ok(lost < 1_500, `the route is withdrawn: ${lost} packets lost of 1,000 a second`);
			await across(cluster, "routed");

			await configure(cluster, { trafficEncapMode: "noEncap", hybrid: tryAll });
			await across(cluster, "routed");
			t.strictSame(await unreachable(pods), []);
			await controller.end();
			await router.script(`ip route del ${far4}; ip route del ${far6}`);
			await saysWhatIsWrong(cluster);
			controller = new Daemon("routes", command);
			await across(cluster, "routed");
			t.strictSame(await unreachable(pods), []);
		} finally {
			await controller.end();
			await router.script("ip route flush protocol 201; ip -6 route flush protocol 201");
			await configure(cluster, { trafficEncapMode: "hybrid", hybrid: {} });
		}
	});

	await t.test(
		"kube-router announces pod CIDRs to a BGP router, and paths are routed",
		async (t) => {
			await across(cluster, "geneve");
			for (const { plan } of cluster.nodes)
				await cluster.kubectl("annotate", "--overwrite", "node", plan.name, ...neighbors(plan));
			const bird = await Bird.start();
			for (const node of cluster.nodes) node.spawn("kube-router", announce(node.name));
			try {
				await bird.established();
				await configure(cluster, { trafficEncapMode: "hybrid", hybrid: tryAll });
				for (const { reason } of await across(cluster, "routed")) t.match(reason, /routed/);
				t.strictSame(await unreachable(pods), []);
				// It makes a bridge and rules, and installs the pod CIDRs that it learns: Fairway's routes win.
				const n2 = cluster.node("n2");
				t.match((await n2.run(["ip", "link", "show", "kube-bridge"])).stdout, "kube-bridge");
				for (const [family, far] of [
					["-4", far4],
					["-6", far6],
				] as const) {
					const { stdout } = await n2.run(["ip", family, "route"]);
					t.match(stdout, `${far} dev fairway0`);
					t.notMatch(stdout, /^(10\.244\.|fd00:10:244:).* via /m);
				}
				for (const { path } of (await peersOf(cluster.node("n1"))).filter(
					({ node }) => node === "n2",
				))
					t.equal(path, "direct");

				const lost = await lostWhile(async () => {
					await bird.sessions("disable", "n3");
					await across(cluster, "geneve", [4, 6], 10_000);
				});
				t.ok(lost < 1_500, `the sessions end: ${lost} packets lost of 1,000 a second`);
				await bird.sessions("enable", "n3");
				await bird.established();
				await across(cluster, "routed");
				t.strictSame(await unreachable(pods), []);

				await configure(cluster, { trafficEncapMode: "noEncap", hybrid: tryAll });
				await across(cluster, "routed");
				t.strictSame(await unreachable(pods), []);
				await bird.sessions("disable", "n3");
				await saysWhatIsWrong(cluster);
				await bird.sessions("enable", "n3");
				await bird.established();
				await across(cluster, "routed");
				t.strictSame(await unreachable(pods), []);
			} finally {
				for (const node of cluster.nodes)
					await node.run(["pkill", "-9", "-x", "kube-router"], { mayFail: true });
				await bird.end();
				await configure(cluster, { trafficEncapMode: "hybrid", hybrid: {} });
			}
		},
	);
}

/** A Node's annotations for kube-router: the router is its neighbour by both families. */
const neighbors = ({ name, subnet, v4, v6 }: NodePlan): string[] => [
	// Its own AS instead of one for all, whose loop prevention would drop the others' pod CIDRs.
	`kube-router.io/node.asn=${asnOf(name)}`,
	`kube-router.io/peer.ips=192.168.${subnet}.1,fd00:${subnet}::1`,
	`kube-router.io/peer.asns=${routerASN},${routerASN}`,
	`kube-router.io/peer.localips=${v4},${v6}`,
];

/** kube-router that does nothing but announce its Node's pod CIDRs, as its documentation says. */
const announce = (node: string): string[] => [
	...["env", `NODE_NAME=${node}`, program("kube-router"), "--kubeconfig", kubeconfig("admin")],
	...["--run-router=true", "--run-firewall=false", "--run-service-proxy=false"],
	...["--enable-ipv6", "--enable-cni=false", "--enable-ibgp=false", "--enable-overlay=false"],
	...["--enable-pod-egress=false", "--nodes-full-mesh=false", "--advertise-cluster-ip=false"],
	...["--advertise-external-ip=false", "--advertise-loadbalancer-ip=false"],
];

/** Reason of the Node's condition NetworkUnavailable. */
async function condition(cluster: Cluster, name: string): Promise<string> {
	interface Node {
		status: { conditions: { type: string; reason: string }[] };
	}
	const { status } = await cluster.get<Node>("node", name);
	return status.conditions.find(({ type }) => type === "NetworkUnavailable")?.reason ?? "none";
}
