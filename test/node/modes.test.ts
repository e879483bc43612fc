/**
 * Every mode and tunnel type, both families, every kind of pair: the content arrives, and the wire carries exactly
 * what the mode requires.
 *
 *   pod1a pod1b  pod2a pod2b          pod3a pod3b  pod4a pod4b
 *      node1        node2                node3        node4
 *        └──── net1 ──┘                    └──── net2 ──┘
 *                 └─────────── router ───────────┘
 *                                 │
 *                              outside
 *
 * Captured where the switch sends packets to node1, node2 and node3.
 */
import t, { type Test } from "tap";
import { nodeOf } from "../../src/lab/pairs.js";
import { familyOf } from "../../src/lab/subnet.js";
import { Capture } from "../tools/capture.js";
import { type Cluster, OVERHEAD, type Settings, startCluster } from "../tools/cluster.js";
import { exchange } from "../tools/exchange.js";
import { type WirePacket, wirePackets } from "../tools/wire.js";

const PAIRS = [
	["pod1a", "pod1b"],
	["pod1a", "pod2a"],
	["pod2b", "pod1b"],
	["pod1a", "pod3a"],
	["pod3b", "pod2b"],
	["pod1a", "node1"],
	["node1", "pod1a"],
	["pod1a", "node2"],
	["pod1a", "node3"],
	["node1", "pod2a"],
	["node1", "pod3a"],
	["pod1a", "outside"],
] as const;
const CAPTURED = ["node1", "node2", "node3"];
const SIZES = [1, 2, 100, 1372, 1402, 1403, 1432, 1452, 1472, 1473, 2000, 9000, 60_000];
const TRAFFIC = { tcpBytes: 500_000, sizes: SIZES };
const INNER_DESTINATION_MAC = "02:fa:1c:00:00:01";

const SETTINGS: Settings[] = [
	{ trafficEncapMode: "encap", tunnelType: "geneve" },
	{ trafficEncapMode: "encap", tunnelType: "vxlan", tunnelVNI: 4711 },
	{ trafficEncapMode: "hybrid", tunnelType: "vxlan", tunnelPort: 8472 },
	{ trafficEncapMode: "hybrid", tunnelType: "geneve" },
	{ trafficEncapMode: "noEncap" },
];

t.test("modes", async (t) => {
	const cluster = await startCluster(t, SETTINGS[0] ?? {}, undefined, {
		connectionTracking: false,
	});
	await cluster.serve(...new Set(PAIRS.map(([, to]) => to)));
	for (const settings of SETTINGS) {
		const { trafficEncapMode: mode, tunnelType = "no tunnel" } = settings;
		await t.test(`${mode}, ${tunnelType}`, async (t) => {
			await cluster.lab.underlay.setRouterKnowsPods(mode === "noEncap");
			await cluster.configure(settings);
			await peersSayMTU(t, cluster);
			const captures = await Promise.all(CAPTURED.map((n) => Capture.start(cluster.lab, n)));
			t.teardown(() => captures.map((capture) => capture.remove()));
			const before = await counters(cluster);
			// While the VNI changes Node by Node, probes with the other VNI are dropped.
			const dropped = await cluster.allDrops();
			for (const [from, to] of PAIRS) await exchange(t, cluster, from, to, TRAFFIC);
			await Promise.all(captures.map((capture) => capture.stop()));
			const after = await counters(cluster);
			const seen = new Map<string, Count>();
			for (const [i, capture] of captures.entries()) {
				const packets = await wirePackets(capture.file, tunnel(cluster));
				await examine(t, cluster, CAPTURED[i] ?? "", packets, seen);
				const probes = await wirePackets(capture.file, tunnel(cluster), "probes");
				t.same(
					probes.flatMap(({ number, length, badChecksums, tunnel }) =>
						badChecksums.length > 0 ||
						length > 1514 ||
						(mode === "encap" && tunnel === undefined) ||
						(mode === "noEncap" && tunnel !== undefined)
							? [{ number, length, badChecksums, tunnel }]
							: [],
					),
					[],
					`${CAPTURED[i]}: ${probes.length} probes take the paths of the mode, and are right`,
				);
			}
			for (const [what, { packets, bytes }] of seen) {
				const [a, b] = [before.get(what), after.get(what)];
				const counted = {
					packets: (b?.packets ?? 0) - (a?.packets ?? 0),
					bytes: (b?.bytes ?? 0) - (a?.bytes ?? 0),
				};
				t.same(counted, { packets, bytes }, `${what}: counted as it was on the wire`);
			}
			const unexpected = Object.entries(await cluster.allDrops()).filter(
				// Path MTU discovery causes a drop with an answer.
				([reason, packets]) => packets > (dropped[reason] ?? 0) && reason !== "packet_too_big",
			);
			t.same(unexpected, [], "nothing else is dropped");
		});
	}
});

interface Count {
	packets: number;
	/** Of the inner IP packets. */
	bytes: number;
}

/** The captured Nodes' counters of packets sent to each other: "node1 → node3 IPv4 tunnel". */
async function counters({ lab }: Cluster): Promise<Map<string, Count>> {
	const counts = new Map<string, Count>();
	for (const from of CAPTURED)
		for (const { node, family, packets, bytes } of await lab.agent(from).peers())
			for (const way of ["direct", "tunnel"] as const)
				counts.set(`${from} → ${node} IPv${family} ${way}`, {
					packets: packets[way],
					bytes: bytes[way],
				});
	return counts;
}

function tunnel(cluster: Cluster) {
	return { port: cluster.tunnelPort(), type: cluster.settings.tunnelType ?? "geneve" } as const;
}

async function peersSayMTU(t: Test, cluster: Cluster): Promise<void> {
	const peers = await cluster.lab.agent("node1").peers();
	const wrong = peers.filter(({ path, mtu, family }) => {
		const tunnelled = path === "geneve" || path === "vxlan";
		return mtu !== (tunnelled ? 1500 - OVERHEAD[family] : 1500);
	});
	t.same(wrong, [], "the MTU of each peer is that of its path");
}

/** Checks each packet received by one Node against the mode. */
async function examine(
	t: Test,
	cluster: Cluster,
	receiver: string,
	packets: WirePacket[],
	seen: Map<string, Count>,
): Promise<void> {
	const { lab } = cluster;
	const macs = { receiver: await cluster.mac(receiver), gateways: new Map<string, string>() };
	const senders = new Map<string, string>();
	for (const { name } of lab.topology.nodes) {
		senders.set(name, await cluster.mac(name));
		macs.gateways.set(name, await cluster.mac(name, "fairway0"));
	}
	const subnet = lab.topology.nodes.find(({ name }) => name === receiver)?.subnet ?? "";
	const router = await cluster.mac("router", subnet);
	const podNode = podNodes(cluster);
	const faults: string[] = [];
	const ways = { direct: 0, tunnel: 0, other: 0 };
	const tunnelPorts = new Set<number>();
	for (const packet of packets) {
		const { outer, tunnel } = packet;
		const fault = (what: string): void => {
			faults.push(`frame ${packet.number} ${outer.source} > ${outer.destination}: ${what}`);
		};
		const { source, destination } = tunnel?.inner ?? outer;
		const [from, to] = [podNode(source), podNode(destination)];
		for (const layer of packet.badChecksums) fault(`${layer} checksum`);
		if (packet.length > 1514) fault(`${packet.length} bytes`);
		if (packet.destinationMac !== macs.receiver) fault(`to MAC ${packet.destinationMac}`);
		if (tunnel === undefined && (from === undefined || to === undefined)) {
			ways.other++;
			if (from !== undefined || to !== undefined) fault("one end is a Pod, and not in a tunnel");
			continue;
		}
		if (from === undefined || to !== receiver) {
			fault(`carries ${source} > ${destination}`);
			continue;
		}
		const way = tunnel === undefined ? "direct" : "tunnel";
		const what = `${from} → ${to} IPv${familyOf(source)} ${way}`;
		const count = seen.get(what) ?? { packets: 0, bytes: 0 };
		count.packets++;
		count.bytes +=
			packet.length - 14 - (tunnel === undefined ? 0 : OVERHEAD[familyOf(outer.source)]);
		seen.set(what, count);
		const path = cluster.expectedPath(from, to);
		const near = cluster.sameSubnet(from, to);
		// A packet from a Node's own process to a remote Pod has not passed a router yet.
		const firstTTL = fromNode(cluster, from, source) ? 64 : 63;
		if (packet.sourceMac !== (near ? senders.get(from) : router))
			fault(`from MAC ${packet.sourceMac}`);
		if (tunnel === undefined) {
			ways.direct++;
			if (path !== "direct" && path !== "routed") fault(`bare, expected ${path}`);
			if (outer.ttl !== (near ? firstTTL : firstTTL - 1)) fault(`TTL ${outer.ttl}`);
			continue;
		}
		ways.tunnel++;
		tunnelPorts.add(tunnel.sourcePort);
		const family = familyOf(source);
		const is = {
			type: tunnel.type,
			source: outer.source,
			destination: outer.destination,
			port: tunnel.destinationPort,
			vni: tunnel.vni,
			checksum: tunnel.checksum,
			ttl: outer.ttl,
			dontFragment: tunnel.dontFragment,
			flags: tunnel.flags,
			options: tunnel.options,
			innerTTL: tunnel.inner.ttl,
			innerSource: tunnel.sourceMac,
			innerDestination: tunnel.destinationMac,
			sourcePort: tunnel.sourcePort >= 49152,
		};
		const wanted = {
			type: path,
			source: lab.address(from, family),
			destination: lab.address(to, family),
			port: cluster.tunnelPort(),
			vni: cluster.settings.tunnelVNI ?? 1,
			checksum: 0,
			ttl: near ? 64 : 63,
			dontFragment: family === 4 ? true : undefined,
			flags: tunnel.type === "geneve" ? 0 : 0x0800,
			options: 0,
			innerTTL: firstTTL,
			innerSource: macs.gateways.get(from),
			innerDestination: INNER_DESTINATION_MAC,
			sourcePort: true,
		};
		for (const [field, value] of Object.entries(wanted))
			if (is[field as keyof typeof is] !== value)
				fault(`${field} ${is[field as keyof typeof is]}, expected ${value}`);
	}
	t.same(faults.slice(0, 20), [], `${packets.length} packets to ${receiver} are right`);
	const paths = new Set(
		lab.topology.nodes
			.filter(({ name }) => name !== receiver && name !== "node4")
			.map(({ name }) => cluster.expectedPath(name, receiver)),
	);
	const tunnelled = paths.has("geneve") || paths.has("vxlan");
	t.equal(ways.tunnel > 0, tunnelled, `${ways.tunnel} packets in a tunnel`);
	const direct = paths.has("direct") || paths.has("routed");
	t.equal(ways.direct > 0, direct, `${ways.direct} packets without`);
	if (tunnelled) t.ok(tunnelPorts.size > 4, `${tunnelPorts.size} tunnel source ports`);
}

/** The Node whose Pod, or gateway, has an address. */
function podNodes({ lab }: Cluster): (address: string) => string | undefined {
	const nodes = new Map<string, string>();
	for (const [label, { addresses }] of lab.attachments)
		for (const address of Object.values(addresses)) nodes.set(address, nodeOf(lab, label) ?? "");
	for (const { name, podCIDRs } of lab.topology.nodes)
		for (const cidr of podCIDRs) nodes.set(gatewayOf(cidr), name);
	return (address) => nodes.get(address);
}

function fromNode({ lab }: Cluster, node: string, source: string): boolean {
	const known = lab.topology.nodes.find(({ name }) => name === node);
	return known?.podCIDRs.some((cidr) => gatewayOf(cidr) === source) ?? false;
}

/** The first address of a pod CIDR of the example. */
function gatewayOf(cidr: string): string {
	return cidr.replace(/\.0\/\d+$/, ".1").replace(/::\/\d+$/, "::1");
}
