/**
 * The outside is not one device: containers behind a bridge, a second NIC, a VPN, routes with a
 * preferred source, rules, equal routes.
 *
 *   pod1a ─ node1 ─ net1 ─ router ─ outside
 *             ├ virbr9  172.30.0.1   ─ containers 172.30.0.2
 *             ├ eth9    10.99.0.11   ─ storage    10.99.0.5    MTU 1300, no route to anything else
 *             └ tun9    10.8.0.1     ─ VPN        10.8.0.2     no Ethernet header
 */
import t from "tap";
import { echoCommand } from "../../src/lab/echo.js";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { addSideNetwork, type SideNetwork } from "../tools/side_network.js";

const FAMILIES = [4, 6] as const;

const NETWORKS: SideNetwork[] = [
	{
		kind: "bridge",
		device: "virbr9",
		node: { 4: "172.30.0.1/24", 6: "fd00:172:30::1/64" },
		host: { 4: "172.30.0.2/24", 6: "fd00:172:30::2/64" },
		also: ["203.0.113.88", "2001:db8:113::88"],
	},
	{
		kind: "nic",
		device: "eth9",
		node: { 4: "10.99.0.11/24", 6: "fd00:99::11/64" },
		host: { 4: "10.99.0.5/24", 6: "fd00:99::5/64" },
		mtu: 1300,
		also: ["203.0.113.77", "2001:db8:113::77", "203.0.113.88", "2001:db8:113::88"],
	},
	{
		kind: "tun",
		device: "tun9",
		node: { 4: "10.8.0.1/24", 6: "fd00:8::1/64" },
		host: { 4: "10.8.0.2/24", 6: "fd00:8::2/64" },
		mtu: 1400,
		also: ["203.0.113.99", "2001:db8:113::99"],
	},
];

const bare = (address: string): string => address.slice(0, address.indexOf("/"));

t.test("the outside", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	for (const network of NETWORKS) await addSideNetwork(t, lab, "node1", network);
	await cluster.serve("outside");
	const pod = await lab.station("pod1a");
	const node = lab.namespace("node1");
	/** The same over TCP, to an address that is not the server's first. */
	const tcpFrom = async (host: string, more = {}): Promise<string> =>
		until(`a connection to ${host}`, async () => {
			const order = { host, port: TCP_PORT, bytes: 200_000, seed: 3, timeoutMs: 2000, ...more };
			const { whole, address } = await pod.order("tcpSend", order);
			return whole ? address : undefined;
		});
	/** From which address a server sees the Pod, once the agent knows of all devices. */
	const seenFrom = async (host: string, more = {}): Promise<string> =>
		until(
			`an answer from ${host}`,
			async () =>
				(await pod.order("udpWho", { host, port: UDP_PORT, timeoutMs: 300, ...more })).address,
		);

	for (const { kind, device, node: own, host: there, mtu = 1500 } of NETWORKS)
		for (const family of FAMILIES)
			t.test(`${kind}, IPv${family}`, async (t) => {
				const host = bare(there[family]);
				const address = bare(own[family]);
				t.equal(await seenFrom(host), address, "UDP has the device's address");
				const sent = await pod.order("tcpSend", { host, port: TCP_PORT, bytes: 1e6, seed: 1 });
				t.match(sent, { whole: true, address }, "TCP");
				const sizes = [1, mtu - 48, mtu - 20, 1440, 4000, 20_000];
				const exchanged = await pod.order("udpExchange", { host, port: UDP_PORT, sizes, seed: 1 });
				t.match(exchanged, { missing: [], corrupt: [] }, "UDP of all sizes");
				const echo = echoCommand(host, 3);
				t.match((await lab.run("pod1a", echo, { mayFail: true })).stdout, " 3 received", "echo");
				const closed = await pod
					.order("tcpSend", { host, port: 9, bytes: 1, seed: 1 })
					.catch((error: Error) => error.message);
				t.match(closed, /ECONNREFUSED/, "an error comes back, too");
				const answer = await lab.agent("node1").explain({
					source: lab.address("pod1a", family),
					destination: host,
					protocol: "udp",
					destinationPort: UDP_PORT,
				});
				t.match(answer, { path: "outside", device, mtu, snat: { address }, drop: null });
			});

	t.test("the source address that a route prefers", async (t) => {
		await lab.run("router", [
			"ip",
			"route",
			"add",
			"198.51.100.11",
			"via",
			lab.address("node1", 4),
		]);
		const host = lab.address("outside", 4);
		await node.script(`ip address add 198.51.100.11/32 dev eth0
			ip route add ${host} via 192.168.1.254 src 198.51.100.11`);
		await until("the preferred address", async () => (await seenFrom(host)) === "198.51.100.11");
		await node.script(`ip route del ${host}; ip address del 198.51.100.11/32 dev eth0`);
		await until("the Node's own", async () => (await seenFrom(host)) === lab.address("node1", 4));
		t.pass("as it comes and goes");
	});

	t.test("the MTU of a route", async (t) => {
		for (const family of FAMILIES) {
			const host = lab.address("outside", family);
			const [via] = JSON.parse((await node.run(["ip", "-j", "route", "get", host])).stdout) as {
				gateway: string;
			}[];
			await node.run(["ip", "route", "add", host, "via", via?.gateway ?? "", "mtu", "1290"]);
			const tooLong = ["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1300", host];
			await until(`the Pod to be told, IPv${family}`, async () => {
				const { stdout, stderr } = await lab.run("pod1a", tooLong, { mayFail: true });
				return /mtu[ =:]+1290/i.test(stdout + stderr);
			});
			await node.run(["ip", "route", "del", host]);
			await lab.run("pod1a", ["ip", `-${family}`, "route", "flush", "cache"]);
		}
		t.pass("is the Pods', too");
	});

	t.test("a rule by source", async (t) => {
		for (const family of FAMILIES) {
			const host = family === 4 ? "203.0.113.77" : "2001:db8:113::77";
			const from = family === 4 ? "10.244.1.0/24" : "fd00:10:244:1::/64";
			const storage = NETWORKS[1]!;
			await node.script(`ip -${family} route add ${host} via ${bare(storage.host[family])} table 100
				ip -${family} rule add from ${from} to ${host} lookup 100`);
			t.equal(await tcpFrom(host), bare(storage.node[family]), `IPv${family}`);
			const answer = await lab.agent("node1").explain({
				source: lab.address("pod1a", family),
				destination: host,
				protocol: "udp",
				destinationPort: UDP_PORT,
			});
			t.match(answer, { device: "eth9", snat: { address: bare(storage.node[family]) } });
		}
	});

	t.test("two equal routes", async (t) => {
		for (const family of FAMILIES) {
			const host = family === 4 ? "203.0.113.88" : "2001:db8:113::88";
			const two = NETWORKS.slice(0, 2);
			const hops = two.map(({ host, device }) => `nexthop via ${bare(host[family])} dev ${device}`);
			await node.script(`sysctl -q -w net.ipv${family}.fib_multipath_hash_policy=1
				ip -${family} route add ${host} ${hops.join(" ")}`);
			const seen = new Set<string>();
			for (let localPort = 40_000; localPort < 40_032; localPort++) {
				seen.add(await tcpFrom(host, { localPort }));
			}
			t.same([...seen].sort(), two.map(({ node }) => bare(node[family])).sort(), "both are used");
		}
	});

	t.test("the default route by a device without Ethernet", async (t) => {
		for (const family of FAMILIES) {
			const host = family === 4 ? "203.0.113.99" : "2001:db8:113::99";
			const vpn = NETWORKS[2]!;
			const before = (await node.run(["ip", `-${family}`, "route", "show", "default"])).stdout;
			await node.script(
				`ip -${family} route del default; ip -${family} route add default dev tun9`,
			);
			t.equal(await tcpFrom(host), bare(vpn.node[family]), `IPv${family}`);
			const sent = await pod.order("tcpSend", { host, port: TCP_PORT, bytes: 1e6, seed: 2 });
			t.match(sent, { whole: true, address: bare(vpn.node[family]) });
			await node.script(
				`ip -${family} route del default; ip -${family} route add ${before.trim()}`,
			);
		}
	});

	t.test("nothing is out of the ordinary", async (t) => {
		await cluster.settled();
		const { problems, drops } = await lab.agent("node1").status();
		t.same(problems, []);
		// What the tests themselves have asked for.
		const { ttl_exceeded: _ttl, packet_too_big: _big, ...others } = drops;
		t.same(others, {});
	});
});
