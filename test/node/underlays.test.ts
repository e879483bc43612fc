/**
 * Unusual underlays: one family only, veth pairs that do not behave like a wire, jumbo frames. And each XDP
 * mode.
 *
 *   pod1a        pod2a               pod3a
 *   node1        node2               node3
 *     └─── net1 ───┘                   └ net2
 *            └──────────── router ───────┘
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { familyOf } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { Capture } from "../tools/capture.js";
import { OVERHEAD, startCluster } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { wirePackets } from "../tools/wire.js";

const PAIRS = [
	["pod1a", "pod2a"],
	["pod1a", "pod3a"],
	["pod3a", "pod1a"],
] as const;
const TRAFFIC = { tcpBytes: 500_000, sizes: [1, 1372, 1400, 1473, 9000, 40_000] };

/** Removes one family's InternalIPs, and with them the outside host, from the manifests. */
function only(family: 4 | 6): (directory: string) => void {
	return (directory) => {
		const file = join(directory, "nodes.yaml");
		const other = family === 4 ? /fd00:\S+/ : /192\.\S+/;
		const address = new RegExp(`    - type: InternalIP\n      address: ${other.source}\n`, "g");
		writeFileSync(file, readFileSync(file, "utf8").replace(address, ""));
	};
}

for (const family of [4, 6] as const)
	t.test(`IPv${family} only between Nodes, Pods with both`, async (t) => {
		const cluster = await startCluster(t, { trafficEncapMode: "encap" }, only(family));
		await cluster.serve(...new Set(PAIRS.map(([, to]) => to)));
		for (const tunnelType of ["geneve", "vxlan"] as const) {
			await cluster.configure({ trafficEncapMode: "encap", tunnelType });
			const capture = await Capture.start(cluster.lab, "node3");
			t.teardown(() => capture.remove());
			for (const [from, to] of PAIRS) await exchange(t, cluster, from, to, TRAFFIC);
			await capture.stop();
			const packets = await wirePackets(capture.file);
			const tunnelled = packets.flatMap(({ outer, tunnel }) => (tunnel ? [{ outer, tunnel }] : []));
			const families = (addresses: string[]): number[] =>
				[...new Set(addresses.map(familyOf))].sort();
			t.same(families(tunnelled.map(({ outer }) => outer.source)), [family], "outer");
			t.same(families(tunnelled.map(({ tunnel }) => tunnel.inner.source)), [4, 6], "inner");
			t.same([...new Set(tunnelled.map(({ tunnel }) => tunnel.type))], [tunnelType]);
			t.same(
				packets.filter(({ badChecksums }) => badChecksums.length > 0),
				[],
			);
		}
		const mtus = (await cluster.lab.agent("node1").peers()).map(({ mtu }) => mtu);
		t.same([...new Set(mtus)], [1500 - OVERHEAD[family]]);
	});

t.test("jumbo frames", async (t) => {
	const jumbo = (directory: string): void => {
		const file = join(directory, "lab.yaml");
		writeFileSync(file, readFileSync(file, "utf8").replace('mtu: "1500"', 'mtu: "9000"'));
	};
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", xdp: "native" }, jumbo);
	await cluster.serve(...new Set(PAIRS.map(([, to]) => to)), "outside");
	const sizes = [1, 5000, 8902, 8903, 8972, 9000, 60_000];
	for (const [from, to] of [...PAIRS, ["pod1a", "outside"]] as const)
		await exchange(t, cluster, from, to, { tcpBytes: 3_000_000, sizes });
	const mtus = (await cluster.lab.agent("node1").peers()).map(({ mtu }) => mtu);
	t.same([...new Set(mtus)].sort(), [8930, 8950, 9000]);
	t.equal((await cluster.lab.agent("node1").status()).xdp, "native");
});

t.test("each XDP mode", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", xdp: "native" });
	const { lab } = cluster;
	await cluster.serve(...new Set(PAIRS.map(([, to]) => to)), "outside");
	const wire = async (state: "on" | "off"): Promise<void> => {
		for (const { name, subnet } of lab.topology.nodes)
			await lab
				.namespace(subnet)
				.script(
					`ethtool -K ${name} tx ${state}; ethtool -K ${name} tso ${state} gso ${state} || true`,
				);
	};
	for (const xdp of ["native", "generic", "off", "auto"] as const) {
		for (const tunnelType of ["geneve", "vxlan"] as const) {
			await cluster.configure({ trafficEncapMode: "hybrid", tunnelType, xdp });
			await until(`from_wire is ${xdp}`, async () => {
				const is = (await lab.agent("node3").status()).xdp;
				return is === (xdp === "auto" ? "off" : xdp); // A veth copies each packet for XDP.
			});
			// Like NICs, and like veth pairs: packets of 64 KB with unfinished checksums.
			for (const state of ["off", "on"] as const) {
				await wire(state);
				await t.test(`${xdp}, ${tunnelType}, offloads ${state}`, async (t) => {
					for (const [from, to] of PAIRS) await exchange(t, cluster, from, to, TRAFFIC);
					await exchange(t, cluster, "pod1a", "outside", TRAFFIC);
				});
			}
			await wire("off");
		}
	}
	const { packet_too_big, ...drops } = await cluster.allDrops();
	t.same(drops, {});
});
