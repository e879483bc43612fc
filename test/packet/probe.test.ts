/** Probes: questions stamped and sent, answered, and their answers taken. */
import t, { type Test } from "tap";
import { type Packet, parse } from "../../src/forwarder/packet.js";
import { token } from "../../src/forwarder/probe.js";
import {
	Action,
	EventCounter,
	Limit,
	Path,
	type Peer,
	Probe,
	ProbeEvent,
	ProbeFlag,
	ProbeKind,
	ProbeWay,
	RouteKind,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { MemoryTables } from "./memory_tables.js";
import { inNamespace } from "./namespace.js";
import { fresh, fromHost, fromWire } from "./table.js";
import * as world from "./world.js";

const { direct, geneve4, vxlan4, geneve6, gateway } = world;
const { DIRECT, TUNNEL } = ProbeWay;
const WAYS = [DIRECT, TUNNEL];
const FLOW_SLOTS = 128;

type Family = 4 | 6;

interface Side {
	source: string;
	destination: string;
}

/** A question as the agent writes it; what the core writes is 0. */
function question(side: Side, length: number, change: Partial<Probe> = {}): Buffer {
	const family = side.source.includes(":") ? 6 : 4;
	const probe: Probe = {
		...{ magic: Limit.PROBE_MAGIC, kind: ProbeKind.QUESTION, flags: 0 },
		...{ wayThere: DIRECT, wayBack: DIRECT, length: 0, answerLength: length, sequence: 77 },
		...{ sentAt: 0n, token: 0n, sentPackets: 0, sentLarge: 0 },
		...{ receivedPackets: 0, receivedLarge: 0 },
		...change,
	};
	const payload = Buffer.alloc(length - (family === 4 ? 28 : 48));
	Probe.encode(probe).copy(payload);
	return build.ip(side, build.udp(Limit.PROBE_PORT, Limit.PROBE_PORT, payload));
}

/** The innermost IP packet of a frame, checksums verified. */
function unwrapped(t: Test, frame: Buffer): Packet {
	const outer = parse(frame)!;
	if (outer.key.destinationPort === Limit.PROBE_PORT) return outer;
	const inner = outer.l4 + 8 + 8 + 14;
	t.equal(outer.length, frame.length - 14, "the outer length");
	return parse(frame, inner, frame.readUInt16BE(inner - 2))!;
}

function probeOf({ frame, l4 }: Packet): Probe {
	return Probe.decode(frame, l4 + 8);
}

/** The same packet as the builder makes it: all checksums and lengths. */
function isWellFormed(t: Test, packet: Packet): void {
	const { frame, l3, l4, length, key, ttl } = packet;
	const { source, destination } = key;
	const payload = frame.subarray(l4 + 8, l3 + length);
	const expected = build.ip({ source, destination, ttl }, build.udp(6083, 6083, payload));
	t.equal(frame.subarray(l3, l3 + length).toString("hex"), expected.toString("hex"));
	t.notOk(
		payload.subarray(Probe.size).some((byte) => byte !== 0),
		"zeros behind the probe",
	);
}

/** Node A is that of world.ts, by an address that this namespace does not have; B is its peer 2. */
const A_ADDRESS = { 4: "192.168.3.11", 6: "fd00:192:168:3::11" };

function tunnelBetween(local: string, remote: string, path: number): Peer {
	const outerFamily = local.includes(":") ? 6 : 4;
	const port = path === Path.GENEVE ? Limit.GENEVE_PORT : Limit.VXLAN_PORT;
	return { path, outerFamily, port, vni: world.VNI, local, remote, mtu: 1450, nodeHash: 0n };
}

function directTo(remote: string): Peer {
	const nothing = { outerFamily: 0, port: 0, vni: 0, local: "", nodeHash: 0n };
	return { ...nothing, path: Path.ROUTED, remote, mtu: 1500 };
}

interface Pair {
	a: MemoryTables;
	b: MemoryTables;
}

function pair(outer: Family, path: number): Pair {
	const a = world.makeTables(FLOW_SLOTS);
	const b = new MemoryTables(
		FLOW_SLOTS,
		world.nodeConfig({
			gatewayAddress4: geneve4.gateway[4],
			gatewayAddress6: geneve4.gateway[6],
			probeKey: [1n, 2n],
		}),
	);
	const noPeer = { flags: 0, peer: Limit.NO_PEER };
	const id = 1;
	for (const family of [4, 6] as const) {
		const bits = family === 4 ? 32 : 128;
		const v6 = family === 6 ? 1 : 0;
		a.routes.set(`${A_ADDRESS[family]}/${bits}`, { kind: RouteKind.HOST, ...noPeer });
		b.routes.set(`${geneve4.transport[family]}/${bits}`, { kind: RouteKind.HOST, ...noPeer });
		b.routes.set(`${geneve4.gateway[family]}/${bits}`, { kind: RouteKind.HOST, ...noPeer });
		const net = family === 4 ? "10.244.1.0/24" : "fd00:10:244:1::/64";
		b.routes.set(net, { kind: RouteKind.PEER, flags: 0, peer: id });
		b.peerAddresses.set(A_ADDRESS[family], id);
		b.peerGateways.set(gateway[family], id);
		const paths = (
			tables: MemoryTables,
			index: number,
			there: string,
			here: string,
			to: string,
		) => {
			tables.peerPaths.set(index * 2 + DIRECT, directTo(to));
			tables.peerPaths.set(index * 2 + TUNNEL, tunnelBetween(here, there, path));
		};
		const { transport } = geneve4;
		paths(a, geneve4.id * 2 + v6, transport[outer], A_ADDRESS[outer], transport[family]);
		paths(b, id * 2 + v6, A_ADDRESS[outer], transport[outer], A_ADDRESS[family]);
	}
	b.onFib((destination) => a.fib({ destination, ifindex: 0 }));
	return { a, b };
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const asking = new DataPath({ flowSlots: FLOW_SLOTS });
	const answering = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => {
		asking.close();
		answering.close();
	});

	for (const family of [4, 6] as const) {
		const side = { source: gateway[family], destination: geneve4.gateway[family] };
		for (const outer of [4, 6] as const) {
			for (const path of [Path.GENEVE, Path.VXLAN]) {
				for (const wayThere of WAYS) {
					for (const wayBack of WAYS) {
						const name = `IPv${family}, ${path} over IPv${outer}: ${wayThere} there, ${wayBack} back`;
						t.test(`a round trip, ${name}`, async (t) => {
							const { a, b } = pair(outer, path);
							for (const [core, tables] of [
								[asking, a],
								[answering, b],
							] as const) {
								await core.forget();
								core.write(tables);
							}
							const asked = await check(
								asking,
								a,
								fromHost(question(side, 1400, { wayThere, wayBack, answerLength: 1300 })),
							);
							t.same(asked.differences, []);
							t.equal(asked.outcome.verdict.action, Action.WIRE_NEIGHBOUR);
							const sent = unwrapped(t, asked.outcome.packet);
							isWellFormed(t, sent);
							t.equal(probeOf(sent).length, 1400);

							const answered = await check(answering, b, arrived(asked.outcome.packet));
							t.same(answered.differences, []);
							t.equal(answered.outcome.verdict.action, Action.WIRE_NEIGHBOUR);
							t.equal(answering.event(EventCounter.PROBE_ANSWERED), 1n);
							const answer = unwrapped(t, answered.outcome.packet);
							isWellFormed(t, answer);
							t.equal(answer.length, 1300);
							t.equal(answer.key.source, side.destination);

							const taken = await check(asking, a, arrived(answered.outcome.packet));
							t.same(taken.differences, []);
							t.equal(taken.outcome.verdict.action, Action.PROBE);
							t.match(taken.decision.records, [{ event: ProbeEvent.ANSWERED, wayThere, wayBack }]);
						});
					}
				}
			}
		}
	}
}

/** What left one Node, where it comes in at the other. */
function arrived(frame: Buffer): Input {
	return fromWire(frame.subarray(14));
}
