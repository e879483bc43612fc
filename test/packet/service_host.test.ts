/**
 * Services for the Node's own processes, whose packets to Services' addresses come by fairway0: with backends
 * on this Node, on peers, outside, and the Node itself.
 */
import { equal } from "node:assert/strict";
import t from "tap";
import { BackendState, Hook, NodeFlag } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { intoPod, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { type Expected, FAMILIES } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import {
	type End,
	NAMES,
	type PacketOptions,
	PORT,
	type Protocol,
	packetOf,
	resetOf,
	reversed,
	SCTP,
	Scene,
	sceneTests,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import { fromHost, fromPod, fromWire, onWire, toPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, outside, nodeAddress, gateway } = world;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	const { CONFIGURED, SNAT, SERVES_ALL } = NodeFlag;
	const STACK_ANSWERS: world.Variation = {
		config: { flags: CONFIGURED | SNAT | SERVES_ALL | NodeFlag.STACK_ANSWERS },
	};
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES)
		t.test(`IPv${family}: what the Node forwards is of a client from outside`, async (t) => {
			const scene = await Scene.begin(dataPath, family);
			const to = (name: string, kind: "clusterIP" | "loadBalancerIP") =>
				fromHost(
					packetOf(
						[
							[outside[family], PORT],
							[scene.service(name, UDP)[kind], SERVICE_PORT],
						],
						UDP,
					),
				);
			await scene.ends(to("mixed", "clusterIP"), "service_external_cluster_ip");
			await scene.ends(to("remote", "loadBalancerIP"), "service_no_local_endpoints");
			const original: Tuple = [
				[outside[family], PORT],
				[scene.service("policy", UDP).loadBalancerIP, SERVICE_PORT],
			];
			const shown: Tuple = [original[0], [podB[family], TARGET_PORT]];
			await scene.expect(to("policy", "loadBalancerIP"), intoPod(packetOf(shown, UDP), podB));
			await scene.expect(fromPod(podB, packetOf(reversed(shown), UDP)), {
				frame: onWire(world.ROUTER_MAC, packetOf(reversed(original), UDP, { ttl: 63 })),
			});
			t.pass("every packet");
		});

	for (const family of FAMILIES)
		for (const protocol of [UDP, TCP] as const)
			t.test(
				`IPv${family}: a client on another link uses a Service: ${NAMES[protocol]}`,
				async (t) => {
					const scene = await Scene.begin(dataPath, family);
					const service = scene.service("mixed", protocol);
					const fromLink = (packet: Buffer): Input => ({
						...fromWire(packet),
						hook: Hook.FROM_LINK,
					});
					/** By from_link to from_host, as it came. */
					const through = async (packet: Buffer, expected: Expected) => {
						const frame = build.frame(
							{ source: world.GATEWAY_MAC, destination: world.GATEWAY_MAC },
							packet,
						);
						await scene.expect(fromLink(packet), { frame, device: "fairway0" });
						await scene.expect(fromHost(packet), expected);
					};
					const out = (packet: Buffer): Expected => ({ frame: onWire(world.ROUTER_MAC, packet) });
					let port = PORT;
					for (const backend of [podB[family], direct.pod[family]]) {
						const isHere = backend === podB[family];
						scene.only(service, backend);
						for (const address of [
							[nodeAddress[family], service.nodePort],
							[service.loadBalancerIP, SERVICE_PORT],
						] as const) {
							const client: End = [outside[family], ++port];
							const original: Tuple = [client, [...address]];
							const shown: Tuple = [
								isHere ? client : [gateway[family], port],
								[backend, TARGET_PORT],
							];
							const packet = packetOf(shown, protocol);
							const there = isHere ? intoPod(packet, podB) : { frame: onWire(direct.mac, packet) };
							const answer = packetOf(reversed(shown), protocol);
							for (const _ of ["first", "known"]) {
								await through(packetOf(original, protocol), there);
								await scene.expect(
									isHere ? fromPod(podB, answer) : fromWire(answer, direct.mac),
									out(packetOf(reversed(original), protocol, { ttl: 63 })),
								);
								scene.raiseEpoch();
							}
						}
					}
					const own: Tuple = [
						[outside[family], PORT],
						[nodeAddress[family], 22],
					];
					await scene.passes(fromLink(packetOf(own, protocol)), packetOf(own, protocol));
					const pods: Tuple = [
						[podA[family], PORT],
						[nodeAddress[family], service.nodePort],
					];
					await scene.passes(fromLink(packetOf(pods, protocol)), packetOf(pods, protocol));
					t.pass("every packet");
				},
			);

	for (const family of FAMILIES)
		for (const protocol of [UDP, TCP] as const)
			t.test(
				`IPv${family}: the Node itself, as a backend, sees a client on another link: ${NAMES[protocol]}`,
				async (t) => {
					const scene = await Scene.begin(dataPath, family, STACK_ANSWERS);
					const service = scene.service("mixed", protocol);
					scene.only(service, nodeAddress[family]);
					const forwarded = (packet: Buffer): Input => {
						const input = fromHost(packet);
						return {
							...input,
							context: { ...input.context, ingressIfindex: world.indexOf("wire0") },
						};
					};
					const client: End = [outside[family], PORT];
					const shown: Tuple = [client, [nodeAddress[family], TARGET_PORT]];
					for (const original of [
						[client, [nodeAddress[family], service.nodePort]],
						[
							[client[0], PORT + 1],
							[service.loadBalancerIP, SERVICE_PORT],
						],
					] satisfies Tuple[]) {
						const seen: Tuple = [original[0], shown[1]];
						for (const _ of ["first", "known", "new epoch"]) {
							await scene.expect(forwarded(packetOf(original, protocol)), {
								frame: build.frame(
									{ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC },
									packetOf(seen, protocol),
								),
								device: "fairway0",
							});
							await scene.passes(
								{ ...fromWire(packetOf(reversed(seen), protocol)), hook: Hook.TO_WIRE },
								packetOf(reversed(original), protocol),
							);
							scene.raiseEpoch();
						}
					}
					t.pass("every packet");
				},
			);

	for (const family of FAMILIES)
		for (const [from, client] of [
			["the Node's address", [nodeAddress[family], PORT]],
			["the gateway address", [gateway[family], PORT]],
		] as const satisfies readonly (readonly [string, End])[]) {
			const scene = sceneTests(dataPath, family, `IPv${family}: from ${from}`);
			const vip = (scene: Scene, name: string, protocol: Protocol): Tuple => [
				client,
				[scene.service(name, protocol).clusterIP, SERVICE_PORT],
			];
			const goes = (tuple: Tuple, protocol: Protocol, how: PacketOptions = {}) =>
				fromHost(packetOf(tuple, protocol, how));
			/** As if received by fairway0. */
			const intoHost = (packet: Buffer): Expected => ({
				frame: build.frame({ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC }, packet),
				device: "fairway0",
			});

			for (const protocol of [UDP, TCP] as const) {
				const name = NAMES[protocol];
				for (const [place, side] of sides(family).entries()) {
					if (side.translated) continue;
					const peer = world.peers[place]!;
					scene(`${name} to a backend of ${side.name}, and back`, async (scene) => {
						const service = scene.service("mixed", protocol);
						scene.only(service, peer.pod[family]);
						const original = vip(scene, "mixed", protocol);
						const shown: Tuple = [
							[gateway[family], PORT],
							[peer.pod[family], TARGET_PORT],
						];
						for (const _ of ["first", "known"]) {
							await scene.expect(goes(original, protocol), side.sent(packetOf(shown, protocol)));
							scene.hasBackend(original, protocol, scene.backend(service, peer.pod[family]));
							await scene.expect(
								side.received(packetOf(reversed(shown), protocol), Hook.FROM_WIRE),
								intoHost(packetOf(reversed(original), protocol)),
							);
							scene.raiseEpoch();
						}
					});
				}

				scene(`${name} to a backend that is a Pod here, and back`, async (scene) => {
					scene.only(scene.service("mixed", protocol), podB[family]);
					const original = vip(scene, "mixed", protocol);
					const shown: Tuple = [client, [podB[family], TARGET_PORT]];
					for (const _ of ["first", "known"]) {
						await scene.expect(goes(original, protocol), intoPod(packetOf(shown, protocol), podB));
						// Out of the veth's host side it passes to_pod, which leaves it as it is.
						const flows = dataPath.flows().length;
						await scene.passes(toPod(podB, packetOf(shown, protocol)), packetOf(shown, protocol));
						equal(dataPath.flows().length, flows);
						await scene.expect(
							fromPod(podB, packetOf(reversed(shown), protocol)),
							intoHost(packetOf(reversed(original), protocol)),
						);
						scene.raiseEpoch();
					}
				});

				scene(`${name} to a backend outside, and back`, async (scene) => {
					scene.only(scene.service("mixed", protocol), outside[family]);
					const original = vip(scene, "mixed", protocol);
					const shown: Tuple = [
						[nodeAddress[family], PORT],
						[outside[family], TARGET_PORT],
					];
					for (const _ of ["first", "known"]) {
						await scene.expect(goes(original, protocol), {
							frame: onWire(world.ROUTER_MAC, packetOf(shown, protocol)),
						});
						await scene.expect(
							fromWire(packetOf(reversed(shown), protocol)),
							intoHost(packetOf(reversed(original), protocol)),
						);
						scene.raiseEpoch();
					}
				});

				scene(`${name} to this Node itself comes from the return address`, async (scene) => {
					scene.only(scene.service("mixed", protocol), nodeAddress[family]);
					const original = vip(scene, "mixed", protocol);
					const { returnAddress4, returnAddress6 } = scene.tables.config;
					const shown: Tuple = [
						[family === 4 ? returnAddress4 : returnAddress6, PORT],
						[nodeAddress[family], TARGET_PORT],
					];
					for (const _ of ["first", "known"]) {
						await scene.expect(goes(original, protocol), intoHost(packetOf(shown, protocol)));
						await scene.expect(
							fromHost(packetOf(reversed(shown), protocol)),
							intoHost(packetOf(reversed(original), protocol)),
						);
						scene.raiseEpoch();
					}
				});
			}

			scene("a Service without endpoints resets TCP, and answers UDP and SCTP", async (scene) => {
				const { frame } = intoHost(
					resetOf(vip(scene, "empty", TCP), {
						sequence: 0,
						acknowledgment: 2,
						flags: build.RST | build.ACK,
					}),
				) as { frame: Buffer };
				await scene.isReset(
					goes(vip(scene, "empty", TCP), TCP, { flags: build.SYN }),
					"service_no_endpoints",
					frame,
				);
				for (const protocol of [UDP, SCTP] as const)
					await scene.ends(
						goes(vip(scene, "empty", protocol), protocol),
						"service_no_endpoints",
						"refused",
					);
				const nobody = family === 4 ? "10.96.9.9" : "fd00:10:96::9:9";
				await scene.ends(goes([client, [nobody, 80]], UDP), "service_unknown_address");
			});

			scene("UDP leaves an endpoint that is gone", async (scene) => {
				const service = scene.service("mixed", UDP);
				scene.only(service, podA[family]);
				const original = vip(scene, "mixed", UDP);
				const to = (pod: world.Pod) =>
					intoPod(packetOf([client, [pod[family], TARGET_PORT]], UDP), pod);
				await scene.expect(goes(original, UDP), to(podA));
				scene.only(service, podB[family]);
				scene.state(scene.backend(service, podA[family]), BackendState.SERVES);
				await scene.expect(goes(original, UDP), to(podA));
				scene.replace(service, podA[family], podB[family]);
				await scene.expect(goes(original, UDP), to(podB));
			});

			scene("ICMP errors speak of what their receiver has sent", async (scene) => {
				scene.only(scene.service("mixed", UDP), direct.pod[family]);
				const original = vip(scene, "mixed", UDP);
				const shown: Tuple = [
					[gateway[family], PORT],
					[direct.pod[family], TARGET_PORT],
				];
				await scene.send(goes(original, UDP));
				const error = (source: string, destination: string, quoted: Buffer) =>
					build.ip({ source, destination }, build.timeExceeded(quoted));
				await scene.expect(
					fromWire(error(direct.pod[family], gateway[family], packetOf(shown, UDP)), direct.mac),
					intoHost(error(original[1][0], client[0], packetOf(original, UDP))),
				);
				await scene.expect(
					fromHost(error(client[0], original[1][0], packetOf(reversed(original), UDP))),
					{
						frame: onWire(
							direct.mac,
							error(gateway[family], direct.pod[family], packetOf(reversed(shown), UDP)),
						),
					},
				);
			});
		}
}
