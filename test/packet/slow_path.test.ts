/**
 * The slow path from end to end: a packet through the programs, up by the ring, and what the Node
 * then sends: into the Pod's interface, or out of fairway0, where from_host goes on with it.
 */
import t from "tap";
import { complement, sumWords } from "../../src/forwarder/checksum.js";
import { originalKey, replyKey } from "../../src/forwarder/flow.js";
import { fragmentKey } from "../../src/forwarder/fragments.js";
import { type Packet, parse, parseQuoted } from "../../src/forwarder/packet.js";
import { SlowPath } from "../../src/slowpath/slow_path.js";
import { readMac } from "../../src/tables/address.js";
import {
	Action,
	EndpointPolicy,
	type FragmentKey,
	Hook,
	JudgementFlag,
	Limit,
	NodeFlag,
	RouteKind,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check } from "./check.js";
import { DataPath } from "./data_path.js";
import { DeviceCapture } from "./device_capture.js";
import { inNamespace } from "./namespace.js";
import { type EndpointPolicies, NO_POLICIES, type Policies, writePolicies } from "./policies.js";
import { serviceOf, setBackends } from "./services.js";
import * as world from "./world.js";

const { podA, podB, gateway, outside, geneve4, nodeAddress, indexOf } = world;
const FLOW_SLOTS = 256;
const SLOW_PATH_MAC = "02:fa:1c:00:00:01";

function fromPod(packet: Buffer) {
	const macs = { source: podA.mac, destination: world.GATEWAY_MAC };
	return {
		hook: Hook.FROM_POD,
		packet: build.frame(macs, packet),
		context: { ifindex: indexOf(podA.interface) },
	};
}

function fromWire(packet: Buffer) {
	const macs = { source: world.ROUTER_MAC, destination: world.NODE_MAC };
	return {
		hook: Hook.FROM_WIRE,
		packet: build.frame(macs, packet),
		context: { ifindex: indexOf("wire0") },
	};
}

/** Policy 2 allows everybody, or nobody. */
function judgingBy(isAllowed: boolean, endpoint: EndpointPolicies): Policies {
	const judgement = { rule: 1, stagedRule: 0, flags: isAllowed ? JudgementFlag.ALLOW : 0 };
	return {
		...NO_POLICIES,
		classLimit: 2,
		policies: { 2: { verdict: { judgement, portSet: 0 }, hairpin: 1 } },
		endpoints: [endpoint, endpoint],
	};
}

function macsOf({ frame }: Packet): string[] {
	return [readMac(frame, 0), readMac(frame, 6)];
}

/** Every checksum of a packet that left. */
function areChecksumsRight({ frame, family, l3, l4, length, key }: Packet): boolean {
	if (family === 4 && complement(sumWords(frame.subarray(l3, l4))) !== 0) return false;
	const segment = frame.subarray(l4, l3 + length);
	if (key.protocol === 1) return complement(sumWords(segment)) === 0;
	const addresses = frame.subarray(l3 + (family === 4 ? 12 : 8), l3 + (family === 4 ? 20 : 40));
	return complement(sumWords(addresses) + key.protocol + segment.length + sumWords(segment)) === 0;
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS, readRing: false });
	const tables = world.makeTables(FLOW_SLOTS);
	dataPath.write(tables);
	const complaints: object[] = [];
	const log = { debug: () => {}, warn: (fields: object) => complaints.push(fields) };
	const slowPath = new SlowPath({ ring: dataPath.slowPathRing, tables, log });
	const devices = ["pod0", "pod1", "fairway0"] as const;
	const captures = new Map<string, DeviceCapture>();
	t.before(async () => {
		for (const device of devices) captures.set(device, await DeviceCapture.start(device));
	});
	t.teardown(async () => {
		slowPath.close();
		dataPath.close();
		for (const capture of captures.values()) await capture.stop();
	});
	t.afterEach(() => {
		tables.config = world.nodeConfig();
		dataPath.writeConfig(tables.config);
	});

	/** The next packet on a device that is `wanted`: IPv6 speaks up by itself. */
	const left = async (device: (typeof devices)[number], wanted: (packet: Packet) => boolean) => {
		for (;;) {
			const packet = parse(await captures.get(device)!.next());
			if (packet && wanted(packet)) return packet;
		}
	};
	const up = async (input: ReturnType<typeof fromPod | typeof fromWire>) => {
		const outcome = dataPath.run(input.hook, input.packet, {
			...input.context,
			now: process.hrtime.bigint(),
		});
		return outcome;
	};

	for (const family of [4, 6] as const) {
		t.test(`IPv${family}: time exceeded`, async (t) => {
			const packet = build.ip(
				{ source: podA[family], destination: outside[family], ttl: 1 },
				build.udp(33434, 33435, Buffer.alloc(32, 0x41)),
			);
			await up(fromPod(packet));
			const answer = await left("pod0", ({ icmpError }) => icmpError);
			t.equal(answer.key.source, gateway[family]);
			t.equal(answer.key.destination, podA[family]);
			t.same(macsOf(answer), [podA.mac, world.GATEWAY_MAC]);
			t.equal(answer.l4Type, family === 4 ? 11 : 3);
			t.same(answer.frame.subarray(answer.l4 + 8), packet, "quotes the packet as it came");
			t.ok(areChecksumsRight(answer));
			t.same(parseQuoted(answer)?.key.sourcePort, 33434);
		});

		t.test(`IPv${family}: a Service that refuses says so itself`, async (t) => {
			const { clusterIP } = serviceOf("empty", family, 17);
			for (const segment of [build.udp(33434, 80, Buffer.alloc(32)), build.sctp(33434, 80)]) {
				const packet = build.ip({ source: podA[family], destination: clusterIP }, segment);
				await up(fromPod(packet));
				const answer = await left("pod0", ({ icmpError }) => icmpError);
				t.equal(answer.key.source, clusterIP);
				t.equal(answer.key.destination, podA[family]);
				t.equal(answer.l4Type, family === 4 ? 3 : 1);
				t.equal(answer.frame[answer.l4 + 1], family === 4 ? 3 : 4, "port unreachable");
				t.same(answer.frame.subarray(answer.l4 + 8), packet, "quotes the packet as it came");
				t.ok(areChecksumsRight(answer));
			}
		});

		t.test(`IPv${family}: no such Pod, no route, prohibited`, async (t) => {
			const nobody = family === 4 ? "10.244.1.77" : "fd00:10:244:1::77";
			for (const [destination, type, code] of [
				[nobody, { 4: 3, 6: 1 }, { 4: 1, 6: 3 }],
				[world.unreachableHost[family], { 4: 3, 6: 1 }, { 4: 1, 6: 0 }],
				[world.prohibitedHost[family], { 4: 3, 6: 1 }, { 4: 13, 6: 1 }],
			] as const) {
				const packet = build.ip({ source: podA[family], destination }, build.tcp(1000, 80));
				await up(fromPod(packet));
				const answer = await left("pod0", ({ icmpError }) => icmpError);
				t.equal(answer.key.source, gateway[family]);
				t.equal(answer.l4Type, type[family]);
				t.equal(answer.frame[answer.l4 + 1], code[family], destination);
				t.same(answer.frame.subarray(answer.l4 + 8), packet);
			}
		});

		t.test(`IPv${family}: a next hop that does not answer`, async (t) => {
			const destination = family === 4 ? "192.168.1.99" : "fd00:192:168:1::99";
			const failed = { address: destination, ifindex: indexOf("wire0") };
			const packet = build.ip({ source: podA[family], destination }, build.tcp(1003, 80));
			const { outcome } = await check(dataPath, tables, { ...fromPod(packet), readsRecord: false });
			t.equal(outcome.verdict.action, Action.WIRE_NEIGHBOUR, "it goes on, and waits in the kernel");
			const { answered } = slowPath.counters;
			// The ring calls back within a turn of the event loop or two.
			for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
			slowPath.nextHopFailed({ ...failed, address: podA[family] });
			t.equal(slowPath.counters.answered, answered, "nobody is told of another one");
			slowPath.nextHopFailed(failed);
			const answer = await left("pod0", ({ icmpError }) => icmpError);
			t.equal(answer.key.source, gateway[family]);
			t.equal(answer.key.destination, podA[family]);
			t.same([answer.l4Type, answer.frame[answer.l4 + 1]], family === 4 ? [3, 1] : [1, 3]);
			t.same(answer.frame.subarray(answer.l4 + 8), packet, "quotes the packet as it came");
			slowPath.nextHopFailed(failed);
			t.equal(slowPath.counters.answered, answered + 1, "once");
		});

		t.test(`IPv${family}: no such Pod, to a sender outside`, async (t) => {
			const destination = family === 4 ? "10.244.1.77" : "fd00:10:244:1::77";
			await up(fromWire(build.ip({ source: outside[family], destination }, build.udp(1, 2))));
			const answer = await left("fairway0", ({ icmpError }) => icmpError);
			t.equal(answer.key.destination, outside[family]);
			t.equal(answer.frame[answer.l4 + 1], family === 4 ? 1 : 3);
		});

		t.test(`IPv${family}: too big`, async (t) => {
			const packet = build.ip(
				{ source: podA[family], destination: geneve4.pod[family] },
				build.udp(1000, 2000, Buffer.alloc(1440, 0x42)),
			);
			await up(fromPod(packet));
			const answer = await left("pod0", ({ icmpError }) => icmpError);
			t.equal(answer.key.source, gateway[family]);
			t.equal(answer.l4Type, family === 4 ? 3 : 2);
			const mtu =
				family === 4
					? answer.frame.readUInt16BE(answer.l4 + 6)
					: answer.frame.readUInt32BE(answer.l4 + 4);
			t.equal(mtu, geneve4.mtu);
			t.equal(answer.length, family === 4 ? 576 : 1280, "quotes as much as an error may");
			t.ok(areChecksumsRight(answer));
		});
	}

	for (const family of [4, 6] as const) {
		t.test(`IPv${family}: time exceeded, to a sender outside`, async (t) => {
			const packet = build.ip(
				{ source: outside[family], destination: podA[family], ttl: 1 },
				build.udp(33434, 33435),
			);
			await up(fromWire(packet));
			const answer = await left("fairway0", ({ icmpError }) => icmpError);
			t.equal(answer.key.destination, outside[family]);
			t.same(macsOf(answer), [world.GATEWAY_MAC, SLOW_PATH_MAC], "from_host knows it by its MAC");
			t.ok(areChecksumsRight(answer));
		});
	}

	t.test("fragments to a peer keep the Pod's address, TTL one less", async (t) => {
		const payload = Buffer.from(Array.from({ length: 1460 }, (_, i) => i & 0xff));
		const packet = build.ip(
			{ source: podA[4], destination: geneve4.pod[4], dontFragment: false, identification: 0 },
			build.udp(1000, 2000, payload),
		);
		await check(dataPath, tables, { ...fromPod(packet), readsRecord: false });
		const isOurs = ({ key }: Packet) => key.destination === geneve4.pod[4];
		const first = await left("fairway0", isOurs);
		const later = await left("fairway0", isOurs);
		t.ok(first.isFragment && !first.isLaterFragment && later.isLaterFragment);
		t.ok(first.length <= geneve4.mtu);
		t.not(first.identification, 0);
		t.equal(first.identification, later.identification);
		t.same([first.ttl, later.ttl], [63, 63]);
		t.equal(first.key.source, podA[4]);
		const whole = [first, later].map(({ frame, l3, length, l4 }) =>
			frame.subarray(l4, l3 + length),
		);
		t.same(Buffer.concat(whole), packet.subarray(20), "nothing is lost");
	});

	t.test("fragments to the outside are translated as their flow", async (t) => {
		const flags = NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.ROUTE_MTU;
		tables.config = world.nodeConfig({ flags });
		const narrow = { kind: RouteKind.OUTSIDE, flags: 0, mtu: 1000, peer: Limit.NO_PEER };
		tables.routes.set(`${outside[4]}/32`, narrow);
		dataPath.write(tables);
		const packet = build.ip(
			{ source: podA[4], destination: outside[4], dontFragment: false, identification: 77 },
			build.udp(1000, 2001, Buffer.alloc(1400, 0x43)),
		);
		await check(dataPath, tables, { ...fromPod(packet), readsRecord: false });
		const isOurs = ({ key }: Packet) => key.destination === outside[4];
		const first = await left("fairway0", isOurs);
		const later = await left("fairway0", isOurs);
		const flow = tables.slots.find((flow) => flow && originalKey(flow).destinationPort === 2001);
		t.equal(first.key.source, nodeAddress[4]);
		t.equal(later.key.source, nodeAddress[4]);
		t.equal(first.key.sourcePort, flow && replyKey(flow).destinationPort);
		t.ok(first.length <= 1000);
		const segment = Buffer.concat(
			[first, later].map(({ frame, l3, length, l4 }) => frame.subarray(l4, l3 + length)),
		);
		const addresses = first.frame.subarray(first.l3 + 12, first.l3 + 20);
		const sum = sumWords(addresses) + 17 + segment.length + sumWords(segment);
		t.equal(complement(sum), 0, "the checksum is that of the translated datagram");
	});

	for (const family of [4, 6] as const) {
		t.test(`IPv${family}: a later fragment waits for its first`, async (t) => {
			const datagram = build.ip(
				{ source: podA[family], destination: outside[family], dontFragment: false },
				build.udp(1000, 2002, Buffer.alloc(800, 0x44)),
			);
			const [first, second] = build.fragmented(datagram, 400, 4242).map(fromPod);
			const { released: before } = slowPath.counters;
			await check(dataPath, tables, { ...second!, readsRecord: false });
			t.equal(slowPath.counters.released, before, "it has to wait");
			await check(dataPath, tables, first!);
			const isOurs = ({ key }: Packet) => key.destination === outside[family];
			const released = await left("fairway0", isOurs);
			t.ok(released.isLaterFragment);
			t.equal(released.key.source, nodeAddress[family]);
			t.equal(released.ttl, 63);
			t.same(
				released.frame.subarray(released.l4),
				second!.packet.subarray(second!.packet.length - (released.frame.length - released.l4)),
			);
		});

		t.test(`IPv${family}: a later fragment for a Service waits for its first`, async (t) => {
			const service = serviceOf("mixed", family, 17);
			setBackends(
				tables,
				service,
				service.backends
					.filter(({ address }) => address === geneve4.pod[family])
					.map(({ id }) => id),
				[],
			);
			dataPath.writeServices(tables);
			for (const [identification, from, send] of [
				[4444, podA[family], fromPod],
				[4445, outside[family], fromWire],
			] as const) {
				const datagram = build.ip(
					{ source: from, destination: service.loadBalancerIP, dontFragment: false },
					build.udp(1004, 80, Buffer.alloc(800, 0x46)),
				);
				const [first, second] = build
					.fragmented(datagram, 400, identification)
					.map((piece) => send(piece));
				const held = await check(dataPath, tables, { ...second!, readsRecord: false });
				t.same(held.differences, []);
				await check(dataPath, tables, first!);
				const released = await left("fairway0", ({ isLaterFragment }) => isLaterFragment);
				t.equal(released.key.destination, geneve4.pod[family]);
				t.equal(released.key.source, from === podA[family] ? from : gateway[family]);
				t.equal(released.ttl, 63);
			}
		});

		t.test(`IPv${family}: an answer's later fragment waits for its first`, async (t) => {
			const question = build.ip(
				{ source: podA[family], destination: outside[family] },
				build.udp(1003, 2003, Buffer.alloc(8)),
			);
			const { decision } = await check(dataPath, tables, fromPod(question));
			const answer = build.ip(
				{ source: outside[family], destination: nodeAddress[family], dontFragment: false },
				build.udp(2003, parse(decision.packet)!.key.sourcePort, Buffer.alloc(800, 0x45)),
			);
			const [first, second] = build.fragmented(answer, 400, 4343).map(fromWire);
			const held = await check(dataPath, tables, { ...second!, readsRecord: false });
			t.same(held.differences, []);
			await check(dataPath, tables, first!);
			const released = await left("pod0", ({ isLaterFragment }) => isLaterFragment);
			t.equal(released.key.destination, podA[family]);
			t.equal(released.key.source, outside[family]);
			t.equal(released.ttl, 63);
		});
	}

	for (const family of [4, 6] as const)
		for (const isAllowed of [true, false]) {
			const fate = isAllowed
				? "goes on when its first is allowed"
				: "stays where its first is denied";
			t.test(`IPv${family}: a later fragment that is to be judged ${fate}`, async (t) => {
				const policies = { egress: 2, ingress: 2 };
				writePolicies(tables, judgingBy(isAllowed, policies));
				tables.config = world.nodeConfig({ routeEpoch: isAllowed ? 5 : 6 });
				dataPath.write(tables);
				const { released: before } = slowPath.counters;
				for (const [port, source, destination, send] of [
					[1005, podA[family], geneve4.pod[family], fromPod],
					[1006, podA[family], podB[family], fromPod],
					[1007, outside[family], podA[family], fromWire],
				] as const) {
					const datagram = build.ip(
						{ source, destination, dontFragment: false },
						build.udp(port, 2005, Buffer.alloc(800, 0x47)),
					);
					const pieces = build.fragmented(datagram, 400, 4500 + port + (isAllowed ? 0 : 100));
					const [first, second] = pieces.map((piece) => send(piece));
					const held = await check(dataPath, tables, { ...second!, readsRecord: false });
					t.same(held.differences, []);
					t.equal(held.decision.action, Action.SLOW_PATH);
					const { decision } = await check(dataPath, tables, first!);
					t.equal(decision.action === Action.DROP, !isAllowed);
					if (!isAllowed) continue;
					const device = { [podA[family]]: "pod0", [podB[family]]: "pod1" } as const;
					const released = await left(
						device[destination] ?? "fairway0",
						({ isLaterFragment }) => isLaterFragment,
					);
					t.equal(released.key.destination, destination);
					t.equal(released.key.source, source);
					t.equal(released.ttl, 63);
				}
				t.equal(slowPath.counters.released, before + (isAllowed ? 3 : 0));
				writePolicies(tables, NO_POLICIES);
				dataPath.write(tables);
			});
		}

	for (const family of [4, 6] as const)
		t.test(
			`IPv${family}: a held fragment stays where its flow has come to be denied`,
			async (t) => {
				const open = { egress: EndpointPolicy.OPEN, ingress: EndpointPolicy.OPEN };
				const decide = (isAllowed: boolean, routeEpoch: number) => {
					const policies = judgingBy(isAllowed, { egress: 2, ingress: 2 });
					writePolicies(tables, { ...policies, endpoints: [policies.endpoints[0], open] });
					tables.config = world.nodeConfig({ routeEpoch });
				};
				decide(true, 7);
				dataPath.write(tables);
				const { released: before } = slowPath.counters;
				const held: FragmentKey[] = [];
				const ports = { sourcePort: 1008, destinationPort: 2005, protocol: 17 };
				for (const destination of [geneve4.pod[family], nodeAddress[family]]) {
					const datagram = build.ip(
						{ source: podA[family], destination, dontFragment: false },
						build.udp(ports.sourcePort, ports.destinationPort, Buffer.alloc(800, 0x48)),
					);
					const { decision } = await check(dataPath, tables, fromPod(datagram));
					t.not(decision.action, Action.DROP, "its flow has begun");
					const [, second] = build.fragmented(datagram, 400, 4700);
					const later = fromPod(second!);
					const { decision: waits } = await check(dataPath, tables, {
						...later,
						readsRecord: false,
					});
					t.equal(waits.action, Action.SLOW_PATH);
					held.push(fragmentKey(parse(later.packet)!, tables.endpoint(podA[family])!.index));
				}
				// The first ones come, and then another policy, before it is looked after the others.
				for (const key of held) tables.apply({ ended: [], fragment: { key, ports } } as never);
				decide(false, 8);
				dataPath.write(tables);
				// One that came later goes on, so the others have been looked after.
				const sent = build.ip(
					{ source: podB[family], destination: outside[family], dontFragment: false },
					build.udp(1009, 2006, Buffer.alloc(800, 0x49)),
				);
				const macs = { source: podB.mac, destination: world.GATEWAY_MAC };
				const [first, second] = build.fragmented(sent, 400, 4800).map((packet) => ({
					hook: Hook.FROM_POD,
					packet: build.frame(macs, packet),
					context: { ifindex: indexOf(podB.interface) },
				}));
				await check(dataPath, tables, { ...second!, readsRecord: false });
				await check(dataPath, tables, first!);
				await left("fairway0", ({ key }) => key.destination === outside[family]);
				t.equal(slowPath.counters.released, before + 1, "none of the others");
				writePolicies(tables, NO_POLICIES);
				dataPath.write(tables);
			},
		);

	t.test("nothing was lost on the way", async (t) => {
		t.same(complaints, []);
		t.equal(slowPath.counters.failed, 0);
	});

	t.test("a flood is answered within the limit", async (t) => {
		const before = { ...slowPath.counters };
		for (let i = 0; i < 100; i++) {
			const packet = build.ip(
				{ source: world.podB[4], destination: outside[4], ttl: 1 },
				build.udp(i + 1, 2),
			);
			const macs = { source: world.podB.mac, destination: world.GATEWAY_MAC };
			dataPath.run(Hook.FROM_POD, build.frame(macs, packet), {
				ifindex: indexOf(world.podB.interface),
				now: 0n,
			});
		}
		const handled = () =>
			slowPath.counters.answered +
			slowPath.counters.unanswered -
			before.answered -
			before.unanswered;
		while (handled() < 100) await new Promise((resolve) => setImmediate(resolve));
		t.ok(slowPath.counters.unanswered - before.unanswered > 40);
		t.ok(slowPath.counters.answered - before.answered >= 40);
	});
}
