/**
 * Network policy on a flow's first packet: who is judged at which hook, by which class of addresses and which
 * port, and what becomes of it.
 */
import t from "tap";
import { EventCounter, Hook, Limit, RouteKind } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { allow, deny, NOT_READY, OPEN, PolicyScene, u32 } from "./policy_scene.js";
import { packetOf, SCTP, TCP, type Tuple, UDP } from "./service_scene.js";
import { atXdp, fromHost, fromPod, fromWire, toPod, tunnelled } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, vxlan4, geneve6, routed, outside, nodeAddress, gateway } =
	world;

const SYN = { flags: build.SYN };
const EGRESS = 2;
const INGRESS = 3;
/** Of the address that a test speaks of. */
const CLASS = 7;
/** Rules. */
const [BY_CLASS, BY_ISOLATION, OTHER] = [11, 12, 13];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of [4, 6] as const) {
		const scene = (shows: string, play: (scene: PolicyScene) => Promise<void>) =>
			t.test(`IPv${family}: ${shows}`, async () => {
				await play(await PolicyScene.begin(dataPath, family));
			});
		const own = podA[family];
		const ports: [number, number] = [40000, 80];
		const between = (source: string, destination: string): Tuple => [
			[source, ports[0]],
			[destination, ports[1]],
		];
		const echo = (source: string, destination: string) =>
			build.ip({ source, destination }, build.echo("request", 7));
		const anywhere: [string, string, "endpoint" | "wire" | "pass", number][] = [
			["another Pod of the Node", podB[family], "endpoint", 0],
			["a Pod of a direct peer", direct.pod[family], "wire", 0],
			["a Pod behind Geneve", geneve4.pod[family], "wire", 0],
			["a Pod behind VXLAN", vxlan4.pod[family], "wire", 0],
			["a Pod behind Geneve over IPv6", geneve6.pod[family], "wire", 0],
			["a Pod of a routed peer", routed.pod[family], "wire", 0],
			["the outside", outside[family], "wire", 0],
			["another Node", direct.transport[family], "wire", 0],
			["the own Node", nodeAddress[family], "pass", 0],
			["the own gateway", gateway[family], "pass", 0],
		];

		for (const [where, address, action] of anywhere) {
			scene(`egress to ${where} is judged by its class`, async (scene) => {
				scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
				for (const protocol of [TCP, UDP, SCTP] as const) {
					const tuple = between(own, address);
					const input = fromPod(podA, packetOf(tuple, protocol, SYN));
					const before = scene.flows();
					const { verdict } = await scene.drops(input, "policy_egress");
					t.equal(verdict.egressRule, BY_ISOLATION);
					t.equal(scene.flows(), before, "no flow is made");
					scene.identity(address, CLASS).verdict(EGRESS, CLASS, allow(BY_CLASS));
					t.equal((await scene.goes(input, action)).verdict.egressRule, BY_CLASS);
					t.same(scene.flow(tuple, protocol)?.rules, { egress: BY_CLASS, ingress: 0 });
					scene.noVerdict(EGRESS, CLASS);
				}
				t.same(scene.counter(BY_ISOLATION), { flows: 0, packets: 3, staged: 0 });
				t.same(scene.counter(BY_CLASS), { flows: 3, packets: 0, staged: 0 });
				await scene.drops(fromPod(podA, echo(own, address)), "policy_egress");
				scene.verdict(EGRESS, CLASS, allow(BY_CLASS));
				await scene.goes(fromPod(podA, echo(own, address)), action);
			});
		}

		scene("nothing is answered before the verdict", async (scene) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
			const sends = (destination: string, how: Partial<build.IpOptions>, size = 10) =>
				fromPod(podA, build.ip({ source: own, destination, ...how }, udpOf(size)));
			for (const destination of [podB[family], direct.pod[family], outside[family]])
				await scene.drops(sends(destination, { ttl: 1 }), "policy_egress", "its TTL ends");
			await scene.drops(sends(geneve4.pod[family], {}, 1460), "policy_egress", "too long");
			await scene.drops(sends(world.unreachableHost[family], {}), "policy_egress", "no route");
			await scene.drops(sends(world.down.pod[family], {}), "policy_egress", "peer down");
			const nobody = family === 4 ? "10.244.1.99" : "fd00:10:244:1::99";
			await scene.drops(sends(nobody, {}), "policy_egress", "no such Pod");
			scene.pod(podB, { ingress: INGRESS }).policy(INGRESS, deny(BY_ISOLATION));
			const comes = (how: Partial<build.IpOptions>) =>
				build.ip({ source: direct.pod[family], destination: podB[family], ...how }, udpOf(10));
			await scene.drops(fromWire(comes({ ttl: 1 })), "policy_ingress", "its TTL ends here");
		});

		scene("both ends of a pair of Pods are judged, egress first", async (scene) => {
			const tuple = between(own, podB[family]);
			const input = fromPod(podA, packetOf(tuple, TCP, SYN));
			scene.policy(EGRESS, allow(BY_CLASS)).policy(INGRESS, deny(BY_ISOLATION));
			scene.pod(podA, { egress: EGRESS }).pod(podB, { ingress: INGRESS });
			const denied = (await scene.drops(input, "policy_ingress")).verdict;
			t.same([denied.egressRule, denied.ingressRule], [BY_CLASS, BY_ISOLATION]);
			t.same(scene.counter(BY_CLASS).flows, 0, "no flow, none counted");
			scene.identity(own, CLASS).verdict(INGRESS, CLASS, allow(OTHER));
			await scene.goes(input, "endpoint");
			t.same(scene.flow(tuple, TCP)?.rules, { egress: BY_CLASS, ingress: OTHER });
			t.equal(scene.counter(BY_CLASS).flows, 1);
			t.equal(scene.counter(OTHER).flows, 1);
			scene.policy(EGRESS, deny(BY_ISOLATION));
			const other = fromPod(podA, packetOf(between(own, podB[family]), UDP));
			await scene.drops(other, "policy_egress");
			scene.pod(podA, { egress: OPEN, ingress: EGRESS });
			await scene.goes(other, "endpoint", "a Pod's ingress says nothing of what it sends");
		});

		scene("a Pod whose policies are not known yet", async (scene) => {
			scene.pod(podA, { egress: NOT_READY, ingress: NOT_READY });
			const sends = fromPod(podA, packetOf(between(own, outside[family]), UDP));
			await scene.drops(sends, "policy_not_ready");
			const comes = packetOf(between(direct.pod[family], own), UDP);
			for (const input of [fromWire(comes), atXdp(fromWire(comes))])
				await scene.drops(input, "policy_not_ready");
			const local = packetOf(between(podB[family], own), TCP, SYN);
			await scene.drops(fromPod(podB, local), "policy_not_ready");
			const host = packetOf(between(gateway[family], own), TCP, SYN);
			await scene.goes(toPod(podA, host), "pass", "the Node's own packets reach it");
			await scene.goes(
				fromPod(podA, packetOf(reversedOf(between(gateway[family], own)), TCP)),
				"pass",
			);
		});

		scene("tables that disagree", async (scene) => {
			const address = direct.pod[family];
			const input = fromPod(podA, packetOf(between(own, address), UDP));
			scene.pod(podA, { egress: EGRESS });
			await scene.drops(input, "policy_incomplete", "no such policy");
			scene.policy(EGRESS, allow(BY_CLASS)).identity(address, CLASS).classLimit(CLASS);
			await scene.drops(input, "policy_incomplete", "a class that has no verdicts yet");
			scene.classLimit(CLASS + 1).identity(address, 1);
			await scene.drops(input, "policy_incomplete", "too many classes");
			scene.identity(address, CLASS).verdict(EGRESS, CLASS, { ports: 5 });
			await scene.drops(input, "policy_incomplete", "no such port set");
			scene.ports(5, [[0, allow(BY_CLASS)]], 0x10000, 6);
			await scene.drops(input, "policy_incomplete", "no such part");
			scene.ports(6, [[0x10000, allow(BY_CLASS)]]);
			await scene.goes(input, "wire");
			scene.pod(podA, { egress: Limit.POLICIES_MAX });
			await scene.drops(
				fromPod(podA, packetOf(between(own, outside[family]), UDP)),
				"policy_incomplete",
			);
		});

		scene("blocks by longest prefix, identities before them", async (scene) => {
			const all = family === 4 ? "0.0.0.0/0" : "::/0";
			const inner = family === 4 ? "198.51.100.0/24" : "2001:db8::/64";
			const input = () => fromPod(podA, packetOf(between(own, outside[family]), UDP));
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
			scene.verdict(EGRESS, 5, allow(BY_CLASS)).verdict(EGRESS, 6, deny(OTHER));
			scene.block(all, 5).block(inner, 6);
			t.equal((await scene.drops(input(), "policy_egress")).verdict.egressRule, OTHER);
			scene.identity(outside[family], 0);
			t.equal((await scene.drops(input(), "policy_egress")).verdict.egressRule, BY_ISOLATION);
			scene.identity(outside[family], 5);
			t.equal((await scene.goes(input(), "wire")).verdict.egressRule, BY_CLASS);
			// In the shared trie, the root of IPv6 covers IPv4.
			const [other, prefix] = family === 4 ? [direct.pod[4], "::/0"] : [direct.pod[6], "0.0.0.0/0"];
			scene.block(prefix, 6);
			await scene.goes(fromPod(podA, packetOf(between(own, other), UDP)), "wire");
		});

		scene("port sets", async (scene) => {
			scene.policy(EGRESS, { ports: 1 }).pod(podA, { egress: EGRESS });
			const no = deny(BY_ISOLATION);
			const yes = (rule: number) => allow(rule);
			// TCP 80 to 90 and 443; UDP 53 in another part; SCTP all; without ports nothing.
			scene.ports(
				1,
				[
					[0, no],
					[80, yes(21)],
					[91, no],
					[443, yes(22)],
					[444, no],
				],
				65536,
				2,
			);
			scene.ports(
				2,
				[
					[65536, no],
					[65536 + 53, yes(23)],
					[65536 + 54, no],
				],
				131072,
				3,
			);
			scene.ports(3, [
				[131072, yes(24)],
				[196608, no],
			]);
			const rows: [typeof TCP | typeof UDP | typeof SCTP, number, number][] = [
				...[79, 91, 442, 444, 65535].map((port): [typeof TCP, number, number] => [TCP, port, 0]),
				...[[TCP, 80, 21] as const, [TCP, 85, 21] as const, [TCP, 90, 21] as const],
				...[[TCP, 443, 22] as const, [UDP, 80, 0] as const, [UDP, 53, 23] as const],
				...[[UDP, 54, 0] as const, [UDP, 52, 0] as const, [SCTP, 1, 24] as const],
				...[[SCTP, 65535, 24] as const],
			].map((row): [typeof TCP | typeof UDP | typeof SCTP, number, number] => [...row]);
			for (const [protocol, port, rule] of rows) {
				const tuple: Tuple = [
					[own, 40000],
					[podB[family], port],
				];
				const input = fromPod(podA, packetOf(tuple, protocol, { ...SYN, chunk: 1 }));
				if (rule === 0) await scene.drops(input, "policy_egress", `${protocol} ${port}`);
				else t.equal((await scene.goes(input, "endpoint")).verdict.egressRule, rule, `${port}`);
			}
			await scene.drops(fromPod(podA, echo(own, podB[family])), "policy_egress");
			const gre = build.ip({ source: own, destination: podB[family] }, build.protocol(47, PAD));
			await scene.drops(fromPod(podA, gre), "policy_egress");
			scene.ports(3, [
				[131072, no],
				[196608, yes(25)],
			]);
			t.equal(
				(await scene.goes(fromPod(podA, echo(own, podB[family])), "endpoint")).verdict.egressRule,
				25,
			);
			await scene.goes(fromPod(podA, gre), "endpoint");
		});

		scene(
			"every place of a full part, and the last of as many parts as there may be",
			async (scene) => {
				scene.policy(EGRESS, { ports: 100 }).pod(podA, { egress: EGRESS });
				const parts = Limit.PORT_SET_PARTS;
				const each = Limit.PORT_SET_SEGMENTS;
				for (let part = 0; part < parts; part++) {
					const first = part * each * 4;
					const isLast = part === parts - 1;
					scene.ports(
						100 + part,
						Array.from({ length: each }, (_, place) => [
							first + place * 4,
							place % 2 ? allow(20 + place) : deny(20 + place),
						]),
						...(isLast ? [] : [first + each * 4, 101 + part]),
					);
				}
				for (const part of [0, 1, 31, parts - 1])
					for (let place = 0; place < each; place++)
						for (const at of [0, 3]) {
							const tuple: Tuple = [
								[own, 40000],
								[podB[family], (part * each + place) * 4 + at],
							];
							const input = fromPod(podA, packetOf(tuple, TCP, SYN));
							const { verdict } =
								place % 2
									? await scene.goes(input, "endpoint")
									: await scene.drops(input, "policy_egress");
							t.equal(verdict.egressRule, 20 + place, `part ${part}, place ${place}`);
						}
			},
		);

		for (const [how, peer, wrap] of [
			["directly", direct, (packet: Buffer) => packet],
			["in Geneve", geneve4, (packet: Buffer) => tunnelled(geneve4, packet)],
			["in VXLAN", vxlan4, (packet: Buffer) => tunnelled(vxlan4, packet, { kind: "vxlan" })],
			["in Geneve over IPv6", geneve6, (packet: Buffer) => tunnelled(geneve6, packet)],
		] as const)
			scene(`ingress of what a peer sends ${how}`, async (scene) => {
				scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podA, { ingress: INGRESS });
				const tuple = between(peer.pod[family], own);
				for (const protocol of [TCP, UDP, SCTP] as const) {
					const input = fromWire(wrap(packetOf(tuple, protocol, SYN)), peer.mac);
					if (protocol === TCP) await scene.goes(atXdp(input), "pass", "for GRO");
					else await scene.drops(atXdp(input), "policy_ingress", "at XDP");
					t.equal((await scene.drops(input, "policy_ingress")).verdict.ingressRule, BY_ISOLATION);
					t.equal(scene.flows(), 0);
				}
				await scene.drops(fromWire(wrap(echo(peer.pod[family], own)), peer.mac), "policy_ingress");
				scene.identity(peer.pod[family], CLASS).verdict(INGRESS, CLASS, allow(BY_CLASS));
				const input = fromWire(wrap(packetOf(tuple, UDP)), peer.mac);
				await scene.goes(atXdp(input), "endpoint", "a new flow at XDP");
				await scene.goes(input, "endpoint");
				t.same(scene.flow(tuple, UDP)?.rules, { egress: 0, ingress: BY_CLASS });
				await scene.goes(fromPod(podA, packetOf(reversedOf(tuple), UDP)), "wire", "the answer");
				await scene.goes(atXdp(input), "endpoint", "a known one is XDP's");
				scene.pod(podA, { egress: INGRESS, ingress: OPEN });
				const other: Tuple = [[peer.pod[family], 5], tuple[1]];
				await scene.goes(atXdp(fromWire(wrap(packetOf(other, UDP)), peer.mac)), "endpoint");
			});

		scene("ingress of what comes from outside the cluster, by blocks", async (scene) => {
			scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podA, { ingress: INGRESS });
			const input = fromWire(packetOf(between(outside[family], own), TCP, SYN));
			await scene.drops(input, "policy_ingress");
			scene.block(family === 4 ? "198.51.0.0/16" : "2001:db8::/32", CLASS);
			scene.verdict(INGRESS, CLASS, allow(BY_CLASS));
			await scene.goes(input, "endpoint");
		});

		scene(
			"the Node's own packets reach its Pods, what its stack forwards is judged",
			async (scene) => {
				scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podA, { ingress: INGRESS });
				const from = (source: string, ingressIfindex: number): Input => {
					const input = toPod(podA, packetOf(between(source, own), TCP, SYN));
					return { ...input, context: { ...input.context, ingressIfindex } };
				};
				const wire = world.indexOf("wire0");
				await scene.goes(from(nodeAddress[family], 0), "pass", "a probe of kubelet's");
				await scene.goes(from(gateway[family], 0), "pass");
				await scene.goes(
					fromPod(podA, packetOf(reversedOf(between(gateway[family], own)), TCP)),
					"pass",
					"and its answer",
				);
				await scene.drops(from(outside[family], wire), "policy_ingress", "from outside");
				await scene.drops(
					from(direct.transport[family], wire),
					"policy_ingress",
					"of another Node",
				);
				await scene.drops(from(podB[family], world.indexOf("pod1")), "policy_ingress", "of a Pod");
				const masked = from(nodeAddress[family], wire);
				masked.packet.writeUInt16BE(41000, 14 + (family === 4 ? 20 : 40));
				await scene.drops(masked, "policy_ingress", "masqueraded");
				scene.identity(nodeAddress[family], CLASS).verdict(INGRESS, CLASS, allow(BY_CLASS));
				await scene.goes(masked, "pass");
				const flow = scene.flow(
					[
						[nodeAddress[family], 41000],
						[own, 80],
					],
					TCP,
				);
				t.same(flow?.rules, { egress: 0, ingress: BY_CLASS });
				const errors = build.ip(
					{ source: outside[family], destination: own },
					build.unreachable(packetOf(between(own, outside[family]), UDP)),
				);
				await scene.goes(toPod(podA, errors), "pass", "an error of the slow path's");
				const strange = toPod(podA, errors);
				strange.context = { ...strange.context, ...{ ingressIfindex: wire } };
				await scene.drops(strange, "policy_ingress", "an error about nothing, forwarded");
			},
		);

		scene("link-local and neighbour discovery are never judged", async (scene) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS, ingress: EGRESS });
			if (family === 4) {
				const arp = build.arpRequest(
					{ source: podA.mac, destination: "ff:ff:ff:ff:ff:ff" },
					own,
					gateway[4],
				);
				await scene.goes({ ...fromPod(podA, echo(own, own)), packet: arp }, "pass");
				const multicast = build.ip({ source: own, destination: "224.0.0.5" }, udpOf(10));
				await scene.goes(fromPod(podA, multicast), "pass");
				return;
			}
			const solicit = Buffer.alloc(24);
			solicit.set([0x87, 0, 0, 0]);
			Buffer.from("fd000010024400010000000000000001", "hex").copy(solicit, 8);
			const packet = build.ip(
				{ source: own, destination: "ff02::1:ff00:1", ttl: 255 },
				build.icmp({ 4: 0, 6: 135 }, 0, 0, solicit.subarray(8)),
			);
			await scene.goes(fromPod(podA, packet), "pass");
			const probe = toPod(podA, build.ip({ source: "fe80::1", destination: own }, udpOf(10)));
			probe.context = { ...probe.context, ...{ ingressIfindex: world.indexOf("wire0") } };
			await scene.goes(probe, "pass");
		});

		scene("fragments are judged by the ports of their first one", async (scene) => {
			scene.policy(EGRESS, { ports: 1 }).pod(podA, { egress: EGRESS });
			scene.ports(1, [
				[0, deny(OTHER)],
				[65536 + 80, allow(BY_CLASS)],
				[65536 + 81, deny(OTHER)],
			]);
			const cut = (port: number, id: number) =>
				build.fragmented(
					build.ip(
						{ source: own, destination: podB[family] },
						build.udp(40000, port, Buffer.alloc(1400)),
					),
					600,
					id,
				);
			const [first, second] = cut(80, 1) as [Buffer, Buffer];
			await scene.isHeld(fromPod(podA, second));
			await scene.goes(fromPod(podA, first), "endpoint");
			await scene.goes(fromPod(podA, second), "endpoint");
			const [deniedFirst, deniedSecond] = cut(81, 2) as [Buffer, Buffer];
			await scene.drops(fromPod(podA, deniedFirst), "policy_egress");
			await scene.drops(fromPod(podA, deniedSecond), "policy_egress");
			scene.pod(podA, { egress: NOT_READY });
			await scene.drops(fromPod(podA, cut(80, 3)[1]!), "policy_not_ready");
			scene.pod(podA, { egress: OPEN });
			await scene.goes(fromPod(podA, cut(80, 3)[1]!), "endpoint", "nothing isolates it");
			scene.pod(podB, { ingress: EGRESS });
			await scene.isHeld(fromPod(podA, cut(80, 4)[1]!));
		});

		scene("fragments to the own Node wait, too", async (scene) => {
			scene.policy(EGRESS, allow(BY_CLASS)).pod(podA, { egress: EGRESS });
			const packet = build.ip(
				{ source: own, destination: nodeAddress[family] },
				build.udp(40000, 80, Buffer.alloc(1400)),
			);
			const [first, second] = build.fragmented(packet, 600, 1) as [Buffer, Buffer];
			await scene.isHeld(fromPod(podA, second));
			await scene.goes(fromPod(podA, first), "pass");
			await scene.goes(fromPod(podA, second), "pass");
		});

		scene("fragments from the wire, and from the Node's stack", async (scene) => {
			scene.policy(INGRESS, allow(BY_CLASS)).pod(podA, { ingress: INGRESS });
			const packet = build.ip(
				{ source: direct.pod[family], destination: own },
				build.udp(40000, 80, Buffer.alloc(1400)),
			);
			const [first, second] = build.fragmented(packet, 600, 1) as [Buffer, Buffer];
			await scene.isHeld(fromWire(second));
			const forwarded = toPod(podA, second);
			await scene.goes(forwarded, "pass", "released by the slow path");
			forwarded.context = { ...forwarded.context, ...{ ingressIfindex: world.indexOf("wire0") } };
			await scene.drops(forwarded, "fragment_unknown");
			await scene.goes(fromWire(first), "endpoint");
			await scene.goes(fromWire(second), "endpoint");
			scene.pod(podA, { ingress: OPEN });
			const late = build.fragmented(packet, 600, 2)[1]!;
			await scene.goes(fromWire(late), "endpoint", "nothing isolates it");
		});

		scene("what cannot be read, and the kernel forwards all the same", async (scene) => {
			const packet = packetOf(between(outside[family], own), TCP, SYN);
			// The kernel looks at no TCP header; the Pod puts it together.
			const start = build.fragmented(packet, 8, 1)[0]!;
			const chain = build.ip(
				{
					...{ source: outside[family], destination: own },
					extensions: Array.from({ length: 9 }, () => build.extension(build.DESTINATION_OPTIONS)),
				},
				build.tcp(40000, 80, SYN),
			);
			for (const bytes of family === 4 ? [start] : [start, chain]) {
				const own = toPod(podA, bytes);
				const forwarded: Input = {
					...own,
					context: { ...own.context, ingressIfindex: world.indexOf("wire0") },
				};
				scene.pod(podA, {});
				t.equal(scene.alone(fromWire(bytes)), "pass none");
				t.equal(scene.alone(forwarded), "pass none", "nothing isolates it");
				scene.policy(INGRESS, allow(BY_CLASS)).pod(podA, { ingress: INGRESS });
				t.equal(scene.alone(forwarded), "drop malformed");
				t.equal(scene.alone(own), "pass none", "the Node's own");
				scene.pod(podA, { ingress: NOT_READY });
				t.equal(scene.alone(forwarded), "drop policy_not_ready");
			}
		});

		scene("ICMP errors go with their flow; others are judged without ports", async (scene) => {
			scene.policy(EGRESS, { ports: 1 }).policy(INGRESS, deny(BY_ISOLATION));
			scene.ports(1, [
				[0, allow(BY_CLASS)],
				[196608, deny(OTHER)],
			]);
			scene.pod(podA, { egress: EGRESS, ingress: INGRESS });
			for (const address of [direct.pod[family], outside[family]]) {
				const sent = packetOf(between(own, address), UDP);
				const left = (await scene.goes(fromPod(podA, sent), "wire")).packet.subarray(14);
				const destination = address === outside[family] ? nodeAddress[family] : own;
				const tooBig = build.ip({ source: address, destination }, build.unreachable(left));
				await scene.goes(fromWire(tooBig), "endpoint");
				const [near, far] = [
					[own, 5],
					[address, 6],
				] as const;
				const unknown = packetOf([near, far], UDP);
				const about = build.ip({ source: address, destination: own }, build.unreachable(unknown));
				await scene.drops(fromWire(about), "policy_ingress");
				const says = (quoted: Buffer) =>
					fromPod(podA, build.ip({ source: own, destination: address }, build.unreachable(quoted)));
				await scene.drops(says(packetOf([far, near], UDP)), "policy_egress");
				await scene.drops(says(unknown), "icmp_unrelated", "about its own packet");
			}
		});

		scene("packets that find no room for a flow are judged each", async (scene) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
			for (let port = 1; port <= 300; port++)
				await scene.drops(
					fromPod(
						podA,
						packetOf(
							[
								[own, port],
								[podB[family], 80],
							],
							TCP,
							SYN,
						),
					),
					"policy_egress",
				);
			t.equal(scene.flows(), 0, "a scan takes no slot");
			t.equal(scene.counter(BY_ISOLATION).packets, 300);
		});

		scene("staged policies are counted only", async (scene) => {
			const would = { allow: false, rule: 31 };
			scene.policy(EGRESS, { allow: true, rule: BY_CLASS, staged: would });
			scene.pod(podA, { egress: EGRESS });
			const input = fromPod(podA, packetOf(between(own, podB[family]), UDP));
			await scene.goes(input, "endpoint");
			await scene.goes(input, "endpoint");
			t.same(scene.counter(31), { flows: 0, packets: 0, staged: 1 });
			scene.policy(EGRESS, { allow: false, rule: BY_CLASS, staged: { allow: true, rule: 32 } });
			const other = fromPod(podA, packetOf(between(own, direct.pod[family]), UDP));
			await scene.drops(other, "policy_egress");
			t.same(scene.counter(32), { flows: 0, packets: 0, staged: 1 });
			// Another rule would allow it: nothing is different for the packet.
			scene.policy(EGRESS, { allow: true, rule: BY_CLASS, staged: { allow: true, rule: 33 } });
			await scene.goes(other, "wire");
			t.equal(scene.counter(33).staged, 0);
		});

		scene("a Pod that speaks to itself by its own address", async (scene) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).policy(INGRESS, deny(BY_ISOLATION));
			scene.pod(podA, { egress: EGRESS, ingress: INGRESS });
			await scene.goes(fromPod(podA, packetOf(between(own, own), UDP)), "endpoint");
		});

		scene("a link's clients are the Node's own stack's, which forwards them", async (scene) => {
			scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podA, { ingress: INGRESS });
			const packet = packetOf(between(outside[family], own), TCP, SYN);
			await scene.goes({ ...fromWire(packet), hook: Hook.FROM_LINK }, "pass");
		});

		scene("what the Node sends to other Nodes' Pods is nobody's here", async (scene) => {
			scene.pod(podA, { egress: NOT_READY, ingress: NOT_READY });
			await scene.goes(
				fromHost(packetOf(between(gateway[family], direct.pod[family]), UDP)),
				"wire",
			);
		});

		scene(
			"what Pods send to Services of another proxy is judged by that address",
			async (scene) => {
				const stack = { kind: RouteKind.STACK, flags: 0, mtu: 0, peer: Limit.NO_PEER };
				const [prefix, address] =
					family === 4 ? ["10.97.0.0/16", "10.97.0.1"] : ["fd00:97::/112", "fd00:97::1"];
				scene.tables.routes.set(prefix, stack);
				scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
				const input = fromPod(podA, packetOf(between(own, address), TCP, SYN));
				await scene.drops(input, "policy_egress");
				scene.identity(address, CLASS).verdict(EGRESS, CLASS, allow(BY_CLASS));
				await scene.goes(input, "pass");
			},
		);
	}

	t.test("what finds no room for a flow is judged packet by packet", async (t) => {
		const full = new DataPath({ flowSlots: 2 });
		t.teardown(() => full.close());
		const scene = await PolicyScene.begin(full, 4);
		for (const port of [1, 2]) {
			const tuple: Tuple = [
				[podB[4], port],
				[direct.pod[4], 80],
			];
			await scene.goes(fromPod(podB, packetOf(tuple, UDP)), "wire");
			await scene.goes(fromWire(packetOf(reversedOf(tuple), UDP)), "endpoint");
		}
		const input = fromPod(
			podA,
			packetOf(
				[
					[podA[4], 3],
					[direct.pod[4], 80],
				],
				UDP,
			),
		);
		scene.policy(EGRESS, allow(BY_CLASS)).pod(podA, { egress: EGRESS });
		await scene.goes(input, "wire");
		t.equal(full.event(EventCounter.UNTRACKED), 1n);
		t.equal(scene.counter(BY_CLASS).flows, 0, "no flow, none counted");
		scene.policy(EGRESS, deny(OTHER));
		await scene.drops(input, "policy_egress");
		scene.policy(EGRESS, allow(BY_CLASS));
		await scene.goes(input, "wire");
	});

	t.test("an id beyond the table is no policy", async () => {
		const scene = await PolicyScene.begin(dataPath, 4);
		scene.pod(podA, { egress: 0xffff });
		const tuple: Tuple = [
			[podA[4], 1],
			[podB[4], 2],
		];
		await scene.drops(fromPod(podA, packetOf(tuple, UDP)), "policy_incomplete");
		t.same(u32(1), Buffer.from([1, 0, 0, 0]));
	});
}

const PAD = Buffer.alloc(16);

function udpOf(size: number): build.Segment {
	return build.udp(40000, 80, Buffer.alloc(size));
}

function reversedOf([source, destination]: Tuple): Tuple {
	return [destination, source];
}
