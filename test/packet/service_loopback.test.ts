/**
 * What the Node's own processes send to the Node's own addresses: a Service's ports there lead out of fairway0,
 * where from_host gives them a backend; everything else stays on the loopback.
 */
import { equal } from "node:assert/strict";
import t from "tap";
import { ActionName, Hook, NodeFlag } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { intoPod } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import {
	NAMES,
	type PacketOptions,
	PORT,
	type Protocol,
	packetOf,
	reversed,
	SCTP,
	type Scene,
	sceneTests,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { TARGET_PORT } from "./services.js";
import { fromHost, fromPod, fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { podA, direct, nodeAddress, gateway } = world;
const ZERO = "00:00:00:00:00:00";

const fromLoopback = (packet: Buffer): Input => ({
	hook: Hook.FROM_LOOPBACK,
	packet: build.frame({ source: ZERO, destination: ZERO }, packet),
	context: { ifindex: 1 },
});

/** As if received by fairway0. */
const intoHost = (packet: Buffer): Expected => ({
	frame: build.frame({ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC }, packet),
	device: "fairway0",
});

/** It goes out of fairway0 as it is. */
async function isServed(scene: Scene, packet: Buffer): Promise<void> {
	const input = fromLoopback(packet);
	const { verdict, packet: sent } = await scene.send(input);
	equal(ActionName[verdict.action], "wire");
	equal(verdict.ifindex, world.indexOf("fairway0"));
	equal(sent.toString("hex"), input.packet.toString("hex"));
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const own = nodeAddress[family];
		const scene = sceneTests(dataPath, family);
		const nodePort = (scene: Scene, name: string, protocol: Protocol): Tuple => [
			[own, PORT],
			[own, scene.service(name, protocol).nodePort],
		];
		/** Of a new connection. */
		const opening = (tuple: Tuple, protocol: Protocol, how: PacketOptions = {}) =>
			packetOf(tuple, protocol, protocol === TCP ? { flags: build.SYN, ...how } : how);

		for (const protocol of [UDP, TCP, SCTP] as const)
			scene(`${NAMES[protocol]} to a NodePort`, async (scene) => {
				scene.only(scene.service("mixed", protocol), podA[family]);
				const original = nodePort(scene, "mixed", protocol);
				const shown: Tuple = [original[0], [podA[family], TARGET_PORT]];
				await isServed(scene, opening(original, protocol));
				await scene.expect(
					fromHost(opening(original, protocol)),
					intoPod(opening(shown, protocol), podA),
				);
				await scene.expect(
					fromPod(podA, packetOf(reversed(shown), protocol)),
					intoHost(packetOf(reversed(original), protocol)),
				);
				await isServed(scene, packetOf(original, protocol));
			});

		scene("TCP to a NodePort with a backend on a peer, and back", async (scene) => {
			scene.only(scene.service("mixed", TCP), direct.pod[family]);
			const original = nodePort(scene, "mixed", TCP);
			const shown: Tuple = [
				[gateway[family], PORT],
				[direct.pod[family], TARGET_PORT],
			];
			await isServed(scene, opening(original, TCP));
			await scene.expect(fromHost(opening(original, TCP)), {
				frame: onWire(direct.mac, opening(shown, TCP)),
			});
			await scene.expect(
				fromWire(packetOf(reversed(shown), TCP), direct.mac),
				intoHost(packetOf(reversed(original), TCP)),
			);
		});

		scene("UDP to a NodePort with this Node itself as its backend, and back", async (scene) => {
			scene.only(scene.service("mixed", UDP), own);
			const original = nodePort(scene, "mixed", UDP);
			const { returnAddress4, returnAddress6 } = scene.tables.config;
			const shown: Tuple = [
				[family === 4 ? returnAddress4 : returnAddress6, PORT],
				[own, TARGET_PORT],
			];
			await isServed(scene, packetOf(original, UDP));
			await scene.expect(fromHost(packetOf(original, UDP)), intoHost(packetOf(shown, UDP)));
			await scene.expect(
				fromHost(packetOf(reversed(shown), UDP)),
				intoHost(packetOf(reversed(original), UDP)),
			);
		});

		scene("a connection goes on after its NodePort is gone", async (scene) => {
			const service = scene.service("mixed", TCP);
			scene.only(service, podA[family]);
			const original = nodePort(scene, "mixed", TCP);
			await scene.send(fromHost(opening(original, TCP)));
			scene.tables.frontends.delete(
				`${family === 4 ? "0.0.0.0" : "::"} ${TCP} ${service.nodePort}`,
			);
			scene.write();
			await isServed(scene, packetOf(original, TCP));
			const other: Tuple = [[own, PORT + 1], original[1]];
			await scene.passes(fromLoopback(opening(other, TCP)), opening(other, TCP));
		});

		scene("everything else stays on the loopback", async (scene) => {
			const { nodePort: port } = scene.service("mixed", TCP);
			const stays = async (packet: Buffer) => scene.passes(fromLoopback(packet), packet);
			const loopback = family === 4 ? "127.0.0.1" : "::1";
			await stays(
				opening(
					[
						[loopback, PORT],
						[loopback, port],
					],
					TCP,
				),
			);
			await stays(
				opening(
					[
						[own, PORT],
						[own, 22],
					],
					TCP,
				),
			);
			// Of a connection that was there before the NodePort.
			await stays(packetOf(nodePort(scene, "mixed", TCP), TCP));
			await stays(
				opening(
					[
						[gateway[family], PORT],
						[gateway[family], port],
					],
					TCP,
				),
			);
			scene.tables.config.flags &= ~NodeFlag.SERVES_ALL;
			scene.raiseEpoch();
			await stays(opening(nodePort(scene, "mixed", TCP), TCP));
		});
	}
}
