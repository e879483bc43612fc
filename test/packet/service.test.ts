/**
 * Services for Pods: what a Pod sends to a Service's address, how its backend sees it, and how the answer
 * comes back; who is refused, and what ends when an endpoint does.
 */
import { equal, notEqual, ok } from "node:assert/strict";
import t from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { BackendState, DropReason, Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
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
import { fromPod, fromWire, onWire, toPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, outside, nodeAddress, gateway } = world;

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const scene = sceneTests(dataPath, family);
		const client: End = [podA[family], PORT];
		const vip = (scene: Scene, name: string, protocol: Protocol): Tuple => [
			client,
			[scene.service(name, protocol).clusterIP, SERVICE_PORT],
		];
		const goes = (tuple: Tuple, protocol: Protocol, how: PacketOptions = {}) =>
			fromPod(podA, packetOf(tuple, protocol, how));

		for (const side of sides(family).filter(({ translated }) => !translated))
			for (const protocol of [UDP, TCP] as const)
				scene(`${NAMES[protocol]} to a backend of ${side.name}, and back`, async (scene) => {
					const service = scene.service("mixed", protocol);
					const peer = world.peers[sides(family).findIndex(({ name }) => name === side.name)]!;
					scene.only(service, peer.pod[family]);
					const original = vip(scene, "mixed", protocol);
					const shown: Tuple = [client, [peer.pod[family], TARGET_PORT]];
					const there = side.sent(packetOf(shown, protocol, { ttl: 63 }));
					const first = await scene.expect(goes(original, protocol), there);
					equal(first.verdict.backend, scene.backend(service, peer.pod[family]));
					scene.hasBackend(original, protocol, first.verdict.backend);
					for (const hook of HOOKS) {
						if (hook === Hook.FROM_WIRE_XDP && protocol === TCP) continue;
						const answer = side.received(packetOf(reversed(shown), protocol), hook);
						await scene.expect(
							answer,
							intoPod(packetOf(reversed(original), protocol, { ttl: 63 })),
						);
						// Known now, and on the fast path.
						await scene.expect(goes(original, protocol), there);
					}
					scene.raiseEpoch();
					await scene.expect(goes(original, protocol), there);
				});

		for (const protocol of [UDP, TCP] as const) {
			const name = NAMES[protocol];
			scene(`${name} to a backend on this Node, and back`, async (scene) => {
				scene.only(scene.service("mixed", protocol), podB[family]);
				const original = vip(scene, "mixed", protocol);
				const shown: Tuple = [client, [podB[family], TARGET_PORT]];
				for (const _ of ["first", "known", "fast"]) {
					await scene.expect(
						goes(original, protocol),
						intoPod(packetOf(shown, protocol, { ttl: 63 }), podB),
					);
					await scene.expect(
						fromPod(podB, packetOf(reversed(shown), protocol)),
						intoPod(packetOf(reversed(original), protocol, { ttl: 63 })),
					);
				}
			});

			scene(`${name} of a Pod to itself comes from the gateway address`, async (scene) => {
				const original = vip(scene, "self", protocol);
				const shown: Tuple = [
					[gateway[family], PORT],
					[podA[family], TARGET_PORT],
				];
				for (const _ of ["first", "known", "fast"]) {
					await scene.expect(
						goes(original, protocol),
						intoPod(packetOf(shown, protocol, { ttl: 63 })),
					);
					await scene.expect(
						goes(reversed(shown), protocol),
						intoPod(packetOf(reversed(original), protocol, { ttl: 63 })),
					);
					scene.raiseEpoch();
				}
			});

			scene(`${name} to a backend that is this Node: the answer is translated`, async (scene) => {
				scene.only(scene.service("mixed", protocol), nodeAddress[family]);
				const original = vip(scene, "mixed", protocol);
				const shown: Tuple = [client, [nodeAddress[family], TARGET_PORT]];
				for (const _ of ["first", "known"]) {
					await scene.passes(goes(original, protocol), packetOf(shown, protocol));
					await scene.passes(
						toPod(podA, packetOf(reversed(shown), protocol)),
						packetOf(reversed(original), protocol),
					);
				}
			});

			for (const [where, address, mac] of [
				["the outside", outside, world.ROUTER_MAC],
				["another Node", direct.transport, direct.mac],
			] as const)
				scene(`${name} to a backend on ${where} comes from this Node`, async (scene) => {
					scene.only(scene.service("mixed", protocol), address[family]);
					const original = vip(scene, "mixed", protocol);
					const shown: Tuple = [
						[nodeAddress[family], PORT],
						[address[family], TARGET_PORT],
					];
					for (const _ of ["first", "known", "fast"]) {
						await scene.expect(goes(original, protocol), {
							frame: onWire(mac, packetOf(shown, protocol, { ttl: 63 })),
						});
						await scene.expect(
							fromWire(packetOf(reversed(shown), protocol), mac),
							intoPod(packetOf(reversed(original), protocol, { ttl: 63 })),
						);
					}
				});
		}

		scene(
			"a NodePort, a load balancer's and an external IP lead Pods there, too",
			async (scene) => {
				for (const [place, [name, address, port]] of (
					[
						["mixed", nodeAddress[family], scene.service("mixed", UDP).nodePort],
						["mixed", scene.service("mixed", UDP).loadBalancerIP, SERVICE_PORT],
						["external", scene.service("external", UDP).externalIP, SERVICE_PORT],
						["onNode", nodeAddress[family], SHARED_PORT],
						["onPeer", direct.transport[family], SHARED_PORT],
					] as const
				).entries()) {
					scene.only(scene.service(name, UDP), podB[family]);
					const from: End = [podA[family], PORT + place];
					await scene.expect(
						goes([from, [address, port]], UDP),
						intoPod(packetOf([from, [podB[family], TARGET_PORT]], UDP, { ttl: 63 }), podB),
					);
				}
			},
		);

		scene("other ports of a Node's own address are the Node's", async (scene) => {
			const own: Tuple = [client, [nodeAddress[family], 22]];
			await scene.passes(goes(own, TCP), packetOf(own, TCP));
			const peers: Tuple = [client, [direct.transport[family], 22]];
			const shown: Tuple = [[nodeAddress[family], PORT], peers[1]];
			await scene.expect(goes(peers, TCP), {
				frame: onWire(direct.mac, packetOf(shown, TCP, { ttl: 63 })),
			});
			const echo = build.ip(
				{ source: podA[family], destination: nodeAddress[family] },
				build.echo("request", 7),
			);
			await scene.passes(fromPod(podA, echo), echo);
		});

		/* Refusals. */

		const resetIntoPod = (...of: Parameters<typeof resetOf>): Buffer =>
			build.frame({ source: world.GATEWAY_MAC, destination: podA.mac }, resetOf(...of));

		for (const [why, drop, name, port] of [
			["no endpoints", "service_no_endpoints", "empty", SERVICE_PORT],
			["a port that it does not have", "service_unknown_port", "mixed", 81],
		] as const) {
			scene(`a Service with ${why} resets TCP`, async (scene) => {
				const tuple: Tuple = [client, [scene.service(name, TCP).clusterIP, port]];
				const sends = (how: build.TcpOptions, more: Partial<build.IpOptions> = {}) =>
					fromPod(
						podA,
						build.ip(
							{ ...more, source: client[0], destination: tuple[1][0] },
							build.tcp(PORT, port, how),
						),
					);
				const RST_ACK = build.RST | build.ACK;
				const options = build.mss(1460);
				// What has no acknowledgment is acknowledged: a SYN, a FIN and each byte count.
				await scene.isReset(
					sends({ flags: build.SYN, sequence: 0xffffffff, options }),
					drop,
					resetIntoPod(tuple, { sequence: 0, acknowledgment: 0, flags: RST_ACK }),
				);
				await scene.isReset(
					sends({ flags: build.FIN, sequence: 7, payload: Buffer.from("abc") }),
					drop,
					resetIntoPod(tuple, { sequence: 0, acknowledgment: 11, flags: RST_ACK }),
				);
				await scene.isReset(
					sends({ flags: build.ACK, sequence: 7, payload: Buffer.alloc(1200) }),
					drop,
					resetIntoPod(tuple, { sequence: 0, acknowledgment: 0, flags: build.RST }),
				);
				// A reset is never answered; nor is what no connection begins with.
				await scene.ends(sends({ flags: build.RST }), drop);
				const odd =
					family === 4
						? { options: Buffer.from("01010101", "hex") }
						: { extensions: [build.extension(build.DESTINATION_OPTIONS)] };
				await scene.ends(sends({ flags: build.SYN }, odd), drop);
			});

			scene(`a Service with ${why} answers UDP and SCTP by the slow path`, async (scene) => {
				for (const protocol of [UDP, SCTP] as const) {
					const tuple: Tuple = [client, [scene.service(name, protocol).clusterIP, port]];
					await scene.ends(goes(tuple, protocol), drop, "refused");
				}
			});
		}

		scene("what has no port of a Service's is dropped, and never goes on", async (scene) => {
			const { clusterIP } = scene.service("mixed", UDP);
			const to = (destination: string, segment: build.Segment) =>
				fromPod(podA, build.ip({ source: podA[family], destination }, segment));
			await scene.ends(to(clusterIP, build.echo("request", 7)), "service_unknown_port");
			await scene.ends(to(clusterIP, build.protocol(47, Buffer.alloc(8))), "service_unknown_port");
			const nobody = family === 4 ? "10.96.9.9" : "fd00:10:96::9:9";
			await scene.ends(to(nobody, build.udp(PORT, SERVICE_PORT)), "service_unknown_address");
			const about = build.ip(
				{ source: clusterIP, destination: podA[family] },
				build.udp(SERVICE_PORT, PORT),
			);
			await scene.ends(to(clusterIP, build.unreachable(about)), "icmp_unrelated");
		});

		scene("only the sources of its ranges use a load balancer's IP", async (scene) => {
			const { loadBalancerIP, clusterIP } = scene.service("ranged", UDP);
			scene.only(scene.service("ranged", UDP), direct.pod[family]);
			const from = (pod: world.Pod, destination: string) =>
				fromPod(
					pod,
					packetOf(
						[
							[pod[family], PORT],
							[destination, SERVICE_PORT],
						],
						UDP,
					),
				);
			const sent = (pod: world.Pod): Expected => ({
				frame: onWire(
					direct.mac,
					packetOf(
						[
							[pod[family], PORT],
							[direct.pod[family], TARGET_PORT],
						],
						UDP,
						{ ttl: 63 },
					),
				),
			});
			await scene.expect(from(podA, loadBalancerIP), sent(podA));
			await scene.ends(from(podB, loadBalancerIP), "service_source_range");
			await scene.expect(from(podB, clusterIP), sent(podB));
		});

		scene("traffic policies: inside, cluster IPs by the internal one only", async (scene) => {
			const { clusterIP, loadBalancerIP } = scene.service("remote", UDP);
			await scene.ends(
				goes([client, [clusterIP, SERVICE_PORT]], UDP),
				"service_no_local_endpoints",
			);
			scene.only(scene.service("remote", UDP), direct.pod[family]);
			await scene.expect(goes([client, [loadBalancerIP, SERVICE_PORT]], UDP), {
				frame: onWire(
					direct.mac,
					packetOf([client, [direct.pod[family], TARGET_PORT]], UDP, { ttl: 63 }),
				),
			});
		});

		/* Change. */

		const toDirect = (protocol: Protocol, port = PORT, how: PacketOptions = {}): Expected => ({
			frame: onWire(
				direct.mac,
				packetOf(
					[
						[podA[family], port],
						[direct.pod[family], TARGET_PORT],
					],
					protocol,
					{
						...how,
						ttl: 63,
					},
				),
			),
		});
		const toPodB = (protocol: Protocol, port = PORT, how: PacketOptions = {}): Expected =>
			intoPod(
				packetOf(
					[
						[podA[family], port],
						[podB[family], TARGET_PORT],
					],
					protocol,
					{
						...how,
						ttl: 63,
					},
				),
				podB,
			);
		const answers = (protocol: Protocol) =>
			fromWire(packetOf([[direct.pod[family], TARGET_PORT], client], protocol), direct.mac);

		for (const isAnswered of [false, true])
			scene(
				`UDP leaves an endpoint that is gone, ${isAnswered ? "answered, on the fast path" : "unanswered"}`,
				async (scene) => {
					const service = scene.service("mixed", UDP);
					scene.only(service, direct.pod[family]);
					const original = vip(scene, "mixed", UDP);
					await scene.expect(goes(original, UDP), toDirect(UDP));
					if (isAnswered) await scene.send(answers(UDP));
					await scene.expect(goes(original, UDP), toDirect(UDP));
					// It serves until it is gone, though it is in no set.
					scene.only(service, podB[family]);
					scene.state(scene.backend(service, direct.pod[family]), BackendState.SERVES);
					await scene.expect(goes(original, UDP), toDirect(UDP));
					scene.replace(service, direct.pod[family], podB[family]);
					await scene.expect(goes(original, UDP), toPodB(UDP));
				},
			);

		scene("TCP stays with an endpoint that is gone, once that has answered", async (scene) => {
			const service = scene.service("mixed", TCP);
			scene.only(service, direct.pod[family]);
			const original = vip(scene, "mixed", TCP);
			const syn = { flags: build.SYN };
			await scene.expect(goes(original, TCP, syn), toDirect(TCP, PORT, syn));
			scene.replace(service, direct.pod[family], podB[family]);
			await scene.expect(goes(original, TCP, syn), toPodB(TCP, PORT, syn));
			// Answered: it goes on.
			await scene.send(fromPod(podB, packetOf([[podB[family], TARGET_PORT], client], TCP)));
			scene.replace(service, podB[family], direct.pod[family]);
			await scene.expect(goes(original, TCP), toPodB(TCP));
			scene.raiseEpoch();
			await scene.expect(goes(original, TCP), toPodB(TCP));
		});

		scene("a connection that begins again after its end chooses anew", async (scene) => {
			const service = scene.service("mixed", TCP);
			scene.only(service, direct.pod[family]);
			const original = vip(scene, "mixed", TCP);
			const syn = { flags: build.SYN };
			await scene.expect(goes(original, TCP, syn), toDirect(TCP, PORT, syn));
			await scene.send(answers(TCP));
			await scene.send(goes(original, TCP, { flags: build.RST }));
			scene.only(service, podB[family]);
			await scene.expect(goes(original, TCP, syn), toPodB(TCP, PORT, syn));
		});

		scene("a flow to what becomes a Service's begins anew; answered TCP goes on", async (scene) => {
			const { loadBalancerIP } = scene.service("mixed", UDP);
			const bits = family === 4 ? 32 : 128;
			const route = scene.tables.routes.get(`${loadBalancerIP}/${bits}`)!;
			scene.tables.routes.delete(`${loadBalancerIP}/${bits}`);
			scene.raiseEpoch();
			const original: Tuple = [client, [loadBalancerIP, SERVICE_PORT]];
			const shown: Tuple = [[nodeAddress[family], PORT], original[1]];
			for (const protocol of [UDP, TCP] as const) {
				scene.only(scene.service("mixed", protocol), podB[family]);
				const out = { frame: onWire(world.ROUTER_MAC, packetOf(shown, protocol, { ttl: 63 })) };
				await scene.expect(goes(original, protocol), out);
				await scene.send(fromWire(packetOf(reversed(shown), protocol)));
			}
			scene.tables.routes.set(`${loadBalancerIP}/${bits}`, route);
			scene.raiseEpoch();
			await scene.expect(goes(original, UDP), toPodB(UDP));
			await scene.expect(goes(original, TCP), {
				frame: onWire(world.ROUTER_MAC, packetOf(shown, TCP, { ttl: 63 })),
			});
		});

		scene("two Services with one endpoint: the second flow has another port", async (scene) => {
			const [mixed, twin] = [scene.service("mixed", UDP), scene.service("twin", UDP)];
			for (const service of [mixed, twin]) scene.only(service, direct.pod[family]);
			await scene.expect(goes(vip(scene, "mixed", UDP), UDP), toDirect(UDP));
			const second = await scene.send(goes(vip(scene, "twin", UDP), UDP));
			const { key } = parse(second.packet)!;
			equal(key.source, podA[family], "the address stays");
			notEqual(key.sourcePort, PORT);
			scene.raiseEpoch();
			const again = await scene.send(goes(vip(scene, "twin", UDP), UDP));
			equal(parse(again.packet)!.key.sourcePort, key.sourcePort, "a new epoch does not end it");
			const back: Tuple = [
				[direct.pod[family], TARGET_PORT],
				[podA[family], key.sourcePort],
			];
			await scene.expect(
				fromWire(packetOf(back, UDP), direct.mac),
				intoPod(packetOf(reversed(vip(scene, "twin", UDP)), UDP, { ttl: 63 })),
			);
		});

		scene(
			"session affinity: a client stays with its backend while that is in the set",
			async (scene) => {
				const service = scene.service("sticky", UDP);
				const chosen = async (port: number) => {
					const tuple: Tuple = [
						[podA[family], port],
						[service.clusterIP, SERVICE_PORT],
					];
					return (await scene.send(goes(tuple, UDP))).verdict.backend;
				};
				const first = await chosen(40000);
				for (let port = 40001; port < 40016; port++) equal(await chosen(port), first);
				scene.only(
					service,
					...service.backends.filter(({ id }) => id !== first).map(({ address }) => address),
				);
				const second = await chosen(40100);
				notEqual(second, first);
				for (let port = 40101; port < 40116; port++) equal(await chosen(port), second);
				// Older than its time: by chance again.
				const age = BigInt(10801) * 1_000_000_000n;
				const old = { used: process.hrtime.bigint() - age, backend: second, pad: 0 };
				const others = service.backends
					.filter(({ id }) => id !== second)
					.map(({ address }) => address);
				dataPath.writeAffinity(podA[family], service.index, old);
				scene.tables.affinities.set(`${podA[family]} ${service.index}`, old);
				scene.only(service, ...others, service.backends.find(({ id }) => id === second)!.address);
				const seen = new Set<number>();
				for (let port = 40200; port < 40240; port++) {
					seen.add(await chosen(port));
					dataPath.writeAffinity(podA[family], service.index, old);
					scene.tables.affinities.set(`${podA[family]} ${service.index}`, old);
				}
				ok(seen.size > 1, "the choice is new");
			},
		);

		scene("the backends of a set are chosen evenly", async (scene) => {
			const service = scene.service("twin", UDP);
			const counts = new Map<number, number>();
			for (let port = 20000; port < 20600; port++) {
				const tuple: Tuple = [
					[podA[family], port],
					[service.clusterIP, SERVICE_PORT],
				];
				const { backend } = dataPath.run(Hook.FROM_POD, goes(tuple, UDP).packet, {
					ifindex: world.indexOf(podA.interface),
					now: 0n,
				}).verdict;
				counts.set(backend, (counts.get(backend) ?? 0) + 1);
			}
			equal(counts.size, 3);
			// 200 each are expected; a deviation of 70 is six times the standard one.
			for (const count of counts.values()) ok(Math.abs(count - 200) < 70, `${count} of 600`);
		});

		scene("fragments follow the first one; a later one before it is held", async (scene) => {
			const service = scene.service("mixed", UDP);
			scene.only(service, direct.pod[family]);
			const original = vip(scene, "mixed", UDP);
			const shown: Tuple = [client, [direct.pod[family], TARGET_PORT]];
			const data = Buffer.alloc(1600, 0x5a);
			const cut = (tuple: Tuple, ttl: number) =>
				build.fragmented(packetOf(tuple, UDP, { data, ttl, dontFragment: false }), 800, 77);
			const [sent, left] = [cut(original, 64), cut(shown, 63)];
			await scene.isHeld(fromPod(podA, sent[1]!));
			await scene.expect(fromPod(podA, sent[0]!), { frame: onWire(direct.mac, left[0]!) });
			await scene.expect(fromPod(podA, sent[1]!), { frame: onWire(direct.mac, left[1]!) });
		});

		scene("ICMP errors speak of what their receiver has sent", async (scene) => {
			scene.only(scene.service("mixed", UDP), direct.pod[family]);
			const original = vip(scene, "mixed", UDP);
			const shown: Tuple = [client, [direct.pod[family], TARGET_PORT]];
			await scene.send(goes(original, UDP));
			const router = family === 4 ? "203.0.113.254" : "2001:db8:ffff::1";
			const error = (source: string, destination: string, quoted: Buffer, ttl: number) =>
				build.ip({ source, destination, ttl }, build.timeExceeded(quoted));
			for (const speaker of [router, direct.pod[family]])
				await scene.expect(
					fromWire(error(speaker, podA[family], packetOf(shown, UDP), 64), world.ROUTER_MAC),
					speaker === router
						? intoPod(error(router, podA[family], packetOf(original, UDP), 63))
						: { drop: "peer_mac_mismatch" },
				);
			await scene.send(answers(UDP));
			// The client about an answer.
			await scene.expect(
				fromPod(podA, error(podA[family], original[1][0], packetOf(reversed(original), UDP), 64)),
				{
					frame: onWire(
						direct.mac,
						error(podA[family], direct.pod[family], packetOf(reversed(shown), UDP), 63),
					),
				},
			);
		});

		scene("without a slot for its flow no translated packet leaves", async (scene) => {
			scene.only(scene.service("mixed", UDP), direct.pod[family]);
			// Answered flows of the same Pod, which make no room.
			for (let port = 20000; port < 20400; port++) {
				const tuple: Tuple = [
					[podA[family], port],
					[direct.pod[family], 9],
				];
				const run = (input: ReturnType<typeof goes>) =>
					dataPath.run(input.hook, input.packet, { ...input.context, now: 0n });
				run(goes(tuple, UDP));
				run(fromWire(packetOf(reversed(tuple), UDP), direct.mac));
			}
			const tuple = vip(scene, "mixed", UDP);
			const { packet, hook, context } = goes(tuple, UDP);
			const { verdict } = dataPath.run(hook, packet, { ...context, now: 0n });
			equal(verdict.dropReason, DropReason.FLOW_TABLE_FULL);
		});
	}
}
