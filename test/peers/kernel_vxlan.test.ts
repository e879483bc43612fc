/**
 * node4 is the Linux kernel's vxlan device, with static entries; the others are Fairway.
 *
 *   pod1a        pod3a        pod4a
 *   node1        node3        node4: vxlan4, vxlan6
 *     └ net1 ─ router ─ net2 ───┘
 */
import t from "tap";
import { familyOf } from "../../src/lab/subnet.js";
import { Capture } from "../tools/capture.js";
import { type Cluster, startCluster } from "../tools/cluster.js";
import { frameBytes } from "../tools/dissect.js";
import { exchange } from "../tools/exchange.js";
import { attachByHand, withoutAgent } from "../tools/foreign_node.js";
import { wirePackets } from "../tools/wire.js";

const TRAFFIC = { tcpBytes: 3_000_000, sizes: [1, 100, 1300, 1372, 1473, 9000, 60_000] };

t.test("the kernel's vxlan device as a peer", async (t) => {
	const settings = { trafficEncapMode: "encap", tunnelType: "vxlan", tunnelVNI: 77 } as const;
	const cluster = await startCluster(t, settings, withoutAgent("node4"));
	await attachByHand(cluster.lab, "node4");
	await makeVxlan(cluster);
	await cluster.serve("pod1a", "pod3a", "pod4a");
	const capture = await Capture.start(cluster.lab, "node4");
	t.teardown(() => capture.remove());
	for (const [from, to] of [
		["pod1a", "pod4a"],
		["pod4a", "pod1a"],
		["pod3a", "pod4a"],
		["pod4a", "pod3a"],
	] as const)
		await exchange(t, cluster, from, to, TRAFFIC);
	await capture.stop();
	const packets = await wirePackets(capture.file);
	const tunnelled = packets.filter(({ tunnel }) => tunnel !== undefined);
	t.ok(tunnelled.length > 2000, `${tunnelled.length} tunnel packets`);
	const bad = packets.filter(({ badChecksums }) => badChecksums.length > 0);
	for (const { number } of bad) t.comment(await frameBytes(capture.file, number));
	t.same(bad, []);
	const { stdout } = await cluster.lab.run("pod4a", ["nstat", "-az", "TcpInCsumErrors"]);
	t.match(stdout, /TcpInCsumErrors +0 /, "the receiver's own verdict");
	t.same(
		[...new Set(tunnelled.map(({ tunnel }) => `${tunnel?.type} ${tunnel?.vni}`))],
		["vxlan 77"],
	);
	const { packet_too_big, ...drops } = await cluster.allDrops();
	t.same(drops, {});
});

/** One device for each outer family. Fairway Nodes accept any unicast MAC as inner destination. */
async function makeVxlan({ lab }: Cluster): Promise<void> {
	const script: string[] = [];
	for (const family of [4, 6] as const)
		script.push(
			`ip link add name vxlan${family} type vxlan id 77 dstport 4789 nolearning noudpcsum \
				udp6zerocsumrx udp6zerocsumtx local ${lab.address("node4", family)}`,
			// The MAC that Fairway sends to.
			`ip link set dev vxlan${family} address 02:fa:1c:00:00:01 mtu 1430 up`,
		);
	for (const [i, { name, podCIDRs }] of lab.topology.nodes.entries()) {
		if (name === "node4") continue;
		const mac = `02:00:00:00:44:0${i}`;
		for (const cidr of podCIDRs) {
			const family = familyOf(cidr);
			const via = family === 4 ? `169.254.44.${i + 1}` : `fe80::44:${i + 1}`;
			const device = `vxlan${family}`;
			script.push(
				`bridge fdb replace ${mac} dev ${device} dst ${lab.address(name, family)}`,
				`ip -${family} neigh replace ${via} lladdr ${mac} dev ${device} nud permanent`,
				`ip -${family} route add ${cidr} via ${via} dev ${device} onlink`,
			);
		}
	}
	await lab.namespace("node4").script(script.join("\n"));
}
