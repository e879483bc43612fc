/**
 * Services for clients from the wire: NodePorts, load balancer and external IPs, with backends on this Node,
 * on peers by every path, outside, and the Node itself; who is kept out, and how one is refused.
 */
import { equal, notEqual } from "node:assert/strict";
import t from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { BackendState, DropReasonName, Hook, Limit, NodeFlag } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { HOOKS, intoPod, sides } from "./conversation.js";
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
	type Scene,
	sceneTests,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { SERVICE_PORT, SHARED_PORT, TARGET_PORT } from "./services.js";
import { fromHost, fromPod, fromWire, onWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, outside, nodeAddress, gateway } = world;

/** The source port of the packet in a tunnel. */
function snatPort(frame: Buffer): number {
	const outer = parse(frame)!;
	return parse(frame.subarray(outer.l4 + 16))!.key.sourcePort;
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const scene = sceneTests(dataPath, family);
		const client: End = [outside[family], PORT];
		const nodePort = (scene: Scene, name: string, protocol: Protocol): Tuple => [
			client,
			[nodeAddress[family], scene.service(name, protocol).nodePort],
		];
		const comes = (tuple: Tuple, protocol: Protocol, how: PacketOptions = {}): Input =>
			fromWire(packetOf(tuple, protocol, how));
		const out = (packet: Buffer): Expected => ({ frame: onWire(world.ROUTER_MAC, packet) });

		for (const protocol of [UDP, TCP] as const) {
			const name = NAMES[protocol];
			scene(`${name} to a NodePort with a backend here, which sees the client`, async (scene) => {
				const service = scene.service("mixed", protocol);
				scene.only(service, podB[family]);
				const original = nodePort(scene, "mixed", protocol);
				const shown: Tuple = [client, [podB[family], TARGET_PORT]];
				const delivered = intoPod(packetOf(shown, protocol, { ttl: 63 }), podB);
				const first = await scene.expect(comes(original, protocol), delivered);
				equal(first.verdict.backend, scene.backend(service, podB[family]));
				scene.hasBackend(original, protocol, first.verdict.backend);
				for (const _ of ["known", "fast"]) {
					await scene.expect(
						fromPod(podB, packetOf(reversed(shown), protocol)),
						out(packetOf(reversed(original), protocol, { ttl: 63 })),
					);
					for (const hook of HOOKS) {
						if (hook === Hook.FROM_WIRE_XDP && protocol === TCP) continue;
						await scene.expect({ ...comes(original, protocol), hook }, delivered);
					}
				}
				scene.raiseEpoch();
				await scene.expect(comes(original, protocol), delivered);
			});

			for (const [place, side] of sides(family).entries()) {
				if (side.translated) continue;
				const peer = world.peers[place]!;
				scene(`${name} to a NodePort with a backend of ${side.name}, and back`, async (scene) => {
					scene.only(scene.service("mixed", protocol), peer.pod[family]);
					const original = nodePort(scene, "mixed", protocol);
					const shown: Tuple = [
						[gateway[family], PORT],
						[peer.pod[family], TARGET_PORT],
					];
					for (const _ of ["first", "known"]) {
						await scene.expect(
							comes(original, protocol),
							side.sent(packetOf(shown, protocol, { ttl: 63 })),
						);
						await scene.expect(
							side.received(packetOf(reversed(shown), protocol), Hook.FROM_WIRE),
							out(packetOf(reversed(original), protocol, { ttl: 63 })),
						);
						scene.raiseEpoch();
					}
				});
			}

			scene(`${name} to a NodePort with a backend outside, and back`, async (scene) => {
				scene.only(scene.service("mixed", protocol), direct.transport[family]);
				const original = nodePort(scene, "mixed", protocol);
				const shown: Tuple = [
					[nodeAddress[family], PORT],
					[direct.transport[family], TARGET_PORT],
				];
				for (const _ of ["first", "known"]) {
					await scene.expect(comes(original, protocol), {
						frame: onWire(direct.mac, packetOf(shown, protocol, { ttl: 63 })),
					});
					await scene.expect(
						fromWire(packetOf(reversed(shown), protocol), direct.mac),
						out(packetOf(reversed(original), protocol, { ttl: 63 })),
					);
				}
			});

			scene(`${name} to a NodePort with this Node as its backend, and back`, async (scene) => {
				scene.only(scene.service("mixed", protocol), nodeAddress[family]);
				const original = nodePort(scene, "mixed", protocol);
				const { returnAddress4, returnAddress6 } = scene.tables.config;
				const shown: Tuple = [
					[family === 4 ? returnAddress4 : returnAddress6, PORT],
					[nodeAddress[family], TARGET_PORT],
				];
				for (const _ of ["first", "known"]) {
					await scene.expect(comes(original, protocol), {
						frame: build.frame(
							{ source: "02:fa:1c:00:00:01", destination: world.GATEWAY_MAC },
							packetOf(shown, protocol),
						),
						device: "fairway0",
					});
					await scene.expect(
						fromHost(packetOf(reversed(shown), protocol)),
						out(packetOf(reversed(original), protocol)),
					);
				}
			});
		}

		const shows: world.Variation = {
			config: {
				flags: NodeFlag.CONFIGURED | NodeFlag.SNAT | NodeFlag.SERVES_ALL | NodeFlag.STACK_ANSWERS,
			},
		};
		const leaves = (packet: Buffer): Input => ({ ...fromWire(packet), hook: Hook.TO_WIRE });
		for (const protocol of [UDP, TCP, SCTP] as const) {
			const name = NAMES[protocol];
			const toSelf = (scene: Scene): [Tuple, Tuple] => {
				const service = scene.service("mixed", protocol);
				scene.only(service, nodeAddress[family]);
				return [
					[client, [service.loadBalancerIP, SERVICE_PORT]],
					[client, [nodeAddress[family], TARGET_PORT]],
				];
			};
			scene(
				`${name} with this Node as its backend, which sees the client where to_wire turns answers back`,
				async (scene) => {
					const [original, shown] = toSelf(scene);
					for (const _ of ["first", "known", "new epoch"]) {
						await scene.passes(comes(original, protocol), packetOf(shown, protocol));
						await scene.passes(
							leaves(packetOf(reversed(shown), protocol)),
							packetOf(reversed(original), protocol),
						);
						scene.raiseEpoch();
					}
					// What is no answer, and what comes to the Node itself, is left as it is.
					const other: Tuple = [
						[client[0], PORT + 1],
						[nodeAddress[family], TARGET_PORT],
					];
					await scene.passes(comes(other, protocol), packetOf(other, protocol));
					const own = packetOf(reversed(other), protocol);
					await scene.passes(leaves(own), own);
				},
				shows,
			);
			// What an error quotes of TCP and SCTP keeps its checksum: routers may quote no more than eight bytes of
			// the segment, and receivers know it by its sequence number or verification tag.
			const quote = (tuple: Tuple) => {
				const packet = packetOf(tuple, protocol);
				return protocol === UDP ? packet : packet.subarray(0, (family === 4 ? 20 : 40) + 8);
			};
			scene(
				`${name}: ICMP errors between a client and the Node itself speak of what each has sent`,
				async (scene) => {
					const [original, shown] = toSelf(scene);
					await scene.send(comes(original, protocol));
					const error = (source: string, destination: string, quoted: Buffer) =>
						build.ip({ source, destination }, build.timeExceeded(quoted));
					const router = world.router[family];
					await scene.passes(
						leaves(error(shown[1][0], client[0], quote(shown))),
						error(original[1][0], client[0], quote(original)),
					);
					await scene.passes(
						fromWire(error(router, original[1][0], quote(reversed(original)))),
						error(router, shown[1][0], quote(reversed(shown))),
					);
				},
				shows,
			);
		}
		scene(
			"fragments of an answer of the Node itself follow the first one",
			async (scene) => {
				const service = scene.service("mixed", UDP);
				scene.only(service, nodeAddress[family]);
				const original: Tuple = [client, [service.loadBalancerIP, SERVICE_PORT]];
				const shown: Tuple = [client, [nodeAddress[family], TARGET_PORT]];
				const data = Buffer.alloc(1600, 0x5a);
				const cut = (tuple: Tuple) =>
					build.fragmented(packetOf(tuple, UDP, { data, dontFragment: false }), 800, 77);
				for (const [i, piece] of cut(original).slice(0, 2).entries())
					await scene.passes(fromWire(piece), cut(shown)[i]!);
				for (const [i, piece] of cut(reversed(shown)).slice(0, 2).entries())
					await scene.passes(leaves(piece), cut(reversed(original))[i]!);
			},
			shows,
		);
		scene(
			"two Services of one client with this Node as their backend: the port tells them apart",
			async (scene) => {
				const service = scene.service("mixed", UDP);
				scene.only(service, nodeAddress[family]);
				const [first, second]: Tuple[] = [
					[client, [service.loadBalancerIP, SERVICE_PORT]],
					nodePort(scene, "mixed", UDP),
				];
				const shown: Tuple = [client, [nodeAddress[family], TARGET_PORT]];
				await scene.passes(comes(first!, UDP), packetOf(shown, UDP));
				const { packet } = await scene.send(comes(second!, UDP));
				const { key } = parse(packet)!;
				equal(key.source, client[0]);
				notEqual(key.sourcePort, PORT);
				const back: Tuple = [shown[1], [client[0], key.sourcePort]];
				await scene.passes(leaves(packetOf(back, UDP)), packetOf(reversed(second!), UDP));
				await scene.passes(leaves(packetOf(reversed(shown), UDP)), packetOf(reversed(first!), UDP));
			},
			shows,
		);

		scene("load balancer and external IPs lead clients there, too", async (scene) => {
			for (const [place, [name, address, port]] of (
				[
					["mixed", scene.service("mixed", UDP).loadBalancerIP, SERVICE_PORT],
					["external", scene.service("external", UDP).externalIP, SERVICE_PORT],
					["onNode", nodeAddress[family], SHARED_PORT],
				] as const
			).entries()) {
				scene.only(scene.service(name, UDP), podB[family]);
				const original: Tuple = [
					[outside[family], PORT + place],
					[address, port],
				];
				const shown: Tuple = [original[0], [podB[family], TARGET_PORT]];
				for (const _ of ["first", "known", "new epoch"]) {
					await scene.expect(
						comes(original, UDP),
						intoPod(packetOf(shown, UDP, { ttl: 63 }), podB),
					);
					await scene.expect(
						fromPod(podB, packetOf(reversed(shown), UDP)),
						out(packetOf(reversed(original), UDP, { ttl: 63 })),
					);
					scene.raiseEpoch();
				}
			}
		});

		scene("external traffic policy Local: only backends on this Node", async (scene) => {
			const { loadBalancerIP } = scene.service("policy", UDP);
			const original: Tuple = [client, [loadBalancerIP, SERVICE_PORT]];
			await scene.expect(
				comes(original, UDP),
				intoPod(packetOf([client, [podB[family], TARGET_PORT]], UDP, { ttl: 63 }), podB),
			);
			await scene.ends(
				comes([client, [scene.service("remote", UDP).loadBalancerIP, SERVICE_PORT]], UDP),
				"service_no_local_endpoints",
			);
			await scene.ends(
				comes(nodePort(scene, "remote", TCP), TCP, { flags: build.SYN }),
				"service_no_local_endpoints",
			);
		});

		scene("only the sources of its ranges use a load balancer's IP", async (scene) => {
			const { loadBalancerIP } = scene.service("ranged", UDP);
			scene.only(scene.service("ranged", UDP), podB[family]);
			await scene.expect(
				comes([client, [loadBalancerIP, SERVICE_PORT]], UDP),
				intoPod(packetOf([client, [podB[family], TARGET_PORT]], UDP, { ttl: 63 }), podB),
			);
			const stranger = family === 4 ? "203.0.113.9" : "2001:db8:dead::9";
			await scene.ends(
				comes(
					[
						[stranger, PORT],
						[loadBalancerIP, SERVICE_PORT],
					],
					UDP,
				),
				"service_source_range",
			);
		});

		const toClusterIP = (scene: Scene): Tuple => [
			client,
			[scene.service("mixed", UDP).clusterIP, SERVICE_PORT],
		];
		scene("a cluster IP is not for the outside", async (scene) => {
			await scene.ends(comes(toClusterIP(scene), UDP), "service_external_cluster_ip");
		});
		const { CONFIGURED, SNAT, SERVES_ALL, SERVES_CLUSTER_IPS } = NodeFlag;
		scene(
			"unless it is configured so",
			async (scene) => {
				scene.only(scene.service("mixed", UDP), podB[family]);
				await scene.expect(
					comes(toClusterIP(scene), UDP),
					intoPod(packetOf([client, [podB[family], TARGET_PORT]], UDP, { ttl: 63 }), podB),
				);
			},
			{ config: { flags: CONFIGURED | SNAT | SERVES_ALL | SERVES_CLUSTER_IPS } },
		);
		scene(
			"without proxyAll, Services are the Node's own stack's for the outside",
			async (scene) => {
				for (const tuple of [
					nodePort(scene, "mixed", UDP),
					toClusterIP(scene),
					[client, [scene.service("mixed", UDP).loadBalancerIP, SERVICE_PORT]] as Tuple,
				])
					await scene.passes(comes(tuple, UDP), packetOf(tuple, UDP));
			},
			{ config: { flags: CONFIGURED | SNAT } },
		);

		scene("other ports of the Node's address, and echo requests, are the Node's", async (scene) => {
			const ssh: Tuple = [client, [nodeAddress[family], 22]];
			await scene.passes(comes(ssh, TCP), packetOf(ssh, TCP));
			const echo = build.ip(
				{ source: client[0], destination: nodeAddress[family] },
				build.echo("request", 7),
			);
			await scene.passes(fromWire(echo), echo);
		});

		for (const [why, drop, name, port] of [
			["no endpoints", "service_no_endpoints", "empty", SERVICE_PORT],
			["a port that it does not have", "service_unknown_port", "mixed", 81],
		] as const)
			scene(`a Service with ${why} resets TCP, and answers UDP and SCTP`, async (scene) => {
				const to = (protocol: Protocol): Tuple => [
					client,
					[scene.service(name, protocol).loadBalancerIP, port],
				];
				await scene.isReset(
					comes(to(TCP), TCP, { flags: build.SYN }),
					drop,
					build.frame(
						{ source: world.NODE_MAC, destination: world.ROUTER_MAC },
						resetOf(to(TCP), {
							sequence: 0,
							acknowledgment: 2,
							flags: build.RST | build.ACK,
						}),
					),
				);
				await scene.ends(comes(to(TCP), TCP, { flags: build.RST }), drop);
				for (const protocol of [UDP, SCTP] as const)
					await scene.ends(comes(to(protocol), protocol), drop, "refused");
			});

		scene("nothing for a Service's address goes on to a router", async (scene) => {
			const { loadBalancerIP } = scene.service("mixed", UDP);
			const to = (destination: string, segment: build.Segment) =>
				fromWire(build.ip({ source: client[0], destination }, segment));
			await scene.ends(to(loadBalancerIP, build.echo("request", 7)), "service_unknown_port");
			const nobody = family === 4 ? "10.96.9.9" : "fd00:10:96::9:9";
			await scene.ends(to(nobody, build.udp(PORT, SERVICE_PORT)), "service_unknown_address");
			const about = packetOf([[loadBalancerIP, SERVICE_PORT], client], UDP);
			await scene.ends(to(loadBalancerIP, build.unreachable(about)), "icmp_unrelated");
		});

		scene("UDP leaves an endpoint that is gone, by XDP and TC", async (scene) => {
			const service = scene.service("mixed", UDP);
			scene.only(service, podA[family]);
			const original = nodePort(scene, "mixed", UDP);
			const to = (pod: world.Pod) =>
				intoPod(packetOf([client, [pod[family], TARGET_PORT]], UDP, { ttl: 63 }), pod);
			await scene.expect(comes(original, UDP), to(podA));
			await scene.send(fromPod(podA, packetOf([[podA[family], TARGET_PORT], client], UDP)));
			await scene.expect({ ...comes(original, UDP), hook: Hook.FROM_WIRE_XDP }, to(podA));
			scene.replace(service, podA[family], podB[family]);
			const goesUp = { ...comes(original, UDP), hook: Hook.FROM_WIRE_XDP };
			await scene.passes(goesUp, packetOf(original, UDP));
			await scene.expect(comes(original, UDP), to(podB));
		});

		scene("TCP stays with an endpoint that is gone, once that has answered", async (scene) => {
			const service = scene.service("mixed", TCP);
			scene.only(service, podB[family]);
			const original = nodePort(scene, "mixed", TCP);
			const shown: Tuple = [client, [podB[family], TARGET_PORT]];
			await scene.send(comes(original, TCP, { flags: build.SYN }));
			await scene.send(fromPod(podB, packetOf(reversed(shown), TCP)));
			scene.replace(service, podB[family], podA[family]);
			await scene.expect(comes(original, TCP), intoPod(packetOf(shown, TCP, { ttl: 63 }), podB));
		});

		scene(
			"one client at a Service and at its Pod: the second flow has another port",
			async (scene) => {
				scene.only(scene.service("mixed", UDP), podB[family]);
				const shown: Tuple = [client, [podB[family], TARGET_PORT]];
				await scene.expect(comes(shown, UDP), intoPod(packetOf(shown, UDP, { ttl: 63 }), podB));
				const second = await scene.send(comes(nodePort(scene, "mixed", UDP), UDP));
				const { key } = parse(second.packet)!;
				equal(key.source, client[0], "the address stays");
				notEqual(key.sourcePort, PORT);
				const back: Tuple = [
					[podB[family], TARGET_PORT],
					[client[0], key.sourcePort],
				];
				await scene.expect(
					fromPod(podB, packetOf(back, UDP)),
					out(packetOf(reversed(nodePort(scene, "mixed", UDP)), UDP, { ttl: 63 })),
				);
			},
		);

		scene(
			"a SYN to a backend in a tunnel fits that; what is too big is answered",
			async (scene) => {
				scene.only(scene.service("mixed", TCP), geneve4.pod[family]);
				const original = nodePort(scene, "mixed", TCP);
				const syn = (mss: number, [from, to]: Tuple, ttl: number) =>
					build.ip(
						{ source: from[0], destination: to[0], ttl },
						build.tcp(from[1], to[1], { flags: build.SYN, options: build.mss(mss) }),
					);
				const overhead = family === 4 ? 40 : 60;
				const shown: Tuple = [
					[gateway[family], PORT],
					[geneve4.pod[family], TARGET_PORT],
				];
				const side = sides(family)[1]!;
				await scene.expect(
					fromWire(syn(1460, original, 64)),
					side.sent(syn(1450 - overhead, shown, 63)),
				);
				const large = comes(original, TCP, { data: Buffer.alloc(1460 - overhead) });
				await scene.ends(large, "packet_too_big", "too_big");
				await scene.ends(comes(original, TCP, { ttl: 1 }), "ttl_exceeded", "ttl_exceeded");
			},
		);

		scene("fragments follow the first one; a later one before it is held", async (scene) => {
			scene.only(scene.service("mixed", UDP), direct.pod[family]);
			const original: Tuple = [client, [scene.service("mixed", UDP).loadBalancerIP, SERVICE_PORT]];
			const shown: Tuple = [
				[gateway[family], PORT],
				[direct.pod[family], TARGET_PORT],
			];
			const data = Buffer.alloc(1600, 0x5a);
			const cut = (tuple: Tuple, ttl: number) =>
				build.fragmented(packetOf(tuple, UDP, { data, ttl, dontFragment: false }), 800, 77);
			const [sent, left] = [cut(original, 64), cut(shown, 63)];
			await scene.isHeld(fromWire(sent[1]!));
			for (const [i, piece] of sent.slice(0, 2).entries())
				await scene.expect(fromWire(piece), { frame: onWire(direct.mac, left[i]!) });
		});

		scene("ICMP errors speak of what their receiver has sent", async (scene) => {
			scene.only(scene.service("mixed", UDP), direct.pod[family]);
			const original = nodePort(scene, "mixed", UDP);
			const shown: Tuple = [
				[gateway[family], PORT],
				[direct.pod[family], TARGET_PORT],
			];
			await scene.send(comes(original, UDP));
			const router = family === 4 ? "203.0.113.254" : "2001:db8:ffff::1";
			const error = (source: string, destination: string, quoted: Buffer, ttl: number) =>
				build.ip({ source, destination, ttl }, build.timeExceeded(quoted));
			// From the backend's side, by a router and by itself.
			await scene.expect(
				fromWire(error(router, gateway[family], packetOf(shown, UDP), 64)),
				out(error(router, client[0], packetOf(original, UDP), 63)),
			);
			await scene.expect(
				fromWire(error(direct.pod[family], gateway[family], packetOf(shown, UDP), 64), direct.mac),
				out(error(original[1][0], client[0], packetOf(original, UDP), 63)),
			);
			// From the client's side.
			await scene.expect(
				fromWire(error(client[0], original[1][0], packetOf(reversed(original), UDP), 64)),
				{
					frame: onWire(
						direct.mac,
						error(gateway[family], direct.pod[family], packetOf(reversed(shown), UDP), 63),
					),
				},
			);
		});

		scene("no tunnel to a peer's Node is made of what a Service forwards", async (scene) => {
			const service = scene.service("mixed", UDP);
			const inner = build.frame(
				{ source: geneve4.mac, destination: "02:fa:1c:00:00:01" },
				build.ip({ source: podA[family], destination: direct.pod[family] }, build.udp(1, 2)),
			);
			const data = build.geneve({ vni: world.VNI }, inner);
			// To a backend that is a peer's Node.
			scene.only(service, direct.transport[family]);
			await scene.ends(comes(nodePort(scene, "mixed", UDP), UDP, { data }), "tunnel_from_pod");
			// To a client whose address is made up, in a backend's answer.
			scene.only(service, geneve4.pod[family]);
			const original: Tuple = [
				[direct.transport[family], Limit.GENEVE_PORT],
				[nodeAddress[family], service.nodePort],
			];
			const begun = await scene.send(fromWire(packetOf(original, UDP), direct.mac));
			equal(DropReasonName[begun.verdict.dropReason], "none");
			const answer = packetOf(
				[
					[geneve4.pod[family], TARGET_PORT],
					[gateway[family], snatPort(begun.packet)],
				],
				UDP,
				{ data },
			);
			await scene.ends(sides(family)[1]!.received(answer, Hook.FROM_WIRE), "tunnel_from_pod");
		});

		scene("session affinity holds for clients from the wire", async (scene) => {
			const service = scene.service("sticky", UDP);
			const chosen = async (port: number) => {
				const tuple: Tuple = [
					[outside[family], port],
					[nodeAddress[family], service.nodePort],
				];
				return (await scene.send(comes(tuple, UDP))).verdict.backend;
			};
			const first = await chosen(40000);
			for (let port = 40001; port < 40016; port++) equal(await chosen(port), first);
			scene.state(first, BackendState.SERVES);
			notEqual(await chosen(40100), 0);
		});
	}
}
