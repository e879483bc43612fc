/** from_wire, at TC and at XDP: tunnels, answers, and packets that must not get in. */
import t from "tap";
import { Hook, PeerFlag } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { serviceOf } from "./services.js";
import { atXdp, fromHost, fromPod, fromWire, type PacketRow, runRows, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, geneve6, outside, nodeAddress, gateway } = world;
const DATA = Buffer.from("straight through");
/** What answers would go to many with, or to this Node. */
const nobodys = {
	4: ["224.0.0.5", "239.1.2.3", "255.255.255.255", "0.0.0.0", "127.0.0.1"],
	6: ["ff02::1", "ff0e::5", "::", "::1"],
};

function intoPod(pod: world.Pod, packet: Buffer): Buffer {
	return build.frame({ source: world.GATEWAY_MAC, destination: pod.mac }, packet);
}

/** An IPv4 packet, one bit of its header's checksum turned round on the way. */
function corrupted(packet: Buffer): Buffer {
	const copy = Buffer.from(packet);
	copy[10]! ^= 0x10;
	return copy;
}

function intoHost(packet: Buffer): Buffer {
	return build.frame({ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC }, packet);
}

function rows(family: 4 | 6, hook: number): PacketRow[] {
	const xdp = hook === Hook.FROM_WIRE_XDP;
	const udp = build.udp(1000, 2000, DATA);
	const tcp = build.tcp(1000, 2000, { payload: DATA });
	const at = (packet: Buffer, mac?: string) => ({ ...fromWire(packet, mac), hook });
	const from = (peer: world.PeerFacts, more: Partial<build.IpOptions> = {}, segment = udp) =>
		build.ip({ source: peer.pod[family], destination: podA[family], ...more }, segment);
	const refused = (shows: string, packet: Buffer, drop: string, mac?: string): PacketRow => ({
		shows,
		packet: at(packet, mac),
		action: "drop",
		drop,
	});
	const ask = (port: number) =>
		fromPod(
			podA,
			build.ip({ source: podA[family], destination: outside[family] }, build.udp(port, 53, DATA)),
		);
	const answer = (port: number, ttl = 64) =>
		build.ip(
			{ source: outside[family], destination: nodeAddress[family], ttl },
			build.udp(53, port, DATA),
		);

	return [
		...[geneve4, vxlan4, geneve6].map(
			(peer): PacketRow => ({
				shows: `a tunnel from peer ${peer.id} is stripped, one hop less`,
				packet: at(
					tunnelled(peer, from(peer), { kind: peer === vxlan4 ? "vxlan" : "geneve" }),
					peer.mac,
				),
				action: "endpoint",
				device: podA.interface,
				out: intoPod(podA, from(peer, { ttl: 63 })),
			}),
		),
		{
			shows: "a direct packet from a peer",
			packet: at(from(direct), direct.mac),
			action: "endpoint",
			out: intoPod(podA, from(direct, { ttl: 63 })),
		},
		...foreignRows(family, at),
		{
			shows: "a tunnel of a type that is not ours yet",
			node: { config: { vxlanPort: 0 } },
			packet: at(tunnelled(vxlan4, from(vxlan4), { kind: "vxlan" })),
			action: "endpoint",
			out: intoPod(podA, from(vxlan4, { ttl: 63 })),
		},
		{
			shows: "a tunnel on a port that is not ours yet",
			packet: at(tunnelled(geneve4, from(geneve4), { port: 7777 })),
			action: "endpoint",
			out: intoPod(podA, from(geneve4, { ttl: 63 })),
		},
		{
			shows: "an option that need not be known is skipped",
			packet: at(
				tunnelled(geneve4, from(geneve4), { geneve: { options: build.geneveOption(1, 3) } }),
			),
			action: "endpoint",
			out: intoPod(podA, from(geneve4, { ttl: 63 })),
		},
		refused(
			"an option that must be known",
			tunnelled(geneve4, from(geneve4), {
				geneve: { options: build.geneveOption(0x80, 1), flags: 0x40 },
			}),
			"tunnel_critical_option",
		),
		refused(
			"a tunnel of somebody else",
			tunnelled(geneve4, from(geneve4), {
				outer: { source: world.silent[geneve4.outerFamily] },
			}),
			"tunnel_unknown_peer",
		),
		{
			shows:
				"a tunnel to an address of the Node that peers do not know is not theirs alone to send",
			packet: at(
				tunnelled(geneve4, from(geneve4), {
					outer: { destination: world.unknownAddress[geneve4.outerFamily] },
				}),
			),
			action: "pass",
		},
		{
			shows: "nor on a port that is not ours",
			packet: at(
				tunnelled(geneve4, from(geneve4), {
					port: 7777,
					outer: { destination: world.unknownAddress[geneve4.outerFamily] },
				}),
			),
			action: "pass",
		},
		refused(
			"another network's tunnel",
			tunnelled(geneve4, from(geneve4), { vni: world.VNI + 1 }),
			"tunnel_bad_vni",
		),
		refused(
			"a Geneve of another version",
			tunnelled(geneve4, from(geneve4), { geneve: { version: 1 } }),
			"tunnel_malformed",
		),
		refused(
			"an outer IPv4 header whose checksum is wrong",
			corrupted(tunnelled(geneve4, from(geneve4))),
			"tunnel_malformed",
		),
		refused(
			"a peer that sends for another",
			tunnelled(geneve4, from(direct)),
			"tunnel_wrong_source",
		),
		refused(
			"a peer that sends as this Node's Pod",
			tunnelled(geneve4, from(direct, { source: podB[family] })),
			"tunnel_wrong_source",
		),
		refused(
			"a tunnel to another Node's Pods",
			tunnelled(geneve4, from(geneve4, { destination: direct.pod[family] })),
			"tunnel_wrong_destination",
		),
		refused(
			"an inner multicast frame",
			tunnelled(geneve4, from(geneve4), {
				macs: { source: geneve4.mac, destination: "01:00:5e:00:00:01" },
			}),
			"tunnel_malformed",
		),
		refused(
			"congestion that was marked on a packet without ECN",
			tunnelled(geneve4, from(geneve4), { outer: { trafficClass: 3 } }),
			"tunnel_ecn",
		),
		{
			shows: "congestion that was marked on the way is told to the Pod",
			packet: at(
				tunnelled(geneve4, from(geneve4, { trafficClass: 2 }), { outer: { trafficClass: 3 } }),
			),
			action: "endpoint",
			out: intoPod(podA, from(geneve4, { trafficClass: 3, ttl: 63 })),
		},
		refused(
			"one of our Pods from outside",
			build.ip({ source: podB[family], destination: podA[family] }, udp),
			"martian_source",
		),
		...nobodys[family].map((source) =>
			refused(
				`from ${source}, which cannot be a host's address`,
				build.ip({ source, destination: podA[family] }, udp),
				"martian_source",
			),
		),
		refused(
			"to nobody",
			build.ip(
				{
					source: direct.pod[family],
					destination: family === 4 ? "10.244.1.99" : "fd00:10:244:1::99",
				},
				udp,
			),
			"no_endpoint",
			direct.mac,
		),
		refused("TTL 1", from(direct, { ttl: 1 }), "ttl_exceeded", direct.mac),
		{
			shows: "to the Node: passes",
			packet: at(build.ip({ source: outside[family], destination: nodeAddress[family] }, udp)),
			action: "pass",
		},
		{
			shows: "an answer to a translated Pod",
			before: [ask(50321)],
			packet: at(answer(50321)),
			action: "endpoint",
			device: podA.interface,
			out: intoPod(
				podA,
				build.ip(
					{ source: outside[family], destination: podA[family], ttl: 63 },
					build.udp(53, 50321, DATA),
				),
			),
		},
		{
			shows: "what nobody asked for is the Node's",
			packet: at(answer(50322)),
			action: "pass",
		},
		{
			shows: "TCP in a tunnel",
			packet: at(tunnelled(geneve4, from(geneve4, {}, tcp)), geneve4.mac),
			...(xdp
				? {
						action: "pass",
						out: build.frame(
							{ source: world.STRIPPED, destination: world.NODE_MAC },
							from(geneve4, {}, tcp),
						),
					}
				: { action: "endpoint", out: intoPod(podA, from(geneve4, { ttl: 63 }, tcp)) }),
		},
	].map((row) => ({
		...row,
		shows: `${xdp ? "XDP" : "TC"}, IPv${family}: ${row.shows}`,
	})) as PacketRow[];
}

/** UDP between Nodes, or from anywhere, that is no tunnel of Fairway's. */
function foreignRows(family: 4 | 6, at: (packet: Buffer) => Input): PacketRow[] {
	const inner = build.ip(
		{ source: geneve4.pod[family], destination: podA[family] },
		build.udp(1000, 2000, DATA),
	);
	/** flannel's VXLAN has the VNI 1 unless it is told otherwise; its inner MACs are its own devices'. */
	const flannel = { source: "9e:11:22:33:44:55", destination: "9e:66:77:88:99:aa" };
	const passes = (shows: string, packet: Buffer, node: world.Variation = {}): PacketRow => ({
		shows,
		node,
		packet: at(packet),
		action: "pass",
	});
	const stranger = { outer: { source: world.silent[4] } };
	const geneveOnly = { config: { vxlanPort: 0 } };
	return [
		passes(
			"flannel's VXLAN with our VNI from a peer",
			tunnelled(geneve4, inner, { kind: "vxlan", port: 8472, macs: flannel }),
		),
		passes(
			"VXLAN on its IANA port from a peer, while our tunnels are Geneve",
			tunnelled(geneve4, inner, { kind: "vxlan", macs: flannel }),
			geneveOnly,
		),
		passes(
			"VXLAN on its IANA port from another host, while our tunnels are Geneve",
			tunnelled(geneve4, inner, { kind: "vxlan", ...stranger }),
			geneveOnly,
		),
		passes(
			"another network's VXLAN on its IANA port from a peer, while our tunnels are Geneve",
			tunnelled(geneve4, inner, { kind: "vxlan", vni: 4097, macs: flannel }),
			geneveOnly,
		),
	];
}

/** Untunnelled packets of whoever may not send them, and what tells. */
function untunnelledRows(family: 4 | 6, hook: number): PacketRow[] {
	const xdp = hook === Hook.FROM_WIRE_XDP;
	const udp = build.udp(1000, 2000, DATA);
	const at = (packet: Buffer, mac: string, change: Partial<build.Macs> = {}) => ({
		hook,
		packet: build.frame({ source: mac, destination: world.NODE_MAC, ...change }, packet),
		context: { ifindex: world.indexOf("wire0") },
	});
	const from = (peer: world.PeerFacts, more: Partial<build.IpOptions> = {}) =>
		build.ip({ source: peer.pod[family], destination: podA[family], ...more }, udp);
	const answered = (peer: world.PeerFacts) => [
		fromPod(
			podA,
			build.ip(
				{ source: podA[family], destination: peer.pod[family] },
				build.udp(2000, 1000, DATA),
			),
		),
	];
	const only = (peer: world.PeerFacts): world.Variation => ({
		peers: { [peer.id]: { flags: PeerFlag.TUNNELLED_ONLY } },
	});
	const other = "02:00:00:00:01:66";
	const taken = { action: "endpoint", out: intoPod(podA, from(direct, { ttl: 63 })) } as const;
	const refused = { action: "drop", drop: "peer_mac_mismatch" } as const;
	const asked = xdp ? ({ action: "pass" } as const) : refused;
	const rows: PacketRow[] = [
		{
			shows: "without a tunnel, of a peer that sends in tunnels only",
			node: only(direct),
			packet: at(from(direct), direct.mac),
			action: "drop",
			drop: "untunnelled",
		},
		{
			shows: "the same, of a flow that is known",
			node: only(direct),
			before: answered(direct),
			packet: at(from(direct), direct.mac),
			action: "drop",
			drop: "untunnelled",
		},
		{
			shows: "in a tunnel, of a peer that sends in tunnels only",
			node: only(geneve4),
			packet: at(tunnelled(geneve4, from(geneve4)), geneve4.mac),
			action: "endpoint",
		},
		{
			shows: "a new flow of a peer's address from another host of the link",
			packet: at(from(direct), other),
			...asked,
		},
		{
			shows: "the same before the peer has answered a probe: the kernel's neighbour tells",
			node: { proven: false },
			packet: at(from(direct), other),
			...asked,
		},
		{
			shows: "a MAC of zeros is no proof",
			node: { proven: false },
			packet: at(from(direct), "00:00:00:00:00:00"),
			...asked,
		},
		{
			shows: "a peer that answers no probe: the kernel's neighbour tells",
			node: { proven: false },
			packet: at(from(direct), direct.mac),
			...(xdp ? ({ action: "pass" } as const) : taken),
		},
		{
			shows: "a flow that is known stays, whatever MAC the peer has now",
			before: answered(direct),
			packet: at(from(direct), other),
			...taken,
		},
		{
			shows: "of a peer behind a router, by any MAC: nobody can tell",
			packet: at(from(world.routed), other),
			action: "endpoint",
		},
		{
			shows: "a frame for another host of the link",
			packet: at(from(direct), direct.mac, { destination: other }),
			action: "pass",
		},
	];
	if (xdp) return rows.map((row) => ({ ...row, shows: `XDP, IPv${family}: ${row.shows}` }));
	const toNode = (source: string, mac: string) =>
		at(build.ip({ source, destination: nodeAddress[family] }, udp), mac);
	rows.push(
		{
			shows: "what XDP has stripped, of a peer that sends in tunnels only",
			node: only(geneve4),
			packet: at(from(geneve4), world.STRIPPED),
			action: "endpoint",
		},
		{
			shows: "to the Node, of a peer that sends in tunnels only",
			node: only(direct),
			packet: toNode(direct.pod[family], direct.mac),
			action: "drop",
			drop: "untunnelled",
		},
		{
			shows: "to the Node, with a peer's address from another host of the link",
			packet: toNode(direct.pod[family], other),
			...refused,
		},
		{
			shows: "to the Node, with the address of a Pod of its own",
			packet: toNode(podB[family], other),
			action: "drop",
			drop: "martian_source",
		},
		...nobodys[family].map(
			(source): PacketRow => ({
				shows: `to a NodePort, from ${source}, which cannot be a host's address`,
				packet: fromWire(
					build.ip(
						{ source, destination: nodeAddress[family] },
						build.udp(1, serviceOf("mixed", family, 17).nodePort),
					),
				),
				action: "drop",
				drop: "martian_source",
			}),
		),
		{
			shows: "to the Node, with an address of its own",
			packet: toNode(gateway[family], other),
			action: "drop",
			drop: "martian_source",
		},
	);
	return rows.map((row) => ({ ...row, shows: `TC, IPv${family}: ${row.shows}` }));
}

/** What only the program behind GRO does. */
function tcRows(family: 4 | 6): PacketRow[] {
	const ports = [50400, 53] as const;
	const asked = build.ip(
		{ source: podA[family], destination: outside[family] },
		build.udp(...ports, DATA),
	);
	/** As seen by the router, after SNAT. */
	const seen = build.ip(
		{ source: nodeAddress[family], destination: outside[family], ttl: 63 },
		build.udp(...ports, DATA),
	);
	const restored = build.ip(
		{ source: podA[family], destination: outside[family], ttl: 63 },
		build.udp(...ports, DATA),
	);
	const asks = (destination: string) =>
		fromPod(podB, build.ip({ source: podB[family], destination }, build.udp(50401, 53, DATA)));
	const toPodB = (source: string) => ({ source, destination: podB[family], ttl: 63 });
	const others: [what: string, before: Input[], about: build.IpOptions][] = [
		["another Pod's connection to the outside", [asks(outside[family])], toPodB(outside[family])],
		["one to a peer's Pod", [asks(direct.pod[family])], toPodB(direct.pod[family])],
		["one of another Pod with the Node", [asks(gateway[family])], toPodB(gateway[family])],
	];
	const hostAsks = build.ip(
		{ source: nodeAddress[family], destination: direct.pod[family] },
		build.udp(50500, 53, DATA),
	);
	const answered = (more: Partial<build.IpOptions>) =>
		build.ip(
			{ source: direct.pod[family], destination: gateway[family], ...more },
			build.udp(53, 50500, DATA),
		);
	return [
		{
			shows: "an ICMP error about a translated flow goes to the Pod, its quotation restored",
			before: [fromPod(podA, asked)],
			packet: fromWire(
				build.ip(
					{ source: world.router[family], destination: nodeAddress[family] },
					build.timeExceeded(seen),
				),
			),
			action: "endpoint" as const,
			device: podA.interface,
			out: intoPod(
				podA,
				build.ip(
					{ source: world.router[family], destination: podA[family], ttl: 63 },
					build.timeExceeded(restored),
				),
			),
		},
		{
			shows: "a Pod's own error about a translated flow leaves as the Node's",
			before: [
				fromPod(podA, asked),
				fromWire(
					build.ip(
						{ source: outside[family], destination: nodeAddress[family] },
						build.udp(53, 50400, DATA),
					),
				),
			],
			packet: fromPod(
				podA,
				build.ip(
					{ source: podA[family], destination: outside[family] },
					build.unreachable(
						build.ip(
							{ source: outside[family], destination: podA[family], ttl: 63 },
							build.udp(53, 50400, DATA),
						),
					),
				),
			),
			action: "wire" as const,
			out: build.frame(
				{ source: world.NODE_MAC, destination: world.ROUTER_MAC },
				build.ip(
					{ source: nodeAddress[family], destination: outside[family], ttl: 63 },
					build.unreachable(
						build.ip(
							{ source: outside[family], destination: nodeAddress[family], ttl: 63 },
							build.udp(53, 50400, DATA),
						),
					),
				),
			),
		},
		...others.map(
			([what, before, about]): PacketRow => ({
				shows: `a Pod's error about ${what} stays: it was not sent to the Pod`,
				before,
				packet: fromPod(
					podA,
					build.ip(
						{ source: podA[family], destination: about.source },
						build.unreachable(build.ip(about, build.udp(53, 50401, DATA))),
					),
				),
				action: "drop" as const,
				drop: "icmp_unrelated",
			}),
		),
		{
			shows: "a Pod's error about no flow at all stays",
			packet: fromPod(
				podA,
				build.ip({ source: podA[family], destination: outside[family] }, build.unreachable(seen)),
			),
			action: "drop" as const,
			drop: "icmp_unrelated",
		},
		{
			shows: "an answer to the Node's own process",
			before: [fromHost(hostAsks)],
			packet: fromWire(tunnelled(geneve4, answered({})), geneve4.mac),
			action: "drop" as const,
			drop: "tunnel_wrong_source",
		},
		{
			shows: "an answer to the Node's own process, from the right peer",
			before: [fromHost(hostAsks)],
			packet: fromWire(tunnelled(direct, answered({})), direct.mac),
			action: "host" as const,
			device: "fairway0",
			out: intoHost(
				build.ip(
					{ source: direct.pod[family], destination: nodeAddress[family] },
					build.udp(53, 50500, DATA),
				),
			),
		},
		{
			shows: "a peer's Pod to the Node comes in by fairway0, TTL as it was",
			packet: fromWire(
				build.ip({ source: direct.pod[family], destination: nodeAddress[family] }, build.udp(1, 2)),
				direct.mac,
			),
			action: "host" as const,
			out: intoHost(
				build.ip({ source: direct.pod[family], destination: nodeAddress[family] }, build.udp(1, 2)),
			),
		},
		{
			shows: "the MSS of a SYN from a tunnelled peer is lowered",
			packet: fromWire(
				tunnelled(
					geneve4,
					build.ip(
						{ source: geneve4.pod[family], destination: podA[family] },
						build.tcp(1, 2, { flags: build.SYN, options: build.mss(8960) }),
					),
				),
			),
			action: "endpoint" as const,
			out: intoPod(
				podA,
				build.ip(
					{ source: geneve4.pod[family], destination: podA[family], ttl: 63 },
					build.tcp(1, 2, {
						flags: build.SYN,
						options: build.mss(1450 - (family === 4 ? 40 : 60)),
					}),
				),
			),
		},
	].map((row) => ({ ...row, shows: `IPv${family}: ${row.shows}` }));
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	const veth = new DataPath({ flowSlots: 128, vethWire: true });
	const older = new DataPath({ flowSlots: 128, hasDecapL3: false });
	t.teardown(() => {
		dataPath.close();
		older.close();
		veth.close();
	});
	for (const family of [4, 6] as const) {
		for (const hook of [Hook.FROM_WIRE, Hook.FROM_WIRE_XDP])
			runRows(t, dataPath, [...rows(family, hook), ...untunnelledRows(family, hook)]);
		runRows(t, dataPath, tcRows(family));
		t.test("without BPF_F_ADJ_ROOM_DECAP_L3", async (t) => {
			runRows(t, older, rows(family, Hook.FROM_WIRE));
		});
	}

	const whole = build.ip({ source: direct.pod[4], destination: podA[4] }, build.udp(1, 2, DATA));
	/** As left to the device by a sender's stack: only the pseudo header's sum. */
	const unfinished = Buffer.from(whole);
	let sum = 17 + 8 + DATA.length;
	for (let i = 12; i < 20; i += 2) sum += unfinished.readUInt16BE(i);
	unfinished.writeUInt16BE((sum & 0xffff) + (sum >> 16), 26);
	runRows(t, veth, [
		{
			shows: "an unfinished checksum goes up on a veth",
			packet: atXdp(fromWire(unfinished, direct.mac)),
			action: "pass",
		},
		{
			shows: "a finished one need not",
			packet: atXdp(fromWire(whole, direct.mac)),
			action: "endpoint",
		},
	]);
	runRows(t, dataPath, [
		{
			shows: "on a NIC nobody looks for unfinished checksums",
			packet: atXdp(fromWire(unfinished, direct.mac)),
			action: "endpoint",
		},
	]);
}
