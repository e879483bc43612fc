/**
 * Unusual packets: fragments, packets that are too big, expired TTLs, and the MSS that keeps TCP small enough. In
 * hybrid mode, so that node2 is direct and node3 behind a tunnel.
 *
 *   pod1a pod1b  pod2a                pod3a
 *      node1        node2                node3
 *        └──── net1 ──┘                    └ net2
 *                 └─────────── router ───────┘
 *                                 │
 *                              outside
 */
import t from "tap";
import type { Family } from "../../src/lab/subnet.js";
import { until } from "../../src/lab/until.js";
import { fragmented, ip, udp } from "../packet/builder.js";
import { Capture } from "../tools/capture.js";
import { OVERHEAD, startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";
import { dissect } from "../tools/dissect.js";
import { sendRaw } from "../tools/raw.js";
import { numbered } from "../tools/streams.js";

const FAMILIES: Family[] = [4, 6];
const IP_AND_ICMP = { 4: 28, 6: 48 } as const;

t.test("hybrid", async (t) => {
	const cluster = await startCluster(t, {
		trafficEncapMode: "hybrid",
		tunnelType: "geneve",
		xdp: "native",
	});
	const { lab } = cluster;
	await cluster.serve("pod1b", "pod2a", "pod3a", "outside");
	const gateway = (node: number, family: Family): string =>
		family === 4 ? `10.244.${node}.1` : `fd00:10:244:${node}::1`;

	t.test("traceroute from a Pod shows each hop", async (t) => {
		for (const family of FAMILIES) {
			const router = family === 4 ? "192.168.1.254" : "fd00:192:168:1::fe";
			const ways: [string, string[]][] = [
				["pod1b", [gateway(1, family)]],
				["pod2a", [gateway(1, family), gateway(2, family)]],
				["pod3a", [gateway(1, family), gateway(3, family)]],
				["outside", [gateway(1, family), router]],
			];
			for (const [to, hops] of ways)
				for (const protocol of ["-U", "-I"]) {
					const address = lab.address(to, family);
					const command = ["traceroute", "-n", `-${family}`, "-q1", "-w2", "-N1", "-m6"];
					const { stdout } = await lab.run("pod1a", [...command, protocol, address]);
					const seen = [...stdout.matchAll(/^ *\d+ {2}(\S+)/gm)].map((match) => match[1]);
					t.same(seen, [...hops, address], `to ${to}, IPv${family}, ${protocol}`);
				}
		}
	});

	t.test("each Node passed costs one TTL", async (t) => {
		const expected = { pod1b: 63, pod2a: 62, pod3a: 62, outside: 62 };
		for (const family of FAMILIES)
			for (const [to, ttl] of Object.entries(expected)) {
				const said = await cluster.ping("pod1a", to, family);
				t.match(said, new RegExp(`ttl=${ttl} `), `from ${to}, IPv${family}`);
			}
	});

	t.test("too big: Pods learn the MTU of the path, and packets that fit get through", async (t) => {
		for (const family of FAMILIES) {
			const tunnel = 1500 - OVERHEAD[family];
			for (const [to, mtu] of [
				["pod2a", 1500],
				["pod3a", tunnel],
				["outside", 1500],
			] as const) {
				const size = (packet: number): string => `${packet - IP_AND_ICMP[family]}`;
				const fits = await cluster.ping("pod1a", to, family, "-M", "do", "-s", size(mtu));
				t.match(fits, " 3 received", `${mtu} bytes to ${to}, IPv${family}`);
				if (mtu === 1500) continue;
				const big = await cluster.ping("pod1a", to, family, "-M", "do", "-s", size(mtu + 1));
				const from = gateway(1, family).replaceAll(".", "\\.");
				t.match(
					big,
					new RegExp(`From ${from}.*${family === 4 ? `mtu = ${mtu}` : `mtu=${mtu}`}`),
					`${mtu + 1} bytes to ${to}, IPv${family}: answered by the gateway`,
				);
				t.match(big, " 0 received");
				const route = await lab.run("pod1a", ["ip", "route", "get", lab.address(to, family)]);
				t.match(route.stdout, `mtu ${mtu}`, "the Pod's stack has learned it");
			}
		}
		const { packet_too_big: counted = 0 } = await cluster.drops("node1");
		t.ok(counted >= 2, `${counted} counted`);
	});

	t.test("IPv4 without DF is fragmented for the tunnel", async (t) => {
		await lab.run("pod1a", ["ip", "route", "flush", "cache"]);
		// One after another: fragments from the slow path and whole packets must not be reordered by more
		// than the receiver's ipfrag_max_dist.
		const alone = ["-c", "2", "-l", "1", "-i", "0.5", "-M", "dont", "-s"];
		for (const size of [1423, 1472, 1473, 4000, 20_000]) {
			const said = await cluster.ping("pod1a", "pod3a", 4, ...alone, `${size}`);
			t.match(said, " 2 received", `${size} bytes`);
		}
		await cluster.ping("pod1a", "pod3a", 6, ...alone, "20000");
		const said = await cluster.ping("pod1a", "pod3a", 6, ...alone, "20000");
		t.match(said, " 2 received", "IPv6, cut by the sender, who has learned how small");
	});

	t.test("fragments in order and out of order, to each kind of path", async (t) => {
		const ORDERS = ["in order", "reversed", "middle last"] as const;
		const cases = FAMILIES.flatMap((family) =>
			["pod1b", "pod2a", "pod3a", "outside"].flatMap((to) =>
				ORDERS.map((order) => ({ family, to, order })),
			),
		).map((one, i) => ({ ...one, stream: 5000 + i }));
		await sendRaw(
			lab,
			"pod1a",
			cases.flatMap(({ family, to, order, stream }) => {
				const [source, destination] = [lab.address("pod1a", family), lab.address(to, family)];
				const datagram = udp(stream, UDP_PORT, numbered(stream, 3500));
				const parts = fragmented(
					ip({ source, destination, dontFragment: false }, datagram),
					1200,
					stream,
				);
				if (order === "reversed") parts.reverse();
				if (order === "middle last") parts.push(...parts.splice(1, 1));
				return parts;
			}),
		);
		for (const { family, to, order, stream } of cases) {
			const receiver = await lab.station(to);
			const arrived = await until(
				`${order} at ${to}, IPv${family}`,
				async () => {
					const report = await receiver.order("udpReport", { port: UDP_PORT, stream });
					return report.received === 1;
				},
				5000,
			).catch(({ message }: Error) => message);
			t.equal(arrived, true, `${order} to ${to}, IPv${family}`);
		}
	});

	t.test("the MSS is clamped to fit the tunnel", async (t) => {
		const captures = {
			pod2a: await Capture.start(lab, "node2"),
			pod3a: await Capture.start(lab, "node3"),
		};
		t.teardown(() => Object.values(captures).map((capture) => capture.remove()));
		for (const [to, capture] of Object.entries(captures)) {
			for (const family of FAMILIES) {
				const host = lab.address(to, family);
				const client = await lab.station("pod1a");
				await client.order("tcpSend", { host, port: TCP_PORT, bytes: 100_000, seed: 3 });
			}
			await capture.stop();
			const fields = ["frame.protocols", "tcp.options.mss_val"] as const;
			const opened = await dissect(capture.file, "tcp.flags.syn == 1", fields);
			t.equal(opened.length, 2);
			for (const packet of opened) {
				const family = /:ipv6(:tcp)?/.test(packet["frame.protocols"][0] ?? "") ? 6 : 4;
				const mtu = to === "pod2a" ? 1500 : 1500 - OVERHEAD[family];
				const mss = mtu - (family === 4 ? 40 : 60);
				t.same(packet["tcp.options.mss_val"], [`${mss}`], `to ${to}, IPv${family}`);
			}
		}
	});

	t.test("a Pod is told at once what cannot be reached", async (t) => {
		const nobody = (node: number, family: Family): string =>
			family === 4 ? `10.244.${node}.250` : `fd00:10:244:${node}::fa`;
		const routes = {
			unreachable: ["203.0.113.91", "2001:db8::91"],
			prohibit: ["203.0.113.92", "2001:db8::92"],
		};
		for (const [type, addresses] of Object.entries(routes))
			for (const address of addresses)
				await lab.run("node1", ["ip", "route", "add", type, address]);
		t.teardown(async () => {
			for (const [type, addresses] of Object.entries(routes))
				for (const address of addresses)
					await lab.run("node1", ["ip", "route", "del", type, address]);
		});
		for (const [i, family] of FAMILIES.entries()) {
			const host = family === 4 ? "Destination Host Unreachable" : "Address unreachable";
			const said: [string, string, string][] = [
				[nobody(1, family), gateway(1, family), host],
				[nobody(2, family), gateway(2, family), host],
				[nobody(3, family), gateway(3, family), host],
				[routes.unreachable[i]!, gateway(1, family), family === 4 ? host : "No route"],
				[
					routes.prohibit[i]!,
					gateway(1, family),
					family === 4 ? "Packet filtered" : "Administratively prohibited",
				],
			];
			for (const [to, by, what] of said) {
				const command = ["ping", "-n", "-c", "1", "-W", "5", to];
				const { stdout } = await lab.run("pod1a", command, { mayFail: true });
				t.match(stdout, new RegExp(`From ${by} icmp_seq=1 .*${what}`), `${to}: ${what}`);
			}
		}
	});

	t.test("a Pod is told that its next hop does not answer", async (t) => {
		for (const family of FAMILIES) {
			// On the Node's own link, where nobody has it.
			const to = lab.address("node1", family).replace(/[^.:]+$/, family === 4 ? "250" : "fa");
			const command = ["ping", "-n", "-c", "1", "-W", "8", to];
			const { stdout } = await lab.run("pod1a", command, { mayFail: true });
			const what = family === 4 ? "Destination Host Unreachable" : "Address unreachable";
			t.match(stdout, new RegExp(`From ${gateway(1, family)} icmp_seq=1 .*${what}`));
		}
	});

	t.test("IP options pass", async (t) => {
		const targets = ["pod1b", "pod2a", "pod3a"];
		const packets = targets.map((to) => {
			// Four no-operation options, which only move the ports.
			const options = Buffer.from([1, 1, 1, 1]);
			const [source, destination] = [lab.address("pod1a", 4), lab.address(to, 4)];
			return ip({ source, destination, options }, udp(4100, UDP_PORT, numbered(99)));
		});
		await sendRaw(lab, "pod1a", packets);
		for (const to of targets) {
			const receiver = await lab.station(to);
			await until(`the packet at ${to}`, async () => {
				const report = await receiver.order("udpReport", { port: UDP_PORT, stream: 99 });
				return report.received === 1;
			});
			t.pass(`to ${to}`);
		}
	});
	t.end();
});
