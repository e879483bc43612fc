/**
 * hostPort: the reference plugin portmap behind fairway-cni, on Node 1. Its iptables rules translate a port of
 * the Node to one of pod1a.
 *
 *   pod1b, pod1a ─┐
 *                 ├─ node1:8080 ── pod1a
 *   outside ──────┤
 *   node2, pod2a ─┤   direct         ┐ or in tunnels
 *   node3, pod3a ─┘   in a tunnel    ┘
 */
import t, { type Test } from "tap";
import { callCni, containerId } from "../../src/lab/pod.js";
import { until } from "../../src/lab/until.js";
import { BULK_PORT, startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";

/** Debian's containernetworking-plugins. */
const PORTMAP = "/usr/lib/cni/portmap";

const PORTS = { tcp: 8080, udp: 8053, bulk: 8081 };
const portMappings = [
	{ hostPort: PORTS.tcp, containerPort: TCP_PORT, protocol: "tcp" },
	{ hostPort: PORTS.udp, containerPort: UDP_PORT, protocol: "udp" },
	{ hostPort: PORTS.bulk, containerPort: BULK_PORT, protocol: "tcp" },
];

const CLIENTS = ["node1", "node2", "node3", "outside", "pod1a", "pod1b", "pod2a", "pod3a"] as const;

t.test("hostPort", async (t) => {
	const cluster = await startCluster(t, { trafficEncapMode: "hybrid" });
	const { lab } = cluster;
	await cluster.serve("pod1a");
	const node = lab.namespace("node1");
	const target = lab.namespace("pod1a");
	const pod = lab.topology.pods.find(({ label }) => label.endsWith("pod1a"))!;
	const again = await callCni({
		...{ verb: "ADD", pod, node, target, socket: lab.agent("node1").socket },
	});
	const portmap = (command: string) =>
		node.run([PORTMAP], {
			input: JSON.stringify({
				...{ cniVersion: "1.0.0", name: "fairway", type: "portmap" },
				runtimeConfig: { portMappings },
				prevResult: JSON.parse(again.stdout),
			}),
			environment: {
				CNI_COMMAND: command,
				CNI_CONTAINERID: containerId(target),
				CNI_NETNS: target.path,
				CNI_IFNAME: "eth0",
				CNI_PATH: "/usr/lib/cni",
			},
		});
	await portmap("ADD");

	const talk = async (t: Test, from: string, host: string) => {
		const station = await lab.station(from);
		const sent = await station.order("tcpSend", {
			...{ host, port: PORTS.tcp, bytes: 300_000, seed: 1 },
		});
		t.equal(sent.whole, true, `${from} → ${host}: TCP`);
		const seen = await until(`${from} → ${host}: UDP`, () =>
			station.order("udpWho", { host, port: PORTS.udp, timeoutMs: 500, connected: true }),
		);
		t.equal(seen.address, sent.address, `${from} → ${host}: UDP from the same address`);
		return sent.address;
	};

	for (const settings of [
		{ trafficEncapMode: "hybrid" },
		{ trafficEncapMode: "encap", tunnelType: "vxlan" },
		{ trafficEncapMode: "encap", xdp: "off" },
	] as const)
		await t.test(JSON.stringify(settings), async (t) => {
			await cluster.configure(settings);
			for (const family of [4, 6] as const) {
				const host = lab.address("node1", family);
				for (const from of CLIENTS) {
					const seen = await talk(t, from, host);
					// A Pod has another address than its own only towards itself, and towards other Nodes.
					if (from === "pod1b" || from === "outside" || from === "node2")
						t.equal(seen, lab.address(from, family), `${from}, IPv${family}: seen as itself`);
				}
			}
			await talk(t, "node1", "127.0.0.1");
		});

	await t.test("connections live on when the mode changes", async (t) => {
		const streams = await Promise.all(
			([4, 6] as const).flatMap((family) =>
				["node2", "pod3a", "outside"].map(async (from) => {
					const station = await lab.station(from);
					const host = lab.address("node1", family);
					const { stream } = await station.order("bulkStart", {
						...{ host, port: PORTS.bulk, rate: 200_000 },
					});
					const received = async () => (await station.order("bulkReport", { stream })).received;
					await until("data", async () => (await received()) > 1000);
					return { what: `${from}, IPv${family}`, station, stream, received };
				}),
			),
		);
		for (const mode of ["hybrid", "encap"] as const) {
			await cluster.configure({ trafficEncapMode: mode });
			for (const { what, received } of streams) {
				const before = await received();
				await until(`${what}: data in ${mode}`, async () => (await received()) > before + 100_000);
				t.pass(`${what} in ${mode}`);
			}
		}
		for (const { station, stream } of streams) await station.order("bulkStop", { stream });
	});

	await t.test("DEL closes the port", async (t) => {
		await portmap("DEL");
		const station = await lab.station("node2");
		for (const family of [4, 6] as const) {
			const host = lab.address("node1", family);
			const order = { host, port: PORTS.tcp, bytes: 1, seed: 1 };
			await t.rejects(station.order("tcpSend", order), /ECONNREFUSED/);
		}
	});
	t.strictSame(await cluster.allDrops(), {});
});
