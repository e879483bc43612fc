/**
 * Services of kube-proxy beside Fairway: nftables rules as kube-proxy writes them, on Node 1.
 *
 *   pod1a ─┐                     ┌ pod1b        on this Node
 *          ├─ node1: DNAT ───────┼ pod2a        direct          ┐ or in tunnels
 *   outside┘                     ├ pod3a        in a tunnel     ┘
 *                                ├ node1, node2 in the host network
 *                                └ outside
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const SERVICE_CIDRS = ["10.96.0.0/16", "fd00:96::/112"];
const BACKENDS = ["pod1b", "pod2a", "pod3a", "node1", "node2", "outside"] as const;
/** To itself. */
const HAIRPIN = "10";
const NODE_PORT = { tcp: 30_080, udp: 30_053 };

const clusterIp = (family: Family, n: number | string): string =>
	`${family === 4 ? "10.96.0." : "fd00:96::"}${n}`;

t.test("kube-proxy's Services", async (t) => {
	// The agents of the lab have the environment of this process.
	process.env["ALLOW_NO_ENCAP_WITHOUT_FAIRWAY_PROXY"] = "true";
	const settings = {
		trafficEncapMode: "hybrid",
		serviceCIDRs: SERVICE_CIDRS,
		fairwayProxy: { enable: false },
	} as const;
	const cluster = await startCluster(t, settings);
	const { lab } = cluster;
	await cluster.serve("pod1a", ...BACKENDS);
	await lab.run("node1", ["nft", "-f", "-"], { input: rules(lab.address.bind(lab)) });
	const pod = await lab.station("pod1a");
	/** What a backend sees of a client: UDP and TCP, both whole. */
	const talk = async (t: Test, what: string, from: string, host: string, ports = [80, 53]) => {
		const station = await lab.station(from);
		const [tcpPort = 0, udpPort = 0] = ports;
		const sent = await station.order("tcpSend", { host, port: tcpPort, bytes: 300_000, seed: 1 });
		t.equal(sent.whole, true, `${what}: TCP`);
		if (udpPort === 0) return sent.address;
		const seen = await until(`${what}: UDP`, () =>
			station.order("udpWho", { host, port: udpPort, timeoutMs: 500, connected: true }),
		);
		t.equal(seen.address, sent.address, `${what}: UDP from the same address`);
		return sent.address;
	};

	for (const change of [{}, { trafficEncapMode: "encap", tunnelType: "vxlan" }] as const) {
		const mode = "tunnelType" in change ? "encap" : "hybrid";
		t.test(mode, async (t) => {
			await cluster.configure({ ...settings, ...change });
			for (const family of FAMILIES) {
				const own = lab.address("pod1a", family);
				for (const [n, backend] of BACKENDS.entries()) {
					const what = `IPv${family}, Pod → cluster IP → ${backend}`;
					// A UDP server that answers from whatever address is best towards a Pod, answers from the
					// gateway's there, which no translation expects: with or without Fairway.
					const udp = backend === "node1" && family === 6 ? 0 : 53;
					const seen = await talk(t, what, "pod1a", clusterIp(family, n + 1), [80, udp]);
					const isOutside = backend === "node2" || backend === "outside";
					const client = isOutside ? lab.address("node1", family) : own;
					t.equal(seen, client, `${what}: sees`);
				}
				await talk(
					t,
					`IPv${family}, Pod → cluster IP → itself`,
					"pod1a",
					clusterIp(family, HAIRPIN),
				);
				await talk(t, `IPv${family}, Node → cluster IP`, "node1", clusterIp(family, 2));
				const nodePorts = [NODE_PORT.tcp, NODE_PORT.udp];
				const local = [NODE_PORT.tcp + 1, NODE_PORT.udp + 1];
				for (const [what, ports] of [
					["another Node's", nodePorts],
					["this Node's", local],
				] as const)
					for (const from of ["outside", "pod1a", "pod2a"])
						await talk(
							t,
							`IPv${family}, ${from} → NodePort → ${what} Pod`,
							from,
							lab.address("node1", family),
							[...ports],
						);
			}
		});
	}

	t.test("connections live on when routes change", async (t) => {
		for (const family of FAMILIES)
			for (const [n, backend] of BACKENDS.entries()) {
				const host = clusterIp(family, n + 1);
				const { stream } = await pod.order("bulkStart", { host, port: 81, rate: 200_000 });
				await until(
					"data",
					async () => (await pod.order("bulkReport", { stream })).received > 1000,
				);
				cluster.write("more.yaml", {
					apiVersion: "v1",
					kind: "Node",
					metadata: { name: `more-${family}-${n}` },
					spec: { podCIDRs: [`10.244.${100 + n}.0/24`] },
					status: { addresses: [{ type: "InternalIP", address: `192.168.1.${100 + n}` }] },
				});
				await until("the new Node", async () =>
					(await lab.agent("node1").peers()).some(({ node }) => node === `more-${family}-${n}`),
				);
				const before = (await pod.order("bulkReport", { stream })).received;
				await until(
					`IPv${family}, ${backend}: data after the change`,
					async () => (await pod.order("bulkReport", { stream })).received > before + 200_000,
				);
				await pod.order("bulkStop", { stream });
				t.pass(`IPv${family}, ${backend}`);
			}
	});

	t.test("explain says so", async (t) => {
		const answer = await lab.agent("node1").explain({
			source: lab.address("pod1a", 4),
			destination: clusterIp(4, 1),
			protocol: "tcp",
			destinationPort: 80,
		});
		t.match(answer, { path: "host", drop: null, snat: null, reason: /Services/ });
	});
});

/** Services 1 to 6 with BACKENDS, one with its client, and NodePorts. */
function rules(address: (machine: string, family: Family) => string): string {
	const services = FAMILIES.flatMap((family) => {
		const ip = family === 4 ? "ip" : "ip6";
		const to = (backend: string, port: number) =>
			family === 4
				? `dnat ip to ${address(backend, family)}:${port}`
				: `dnat ip6 to [${address(backend, family)}]:${port}`;
		const both = (match: string, backend: string) => [
			`${ip} daddr ${match} tcp dport 80 ${to(backend, TCP_PORT)}`,
			`${ip} daddr ${match} tcp dport 81 ${to(backend, TCP_PORT + 2)}`,
			`${ip} daddr ${match} udp dport 53 ${to(backend, UDP_PORT)}`,
		];
		const node = address("node1", family);
		const nodePort = (offset: number, backend: string) => [
			`${ip} daddr ${node} tcp dport ${NODE_PORT.tcp + offset} meta mark set 0x4000 ${to(backend, TCP_PORT)}`,
			`${ip} daddr ${node} udp dport ${NODE_PORT.udp + offset} meta mark set 0x4000 ${to(backend, UDP_PORT)}`,
		];
		return [
			...BACKENDS.flatMap((backend, n) => both(clusterIp(family, n + 1), backend)),
			`${ip} daddr ${clusterIp(family, HAIRPIN)} meta mark set 0x4000`,
			...both(clusterIp(family, HAIRPIN), "pod1a"),
			...nodePort(0, "pod2a"),
			...nodePort(1, "pod1b"),
		];
	});
	const chain = services.join("\n");
	return `table inet kube-proxy {
		chain services {
${chain}
		}
		chain prerouting { type nat hook prerouting priority dstnat; jump services; }
		chain output { type nat hook output priority -100; jump services; }
		chain postrouting { type nat hook postrouting priority srcnat; meta mark 0x4000 masquerade; }
	}\n`;
}
