/**
 * Network policy on running flows: the next packet after a change, in either direction, is judged by the tuple
 * that the flow began with. What is denied keeps its slot and drops, what is allowed again goes on as the flow
 * that it was. Established packets are judged no more.
 */
import { equal, ok } from "node:assert/strict";
import t from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { FlowState, Hook, Limit, RouteKind } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { HOOKS, hookText, type Side, sides } from "./conversation.js";
import { DataPath } from "./data_path.js";
import { FAMILIES } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { allow, deny, PolicyScene } from "./policy_scene.js";
import { packetOf, reversed, Scene, TCP, type Tuple, UDP } from "./service_scene.js";
import { SERVICE_PORT } from "./services.js";
import { fromPod, fromWire, toPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, outside, nodeAddress, gateway } = world;
const SYN = { flags: build.SYN };
const PORTS = [50001, 2000] as const;
const [EGRESS, INGRESS] = [2, 3];
const CLASS = 7;
const [FIRST, SECOND, THIRD] = [11, 12, 13];

/** Both directions of a flow, as they come in to the Node, and where they go. */
interface Flowing {
	original: Tuple;
	there: () => Input;
	back: () => Input;
	goesThere: "endpoint" | "wire" | "pass";
	goesBack: "endpoint" | "wire" | "pass";
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const scene = (shows: string, play: (scene: PolicyScene) => Promise<void>) =>
			t.test(`IPv${family}: ${shows}`, async (t) => {
				await play(await PolicyScene.begin(dataPath, family));
				t.pass("every packet");
			});
		const own = podA[family];
		const tuple = (source: string, destination: string): Tuple => [
			[source, PORTS[0]],
			[destination, PORTS[1]],
		];

		/** Begins a flow of Pod A's to the other side; the answer comes as that side sees it. */
		const towards = async (
			scene: PolicyScene,
			{ talk, received }: Side,
			hook: number,
		): Promise<Flowing> => {
			const { packet } = await scene.goes(talk.out(), "wire");
			ok(parse(packet));
			const { key } = parse(talk.out().packet)!;
			return {
				original: [
					[key.source, key.sourcePort],
					[key.destination, key.destinationPort],
				],
				there: () => talk.out(),
				back: () => received(talk.answer, hook),
				...{ goesThere: "wire", goesBack: "endpoint" },
			};
		};
		const between = (): Flowing => {
			const original = tuple(own, podB[family]);
			return {
				original,
				there: () => fromPod(podA, packetOf(original, UDP)),
				back: () => fromPod(podB, packetOf(reversed(original), UDP)),
				...{ goesThere: "endpoint", goesBack: "endpoint" },
			};
		};
		const toNode = (address: string): Flowing => {
			const original = tuple(own, address);
			return {
				original,
				there: () => fromPod(podA, packetOf(original, UDP)),
				back: () => toPod(podA, packetOf(reversed(original), UDP)),
				...{ goesThere: "pass", goesBack: "pass" },
			};
		};
		const fromPeer = (): Flowing => {
			const original = tuple(direct.pod[family], own);
			return {
				original,
				there: () => fromWire(packetOf(original, UDP)),
				back: () => fromPod(podA, packetOf(reversed(original), UDP)),
				...{ goesThere: "endpoint", goesBack: "wire" },
			};
		};
		const fromOutside = (): Flowing => {
			const original = tuple(outside[family], own);
			return {
				...fromPeer(),
				original,
				there: () => fromWire(packetOf(original, UDP)),
				back: () => fromPod(podA, packetOf(reversed(original), UDP)),
			};
		};

		/** Allowed, denied, allowed: by the direction's policy of Pod A. */
		const comesAndGoes = async (
			scene: PolicyScene,
			{ original, there, back, goesThere, goesBack }: Flowing,
			direction: "egress" | "ingress",
		) => {
			const reason = `policy_${direction}`;
			const id = direction === "egress" ? EGRESS : INGRESS;
			for (let packet = 0; packet < 3; packet++) {
				await scene.goes(there(), goesThere, "before");
				await scene.goes(back(), goesBack, "its answer before");
			}
			const before = scene.flow(original, UDP)!;
			equal(before.isDenied, false);
			scene
				.policy(id, deny(FIRST))
				.pod(podA, { [direction]: id })
				.raiseEpoch();
			// The answer comes first: it is judged by what it answers.
			await scene.drops(back(), reason, "the answer");
			await scene.drops(there(), reason);
			await scene.drops(back(), reason);
			const denied = scene.flow(original, UDP)!;
			equal(denied.isDenied, true);
			equal(denied.flow.routeEpoch, 0, "of no epoch");
			equal(denied.flow.lastSeen, before.flow.lastSeen, "its time runs out");
			equal(denied.rules[direction], FIRST);
			equal(scene.counter(FIRST).packets, 3);
			scene.policy(id, allow(SECOND)).raiseEpoch();
			await scene.goes(back(), goesBack, "allowed again");
			await scene.goes(there(), goesThere, "allowed again");
			const again = scene.flow(original, UDP)!;
			equal(again.isDenied, false);
			equal(again.rules[direction], SECOND);
			equal(again.flow.claim, before.flow.claim, "the same flow");
			equal(scene.counter(SECOND).flows, 1, "counted once");
			for (let packet = 0; packet < 3; packet++) {
				await scene.goes(there(), goesThere);
				await scene.goes(back(), goesBack);
			}
			equal(scene.counter(SECOND).flows, 1);
			scene.pod(podA, {}).raiseEpoch();
			await scene.goes(there(), goesThere, "nothing isolates it any more");
			await scene.goes(back(), goesBack);
			equal(scene.flow(original, UDP)!.rules[direction], 0);
			equal(scene.flows(), 1);
		};

		for (const side of sides(family))
			for (const hook of HOOKS)
				scene(`egress to ${side.name}, answered at ${hookText(hook)}`, async (scene) => {
					await comesAndGoes(scene, await towards(scene, side, hook), "egress");
				});
		scene("egress to another Pod of the Node", (scene) => comesAndGoes(scene, between(), "egress"));
		scene("egress to the own Node", (scene) =>
			comesAndGoes(scene, toNode(nodeAddress[family]), "egress"),
		);
		scene("egress to the gateway", (scene) =>
			comesAndGoes(scene, toNode(gateway[family]), "egress"),
		);
		scene("ingress from a peer", (scene) => comesAndGoes(scene, fromPeer(), "ingress"));
		scene("ingress from outside", (scene) => comesAndGoes(scene, fromOutside(), "ingress"));

		scene("what leaves a denied flow's Pod by another proxy's Service", async (scene) => {
			const stack = { kind: RouteKind.STACK, flags: 0, mtu: 0, peer: Limit.NO_PEER };
			const [prefix, address] =
				family === 4 ? ["10.97.0.0/16", "10.97.0.1"] : ["fd00:97::/112", "fd00:97::1"];
			scene.tables.routes.set(prefix, stack);
			scene.raiseEpoch();
			await comesAndGoes(scene, toNode(address), "egress");
		});

		scene("ingress of a flow that the Node's stack forwards", async (scene) => {
			const original = tuple(outside[family], own);
			const there = (): Input => {
				const input = toPod(podA, packetOf(original, UDP));
				return { ...input, context: { ...input.context, ingressIfindex: world.indexOf("wire0") } };
			};
			const back = () => fromPod(podA, packetOf(reversed(original), UDP));
			await comesAndGoes(
				scene,
				{ original, there, back, ...{ goesThere: "pass", goesBack: "pass" } },
				"ingress",
			);
		});

		scene("a probe of the Node's own goes on, whatever comes", async (scene) => {
			for (const address of [nodeAddress[family], gateway[family]]) {
				const original = tuple(address, own);
				const there = () => toPod(podA, packetOf(original, TCP));
				const back = () => fromPod(podA, packetOf(reversed(original), TCP));
				await scene.goes(toPod(podA, packetOf(original, TCP, SYN)), "pass");
				await scene.goes(back(), "pass");
				scene.policy(INGRESS, deny(FIRST)).policy(EGRESS, deny(SECOND));
				scene.pod(podA, { egress: EGRESS, ingress: INGRESS }).raiseEpoch();
				await scene.goes(back(), "pass");
				await scene.goes(there(), "pass");
				scene.pod(podA, { egress: 0, ingress: 0 }).raiseEpoch();
				await scene.goes(there(), "pass");
				await scene.goes(back(), "pass");
			}
			t.same(scene.counter(FIRST), { flows: 0, packets: 0, staged: 0 });
		});

		scene("answers of an isolated Pod's flows are nobody's ingress", async (scene) => {
			scene.policy(INGRESS, deny(FIRST)).pod(podA, { ingress: INGRESS });
			for (const { original, there, back, goesThere, goesBack } of [
				between(),
				toNode(gateway[family]),
			]) {
				await scene.goes(there(), goesThere);
				scene.raiseEpoch();
				await scene.goes(back(), goesBack);
				t.same(scene.flow(original, UDP)?.rules, { egress: 0, ingress: 0 });
			}
		});

		for (const [name, peer, other] of [
			["a direct peer", 0, 1],
			["a Geneve peer", 1, 0],
			["a VXLAN peer", 2, 0],
			["a peer by Geneve over IPv6", 3, 1],
		] as const)
			for (const hook of HOOKS)
				scene(`an address of ${name}'s is another Pod's, ${hookText(hook)}`, async (scene) => {
					const side = sides(family)[peer]!;
					const flowing = await towards(scene, side, hook);
					const beside = await towards(scene, sides(family)[other]!, hook);
					scene.policy(EGRESS, allow(FIRST)).pod(podA, { egress: EGRESS }).raiseEpoch();
					for (const { there, back } of [flowing, beside]) {
						await scene.goes(there(), "wire");
						await scene.goes(back(), "endpoint");
					}
					const facts = world.peers[peer]!;
					// The other peer's flow is judged no more, though it would be denied.
					scene.policy(EGRESS, deny(SECOND)).raisePeerEpoch(facts);
					await scene.drops(flowing.back(), "policy_egress");
					await scene.drops(flowing.there(), "policy_egress");
					await scene.goes(beside.there(), "wire");
					await scene.goes(beside.back(), "endpoint");
					scene.policy(EGRESS, allow(FIRST)).raisePeerEpoch(facts);
					await scene.goes(flowing.there(), "wire");
					await scene.goes(flowing.back(), "endpoint");
					// TC takes the full path for a tunnel of the other family.
					const isFull = side.outerFamily !== family;
					const atTc = { ...flowing.back(), hook: Hook.FROM_WIRE };
					if (!isFull) equal(scene.isFast(flowing.back()), true, "and is established again");
					equal(scene.isFast(flowing.there()), true);
					scene.raisePeerEpoch(facts);
					equal(scene.isFast(flowing.there()), true, "judged anew on the fast path");
					scene.raiseEpoch();
					equal(scene.isFast(flowing.there()), true);
					equal(scene.isFast(beside.there()), true);
					if (isFull) return;
					scene.raisePeerEpoch(facts);
					equal(scene.isFast(atTc, false), false);
					equal(scene.isFast(atTc), true);
				});

		scene(
			"a flow is judged at XDP and goes on there when its peer's addresses change",
			async (scene) => {
				const { there, back } = await towards(scene, sides(family)[1]!, Hook.FROM_WIRE_XDP);
				await scene.goes(back(), "endpoint");
				await scene.goes(there(), "wire");
				equal(scene.isFast(back()), true);
				scene.raisePeerEpoch(geneve4);
				equal(scene.isFast(back(), false), false);
				equal(scene.isFast(back()), true);
			},
		);

		scene(
			"a flow that the stack forwards for a client on a peer is judged anew when that peer's addresses change",
			async (scene) => {
				const client = direct.pod[family];
				const original = tuple(client, own);
				const forwarded = (flags: number): Input => {
					const input = toPod(podA, packetOf(original, TCP, { flags }));
					return {
						...input,
						context: { ...input.context, ingressIfindex: world.indexOf("wire0") },
					};
				};
				const answer = (flags: number) =>
					fromPod(podA, packetOf(reversed(original), TCP, { flags }));
				scene.policy(INGRESS, allow(FIRST)).pod(podA, { ingress: INGRESS }).raiseEpoch();
				await scene.goes(forwarded(SYN.flags), "pass");
				await scene.goes(answer(build.SYN | build.ACK), "pass");
				// Another peer's addresses are none of its ends.
				scene.policy(INGRESS, deny(SECOND)).raisePeerEpoch(geneve4);
				await scene.goes(forwarded(build.ACK), "pass");
				scene.raisePeerEpoch(direct);
				await scene.drops(answer(build.ACK), "policy_ingress", "the answer is first");
				await scene.drops(forwarded(build.ACK), "policy_ingress");
				scene.policy(INGRESS, allow(FIRST)).raisePeerEpoch(direct);
				await scene.goes(forwarded(build.ACK), "pass");
				await scene.goes(answer(build.ACK), "pass");
				// Also after the route was looked up again.
				scene.raiseEpoch();
				await scene.goes(answer(build.ACK), "pass");
				await scene.goes(forwarded(build.ACK), "pass");
				scene.policy(INGRESS, deny(SECOND)).raisePeerEpoch(direct);
				await scene.drops(forwarded(build.ACK), "policy_ingress");
				await scene.drops(answer(build.ACK), "policy_ingress");
			},
		);

		scene("TCP that was stripped at XDP is judged at TC", async (scene) => {
			const original = tuple(own, geneve4.pod[family]);
			const answer = packetOf(reversed(original), TCP);
			const stripped = () => fromWire(answer, world.STRIPPED);
			await scene.goes(fromPod(podA, packetOf(original, TCP, SYN)), "wire");
			await scene.goes(stripped(), "endpoint");
			await scene.goes(fromPod(podA, packetOf(original, TCP)), "wire");
			equal(scene.isFast(stripped()), true);
			scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raisePeerEpoch(geneve4);
			await scene.drops(stripped(), "policy_egress");
		});

		scene("what a tunnel's stage finds of a flow is judged as well", async (scene) => {
			const side = sides(family)[1]!;
			const original = tuple(own, geneve4.pod[family]);
			const sent = (flags: number) => fromPod(podA, packetOf(original, TCP, { flags }));
			const finish = () =>
				side.received(
					packetOf(reversed(original), TCP, { flags: build.FIN | build.ACK }),
					Hook.FROM_WIRE,
				);
			await scene.goes(sent(build.SYN), "wire");
			await scene.goes(finish(), "endpoint");
			scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raisePeerEpoch(geneve4);
			await scene.drops(finish(), "policy_egress");
		});

		scene("a denied flow's packets change nothing but counters", async (scene) => {
			const original = tuple(own, direct.pod[family]);
			const sends = (flags: number) => fromPod(podA, packetOf(original, TCP, { flags }));
			const answers = (flags: number) => fromWire(packetOf(reversed(original), TCP, { flags }));
			await scene.goes(sends(build.SYN), "wire");
			await scene.goes(answers(build.SYN | build.ACK), "endpoint");
			await scene.goes(sends(build.ACK), "wire");
			scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raiseEpoch();
			for (const flags of [build.ACK, build.FIN | build.ACK, build.RST, build.SYN]) {
				await scene.drops(sends(flags), "policy_egress");
				await scene.drops(answers(flags), "policy_egress");
			}
			const { flow, isDenied } = scene.flow(original, TCP)!;
			equal(isDenied, true);
			equal(flow.state, FlowState.TCP_ESTABLISHED, "no end was seen");
			scene.policy(EGRESS, allow(SECOND)).raiseEpoch();
			await scene.goes(answers(build.ACK), "endpoint", "what it sends again goes on");
			await scene.goes(sends(build.ACK), "wire");
		});

		scene(
			"a denied connection that nobody has answered holds its slot no longer",
			async (scene) => {
				const original = tuple(own, direct.pod[family]);
				const again = () => fromPod(podA, packetOf(original, TCP, SYN));
				await scene.goes(again(), "wire");
				scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raiseEpoch();
				await scene.drops(again(), "policy_egress");
				equal(scene.flow(original, TCP)?.isDenied, true);
				// Longer ago than its state lasts: for every look-up it is no flow any more.
				scene.age(original, TCP, 70);
				for (let time = 0; time < 3; time++) await scene.drops(again(), "policy_egress");
				equal(scene.flow(original, TCP)?.isDenied, true, "the old one");
				scene.policy(EGRESS, allow(SECOND)).raiseEpoch();
				await scene.goes(again(), "wire");
				equal(scene.flow(original, TCP)?.isDenied, false, "a new one");
			},
		);

		scene("a flow that began before there were policies", async (scene) => {
			const { original, there, back } = between();
			await scene.goes(there(), "endpoint");
			await scene.goes(back(), "endpoint");
			// As a version without network policy has left it.
			scene.age(original, UDP, 0, { routeEpoch: 0, remoteEpoch: 0 });
			scene.policy(INGRESS, deny(FIRST)).pod(podB, { ingress: INGRESS });
			await scene.drops(there(), "policy_ingress");
			await scene.drops(back(), "policy_ingress");
		});

		scene("ICMP errors follow their flow's verdict", async (scene) => {
			for (const address of [direct.pod[family], outside[family]]) {
				const original = tuple(own, address);
				const { packet } = await scene.goes(fromPod(podA, packetOf(original, UDP)), "wire");
				const destination = address === outside[family] ? nodeAddress[family] : own;
				const error = () =>
					fromWire(
						build.ip({ source: address, destination }, build.unreachable(packet.subarray(14))),
					);
				await scene.goes(error(), "endpoint");
				scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raiseEpoch();
				await scene.drops(error(), "policy_egress", "the flow is judged by now");
				equal(scene.flow(original, UDP)?.isDenied, false, "an error writes nothing");
				await scene.drops(fromPod(podA, packetOf(original, UDP)), "policy_egress");
				await scene.drops(error(), "policy_egress");
				scene.pod(podA, {}).raiseEpoch();
				await scene.goes(error(), "endpoint");
			}
		});

		scene("an answer of a link's to a translated flow", async (scene) => {
			const { packet } = await scene.goes(
				fromPod(podA, packetOf(tuple(own, outside[family]), UDP)),
				"wire",
			);
			const port = parse(packet)!.key.sourcePort;
			const answer = packetOf(
				[
					[outside[family], PORTS[1]],
					[nodeAddress[family], port],
				],
				UDP,
			);
			const link = (): Input => ({ ...fromWire(answer), hook: Hook.FROM_LINK });
			await scene.goes(link(), "endpoint");
			scene.policy(EGRESS, deny(FIRST)).pod(podA, { egress: EGRESS }).raiseEpoch();
			await scene.drops(link(), "policy_egress");
			scene.policy(EGRESS, allow(SECOND)).raiseEpoch();
			await scene.goes(link(), "endpoint");
		});

		scene("a rule is counted when it takes over", async (scene) => {
			const { original, there, back } = between();
			scene.policy(EGRESS, allow(FIRST)).policy(INGRESS, allow(SECOND));
			scene.pod(podA, { egress: EGRESS }).pod(podB, { ingress: INGRESS });
			await scene.goes(there(), "endpoint");
			scene.raiseEpoch();
			await scene.goes(back(), "endpoint");
			await scene.goes(there(), "endpoint");
			t.same([scene.counter(FIRST).flows, scene.counter(SECOND).flows], [1, 1]);
			scene.policy(INGRESS, allow(THIRD)).raiseEpoch();
			await scene.goes(back(), "endpoint");
			t.same(
				[FIRST, SECOND, THIRD].map((rule) => scene.counter(rule).flows),
				[1, 1, 1],
			);
			t.same(scene.flow(original, UDP)?.rules, { egress: FIRST, ingress: THIRD });
			scene.policy(INGRESS, { ...allow(THIRD), staged: deny(21) }).raiseEpoch();
			await scene.goes(there(), "endpoint");
			await scene.goes(there(), "endpoint");
			t.same(scene.counter(21).staged, 1, "once for each judgement");
		});

		scene("flows of a Service are cut and go on with their backend", async (scene) => {
			const services = new Scene(dataPath, scene.tables, family);
			const service = services.service("mixed", TCP);
			services.only(service, podB[family]);
			const original: Tuple = [
				[own, PORTS[0]],
				[service.clusterIP, SERVICE_PORT],
			];
			const there = (flags = build.ACK) => fromPod(podA, packetOf(original, TCP, { flags }));
			const back = (flags = build.ACK) =>
				fromPod(podB, packetOf([[podB[family], 8080], original[0]], TCP, { flags }));
			await scene.goes(there(build.SYN), "endpoint");
			await scene.goes(back(build.SYN | build.ACK), "endpoint");
			scene.policy(INGRESS, deny(FIRST)).pod(podB, { ingress: INGRESS }).raiseEpoch();
			await scene.drops(back(), "policy_ingress");
			await scene.drops(there(), "policy_ingress");
			scene.identity(own, CLASS).verdict(INGRESS, CLASS, allow(SECOND)).raiseEpoch();
			await scene.goes(there(), "endpoint");
			await scene.goes(back(), "endpoint");
			services.hasBackend(original, TCP, services.backend(service, podB[family]));
			equal(scene.isFast(there()), true);
			equal(scene.isFast(back()), true);
		});

		scene("established packets read none of the tables", async (scene) => {
			scene.policy(EGRESS, allow(FIRST)).policy(INGRESS, allow(SECOND));
			scene.pod(podA, { egress: EGRESS, ingress: INGRESS }).pod(podB, { ingress: INGRESS });
			const flows = [between(), fromPeer(), fromOutside()];
			for (const { there, back, goesThere, goesBack } of flows) {
				await scene.goes(there(), goesThere);
				await scene.goes(back(), goesBack);
			}
			// No epoch says so: only who asks would see it.
			scene.tables.policies.clear();
			scene.pod(podA, { egress: 0, ingress: 0 }).pod(podB, { egress: 0, ingress: 0 });
			for (const { there, back } of flows) {
				equal(scene.isFast(there()), true);
				equal(scene.isFast(back()), true);
			}
		});
	}
}
