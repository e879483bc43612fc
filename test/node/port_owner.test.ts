/**
 * A container that netfilter masquerades and a Pod share the Node's address: from the same source port to
 * the same server, each has a port of the Node's of its own, and gets its own answers.
 *
 *   pod1a ────────────┐ SNAT by Fairway
 *                   node1 ─ net1 ─ router ─ outside
 *   container ─ br9 ──┘ masquerade
 */
import t from "tap";
import { Namespace } from "../../src/lab/namespace.js";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { addSideNetwork } from "../tools/side_network.js";

const MASQUERADE = `table inet containers {
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr 172.30.0.0/24 oifname "eth0" masquerade
		ip6 saddr fd00:172:30::/64 oifname "eth0" masquerade
	}
}
`;

t.test("a Pod and a container on the same source port to the same server", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	const container = await addSideNetwork(t, lab, "node1", {
		kind: "bridge",
		device: "br9",
		node: { 4: "172.30.0.1/24", 6: "fd00:172:30::1/64" },
		host: { 4: "172.30.0.2/24", 6: "fd00:172:30::2/64" },
	});
	await lab.run("node1", ["nft", "-f", "-"], { input: MASQUERADE });
	await cluster.serve("outside");
	const sides = {
		Pod: { station: await lab.station("pod1a"), namespace: lab.namespace("pod1a") },
		container: { station: container, namespace: new Namespace(`${lab.name}-br9`) },
	};
	let localPort = 55_000;

	for (const family of [4, 6] as const)
		for (const [one, other] of [
			["container", "Pod"],
			["Pod", "container"],
		] as const)
			t.test(`IPv${family}, the ${one} first`, async (t) => {
				const [first, second] = [sides[one], sides[other]];
				const host = lab.address("outside", family);
				const node = lab.address("node1", family);

				const udp = { host, port: UDP_PORT, localPort: ++localPort };
				const { stream } = await first.station.order("udpStream", { ...udp, rate: 200 });
				await until(
					"the first answers",
					async () => (await first.station.order("udpEcho", { stream })).received > 0,
				);
				const seen = await second.station.order("udpWho", udp);
				t.equal(seen.address, node, "UDP: the server sees the Node");
				t.not(seen.port, localPort, "UDP: the second has another port");
				const before = await first.station.order("udpEcho", { stream });
				const after = await until("more answers for the first", async () => {
					const now = await first.station.order("udpEcho", { stream });
					return now.received > before.received + 20 ? now : undefined;
				});
				t.same(after.missing, [], "UDP: the first has all its answers");
				await first.station.order("udpStop", { stream });

				const tcp = { host, port: TCP_PORT, localPort: ++localPort, bytes: 1_000_000 };
				const slow = first.station.order("tcpSend", { ...tcp, seed: 1, rate: 500_000 });
				await until("the first connection", async () => {
					const connected = ["ss", "-Htn", "state", "established", "sport", "=", `:${localPort}`];
					return (await first.namespace.run(connected)).stdout !== "";
				});
				const quick = await second.station.order("tcpSend", { ...tcp, seed: 2 });
				t.match(quick, { whole: true, address: node }, "TCP: the second is whole");
				t.not(quick.port, localPort, "TCP: the second has another port");
				t.match(
					await slow,
					{ whole: true, address: node, port: localPort },
					"TCP: so is the first",
				);
			});
});
