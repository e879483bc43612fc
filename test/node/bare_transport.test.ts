/**
 * Nodes whose transport interface has no Ethernet header, as WireGuard's has none: a tun device from
 * one to the other.
 *
 *   pod1a ─ node1 ─ tun9 10.9.0.1 ════ 10.9.0.2 tun9 ─ node2 ─ pod2a
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { until } from "../../src/lab/until.js";
import { type Settings, startCluster } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { tunPair } from "../tools/side_network.js";

const ADDRESSES = { node1: "10.9.0.1", node2: "10.9.0.2" };
const TRAFFIC = { tcpBytes: 2_000_000, sizes: [1, 1372, 1400, 1473, 9000, 40_000] };
const PAIRS = [
	["pod1a", "pod2a"],
	["pod2a", "pod1b"],
] as const;

t.test("a transport without Ethernet", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "encap" });
	const { lab } = cluster;
	await tunPair(t, [lab.namespace("node1"), "tun9"], [lab.namespace("node2"), "tun9"]);
	const manifest = join(lab.manifests, "nodes.yaml");
	let nodes = readFileSync(manifest, "utf8");
	for (const [node, address] of Object.entries(ADDRESSES)) {
		await lab.namespace(node).script(`ip link set tun9 mtu 1500 up
			ip address add ${address}/30 dev tun9`);
		const known = `  annotations:\n    fairway.dev/transport-addresses: ${address}\n`;
		nodes = nodes.replace(`  name: ${node}\n`, `  name: ${node}\n${known}`);
	}
	writeFileSync(manifest, nodes);
	await cluster.serve(...new Set(PAIRS.map(([, to]) => to)));

	for (const [settings, path] of [
		[{ trafficEncapMode: "encap", tunnelType: "geneve" }, "geneve"],
		[{ trafficEncapMode: "encap", tunnelType: "vxlan" }, "vxlan"],
		[{ trafficEncapMode: "hybrid" }, "direct"],
	] as const satisfies [Settings, string][])
		t.test(path, async (t) => {
			writeFileSync(lab.config, JSON.stringify({ ...settings, transportInterface: "tun9" }));
			for (const [node, address] of Object.entries(ADDRESSES)) {
				const agent = lab.agent(node);
				await until(`${node} by tun9, ${path}`, async () => {
					const { transport, mode } = await agent.status();
					const peers = (await agent.peers()).filter((peer) => peer.node in ADDRESSES);
					return (
						transport.interface === "tun9" &&
						transport.addresses[0] === address &&
						mode === settings.trafficEncapMode &&
						peers.some((peer) => peer.family === 4 && peer.path === path)
					);
				});
			}
			for (const [from, to] of PAIRS) await exchange(t, cluster, from, to, TRAFFIC);
		});
});
