/** Probes for tests: as written by the agent, as sent, and a pair of Nodes. */
import type { Test } from "tap";
import { type Packet, parse } from "../../src/forwarder/packet.js";
import { Limit, Path, type Peer, Probe, ProbeKind, RouteKind } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { MemoryTables } from "./memory_tables.js";
import * as world from "./world.js";

const { gateway, geneve4 } = world;

export type Family = 4 | 6;
export const { PROBE_PORT } = Limit;

const EMPTY: Probe = {
	...{ magic: Limit.PROBE_MAGIC, kind: ProbeKind.REQUEST, flags: 0, wayThere: 0, wayBack: 0 },
	...{ length: 0, answerLength: 0, sequence: 77, sentAt: 0n, token: 0n },
	...{ sentPackets: 0, sentLarge: 0, receivedPackets: 0, receivedLarge: 0 },
};

/** A UDP datagram that makes an IP packet of `length` bytes without options: the probe, then zeros. */
export function probeSegment(family: Family, length: number, change: Partial<Probe>) {
	const payload = Buffer.alloc(length - (family === 4 ? 28 : 48));
	Probe.encode({ ...EMPTY, ...change }).copy(payload);
	return build.udp(PROBE_PORT, PROBE_PORT, payload);
}

/** A request as written by the agent, for a full-size answer; the core's fields are 0. */
export function request(how: build.IpOptions, length: number, change: Partial<Probe> = {}): Buffer {
	const family = how.source.includes(":") ? 6 : 4;
	return build.ip(how, probeSegment(family, length, { answerLength: length, ...change }));
}

/** The same as sent by a peer's core. */
export function arriving(
	how: build.IpOptions,
	length: number,
	change: Partial<Probe> = {},
): Buffer {
	return request(how, length, { length, sentAt: 5n, token: 6n, ...change });
}

/** The probe in a frame, decapsulated. */
export function unwrapped(frame: Buffer): Packet {
	const outer = parse(frame)!;
	if (outer.key.destinationPort === PROBE_PORT) return outer;
	const inner = outer.l4 + 8 + 8 + 14;
	if (outer.l3 + outer.length !== frame.length) throw new Error("the outer length is wrong");
	return parse(frame, inner, frame.readUInt16BE(inner - 2))!;
}

export function probeOf({ frame, l4 }: Packet): Probe {
	return Probe.decode(frame, l4 + 8);
}

/** Checks all checksums and lengths. */
export function isWellFormed(t: Test, packet: Packet): void {
	const { frame, l3, l4, length, key, ttl } = packet;
	const payload = frame.subarray(l4 + 8, l3 + length);
	const expected = build.ip({ ...key, ttl }, build.udp(PROBE_PORT, PROBE_PORT, payload));
	t.equal(frame.subarray(l3).toString("hex"), expected.toString("hex"), "lengths and checksums");
	const rest = payload.subarray(Probe.size);
	t.equal(rest.equals(Buffer.alloc(rest.length)), true, "zeros behind the probe");
}

/** Node A's address in `pair`, which is not in this namespace, so that the kernel sends packets there. */
const A_ADDRESS = { 4: "192.168.3.11", 6: "fd00:192:168:3::11" };

/** Node A, the Node of world.ts, and its peer 2 as Node B, whose peer 1 is A. */
export function pair(
	flowSlots: number,
	outer: { a: Family; b: Family },
	path: number,
): { a: MemoryTables; b: MemoryTables } {
	const a = world.makeTables(flowSlots);
	const b = new MemoryTables(
		flowSlots,
		world.nodeConfig({
			gatewayAddress4: geneve4.gateway[4],
			gatewayAddress6: geneve4.gateway[6],
			probeKey: [1n, 2n],
		}),
	);
	b.onFib((query) => a.fib(query));
	const host = { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER };
	const peer = { kind: RouteKind.PEER, flags: 0, mtu: 0, peer: 1 };
	b.routes.set("10.244.1.0/24", peer);
	b.routes.set("fd00:10:244:1::/64", peer);
	for (const family of [4, 6] as const) {
		const bits = family === 4 ? 32 : 128;
		a.routes.set(`${A_ADDRESS[family]}/${bits}`, host);
		b.routes.set(`${geneve4.transport[family]}/${bits}`, host);
		b.routes.set(`${geneve4.gateway[family]}/${bits}`, host);
		b.peerAddresses.set(A_ADDRESS[family], 1);
		b.peerGateways.set(gateway[family], 1);
		const paths = (tables: MemoryTables, id: number, from: Pair, to: Pair, over: Family) => {
			const index = (id * 2 + (family === 6 ? 1 : 0)) * 2;
			tables.peerPaths.set(index, directTo(to[family]));
			tables.peerPaths.set(index + 1, tunnelTo(to[over], from[over], path));
		};
		paths(a, geneve4.id, A_ADDRESS, geneve4.transport, outer.a);
		paths(b, 1, geneve4.transport, A_ADDRESS, outer.b);
	}
	return { a, b };
}

type Pair = Record<Family, string>;

function tunnelTo(remote: string, local: string, path: number): Peer {
	const outerFamily = local.includes(":") ? 6 : 4;
	const port = path === Path.GENEVE ? Limit.GENEVE_PORT : Limit.VXLAN_PORT;
	return {
		path,
		outerFamily,
		port,
		vni: world.VNI,
		local,
		remote,
		mtu: 1450,
		flags: 0,
		policyEpoch: 0,
		nodeHash: 0n,
	};
}

function directTo(remote: string): Peer {
	const nothing = {
		outerFamily: 0,
		port: 0,
		vni: 0,
		local: "",
		flags: 0,
		policyEpoch: 0,
		nodeHash: 0n,
	};
	return { ...nothing, path: Path.ROUTED, remote, mtu: 1500 };
}
