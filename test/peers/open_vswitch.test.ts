/**
 * node4 is Open vSwitch, userspace datapath, Geneve; the others are Fairway.
 *
 *   pod1a        pod3a        pod4a
 *   node1        node3        node4: br-int, geneve0, br-ext
 *     └ net1 ─ router ─ net2 ───┘
 */
import t from "tap";
import { until } from "../../src/lab/until.js";
import { Capture } from "../tools/capture.js";
import { startCluster } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { attachByHand, withoutAgent } from "../tools/foreign_node.js";
import { OpenVSwitch } from "../tools/open_vswitch.js";
import { wirePackets } from "../tools/wire.js";

const VNI = 5;
const TRAFFIC = { tcpBytes: 1_000_000, sizes: [1, 100, 1300, 1372, 1473, 9000, 30_000] };

t.test("Open vSwitch as a peer", async (t) => {
	const settings = { trafficEncapMode: "encap", tunnelType: "geneve", tunnelVNI: VNI } as const;
	const cluster = await startCluster(t, settings, withoutAgent("node4"));
	await attachByHand(cluster.lab, "node4");
	const ovs = await OpenVSwitch.start(cluster.lab, "node4", VNI);
	t.teardown(() => ovs.remove());
	await cluster.serve("pod1a", "pod3a", "pod4a");
	const capture = await Capture.start(cluster.lab, "node3");
	t.teardown(() => capture.remove());
	for (const [from, to] of [
		["pod1a", "pod4a"],
		["pod4a", "pod1a"],
		["pod3a", "pod4a"],
		["pod4a", "pod3a"],
	] as const) {
		// OVS drops packets until it knows the next hop's MAC.
		for (const family of [4, 6] as const)
			await until(`${from} → ${to}, IPv${family}`, async () =>
				(await cluster.ping(from, to, family)).includes(" 3 received"),
			);
		await exchange(t, cluster, from, to, TRAFFIC);
	}
	await capture.stop();
	const packets = await wirePackets(capture.file);
	const tunnelled = packets.filter(({ tunnel }) => tunnel !== undefined);
	t.ok(tunnelled.length > 500, `${tunnelled.length} tunnel packets from OVS`);
	t.same(
		[...new Set(tunnelled.map(({ tunnel }) => `${tunnel?.type} ${tunnel?.vni}`))],
		["geneve 5"],
	);
	const { packet_too_big, ...drops } = await cluster.allDrops();
	t.same(drops, {});
});
