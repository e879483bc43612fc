/** from_host: what the Node itself sends to Pods on other Nodes. */
import t from "tap";
import type { Packet } from "../../src/forwarder/packet.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import {
	fromHost,
	fromSlowPath,
	fromWire,
	inTunnel,
	onWire,
	type PacketRow,
	runRows,
} from "./table.js";
import * as world from "./world.js";

const { direct, geneve4, outside, nodeAddress, gateway } = world;
const DATA = Buffer.from("a harbour speaks");

function rows(family: 4 | 6): PacketRow[] {
	const udp = build.udp(1000, 2000, DATA);
	const rows: PacketRow[] = [
		{
			shows: "a Node process to a remote Pod takes the gateway address",
			packet: fromHost(
				build.ip({ source: nodeAddress[family], destination: direct.pod[family] }, udp),
			),
			action: "wire",
			out: ({ key }: Packet) =>
				onWire(
					direct.mac,
					build.ip(
						{ source: gateway[family], destination: direct.pod[family] },
						build.udp(key.sourcePort, 2000, DATA),
					),
				),
		},
		{
			shows: "the slow path to the outside: as it is, by the next hop",
			packet: fromSlowPath(
				build.ip({ source: nodeAddress[family], destination: outside[family], ttl: 63 }, udp),
			),
			action: "wire",
			out: onWire(
				world.ROUTER_MAC,
				build.ip({ source: nodeAddress[family], destination: outside[family], ttl: 63 }, udp),
			),
		},
		{
			shows: "anybody else to the outside: no route of fairway0's leads there",
			packet: fromHost(
				build.ip({ source: nodeAddress[family], destination: outside[family] }, udp),
			),
			action: "drop",
			drop: "no_route",
		},
		{
			shows: "the gateway address to a remote Pod: as it is, in the tunnel",
			packet: fromHost(
				build.ip({ source: gateway[family], destination: geneve4.pod[family] }, udp),
			),
			action: "wire",
			out: inTunnel(
				geneve4,
				build.ip({ source: gateway[family], destination: geneve4.pod[family] }, udp),
			),
		},
		{
			shows: "the Node's answer to a Pod that came past the tunnel goes back so",
			before: [
				fromWire(
					build.ip(
						{ source: geneve4.pod[family], destination: nodeAddress[family] },
						build.udp(7, 8, DATA),
					),
				),
			],
			packet: fromHost(
				build.ip(
					{ source: nodeAddress[family], destination: geneve4.pod[family] },
					build.udp(8, 7, DATA),
				),
			),
			action: "wire",
			out: onWire(
				geneve4.mac,
				build.ip(
					{ source: nodeAddress[family], destination: geneve4.pod[family] },
					build.udp(8, 7, DATA),
				),
			),
		},
		{
			shows: "fairway0 is for peers' Pods only",
			packet: fromHost(
				build.ip({ source: nodeAddress[family], destination: outside[family] }, udp),
			),
			action: "drop",
			drop: "no_route",
		},
		{
			shows:
				"an ICMP error of a socket about an answer to it leaves translated as the answer's flow",
			before: [
				fromHost(
					build.ip(
						{ source: nodeAddress[family], destination: direct.pod[family] },
						build.udp(50600, 53, DATA),
					),
				),
			],
			packet: fromHost(
				build.ip(
					{ source: nodeAddress[family], destination: direct.pod[family] },
					build.unreachable(
						build.ip(
							{ source: direct.pod[family], destination: nodeAddress[family] },
							build.udp(53, 50600, DATA),
						),
					),
				),
			),
			action: "wire",
			out: onWire(
				direct.mac,
				build.ip(
					{ source: gateway[family], destination: direct.pod[family] },
					build.unreachable(
						build.ip(
							{ source: direct.pod[family], destination: gateway[family] },
							build.udp(53, 50600, DATA),
						),
					),
				),
			),
		},
	];
	return rows.map((row) => ({ ...row, shows: `IPv${family}: ${row.shows}` }));
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	runRows(t, dataPath, [...rows(4), ...rows(6)]);
}
