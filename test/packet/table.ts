/**
 * Packet tests as rows of a table: title, packets before, the packet, the verdict, the resulting packet. A row
 * runs through the real programs and through the forwarder.
 */
import type { Test } from "tap";
import type { Packet } from "../../src/forwarder/packet.js";
import { parse } from "../../src/forwarder/packet.js";
import {
	Action,
	ActionName,
	DropReasonName,
	Hook,
	Path,
	SlowPathKindName,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import type { DataPath } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import * as world from "./world.js";

export interface PacketRow {
	shows: string;
	node?: world.Variation;
	/** Packets before it, starting with an empty flow table. */
	before?: Input[];
	packet: Input;
	/** The expected verdict: names of actions and drop reasons. */
	action: "pass" | "drop" | "endpoint" | "wire" | "host" | "slow_path" | "probe";
	drop?: string;
	/** enum slow_path_kind of what goes up; "ttl_exceeded" where nothing does. */
	up?: string;
	/** "fairway0", "wire0", ... */
	device?: string;
	mtu?: number;
	peer?: number;
	/** The resulting frame. */
	out?: Buffer | ((out: Packet) => Buffer);
}

/** Runs rows on one object. */
export function runRows(t: Test, dataPath: DataPath, rows: PacketRow[]): void {
	for (const row of rows) {
		t.test(row.shows, async (t) => {
			const tables = await fresh(dataPath, row.node);
			for (const input of row.before ?? []) {
				t.same((await check(dataPath, tables, input)).differences, []);
			}
			const input = dataPath.vethWire
				? { ...row.packet, context: { ...row.packet.context, vethWire: true } }
				: row.packet;
			const { outcome, differences } = await check(dataPath, tables, input);
			const { verdict, packet } = outcome;
			t.same(differences, [], "the forwarder says the same");
			t.equal(actionName(verdict.action), row.action);
			t.equal(DropReasonName[verdict.dropReason], row.drop ?? "none");
			if (row.up) t.equal(SlowPathKindName[verdict.slowPathKind], row.up);
			if (row.device) t.equal(verdict.ifindex, world.indexOf(row.device), `by ${row.device}`);
			if (row.mtu !== undefined) t.equal(verdict.mtu, row.mtu, "MTU");
			if (row.peer !== undefined) t.equal(verdict.peer, row.peer, "peer");
			if (row.out) {
				const read = parse(packet);
				if (!read) throw new Error("Cannot read the packet that came out");
				const expected = typeof row.out === "function" ? row.out(read) : row.out;
				t.equal(packet.toString("hex"), expected.toString("hex"), "the packet out");
			}
		});
	}
}

/** Writes this Node's tables and clears all learned state. */
export async function fresh(dataPath: DataPath, node: world.Variation = {}): Promise<MemoryTables> {
	await dataPath.forget();
	const tables = world.makeTables(dataPath.flowSlots, node);
	dataPath.write(tables);
	return tables;
}

function actionName(action: number): string | undefined {
	return ActionName[action === Action.WIRE_NEIGHBOUR ? Action.WIRE : action];
}

/** A frame from a Pod, with its MAC. */
export function fromPod(pod: world.Pod, packet: Buffer, context: object = {}): Input {
	return {
		hook: Hook.FROM_POD,
		packet: build.frame({ source: pod.mac, destination: world.GATEWAY_MAC }, packet),
		context: { ifindex: world.indexOf(pod.interface), ...context },
	};
}

/** A frame from the Node network, sent by who has its source address. */
export function fromWire(packet: Buffer, sender = senderOf(packet), hook = Hook.FROM_WIRE): Input {
	return {
		hook,
		packet: build.frame({ source: sender, destination: world.NODE_MAC }, packet),
		context: { ifindex: world.indexOf("wire0") },
	};
}

function senderOf(packet: Buffer): string {
	const source = parse(packet, 0, packet[0]! >> 4 === 6 ? 0x86dd : 0x0800)?.key.source;
	const isFrom = ({ pod, gateway, transport }: world.PeerFacts) =>
		[pod, gateway, transport].some((pair) => pair[4] === source || pair[6] === source);
	return world.peers.find(isFrom)?.mac ?? world.ROUTER_MAC;
}

export function atXdp(input: Input): Input {
	return { ...input, hook: Hook.FROM_WIRE_XDP };
}

export function fromHost(packet: Buffer): Input {
	const macs = { source: world.GATEWAY_MAC, destination: world.GATEWAY_MAC };
	return {
		hook: Hook.FROM_HOST,
		packet: build.frame(macs, packet),
		context: { ifindex: world.indexOf("fairway0") },
	};
}

/** What the slow path sends on has a source MAC of its own. */
export function fromSlowPath(packet: Buffer): Input {
	const macs = { source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC };
	return { ...fromHost(packet), packet: build.frame(macs, packet) };
}

export function toPod(pod: world.Pod, packet: Buffer): Input {
	return {
		hook: Hook.TO_POD,
		packet: build.frame({ source: world.GATEWAY_MAC, destination: pod.mac }, packet),
		context: { ifindex: world.indexOf(pod.interface) },
	};
}

/** An IP packet in a peer's tunnel to this Node. */
export function tunnelled(
	peer: world.PeerFacts,
	packet: Buffer,
	how: {
		kind?: "geneve" | "vxlan";
		vni?: number;
		port?: number;
		outer?: Partial<build.IpOptions>;
		geneve?: Partial<build.GeneveOptions>;
		macs?: build.Macs;
	} = {},
): Buffer {
	const { kind = "geneve", vni = world.VNI } = how;
	const macs = how.macs ?? { source: peer.mac, destination: "02:fa:1c:00:00:01" };
	const inner = build.frame(macs, packet);
	const family = peer.outerFamily;
	const payload =
		kind === "geneve" ? build.geneve({ vni, ...how.geneve }, inner) : build.vxlan(vni, inner);
	return build.ip(
		{
			source: peer.transport[family],
			destination: world.nodeAddress[family],
			...how.outer,
		},
		build.udp(50000, how.port ?? (kind === "geneve" ? 6081 : 4789), payload, false),
	);
}

/** A Pod's packet as a frame on the wire. */
export function onWire(mac: string, packet: Buffer): Buffer {
	return build.frame({ source: world.NODE_MAC, destination: mac }, packet);
}

/** A Pod's packet in this Node's tunnel; only the source port is taken from what came out. */
export function inTunnel(peer: world.PeerFacts, packet: Buffer, trafficClass = 0) {
	return (out: Packet): Buffer => {
		const inner = build.frame(
			{ source: world.GATEWAY_MAC, destination: "02:fa:1c:00:00:01" },
			packet,
		);
		const payload =
			peer.path === Path.VXLAN
				? build.vxlan(world.VNI, inner)
				: build.geneve({ vni: world.VNI }, inner);
		const { sourcePort, destinationPort } = out.key;
		if (sourcePort < 49152) throw new Error(`the outer source port is ${sourcePort}`);
		const family = peer.outerFamily;
		return onWire(
			peer.mac,
			build.ip(
				{
					source: world.nodeAddress[family],
					destination: peer.transport[family],
					trafficClass,
					...(family === 6 && {
						flowLabel: out.frame.readUInt32BE(out.l3) & 0xfffff,
					}),
				},
				build.udp(sourcePort, destinationPort, payload, false),
			),
		);
	};
}
