/**
 * One port of a Pod that meets the same endpoint more than once: by two Services, or by a Service and
 * directly. Answers to all of them would carry one tuple, so all but the first get a port of their own
 * towards the endpoint, and each answer is that of its own flow. Where no port is free, a connection of the Pod
 * that is over leaves its port to a new one.
 */
import t, { type Test } from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { DropReason } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { check, type Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { SERVICE_PORT, serviceOf, setBackends, TARGET_PORT } from "./services.js";
import { fresh, fromPod, fromWire, toPod } from "./table.js";
import * as world from "./world.js";

const TCP = 6;
const UDP = 17;
const PORT = 40_000;
/** Address and port. */
type End = readonly [address: string, port: number];

const { podA, podB, direct, nodeAddress } = world;

function packetOf([source, from]: End, [destination, to]: End, protocol: number): Buffer {
	const data = Buffer.from("whose is it?");
	const segment =
		protocol === UDP
			? build.udp(from, to, data)
			: build.tcp(from, to, { flags: build.ACK, payload: data });
	return build.ip({ source, destination }, segment);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of [4, 6] as const)
		for (const protocol of [UDP, TCP] as const)
			for (const [name, address, answers] of [
				["a Pod of this Node", podB[family], (packet: Buffer) => fromPod(podB, packet)],
				["a peer's Pod", direct.pod[family], (packet: Buffer) => fromWire(packet, direct.mac)],
				["this Node", nodeAddress[family], (packet: Buffer) => toPod(podA, packet)],
			] as const)
				t.test(`IPv${family}, ${protocol === UDP ? "UDP" : "TCP"}: ${name}`, (t) =>
					collide(t, address, answers),
				);

	const { SYN, ACK, FIN, RST } = build;
	/** What a client (>) and its server (<) have sent on a connection before the next one. */
	const CONNECTIONS: [
		name: string,
		isOver: boolean,
		segments: [side: ">" | "<", flags: number][],
	][] = [
		["open", false, []],
		["half-closed by its client", false, [[">", FIN | ACK]]],
		["half-closed by its server", false, [["<", FIN | ACK]]],
		[
			"closed, its client first",
			true,
			[
				[">", FIN | ACK],
				["<", FIN | ACK],
				[">", ACK],
			],
		],
		[
			"closed, its server first",
			true,
			[
				["<", FIN | ACK],
				[">", FIN | ACK],
				["<", ACK],
			],
		],
		["reset by its client", true, [[">", RST | ACK]]],
		["reset by its server", true, [["<", RST | ACK]]],
	];

	for (const family of [4, 6] as const)
		for (const [name, address, answers] of [
			["a Pod of this Node", podB[family], (packet: Buffer) => fromPod(podB, packet)],
			["a peer's Pod", direct.pod[family], (packet: Buffer) => fromWire(packet, direct.mac)],
			["this Node", nodeAddress[family], (packet: Buffer) => toPod(podA, packet)],
		] as const)
			for (const order of ["straight, then by a Service", "by a Service, then straight"] as const)
				for (const connection of CONNECTIONS)
					t.test(`IPv${family}, no port is free: ${name}, ${order}, ${connection[0]}`, (t) =>
						succeed(t, address, answers, order.startsWith("straight"), connection),
					);

	/** A second connection of one port to one endpoint, where only that port could be translated to. */
	async function succeed(
		t: Test,
		address: string,
		answers: (packet: Buffer) => Input,
		isStraightFirst: boolean,
		[, isOver, segments]: (typeof CONNECTIONS)[number],
	) {
		const family = address.includes(":") ? 6 : 4;
		const tables = await fresh(dataPath, {
			config: { snatPortFirst: PORT, snatPortLast: PORT },
		});
		const client: End = [podA[family], PORT];
		const endpoint: End = [address, TARGET_PORT];
		const service = serviceOf("mixed", family, TCP);
		const id = service.backends[0]!.id;
		tables.backends.set(id, { address, port: TARGET_PORT, service: service.index });
		setBackends(tables, service, [id], []);
		dataPath.write(tables);
		const virtual: End = [service.clusterIP, SERVICE_PORT];
		const run = async (input: Input) => {
			const { outcome, differences } = await check(dataPath, tables, input);
			t.same(differences, [], "the forwarder says the same");
			return outcome;
		};
		const segment = ([source, from]: End, [destination, to]: End, flags: number) =>
			build.ip({ source, destination }, build.tcp(from, to, { flags }));
		const asks = (to: End, flags: number) => run(fromPod(podA, segment(client, to, flags)));
		const says = (flags: number) => run(answers(segment(endpoint, client, flags)));
		const endsOf = (packet: Buffer) => {
			const { key } = parse(packet)!;
			return [
				[key.source, key.sourcePort],
				[key.destination, key.destinationPort],
			];
		};

		const [first, second] = isStraightFirst ? [endpoint, virtual] : [virtual, endpoint];
		await asks(first, SYN);
		await says(SYN | ACK);
		for (const [side, flags] of segments) await (side === ">" ? asks(first, flags) : says(flags));

		const { verdict, packet } = await asks(second, SYN);
		if (!isOver && isStraightFirst) {
			t.equal(verdict.dropReason, DropReason.SNAT_PORTS_EXHAUSTED, "the port is in use");
			return;
		}
		t.same(endsOf(packet), [client, endpoint], "it has the port");
		const answer = await says(SYN | ACK);
		t.same(
			endsOf(answer.packet),
			[isOver ? second : first, client],
			isOver ? "the answer is the new connection's" : "answers are still the first one's",
		);
		if (isOver) t.equal(dataPath.flows().length, 1, "nothing is left of the first one");
	}

	t.test("a connection that is over keeps its port while others are free", async (t) => {
		const tables = await fresh(dataPath);
		const service = serviceOf("self", 4, TCP);
		const id = service.backends[0]!.id;
		const address = podB[4];
		tables.backends.set(id, { address, port: TARGET_PORT, service: service.index });
		dataPath.write(tables);
		const send = async (input: Input) => {
			const { outcome, differences } = await check(dataPath, tables, input);
			t.same(differences, [], "the forwarder says the same");
			return parse(outcome.packet)!.key;
		};
		const ask = (destination: string, port: number, flags: number) =>
			send(
				fromPod(podA, build.ip({ source: podA[4], destination }, build.tcp(PORT, port, { flags }))),
			);
		for (const flags of [SYN, RST]) await ask(address, TARGET_PORT, flags);
		const { sourcePort } = await ask(service.clusterIP, SERVICE_PORT, SYN);
		t.not(sourcePort, PORT);
		t.equal(dataPath.flows().length, 2);
	});

	async function collide(t: Test, address: string, answers: (packet: Buffer) => Input) {
		const family = address.includes(":") ? 6 : 4;
		const protocol = t.name.includes("UDP") ? UDP : TCP;
		const tables = await fresh(dataPath);
		const client: End = [podA[family], PORT];
		const endpoint: End = [address, TARGET_PORT];
		const services = (["mixed", "twin"] as const).map((name) => {
			const service = serviceOf(name, family, protocol);
			const id = service.backends[0]!.id;
			tables.backends.set(id, { address, port: TARGET_PORT, service: service.index });
			setBackends(tables, service, [id], []);
			return [service.clusterIP, SERVICE_PORT] as const;
		});
		dataPath.write(tables);
		const run = async (input: Input) => {
			const { outcome, differences } = await check(dataPath, tables, input);
			t.same(differences, [], "the forwarder says the same");
			const { key } = parse(outcome.packet)!;
			const from: End = [key.source, key.sourcePort];
			const to: End = [key.destination, key.destinationPort];
			return { from, to };
		};

		const ports: number[] = [];
		for (const target of [...services, endpoint]) {
			const { from, to } = await run(fromPod(podA, packetOf(client, target, protocol)));
			t.same(to, endpoint);
			t.equal(from[0], client[0], "the Pod keeps its address");
			ports.push(from[1]);
		}
		t.equal(ports[0], PORT, "the first keeps its port");
		t.equal(new Set(ports).size, ports.length, "each has a port of its own");
		for (const [i, target] of [...services, endpoint].entries()) {
			const seen: End = [client[0], ports[i]!];
			const { from, to } = await run(answers(packetOf(endpoint, seen, protocol)));
			t.same([from, to], [target, client], "the answer is that of its own flow");
		}
	}
}
