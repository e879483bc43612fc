/**
 * Pod traffic to the outside gets the Node's address, and answers return to the Pod.
 *
 *   pod1a pod1b           pod3a
 *      node1                node3
 *        └─ net1 ─ router ─ net2
 *                    │
 *                 outside     has no route to Pods; the router gets one where a test says so
 */
import t from "tap";
import { echoCommand } from "../../src/lab/echo.js";
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { answerOf } from "../tools/exchange.js";

const FAMILIES: Family[] = [4, 6];

t.test("SNAT", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid", xdp: "native" });
	const { lab } = cluster;
	await cluster.serve("outside", "pod1b", "node3");
	const [pod1a, pod1b] = [await lab.station("pod1a"), await lab.station("pod1b")];
	const node1 = await lab.station("node1");

	t.test("TCP, UDP and ICMP echo arrive from the Node's address", async (t) => {
		for (const family of FAMILIES) {
			const host = lab.address("outside", family);
			const node = lab.address("node1", family);
			const tcp = await pod1a.order("tcpSend", { host, port: TCP_PORT, bytes: 2e6, seed: 1 });
			t.match(tcp, { whole: true, address: node }, `TCP, IPv${family}`);
			t.ok(tcp.port >= 49152, `from port ${tcp.port}`);
			const udp = await pod1a.order("udpWho", { host, port: UDP_PORT });
			t.equal(udp.address, node, `UDP, IPv${family}`);
			t.ok(udp.port >= 49152, `from port ${udp.port}`);
			const sizes = [1, 1400, 1473, 9000, 60_000];
			const exchanged = await pod1a.order("udpExchange", { host, port: UDP_PORT, sizes, seed: 1 });
			t.match(exchanged, { missing: [], corrupt: [] }, `UDP in fragments, IPv${family}`);
			t.match(await cluster.ping("pod1a", "outside", family), " 3 received");
			const fragments = await cluster.ping("pod1a", "outside", family, "-s", "8000");
			t.match(fragments, " 3 received", `echo in fragments, IPv${family}`);
		}
	});

	t.test("two Pods on the same source port to the same destination", async (t) => {
		for (const family of FAMILIES) {
			const host = lab.address("outside", family);
			const order = { host, port: UDP_PORT, localPort: 50_007 };
			// A port that is bound by a socket of the Node is not used.
			const { stream } = await node1.order("udpStream", { ...order, rate: 100 });
			const seen = await Promise.all([pod1a.order("udpWho", order), pod1b.order("udpWho", order)]);
			const ports = new Set([50_007, ...seen.map(({ port }) => port)]);
			t.equal(ports.size, 3, `three ports: ${[...ports]}`);
			t.same([...new Set(seen.map(({ address }) => address))], [lab.address("node1", family)]);
			const { sent, returned } = await node1.order("udpStop", { stream });
			t.equal(returned, sent, "the Node's own answers stay its own");
			const tcp = { host, port: TCP_PORT, localPort: 50_008, bytes: 1e6 };
			const both = await Promise.all([
				pod1a.order("tcpSend", { ...tcp, seed: 11 }),
				pod1b.order("tcpSend", { ...tcp, seed: 12 }),
			]);
			t.same(
				both.map(({ whole }) => whole),
				[true, true],
			);
			t.not(both[0]?.port, both[1]?.port);
			const pings = await Promise.all(
				["pod1a", "pod1b"].map((pod) => {
					const echoes = echoCommand(lab.address("outside", family), 20, "-e", "4242");
					return lab.run(pod, echoes, { mayFail: true });
				}),
			);
			for (const { stdout } of pings)
				t.match(stdout, " 20 received", "echo with the same identifier");
		}
	});

	t.test("a Pod that talks to another Node takes its own Node's address", async (t) => {
		for (const family of FAMILIES) {
			const host = lab.address("node3", family);
			const { address } = await pod1a.order("udpWho", { host, port: UDP_PORT });
			t.equal(address, lab.address("node1", family), `IPv${family}`);
		}
	});

	t.test("ICMP errors return through SNAT, with the Pod's own packet inside", async (t) => {
		for (const family of FAMILIES) {
			const [host, router] = [
				lab.address("outside", family),
				family === 4 ? "192.168.1.254" : "fd00:192:168:1::fe",
			];
			// Time exceeded from the router, port unreachable from the host.
			for (const pod of ["pod1a", "pod1b"]) {
				const command = ["traceroute", "-n", `-${family}`, "-q1", "-w2", "-N1", "-m5", host];
				const { stdout } = await lab.run(pod, command);
				const seen = [...stdout.matchAll(/^ *\d+ {2}(\S+)/gm)].map((match) => match[1]);
				t.same(seen.slice(1), [router, host], `${pod}, IPv${family}`);
			}
		}
		const link = ["ip", "link", "set", "dev", "outside", "mtu"];
		await lab.run("router", [...link, "1300"]);
		t.teardown(() => lab.run("router", [...link, "1500"]));
		for (const family of FAMILIES) {
			const host = lab.address("outside", family);
			const sent = await pod1a.order("tcpSend", { host, port: TCP_PORT, bytes: 1e6, seed: 2 });
			t.equal(sent.whole, true, `TCP over a smaller link, IPv${family}`);
			const { stdout } = await lab.run("pod1a", ["ip", "route", "get", host]);
			t.match(stdout, "mtu 1300", "the Pod has been told of it");
		}
		await lab.run("pod1a", ["ip", "route", "flush", "cache"]);
		await lab.run("pod1a", ["ip", "-6", "route", "flush", "cache"]);
	});

	t.test("connections from outside are answered from the address that they went to", async (t) => {
		await lab.underlay.setRouterKnowsPods(true);
		await cluster.serve("node1", "pod1a");
		const outside = await lab.station("outside");
		for (const to of ["pod1a", "node1"])
			for (const family of FAMILIES) {
				const host = lab.address(to, family);
				t.match(await cluster.ping("outside", to, family), " 3 received");
				const sent = await outside.order("tcpSend", { host, port: TCP_PORT, bytes: 1e6, seed: 3 });
				t.match(
					sent,
					{ whole: true, address: lab.address("outside", family) },
					`${to} IPv${family}`,
				);
				const order = { host, port: UDP_PORT, sizes: [1, 1472, 9000], seed: 3 };
				t.match(await outside.order("udpExchange", order), { missing: [], corrupt: [] });
			}
		await lab.underlay.setRouterKnowsPods(false);
	});

	t.test("snat.excludeCIDRs: the Pod keeps its address there, live", async (t) => {
		await lab.underlay.setRouterKnowsPods(true);
		const host = lab.address("outside", 4);
		const excludeCIDRs = ["203.0.113.0/24", "2001:db8:113::/64"];
		await cluster.configure({ ...cluster.settings, snat: { excludeCIDRs } });
		for (const family of FAMILIES)
			await until("the Pod's own address", async () => {
				const order = { host: lab.address("outside", family), port: UDP_PORT };
				const { address } = await pod1a.order("udpWho", order);
				return address === lab.address("pod1a", family);
			});
		t.pass("both families");
		const sent = await pod1a.order("tcpSend", { host, port: TCP_PORT, bytes: 1e6, seed: 4 });
		t.match(sent, { whole: true, address: lab.address("pod1a", 4) });
		await cluster.configure({ ...cluster.settings, snat: {} });
		await until("the Node's address again", async () => {
			const { address } = await pod1a.order("udpWho", { host, port: UDP_PORT });
			return address === lab.address("node1", 4);
		});
	});

	t.test("noSNAT: the Pod keeps its address everywhere", async (t) => {
		await cluster.configure({ trafficEncapMode: "noEncap", noSNAT: true });
		for (const family of FAMILIES)
			for (const to of ["outside", "node3"]) {
				const order = { host: lab.address(to, family), port: UDP_PORT };
				await until(`the Pod's own address at ${to}, IPv${family}`, async () => {
					const { address } = await pod1a.order("udpWho", order);
					return address === lab.address("pod1a", family);
				});
				t.pass(`${to}, IPv${family}`);
			}
		await cluster.configure({ trafficEncapMode: "hybrid" });
		await lab.underlay.setRouterKnowsPods(false);
		await until("the Node's address again", async () => {
			const order = { host: lab.address("outside", 4), port: UDP_PORT };
			return (await pod1a.order("udpWho", order)).address === lab.address("node1", 4);
		});
	});

	t.test(
		"snat.portRange: nothing outside of it, and when it is used up that is counted",
		async (t) => {
			const host = lab.address("outside", 4);
			const outside = await lab.station("outside");
			const second = await outside.order("udpServe", { port: UDP_PORT + 1 });
			await cluster.configure({ ...cluster.settings, snat: { portRange: "60000-60007" } });
			await until("the range is in force", async () => {
				const { port } = await pod1b.order("udpWho", { host, ...second });
				return port >= 60_000 && port <= 60_007;
			});
			// The Node's own socket has one of the eight.
			await node1.order("udpServe", { port: 60_003 });
			t.teardown(() => node1.order("close", { port: 60_003 }));
			const refusals = async () => (await cluster.drops("node1")).snat_ports_exhausted ?? 0;
			const ports = new Set<number>();
			for (let localPort = 40_000; localPort < 40_012; localPort++) {
				const seen = await answerOf(pod1b, { host, port: UDP_PORT, localPort }, refusals);
				if (seen) ports.add(seen.port);
			}
			t.same([...ports].sort(), [60000, 60001, 60002, 60004, 60005, 60006, 60007]);
			t.equal(await refusals(), 5, "each refused packet is counted");
			const other = await pod1b.order("udpWho", {
				host: lab.address("node3", 4),
				port: UDP_PORT,
				localPort: 40_000,
			});
			t.equal(other.address, lab.address("node1", 4), "another destination has its own eight");
		},
	);

	t.test("no other drops", async (t) => {
		const { packet_too_big, snat_ports_exhausted, ttl_exceeded, ...rest } =
			await cluster.allDrops();
		t.same(rest, {});
		t.ok(ttl_exceeded ?? 0, "traceroute's first hop");
		t.equal(snat_ports_exhausted, 5);
		t.notOk(packet_too_big, "the smaller link is not ours");
	});
	t.end();
});
