/**
 * The counters of a peer's packets on the fast path and the slow path: one Node's count of packets sent
 * directly equals the other's count of packets received directly.
 */
import t, { type Test } from "tap";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { inNamespace } from "./namespace.js";
import { atXdp, fresh, fromHost, fromPod, fromWire, tunnelled } from "./table.js";
import * as world from "./world.js";

const { direct, geneve4, gateway, nodeAddress, podA } = world;

type Family = 4 | 6;
/** Counters that are not 0, without the bytes. */
type Counts = Record<string, number>;

interface Case {
	shows: string;
	peer: world.PeerFacts;
	packets: Input[];
	counts: Counts;
}

/** A UDP datagram in an IP packet of this length. */
function datagram(how: build.IpOptions, length: number): Buffer {
	return build.ip(
		how,
		build.udp(7, 8, Buffer.alloc(length - (how.source.includes(":") ? 48 : 28))),
	);
}

function cases(family: Family): Case[] {
	const headers = family === 4 ? 40 : 60;
	const out = (peer: world.PeerFacts) => ({ source: podA[family], destination: peer.pod[family] });
	const back = (peer: world.PeerFacts) => ({ source: peer.pod[family], destination: podA[family] });
	const from = (peer: world.PeerFacts) => fromWire(tunnelled(peer, datagram(back(peer), 1281)));
	const bare = (length: number) => fromWire(datagram(back(direct), length));
	const begin = fromPod(podA, datagram(out(direct), 100));
	const beginTunnel = fromPod(podA, datagram(out(geneve4), 100));
	const tcp = (side: build.IpOptions, bytes: number) =>
		build.ip(side, build.tcp(7, 8, { payload: Buffer.alloc(bytes) }));
	const segments = (bytes: number, gsoSize: number, gsoSegments: number) =>
		fromPod(podA, tcp(out(direct), bytes), { gsoSize, gsoSegments });
	const received = { receivedPackets: 1, receivedLarge: 1 };
	const stripped = { receivedTunnelPackets: 1, receivedTunnelLarge: 1 };
	const native = { source: direct.pod[family], destination: nodeAddress[family] };
	return [
		{
			shows: "sent directly: above 1280 bytes it is large",
			peer: direct,
			packets: [1280, 1281].map((length) => fromPod(podA, datagram(out(direct), length))),
			counts: { directPackets: 2, directLarge: 1 },
		},
		{
			shows: "sent directly on the fast path",
			peer: direct,
			packets: [
				begin,
				bare(100),
				...[1280, 1281].map((length) => fromPod(podA, datagram(out(direct), length))),
			],
			counts: { directPackets: 3, directLarge: 1, receivedPackets: 1 },
		},
		{
			shows: "sent directly in segments, of which the last is small",
			peer: direct,
			packets: [segments(2700, 1300, 3)],
			counts: { directPackets: 3, directLarge: 2 },
		},
		{
			shows: "sent directly in segments that nobody has counted (SKB_GSO_DODGY)",
			peer: direct,
			packets: [segments(2700, 1300, 0)],
			counts: { directPackets: 3, directLarge: 2 },
		},
		{
			shows: "sent directly in segments, of which the last is large as well",
			peer: direct,
			packets: [segments(1300 + 1281 - headers, 1300, 2)],
			counts: { directPackets: 2, directLarge: 2 },
		},
		{
			shows: "sent directly in small segments",
			peer: direct,
			packets: [segments(2000, 1280 - headers, 2)],
			counts: { directPackets: 2 },
		},
		{
			shows: "received bare: the first packet, and those that take the fast path",
			peer: direct,
			packets: [begin, bare(1281), bare(1280), bare(1281), atXdp(bare(1300))],
			counts: { directPackets: 1, receivedPackets: 4, receivedLarge: 3 },
		},
		{
			shows: "received bare and merged",
			peer: direct,
			packets: [
				{
					...fromWire(tcp(back(direct), 2600)),
					context: { ifindex: world.indexOf("wire0"), gsoSize: 1300, gsoSegments: 2 },
				},
			],
			counts: { receivedPackets: 2, receivedLarge: 2 },
		},
		{
			shows: "received in a tunnel",
			peer: geneve4,
			packets: [from(geneve4)],
			counts: { ...received, ...stripped },
		},
		{
			shows: "received in a tunnel on the fast path",
			peer: geneve4,
			packets: [beginTunnel, from(geneve4), from(geneve4)],
			counts: {
				...{ tunnelPackets: 1, receivedPackets: 2, receivedLarge: 2 },
				...{ receivedTunnelPackets: 2, receivedTunnelLarge: 2 },
			},
		},
		{
			shows: "received in a tunnel at XDP, and sent into the Pod from there",
			peer: geneve4,
			packets: [atXdp(from(geneve4)), atXdp(from(geneve4))],
			counts: {
				...{ receivedPackets: 2, receivedLarge: 2 },
				...{ receivedTunnelPackets: 2, receivedTunnelLarge: 2 },
			},
		},
		{
			shows: "stripped at XDP, for TC to go on",
			peer: geneve4,
			packets: [atXdp(fromWire(tunnelled(geneve4, tcp(back(geneve4), 1300))))],
			counts: stripped,
		},
		{
			shows: "stripped at XDP, delivered at TC",
			peer: geneve4,
			packets: [
				atXdp(fromWire(tunnelled(geneve4, tcp(back(geneve4), 1300)))),
				fromWire(tcp(back(geneve4), 1300)),
			],
			counts: { ...received, ...stripped },
		},
		{
			shows: "stripped at XDP on the fast path, delivered at TC",
			peer: geneve4,
			packets: [
				fromPod(podA, tcp(out(geneve4), 0)),
				fromWire(tcp({ ...back(geneve4) }, 0)),
				atXdp(fromWire(tunnelled(geneve4, build.ip(back(geneve4), reversed(1300))))),
				fromWire(build.ip(back(geneve4), reversed(1300))),
			],
			counts: { tunnelPackets: 1, receivedPackets: 2, receivedLarge: 1, ...stripped },
		},
		{
			shows: "to a gateway address",
			peer: direct,
			packets: [fromWire(datagram({ ...back(direct), destination: gateway[family] }, 1281))],
			counts: received,
		},
		{
			shows: "to another address of the Node: not as a peer's",
			peer: direct,
			packets: [fromWire(datagram(native, 1281))],
			counts: {},
		},
		{
			shows: "and what the Node answers past the tunnel neither",
			peer: direct,
			packets: [
				fromWire(build.ip(native, build.udp(7, 8))),
				fromHost(
					build.ip({ source: native.destination, destination: native.source }, build.udp(8, 7)),
				),
			],
			counts: {},
		},
		{
			shows: "to a Pod that is gone: it has come all the same",
			peer: direct,
			packets: [
				fromWire(
					datagram(
						{
							...back(direct),
							destination: family === 4 ? "10.244.1.77" : "fd00:10:244:1::77",
						},
						1281,
					),
				),
			],
			counts: received,
		},
		{
			shows: "whose TTL ends here: it has come all the same",
			peer: direct,
			packets: [fromWire(datagram({ ...back(direct), ttl: 1 }, 1281))],
			counts: received,
		},
	];
}

/** TCP in the direction of the answers. */
function reversed(bytes: number): build.Segment {
	return build.tcp(8, 7, { payload: Buffer.alloc(bytes) });
}

async function countsAfter(
	t: Test,
	core: DataPath,
	tables: MemoryTables,
	packets: Input[],
	index: number,
): Promise<Counts> {
	for (const packet of packets) {
		t.same((await check(core, tables, packet)).differences, [], "the forwarder says the same");
	}
	const counts = Object.entries(core.counter(index))
		.filter(([field, value]) => value !== 0n && !field.endsWith("Bytes"))
		.map(([field, value]) => [field, Number(value)] as const);
	return Object.fromEntries(counts);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const core = new DataPath({ flowSlots: 128 });
	t.teardown(() => core.close());
	for (const family of [4, 6] as const) {
		for (const { shows, peer, packets, counts } of cases(family)) {
			t.test(`IPv${family}: ${shows}`, async (t) => {
				const tables = await fresh(core);
				const index = peer.id * 2 + (family === 6 ? 1 : 0);
				t.strictSame(await countsAfter(t, core, tables, packets, index), counts);
			});
		}
	}
}
