/**
 * Services, by whole Nodes:
 *
 *   pod1a ─┐                     ┌ pod1b        on this Node
 *   node1 ─┼─ node1: a Service ──┼ pod2a        direct          ┐ or in tunnels
 *   outside┘                     ├ pod3a        in a tunnel     ┘
 *                                ├ node1, node2 in the host network
 *                                └ outside
 */
import t, { type Test } from "tap";
import { until } from "../../src/lab/until.js";
import { BULK_PORT, type Cluster, startCluster, TCP_PORT, UDP_PORT } from "../tools/cluster.js";

const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const BACKENDS = ["pod1b", "pod2a", "pod3a", "node1", "node2", "outside"] as const;
/** To itself. */
const HAIRPIN = BACKENDS.length + 1;
/** What the Node's own endpoints see of its own processes. */
const RETURN = { 4: "169.254.250.28", 6: "fd66:6169:7277::28" } as const;
const SETTINGS = {
	trafficEncapMode: "hybrid",
	serviceCIDRs: ["10.96.0.0/16", "fd00:96::/112"],
	fairwayProxy: { enable: true, healthServer: "" },
} as const;

const clusterIp = (family: Family, n: number): string =>
	`${family === 4 ? "10.96.0." : "fd00:96::"}${n}`;

interface Endpoint {
	machine: string;
	conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean };
}

/** A Service and its slices, one for each family. */
function manifest(
	cluster: Cluster,
	n: number,
	endpoints: readonly Endpoint[],
	spec: object = {},
): object[] {
	const { lab } = cluster;
	const name = `s${n}`;
	const port = (name: string, protocol: string, port: number, nodePort: number) => ({
		...{ name, protocol, port, nodePort },
	});
	const nodeOf = (machine: string) => /\d/.exec(machine)?.[0];
	const service = {
		...{ apiVersion: "v1", kind: "Service", metadata: { name } },
		spec: {
			...{ type: "NodePort", clusterIPs: FAMILIES.map((family) => clusterIp(family, n)) },
			ports: [
				port("tcp", "TCP", 80, 30_000 + n),
				port("udp", "UDP", 53, 30_000 + n),
				port("bulk", "TCP", 81, 30_100 + n),
			],
			...spec,
		},
	};
	const slices = FAMILIES.map((family) => ({
		...{ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice" },
		metadata: { name: `${name}-${family}`, labels: { "kubernetes.io/service-name": name } },
		addressType: `IPv${family}`,
		ports: [
			{ name: "tcp", protocol: "TCP", port: TCP_PORT },
			{ name: "udp", protocol: "UDP", port: UDP_PORT },
			{ name: "bulk", protocol: "TCP", port: BULK_PORT },
		],
		endpoints: endpoints.map(({ machine, conditions = {} }) => ({
			...{ addresses: [lab.address(machine, family)], conditions },
			...(nodeOf(machine) === undefined ? {} : { nodeName: `node${nodeOf(machine)}` }),
		})),
	}));
	return [service, ...slices];
}

t.test("Services", async (t) => {
	const cluster = await startCluster(t, SETTINGS);
	const { lab } = cluster;
	await cluster.serve("pod1a", ...BACKENDS);
	const all = [...BACKENDS.map((machine) => [{ machine }]), [{ machine: "pod1a" }]];
	cluster.write(
		"services.yaml",
		...all.flatMap((endpoints, n) => manifest(cluster, n + 1, endpoints)),
	);
	const gateways = (await lab.agent("node1").status()).podCIDRs.map((cidr) =>
		cidr.replace(/(0|:)\/\d+$/, (_, end) => (end === "0" ? "1" : ":1")),
	);
	const gateway = (family: Family) => gateways.find((g) => g.includes(":") === (family === 6))!;
	/** What a backend sees of a client: UDP and TCP, both whole. */
	const talk = async (t: Test, what: string, from: string, host: string, ports = [80, 53]) => {
		const station = await lab.station(from);
		const [tcpPort = 0, udpPort = 0] = ports;
		const sent = await until(`${what}: TCP`, () =>
			station.order("tcpSend", { host, port: tcpPort, bytes: 300_000, seed: 1, timeoutMs: 3000 }),
		);
		t.equal(sent.whole, true, `${what}: TCP`);
		if (udpPort === 0) return sent.address;
		const seen = await until(`${what}: UDP`, () =>
			station.order("udpWho", { host, port: udpPort, timeoutMs: 500, connected: true }),
		);
		t.equal(seen.address, sent.address, `${what}: UDP from the same address`);
		return sent.address;
	};
	const sees = (client: "pod" | "host", backend: string, family: Family): string => {
		const isPod = backend.startsWith("pod");
		if (client === "pod") {
			const leaves = backend === "node2" || backend === "outside";
			return lab.address(leaves ? "node1" : "pod1a", family);
		}
		if (backend === "node1") return RETURN[family];
		return isPod ? gateway(family) : lab.address("node1", family);
	};

	for (const change of [
		{},
		{ trafficEncapMode: "encap", tunnelType: "vxlan" },
		{ trafficEncapMode: "encap" },
	] as const) {
		const mode = JSON.stringify(change);
		t.test(mode, async (t) => {
			await cluster.configure({ ...SETTINGS, ...change });
			for (const family of FAMILIES) {
				for (const [n, backend] of BACKENDS.entries()) {
					for (const [client, from] of [
						["pod", "pod1a"],
						["host", "node1"],
					] as const) {
						const what = `IPv${family}, ${from} → cluster IP → ${backend}`;
						// A UDP server that answers from whatever address is best towards a Pod, answers from the
						// gateway's there, which no translation expects: with or without Fairway.
						const udp = client === "pod" && backend === "node1" && family === 6 ? 0 : 53;
						const seen = await talk(t, what, from, clusterIp(family, n + 1), [80, udp]);
						t.equal(seen, sees(client, backend, family), `${what}: sees`);
					}
				}
				const hairpin = `IPv${family}, Pod → cluster IP → itself`;
				const seen = await talk(t, hairpin, "pod1a", clusterIp(family, HAIRPIN));
				t.equal(seen, gateway(family), `${hairpin}: sees`);
			}
		});
	}
});
