/**
 * A client outside that uses one port twice towards this Node: by a Service whose endpoint is the Node itself, and
 * directly. The direct connection has no flow while it is alone, so the core asks the Node's sockets. The second of the
 * two gets another port, and each answer is that of its own connection.
 */
import { equal, notEqual } from "node:assert/strict";
import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";
import t, { type Test } from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { ActionName, Hook, NodeFlag } from "../../src/tables/generated.js";
import { ACK, FIN, SYN } from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { FAMILIES, type Family } from "./fast_path.js";
import { inNamespace, ipBatch } from "./namespace.js";
import {
	type End,
	PORT,
	packetOf,
	reversed,
	Scene,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import { fromHost, fromWire } from "./table.js";
import * as world from "./world.js";

const { CONFIGURED, SNAT, SERVES_ALL, STACK_ANSWERS } = NodeFlag;
const SHOWS: world.Variation = {
	config: { flags: CONFIGURED | SNAT | SERVES_ALL | STACK_ANSWERS },
};

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	const leaves = (packet: Buffer): Input => ({ ...fromWire(packet), hook: Hook.TO_WIRE });
	const byLink = (packet: Buffer): Input => {
		const input = fromHost(packet);
		const context = { ...input.context, ingressIfindex: world.indexOf("wire0") };
		return { ...input, context };
	};

	for (const family of FAMILIES) {
		const client: End = [world.outside[family], PORT];
		const node: End = [world.nodeAddress[family], TARGET_PORT];
		const direct: Tuple = [client, node];

		/** The Node is the only endpoint of both Services. */
		const begin = async (): Promise<{ scene: Scene; first: Tuple; second: Tuple }> => {
			const scene = await Scene.begin(dataPath, family, SHOWS);
			const service = scene.service("mixed", TCP);
			scene.only(service, world.nodeAddress[family]);
			return {
				scene,
				first: [client, [service.loadBalancerIP, SERVICE_PORT]],
				second: [client, [world.nodeAddress[family], service.nodePort]],
			};
		};
		/** The tuple with which the Node gets this packet. */
		const arrives = async (scene: Scene, input: Input): Promise<Tuple> => {
			const { packet, verdict } = await scene.send(input);
			notEqual(ActionName[verdict.action], "drop");
			const { key } = parse(packet)!;
			return [
				[key.source, key.sourcePort],
				[key.destination, key.destinationPort],
			];
		};
		/** The Node answers both connections: each answer gets the tuple that its client expects. */
		const answered = async (scene: Scene, ...pairs: [seen: Tuple, sent: Tuple][]) => {
			for (const flags of [SYN | ACK, ACK])
				for (const [seen, sent] of pairs) {
					const answer = packetOf(reversed(seen), TCP, { flags });
					await scene.passes(leaves(answer), packetOf(reversed(sent), TCP, { flags }));
				}
		};

		for (const [way, comes] of [
			["a NIC", fromWire],
			["another link", byLink],
		] as const)
			t.test(`IPv${family}, by ${way}: a Service beside a connection to the Node`, async (t) => {
				const { scene, first, second } = await begin();
				const close = await connect(t, scene, direct);
				const seen = await arrives(scene, comes(packetOf(first, TCP, { flags: SYN })));
				t.same([seen[0][0], seen[1]], [client[0], node], "the Node sees the client's address");
				t.not(seen[0][1], PORT, "and another port of it");
				t.same(await arrives(scene, comes(packetOf(first, TCP))), seen, "as in later packets");
				await answered(scene, [seen, first], [direct, direct]);
				t.same(
					await arrives(scene, fromWire(packetOf(direct, TCP))),
					direct,
					"directly: unchanged",
				);

				await close();
				t.same(
					await arrives(scene, comes(packetOf(second, TCP, { flags: SYN }))),
					direct,
					"the port is free when that connection is over",
				);
			});

		t.test(`IPv${family}: a segment that opens no connection goes on with its own`, async (t) => {
			const { scene, first } = await begin();
			await connect(t, scene, direct);
			t.same(await arrives(scene, fromWire(packetOf(first, TCP))), direct);
		});

		t.test(`IPv${family}: a listening socket has no client's port`, async (t) => {
			const { scene, first } = await begin();
			const server = createServer().listen(TARGET_PORT, world.nodeAddress[family]);
			t.teardown(() => server.close());
			await once(server, "listening");
			t.same(await arrives(scene, fromWire(packetOf(first, TCP, { flags: SYN }))), direct);
		});

		t.test(`IPv${family}: a connection to the Node beside a Service`, async (t) => {
			const { scene, first } = await begin();
			const syn = (tuple: Tuple) => fromWire(packetOf(tuple, TCP, { flags: SYN }));
			t.same(await arrives(scene, syn(first)), direct, "alone, it keeps the port");
			const seen = await arrives(scene, syn(direct));
			t.same([seen[0][0], seen[1]], [client[0], node]);
			t.not(seen[0][1], PORT, "the direct connection has another port");
			t.same(await arrives(scene, fromWire(packetOf(direct, TCP))), seen, "as in later packets");
			await answered(scene, [direct, first], [seen, direct]);
			t.same(
				await arrives(scene, fromWire(packetOf(first, TCP))),
				direct,
				"by the Service: as before",
			);

			for (const flags of [FIN | ACK, ACK]) {
				t.same(await arrives(scene, fromWire(packetOf(direct, TCP, { flags }))), seen);
				await scene.passes(
					leaves(packetOf(reversed(seen), TCP, { flags })),
					packetOf(reversed(direct), TCP, { flags }),
				);
			}
		});

		t.test(`IPv${family}: what opens no second connection passes unchanged`, async (t) => {
			const { scene, first } = await begin();
			await scene.send(fromWire(packetOf(first, TCP, { flags: SYN })));
			const others: [string, Tuple, number][] = [
				["another client's port", [[client[0], PORT + 1], node], SYN],
				["another port of the Node", [client, [node[0], 22]], SYN],
				["no SYN", direct, ACK],
			];
			for (const [what, tuple, flags] of others) {
				const packet = packetOf(tuple, TCP, { flags });
				await scene.passes(fromWire(packet), packet);
				t.pass(what);
			}
			const datagram = packetOf(direct, UDP);
			await scene.passes(fromWire(datagram), datagram);
			equal(dataPath.flows().length, 1, "nothing else has a flow");
		});
	}

	/** A connection of the Node with this tuple, whose client has its address on this machine for once. */
	async function connect(t: Test, scene: Scene, [from, to]: Tuple): Promise<() => Promise<void>> {
		const family: Family = from[0].includes(":") ? 6 : 4;
		const address = `${from[0]}/${family === 6 ? 128 : 32} dev lo`;
		ipBatch([`address add ${address}${family === 6 ? " nodad" : ""}`]);
		const server = createServer({ pauseOnConnect: true }).listen(to[1], to[0]);
		await once(server, "listening");
		const accepted: Promise<Socket[]> = once(server, "connection");
		const socket = createConnection({
			...{ host: to[0], port: to[1], localAddress: from[0], localPort: from[1] },
		});
		await once(socket, "connect");
		const [own] = await accepted;
		const name = [...from, ...to].join(" ");
		scene.tables.connections.add(name);
		let isOpen = true;
		const close = async () => {
			if (!isOpen) return;
			isOpen = false;
			scene.tables.connections.delete(name);
			const ends = [once(own!, "close"), once(socket, "close"), once(server, "close")];
			// Resets: nothing stays in TIME-WAIT.
			own!.resetAndDestroy();
			socket.resetAndDestroy();
			server.close();
			await Promise.all(ends);
			ipBatch([`address delete ${address}`]);
		};
		t.teardown(close);
		return close;
	}
}
