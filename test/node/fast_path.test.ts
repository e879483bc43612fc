/**
 * Streams on the fast path while the state that they depend on changes: the path to the peer, the SNAT rules,
 * the MAC of a peer and of the gateway.
 *
 *   pod1a            pod2a             pod3a
 *   node1            node2             node3
 *     └───── net1 ─────┘                 └ net2
 *              └─────────── router ─────────┘
 *                             │
 *                          outside
 */
import t from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, UDP_PORT } from "../tools/cluster.js";
import { lossy, Streams } from "../tools/streams.js";

const FAMILIES = [4, 6] as const;
/** A direct peer, a tunnelled one, the outside. */
const FAR = ["pod2a", "pod3a", "outside"] as const;
const PAIRS = FAR.flatMap((to) => FAMILIES.map((family) => ["pod1a", to, family] as const));
/** More than half a second: NEXT_HOP_TRUST_MS is over, and no cache entry is older. */
const A_WHILE = 200;

t.test("known flows and what they depend on", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", tunnelType: "geneve" });
	const { lab } = cluster;
	await cluster.serve(...FAR);
	// Untranslated Pods get answers as well.
	await lab.underlay.setRouterKnowsPods(true);

	t.test("another path under a stream: nothing is lost", async (t) => {
		const streams = await Streams.start(cluster, PAIRS, 300);
		for (const settings of [
			{ trafficEncapMode: "encap", tunnelType: "vxlan" },
			{ trafficEncapMode: "encap", tunnelType: "geneve", tunnelPort: 7000 },
			{ trafficEncapMode: "noEncap" },
			{ trafficEncapMode: "hybrid", tunnelType: "geneve" },
		] as const) {
			await cluster.configure(settings);
			const sent = await cluster.lab.agent("node1").peers();
			await streams.goOn(A_WHILE);
			for (const { node, family, path, packets } of await lab.agent("node1").peers()) {
				const way = path === "geneve" || path === "vxlan" ? "tunnel" : "direct";
				const before = sent.find((peer) => peer.node === node && peer.family === family);
				const more = packets[way] - (before?.packets[way] ?? 0);
				if (node !== "node4") t.ok(more >= A_WHILE, `${more} ${path} to ${node}, IPv${family}`);
			}
		}
		t.same(lossy(await streams.stop()), []);
	});

	t.test("changed SNAT rules: streams keep their source, new flows do not", async (t) => {
		const station = await lab.station("pod1a");
		const streams = await Streams.start(
			cluster,
			PAIRS.filter(([, to]) => to === "outside"),
			300,
		);
		const excludeCIDRs = ["203.0.113.0/24", "2001:db8:113::/64"];
		for (const [snat, expected] of [
			[{ portRange: "61000-61099" }, "node1"],
			[{ excludeCIDRs }, "pod1a"],
			[{}, "node1"],
		] as const) {
			await cluster.configure({ ...cluster.settings, snat });
			for (const family of FAMILIES)
				await until(`a new flow comes from ${expected}`, async () => {
					const host = lab.address("outside", family);
					const { address, port } = await station.order("udpWho", { host, port: UDP_PORT });
					const inRange = !("portRange" in snat) || (port >= 61000 && port <= 61099);
					return address === lab.address(expected, family) && inRange;
				});
			await streams.goOn(A_WHILE);
		}
		const results = await streams.stop();
		t.same(lossy(results), []);
		for (const { what, senders } of results) t.equal(senders.length, 1, `${what}: ${senders}`);
	});

	t.test("new MACs of peer and gateway without an agent: streams recover", async (t) => {
		const streams = await Streams.start(cluster, PAIRS, 300);
		await lab.agent("node1").stop("SIGKILL");
		for (const [machine, device, mac] of [
			["node2", "eth0", "02:00:00:00:02:01"],
			["router", "net1", "02:00:00:00:02:fe"],
		] as const) {
			await lab.namespace(machine).script(`
				ip link set dev ${device} address ${mac}
				# It must resolve its neighbours again, and so announces its new address.
				ip neigh flush dev ${device}
				ping -n -q -c1 -W2 ${lab.address("node1", 4)} || true
				ping -n -q -c1 -W2 ${lab.address("node1", 6)} || true
			`);
			await streams.goOn(A_WHILE);
			t.pass(machine);
		}
		const { stdout } = await lab.run("node1", ["ip", "neigh", "show", "nud", "permanent"]);
		t.notMatch(stdout, "eth0", "no entry was made by hand");
		await streams.stop();
	});
	t.end();
});
