/** from_pod: what a Pod may send, and how it leaves. */
import t from "tap";
import type { Packet } from "../../src/forwarder/packet.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { fromPod, inTunnel, onWire, type PacketRow, runRows } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, geneve6, routed, down, outside, nodeAddress } = world;
const DATA = Buffer.from("a fairway is deep enough to sail straight through");

/** Longer than any MTU: the ports, and chunks that a receiver would get in packets of their own. */
const bundle = Buffer.concat([Buffer.from("138813890000000100000000", "hex"), Buffer.alloc(1800)]);

function rows(family: 4 | 6): PacketRow[] {
	const udp = build.udp(1000, 2000, DATA);
	const nobody = family === 4 ? "10.244.1.77" : "fd00:10:244:1::77";
	const from = (destination: string, ttl = 64, more: Partial<build.IpOptions> = {}) =>
		build.ip({ source: podA[family], destination, ttl, ...more }, udp);
	const udpTo = (destination: string, payload: Buffer) =>
		build.ip({ source: podA[family], destination }, build.udp(5000, 7777, payload));
	const inside = build.frame(
		{ source: podA.mac, destination: geneve4.mac },
		build.ip({ source: podB[family], destination: geneve4.pod[family] }, udp),
	);
	const syn = (mss: number) => build.tcp(1000, 80, { flags: build.SYN, options: build.mss(mss) });
	const overhead = family === 4 ? 40 : 60;
	const filled = (length: number, more: Partial<build.IpOptions> = {}) =>
		build.ip(
			{ source: podA[family], destination: geneve4.pod[family], ...more },
			build.udp(1, 2, Buffer.alloc(length - (family === 4 ? 28 : 48))),
		);
	return [
		{
			shows: "to a direct peer: its MAC, one hop less",
			packet: fromPod(podA, from(direct.pod[family])),
			action: "wire",
			device: "wire0",
			peer: direct.id,
			mtu: 1500,
			out: onWire(direct.mac, from(direct.pod[family], 63)),
		},
		{
			shows: "to a routed peer: the router's MAC",
			packet: fromPod(podA, from(routed.pod[family])),
			action: "wire",
			out: onWire(world.ROUTER_MAC, from(routed.pod[family], 63)),
		},
		{
			shows: "to a Geneve peer",
			packet: fromPod(podA, from(geneve4.pod[family], 64, { trafficClass: 0xb9 })),
			action: "wire",
			mtu: 1450,
			out: inTunnel(geneve4, from(geneve4.pod[family], 63, { trafficClass: 0xb9 }), 0xb9),
		},
		{
			shows: "to a VXLAN peer",
			packet: fromPod(podA, from(vxlan4.pod[family])),
			action: "wire",
			out: inTunnel(vxlan4, from(vxlan4.pod[family], 63)),
		},
		{
			shows: "to a Geneve peer over IPv6",
			packet: fromPod(podA, from(geneve6.pod[family])),
			action: "wire",
			out: inTunnel(geneve6, from(geneve6.pod[family], 63)),
		},
		{
			shows: "to a peer that is down",
			packet: fromPod(podA, from(down.pod[family])),
			action: "drop",
			drop: "peer_down",
			peer: down.id,
		},
		{
			shows: "to a Pod of this Node",
			packet: fromPod(podA, from(podB[family])),
			action: "endpoint",
			device: podB.interface,
			out: build.frame(
				{ source: world.GATEWAY_MAC, destination: podB.mac },
				from(podB[family], 63),
			),
		},
		{
			shows: "to an address of the Pods' that nobody has",
			packet: fromPod(podA, from(family === 4 ? "10.244.1.77" : "fd00:10:244:1::77")),
			action: "drop",
			drop: "no_endpoint",
			up: "no_host",
		},
		{
			shows: "an ICMP error to an address that nobody has: nobody is told",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: nobody },
					build.unreachable(
						build.ip({ source: nobody, destination: podA[family] }, build.udp(53, 1000, DATA)),
					),
				),
			),
			action: "drop",
			drop: "no_endpoint",
			up: "ttl_exceeded",
		},
		{
			shows: "to the Node itself: as it is",
			packet: fromPod(podA, from(nodeAddress[family], 1)),
			action: "pass",
			out: fromPod(podA, from(nodeAddress[family], 1)).packet,
		},
		{
			shows: "to the outside: the Node's address and a port of its range",
			packet: fromPod(podA, from(outside[family])),
			action: "wire",
			out: ({ key }: Packet) => {
				if (key.sourcePort < 49152) throw new Error(`the port is ${key.sourcePort}`);
				return onWire(
					world.ROUTER_MAC,
					build.ip(
						{ source: nodeAddress[family], destination: outside[family], ttl: 63 },
						build.udp(key.sourcePort, 2000, DATA),
					),
				);
			},
		},
		{
			shows: "to the outside from a port of the range: it keeps the port",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: outside[family] },
					build.udp(50123, 2000, DATA),
				),
			),
			action: "wire",
			out: onWire(
				world.ROUTER_MAC,
				build.ip(
					{ source: nodeAddress[family], destination: outside[family], ttl: 63 },
					build.udp(50123, 2000, DATA),
				),
			),
		},
		{
			shows: "without SNAT the Pod's address goes out",
			node: { config: { flags: 1 } },
			packet: fromPod(podA, from(outside[family])),
			action: "wire",
			out: onWire(world.ROUTER_MAC, from(outside[family], 63)),
		},
		{
			shows: "to what is excluded from SNAT",
			packet: fromPod(podA, from(world.excluded[family])),
			action: "wire",
			out: onWire(world.ROUTER_MAC, from(world.excluded[family], 63)),
		},
		{
			shows: "a bundle of SCTP packets goes directly, however long it is",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: direct.pod[family] },
					build.protocol(132, bundle),
				),
				{ gsoSize: 0xffff, gsoSegments: 2 },
			),
			action: "wire",
		},
		{
			shows: "a bundle of SCTP packets goes to a Pod of this Node",
			packet: fromPod(
				podA,
				build.ip({ source: podA[family], destination: podB[family] }, build.protocol(132, bundle)),
				{ gsoSize: 0xffff, gsoSegments: 2 },
			),
			action: "endpoint",
		},
		{
			shows: "a bundle of SCTP packets does not go into a tunnel",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: geneve4.pod[family] },
					build.protocol(132, bundle),
				),
				{ gsoSize: 0xffff, gsoSegments: 2 },
			),
			action: "drop",
			drop: "sctp_bundle",
		},
		{
			shows: "to where the route is unreachable: the Pod is told",
			packet: fromPod(podA, from(world.unreachableHost[family])),
			action: "drop",
			drop: "no_route",
			up: "unreachable",
		},
		{
			shows: "to where the route prohibits: the Pod is told",
			packet: fromPod(podA, from(world.prohibitedHost[family])),
			action: "drop",
			drop: "no_route",
			up: "prohibited",
		},
		{
			shows: "into a blackhole: nobody is told",
			packet: fromPod(podA, from(world.blackholeHost[family])),
			action: "drop",
			drop: "no_route",
			up: "ttl_exceeded",
		},
		{
			shows: "what a peer would take for a tunnel",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: direct.transport[family] },
					build.udp(1, 6081, DATA),
				),
			),
			action: "drop",
			drop: "tunnel_from_pod",
		},
		...[build.geneve({ vni: world.VNI }, inside), build.vxlan(world.VNI, inside, 0x0c)].map(
			(payload, i): PacketRow => {
				// A receiver ignores what is reserved (RFC 7348, 5; RFC 8926, 3.4).
				payload[7] = 0x01;
				return {
					shows: `what a peer with a new port would take for our ${["Geneve", "VXLAN"][i]}, reserved bits set`,
					packet: fromPod(podA, udpTo(geneve4.transport[family], payload)),
					action: "drop",
					drop: "tunnel_from_pod",
				};
			},
		),
		{
			shows: "UDP to a peer's Node that begins like a tunnel but has no frame inside",
			packet: fromPod(
				podA,
				udpTo(geneve4.transport[family], build.vxlan(world.VNI, Buffer.alloc(20, 0x61))),
			),
			action: "wire",
		},
		{
			shows: "another's address",
			packet: fromPod(podA, build.ip({ source: podB[family], destination: outside[family] }, udp)),
			action: "drop",
			drop: "spoofed_address",
		},
		{
			shows: "another's MAC",
			packet: {
				...fromPod(podA, from(outside[family])),
				packet: build.frame(
					{ source: podB.mac, destination: world.GATEWAY_MAC },
					from(outside[family]),
				),
			},
			action: "drop",
			drop: "spoofed_mac",
		},
		{
			shows: "multicast beyond the link",
			packet: fromPod(podA, from(family === 4 ? "239.1.1.1" : "ff05::1")),
			action: "drop",
			drop: "multicast",
		},
		{
			shows: "multicast on the link",
			packet: fromPod(podA, from(family === 4 ? "224.0.0.22" : "ff02::16")),
			action: "pass",
		},
		...(family === 4 ? ["0.0.0.0", "0.1.2.3", "127.0.0.1"] : ["::", "::1"]).map((nobody) => ({
			shows: `nobody's address, ${nobody}`,
			packet: fromPod(podA, from(nobody)),
			action: "drop" as const,
			drop: "martian_destination" as const,
		})),
		{
			shows: "TTL 1 goes no further",
			packet: fromPod(podA, from(direct.pod[family], 1)),
			action: "drop",
			drop: "ttl_exceeded",
		},
		{
			shows: "what just fits into the tunnel",
			packet: fromPod(podA, filled(1450)),
			action: "wire",
			mtu: 1450,
		},
		{
			shows: "one byte more",
			packet: fromPod(podA, filled(1451)),
			action: "drop",
			drop: "packet_too_big",
			mtu: 1450,
		},
		{
			shows: "a GSO packet whose segments fit",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: direct.pod[family] },
					build.tcp(1, 2, { payload: Buffer.alloc(2800) }),
				),
				{ gsoSize: 1500 - overhead, gsoSegments: 2 },
			),
			action: "wire",
		},
		{
			shows: "a GSO packet whose segments do not fit",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: geneve4.pod[family] },
					build.tcp(1, 2, { payload: Buffer.alloc(2800) }),
				),
				{ gsoSize: 1500 - overhead, gsoSegments: 2 },
			),
			action: "drop",
			drop: "packet_too_big",
			mtu: 1450,
		},
		{
			shows: "the MSS of a SYN to a tunnelled peer is lowered",
			packet: fromPod(
				podA,
				build.ip({ source: podA[family], destination: vxlan4.pod[family] }, syn(1460)),
			),
			action: "wire",
			out: inTunnel(
				vxlan4,
				build.ip(
					{ source: podA[family], destination: vxlan4.pod[family], ttl: 63 },
					syn(1450 - overhead),
				),
			),
		},
		{
			shows: "a smaller MSS stays",
			packet: fromPod(
				podA,
				build.ip({ source: podA[family], destination: vxlan4.pod[family] }, syn(536)),
			),
			action: "wire",
			out: inTunnel(
				vxlan4,
				build.ip({ source: podA[family], destination: vxlan4.pod[family], ttl: 63 }, syn(536)),
			),
		},
		{
			shows: "before the agent has configured the Node",
			node: { config: { flags: 0 } },
			packet: fromPod(podA, from(direct.pod[family])),
			action: "drop",
			drop: "not_configured",
		},
	].map((row) => ({ ...row, shows: `IPv${family}: ${row.shows}` })) as PacketRow[];
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const macs = { source: podA.mac, destination: world.GATEWAY_MAC };
	const pod = { hook: 0, context: { ifindex: world.indexOf(podA.interface) } };
	runRows(t, dataPath, [
		...rows(4),
		...rows(6),
		{
			shows: "a VLAN tag does not",
			packet: {
				...pod,
				packet: build.vlan(
					build.frame(
						macs,
						build.ip({ source: podA[4], destination: outside[4] }, build.udp(1, 2)),
					),
					7,
				),
			},
			action: "drop",
			drop: "unsupported_ethertype",
		},
		{
			shows: "UDP from a link-local address does not pass",
			packet: fromPod(
				podA,
				build.ip({ source: "fe80::1", destination: outside[6] }, build.udp(1, 2)),
			),
			action: "drop",
			drop: "spoofed_address",
		},
		{
			shows: "an IPv4-mapped source is not that IPv4 Pod",
			packet: fromPod(
				podA,
				Buffer.concat([
					Buffer.from("6000000000081140", "hex"),
					Buffer.from("00000000000000000000ffff0af40102", "hex"),
					Buffer.from("20010db8000000000000000000000007", "hex"),
					Buffer.from("0001000200080000", "hex"),
				]),
			),
			action: "drop",
			drop: "malformed",
		},
		{
			shows: "IPv4 without DF above the MTU goes up to be fragmented",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[4], destination: geneve4.pod[4], dontFragment: false },
					build.udp(1, 2, Buffer.alloc(1460)),
				),
			),
			action: "slow_path",
			mtu: 1450,
		},
		{
			shows: "IPv4 options stay where they are",
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[4], destination: direct.pod[4], options: Buffer.from([1, 1, 1, 0]) },
					build.udp(1, 2, DATA),
				),
			),
			action: "wire",
			out: onWire(
				direct.mac,
				build.ip(
					{
						source: podA[4],
						destination: direct.pod[4],
						ttl: 63,
						options: Buffer.from([1, 1, 1, 0]),
					},
					build.udp(1, 2, DATA),
				),
			),
		},
		{
			shows: "IPv6 extension headers are read through for SNAT",
			packet: fromPod(
				podA,
				build.ip(
					{
						source: podA[6],
						destination: outside[6],
						extensions: [build.extension(build.HOP_BY_HOP), build.authentication()],
					},
					build.udp(50001, 2, DATA),
				),
			),
			action: "wire",
			out: onWire(
				world.ROUTER_MAC,
				build.ip(
					{
						source: nodeAddress[6],
						destination: outside[6],
						ttl: 63,
						extensions: [build.extension(build.HOP_BY_HOP), build.authentication()],
					},
					build.udp(50001, 2, DATA),
				),
			),
		},
	]);
}
