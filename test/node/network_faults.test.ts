/**
 * Faults of the network: a peer's MAC changes, a link goes down and up. Fairway may not lose more than the
 * kernel's own packets between the Nodes.
 *
 *   pod1a                pod2a               pod3a
 *   node1                node2               node3
 *     └────── net1 ────────┘                   └ net2
 *               └──────────── router ────────────┘
 */
import t from "tap";
import { until } from "../../src/lab/until.js";
import { type Cluster, startCluster } from "../tools/cluster.js";
import { type Loss, Streams } from "../tools/streams.js";

/** Allowed loss beyond the kernel's own: packets in flight, at 1,000 a second. */
const UNDER_WAY = 60;

async function lossBeside(
	cluster: Cluster,
	act: (streams: Streams) => Promise<void>,
): Promise<{ ours: Loss[]; kernel: Loss[] }> {
	const kernel = await Streams.start(cluster, [["node1", "node2", 4]]);
	const streams = await Streams.start(cluster, [
		["pod1a", "pod2a", 4],
		["pod1a", "pod2a", 6],
	]);
	await act(streams);
	await streams.goOn(300);
	await kernel.goOn(300);
	return { ours: await streams.stop(), kernel: await kernel.stop() };
}

t.test("network faults", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
	const { lab } = cluster;
	await cluster.serve("node2", "pod2a", "pod3a");

	t.test("a peer's MAC changes", async (t) => {
		for (const mac of ["02:00:00:00:02:01", "02:00:00:00:02:02"]) {
			const { ours, kernel } = await lossBeside(cluster, async () => {
				await lab.namespace("node2").script(`
					ip link set dev eth0 address ${mac}
					# It must resolve its neighbours again, and so announces its new address.
					ip neigh flush dev eth0
					ping -n -q -c1 -W2 ${lab.address("node1", 4)} || true
					ping -n -q -c1 -W2 ${lab.address("node1", 6)} || true
				`);
			});
			const lost = kernel[0]?.lost ?? 0;
			for (const { what, lost: own, sent } of ours.filter(({ what }) => what.endsWith("IPv4")))
				t.ok(own <= lost + UNDER_WAY, `${what}: ${own} of ${sent} lost, the kernel ${lost}`);
		}
	});

	t.test("a cable is pulled and put back", async (t) => {
		const port = (state: "up" | "down") =>
			lab.run("net1", ["ip", "link", "set", "dev", "node2", state]);
		const { ours, kernel } = await lossBeside(cluster, async (streams) => {
			await port("down");
			await until("node1 sees that node2 is silent", async () => {
				const { stdout } = await lab.run("node1", ["ping", "-c1", "-W1", lab.address("node2", 4)], {
					mayFail: true,
				});
				return stdout.includes(" 0 received");
			});
			await port("up");
			await streams.goOn(300, 30_000);
		});
		const lost = kernel[0]?.lost ?? 0;
		for (const { what, lost: own, sent } of ours)
			t.ok(own <= lost + 2000, `${what}: ${own} of ${sent} lost, the kernel ${lost}`);
		t.ok(lost > 0, "the cable was really pulled");
	});

	t.test("a Node's interface goes down and up again", async (t) => {
		const before = await lab.agent("node2").status();
		await lab.namespace("node2").script(`
			ip link set dev eth0 down
			ip link set dev eth0 up
			ip address replace ${lab.topology.nodes[1]?.addresses[1]} dev eth0 nodad
			ip route replace default via 192.168.1.254
			ip -6 route replace default via fd00:192:168:1::fe
		`);
		for (const [from, to] of [
			["pod1a", "pod2a"],
			["pod2a", "pod3a"],
			["pod2a", "outside"],
		] as const)
			for (const family of [4, 6] as const) {
				await until(
					`${from} → ${to}, IPv${family}`,
					async () => (await cluster.ping(from, to, family)).includes(" 3 received"),
					20_000,
				);
				t.pass(`${from} → ${to}, IPv${family}`);
			}
		await cluster.settled();
		const after = await lab.agent("node2").status();
		t.equal(after.xdp, before.xdp);
		t.same(after.problems, []);
	});
	t.end();
});
