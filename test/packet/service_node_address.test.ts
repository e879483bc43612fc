/**
 * The Node's own connections by a port of a Service whose external traffic policy is Local: the endpoint on another
 * Node sees the Node's address, which this policy keeps as it keeps any client's. And from the other end: what a
 * peer's Node begins by its own address keeps to the peer's path, both ways.
 */
import { equal } from "node:assert/strict";
import t from "tap";
import {
	Hook,
	Limit,
	Path,
	PeerFlag,
	RouteFlag,
	RouteKind,
	ServiceFlag,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { HOOKS, hookText, intoPod, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES, type Family } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import {
	NAMES,
	type Protocol,
	packetOf,
	reversed,
	Scene,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import { fromHost, fromPod, fromWire, onWire, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, outside, nodeAddress, gateway } = world;
/** In the range of SNAT: a flow that is alone keeps it. */
const PORT = 50001;
/** After a hop. */
const LATER = { ttl: 63 };

/** `mixed` has policy Local. */
async function begin(dataPath: DataPath, family: Family, protocol: Protocol): Promise<Scene> {
	const scene = await Scene.begin(dataPath, family);
	const { index } = scene.service("mixed", protocol);
	const service = scene.tables.service(index)!;
	scene.tables.services.set(index, { ...service, flags: ServiceFlag.EXTERNAL_LOCAL });
	scene.write();
	return scene;
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const intoHost = (packet: Buffer): Expected => ({
		frame: build.frame({ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC }, packet),
		device: "fairway0",
	});

	for (const family of FAMILIES) {
		for (const protocol of [TCP, UDP] as const)
			for (const [place, side] of sides(family).entries()) {
				if (side.translated) continue;
				const { pod } = world.peers[place]!;
				for (const kind of ["NodePort", "load balancer IP"] as const) {
					const title = `IPv${family}: by its own ${kind} of policy Local, ${side.name} sees the Node: ${NAMES[protocol]}`;
					t.test(title, async (t) => {
						const scene = await begin(dataPath, family, protocol);
						const service = scene.service("mixed", protocol);
						scene.only(service, pod[family]);
						const original: Tuple = [
							[nodeAddress[family], PORT],
							kind === "NodePort"
								? [nodeAddress[family], service.nodePort]
								: [service.loadBalancerIP, SERVICE_PORT],
						];
						const shown: Tuple = [original[0], [pod[family], TARGET_PORT]];
						for (const _ of ["first", "known"]) {
							await scene.expect(
								fromHost(packetOf(original, protocol)),
								side.sent(packetOf(shown, protocol)),
							);
							await scene.expect(
								side.received(packetOf(reversed(shown), protocol), Hook.FROM_WIRE),
								intoHost(packetOf(reversed(original), protocol)),
							);
							scene.raiseEpoch();
						}
						t.pass("every packet");
					});
				}
			}

		const others: [string, (scene: Scene) => Tuple][] = [
			[
				"a cluster IP",
				(scene) => [
					[nodeAddress[family], PORT],
					[scene.service("mixed", UDP).clusterIP, SERVICE_PORT],
				],
			],
			[
				"a NodePort of policy Cluster",
				(scene) => [
					[nodeAddress[family], PORT],
					[nodeAddress[family], scene.service("twin", UDP).nodePort],
				],
			],
			[
				"an endpoint's own address",
				() => [
					[nodeAddress[family], PORT],
					[direct.pod[family], TARGET_PORT],
				],
			],
			[
				"a NodePort, from an address that peers do not know",
				(scene) => {
					scene.tables.routes.set(`${nodeAddress[family]}/${family === 4 ? 32 : 128}`, {
						kind: RouteKind.HOST,
						flags: RouteFlag.NODE_PORTS,
						mtu: 0,
						peer: Limit.NO_PEER,
					});
					scene.raiseEpoch();
					return [
						[nodeAddress[family], PORT],
						[nodeAddress[family], scene.service("mixed", UDP).nodePort],
					];
				},
			],
		];
		for (const [name, tupleOf] of others)
			t.test(`IPv${family}: by ${name}, a peer's Pod sees the gateway address`, async (t) => {
				const scene = await begin(dataPath, family, UDP);
				for (const name of ["mixed", "twin"])
					scene.only(scene.service(name, UDP), direct.pod[family]);
				const shown: Tuple = [
					[gateway[family], PORT],
					[direct.pod[family], TARGET_PORT],
				];
				await scene.expect(fromHost(packetOf(tupleOf(scene), UDP)), {
					frame: onWire(direct.mac, packetOf(shown, UDP)),
				});
				t.pass("the packet");
			});

		for (const protocol of [TCP, UDP] as const)
			for (const hook of HOOKS)
				for (const [place, side] of sides(family).entries()) {
					if (side.translated || (hook === Hook.FROM_WIRE_XDP && protocol === TCP)) continue;
					const peer = world.peers[place]!;
					const title = `IPv${family}: ${side.name}'s Node speaks to a Pod by its own address: ${NAMES[protocol]}, ${hookText(hook)}`;
					t.test(title, async (t) => {
						const isTunnel = peer.path !== Path.DIRECT;
						const flags = isTunnel ? PeerFlag.TUNNELLED_ONLY : 0;
						const scene = await Scene.begin(dataPath, family, {
							peers: { [peer.id]: { flags } },
						});
						const asked: Tuple = [
							[peer.transport[family], PORT],
							[podB[family], TARGET_PORT],
						];
						const index = peer.id * 2 + (family === 6 ? 1 : 0);
						for (const _ of ["first", "known"]) {
							await scene.expect(
								side.received(packetOf(asked, protocol), hook),
								intoPod(packetOf(asked, protocol, LATER), podB),
							);
							const answer = packetOf(reversed(asked), protocol);
							for (const _ of ["after what was asked", "after a change"]) {
								await scene.expect(
									fromPod(podB, answer),
									side.sent(packetOf(reversed(asked), protocol, LATER)),
								);
								scene.raiseEpoch();
							}
						}
						equal(dataPath.counter(index).receivedPackets, 2n, "counted as the peer's");
						t.pass("every packet");
					});
				}

		t.test(
			`IPv${family}: a tunnel carries the Node nothing but answers, and nobody else's address`,
			async (t) => {
				const scene = await Scene.begin(dataPath, family);
				const via = (peer: world.PeerFacts, tuple: Tuple) =>
					fromWire(tunnelled(peer, packetOf(tuple, UDP)), peer.mac);
				await scene.ends(
					via(geneve4, [
						[geneve4.pod[family], PORT],
						[nodeAddress[family], 22],
					]),
					"tunnel_wrong_destination",
				);
				await scene.ends(
					via(geneve4, [
						[direct.transport[family], PORT],
						[podA[family], 22],
					]),
					"tunnel_wrong_source",
				);
				await scene.ends(
					via(geneve4, [
						[geneve4.transport[family], PORT],
						[nodeAddress[family], 22],
					]),
					"tunnel_wrong_source",
				);
				await scene.ends(
					via(geneve4, [
						[outside[family], PORT],
						[podA[family], 22],
					]),
					"tunnel_wrong_source",
				);
				t.pass("every packet");
			},
		);
	}
}
