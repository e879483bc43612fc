/**
 * One port of a Pod that meets the same endpoint more than once: by two Services, or by a Service and
 * directly. Answers to all of them would carry one tuple, so all but the first get a port of their own
 * towards the endpoint, and each answer is that of its own flow.
 */
import t, { type Test } from "tap";
import { parse } from "../../src/forwarder/packet.js";
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
