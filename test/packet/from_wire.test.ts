/** from_wire, at TC and at XDP: tunnels, answers, and packets that must not get in. */
import t from "tap";
import { Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { atXdp, fromHost, fromPod, fromWire, type PacketRow, runRows, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, geneve6, outside, nodeAddress, gateway } = world;
const DATA = Buffer.from("straight through");

function intoPod(pod: world.Pod, packet: Buffer): Buffer {
	return build.frame({ source: world.GATEWAY_MAC, destination: pod.mac }, packet);
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
	const refused = (shows: string, packet: Buffer, drop: string): PacketRow => ({
		shows,
		packet: at(packet),
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
		),
		refused("TTL 1", from(direct, { ttl: 1 }), "ttl_exceeded"),
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
							{ source: geneve4.mac, destination: world.NODE_MAC },
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
			runRows(t, dataPath, rows(family, hook));
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
			packet: atXdp(fromWire(unfinished)),
			action: "pass",
		},
		{
			shows: "a finished one need not",
			packet: atXdp(fromWire(whole)),
			action: "endpoint",
		},
	]);
	runRows(t, dataPath, [
		{
			shows: "on a NIC nobody looks for unfinished checksums",
			packet: atXdp(fromWire(unfinished)),
			action: "endpoint",
		},
	]);
}
