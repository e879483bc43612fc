/**
 * Network policy and Services: the backend's address and port are judged, on its own Node with the client's
 * address; nothing by a Service is a bypass.
 */
import { notEqual } from "node:assert/strict";
import t from "tap";
import { parse } from "../../src/forwarder/packet.js";
import { Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { FAMILIES } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { allow, deny, OPEN, PolicyScene } from "./policy_scene.js";
import {
	type End,
	NAMES,
	PORT,
	packetOf,
	reversed,
	SCTP,
	Scene,
	TCP,
	type Tuple,
	UDP,
} from "./service_scene.js";
import { SERVICE_PORT, TARGET_PORT } from "./services.js";
import { fromHost, fromPod, fromWire, toPod } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, geneve4, outside, nodeAddress, gateway } = world;
const SYN = { flags: build.SYN };
const [EGRESS, INGRESS, HAIRPIN, OTHER_HAIRPIN] = [2, 3, 4, 5];
const CLASS = 7;
const [BY_CLASS, BY_ISOLATION, OTHER] = [11, 12, 13];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());

	for (const family of FAMILIES) {
		const scene = (
			shows: string,
			play: (scene: PolicyScene, services: Scene) => Promise<void>,
			variation: world.Variation = {},
		) =>
			t.test(`IPv${family}: ${shows}`, async (t) => {
				const policies = await PolicyScene.begin(dataPath, family, variation);
				await play(policies, new Scene(dataPath, policies.tables, family));
				t.pass("every packet");
			});
		const own = podA[family];
		const client: End = [own, PORT];
		const vip = (services: Scene, name: string, protocol: typeof TCP | typeof UDP | typeof SCTP) =>
			[client, [services.service(name, protocol).clusterIP, SERVICE_PORT]] as Tuple;

		for (const protocol of [TCP, UDP, SCTP] as const)
			scene(
				`${NAMES[protocol]}: egress is judged by backend and its port`,
				async (scene, services) => {
					const original = vip(services, "mixed", protocol);
					const how = protocol === SCTP ? { chunk: 1 } : SYN;
					const input = fromPod(podA, packetOf(original, protocol, how));
					services.only(services.service("mixed", protocol), direct.pod[family]);
					scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
					// Who allows the Service's address allows nothing.
					scene.identity(original[1][0], 9).verdict(EGRESS, 9, allow(OTHER));
					await scene.drops(input, "policy_egress");
					t.equal(scene.flows(), 0);
					const at = { [TCP]: 0, [UDP]: 65536, [SCTP]: 131072 }[protocol];
					scene.identity(direct.pod[family], CLASS).verdict(EGRESS, CLASS, { ports: 1 });
					scene.ports(1, [
						[0, deny(OTHER)],
						[at + TARGET_PORT, allow(BY_CLASS)],
						[at + TARGET_PORT + 1, deny(OTHER)],
					]);
					t.equal((await scene.goes(input, "wire")).verdict.egressRule, BY_CLASS);
					t.same(scene.flow(original, protocol)?.rules, { egress: BY_CLASS, ingress: 0 });
				},
			);

		scene("a backend here is judged at both ends", async (scene, services) => {
			const original = vip(services, "mixed", TCP);
			const input = fromPod(podA, packetOf(original, TCP, SYN));
			services.only(services.service("mixed", TCP), podB[family]);
			scene.policy(EGRESS, allow(BY_CLASS)).pod(podA, { egress: EGRESS });
			scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podB, { ingress: INGRESS });
			await scene.drops(input, "policy_ingress");
			scene.identity(own, CLASS).verdict(INGRESS, CLASS, { ports: 1 });
			scene.ports(1, [
				[0, deny(OTHER)],
				[TARGET_PORT, allow(OTHER)],
				[TARGET_PORT + 1, deny(OTHER)],
			]);
			await scene.goes(input, "endpoint");
			t.same(scene.flow(original, TCP)?.rules, { egress: BY_CLASS, ingress: OTHER });
		});

		scene("a Service without endpoints refuses, whatever the policies", async (scene, services) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
			const input = fromPod(podA, packetOf(vip(services, "empty", UDP), UDP));
			await services.ends(input, "service_no_endpoints", "refused");
		});

		scene("a Pod to itself by a Service: the hairpin policy's", async (scene, services) => {
			const original = vip(services, "self", TCP);
			const input = fromPod(podA, packetOf(original, TCP, SYN));
			scene.policy(EGRESS, deny(BY_ISOLATION)).policy(INGRESS, deny(BY_ISOLATION));
			scene.pod(podA, { egress: EGRESS, ingress: INGRESS });
			await scene.goes(input, "endpoint", "NetworkPolicies do not ask");
			t.same(scene.flow(original, TCP)?.rules, { egress: 0, ingress: 0 });
			const next: Tuple = [[own, PORT + 1], original[1]];
			scene.policy(EGRESS, deny(BY_ISOLATION), HAIRPIN).policy(HAIRPIN, deny(OTHER));
			await scene.drops(fromPod(podA, packetOf(next, TCP, SYN)), "policy_egress");
			scene.policy(HAIRPIN, allow(OTHER));
			await scene.goes(fromPod(podA, packetOf(next, TCP, SYN)), "endpoint");
			t.same(scene.flow(next, TCP)?.rules, { egress: OTHER, ingress: 0 });
			const third: Tuple = [[own, PORT + 2], original[1]];
			scene.policy(INGRESS, deny(BY_ISOLATION), OTHER_HAIRPIN).policy(OTHER_HAIRPIN, deny(21));
			await scene.drops(fromPod(podA, packetOf(third, TCP, SYN)), "policy_ingress");
			scene.policy(EGRESS, deny(BY_ISOLATION), 9);
			await scene.drops(fromPod(podA, packetOf(third, TCP, SYN)), "policy_incomplete");
			// Running flows, likewise.
			scene.policy(EGRESS, deny(BY_ISOLATION), HAIRPIN).policy(HAIRPIN, deny(OTHER)).raiseEpoch();
			await scene.drops(fromPod(podA, packetOf(original, TCP)), "policy_egress");
			scene.policy(HAIRPIN, allow(OTHER)).policy(OTHER_HAIRPIN, allow(22)).raiseEpoch();
			await scene.goes(fromPod(podA, packetOf(original, TCP)), "endpoint");
			t.same(scene.flow(original, TCP)?.rules, { egress: OTHER, ingress: 22 });
		});

		for (const [kind, address, port] of [
			["NodePort", () => nodeAddress[family], (s: Scene) => s.service("mixed", TCP).nodePort],
			[
				"load balancer IP",
				(s: Scene) => s.service("mixed", TCP).loadBalancerIP,
				() => SERVICE_PORT,
			],
		] as const)
			scene(`a client of a ${kind} is judged by its own address`, async (scene, services) => {
				const original: Tuple = [
					[outside[family], PORT],
					[address(services), port(services)],
				];
				const input = fromWire(packetOf(original, TCP, SYN));
				services.only(services.service("mixed", TCP), podB[family]);
				scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podB, { ingress: INGRESS });
				const last = fromWire(packetOf(original, TCP, { ...SYN, ttl: 1 }));
				await scene.drops(last, "policy_ingress", "and not answered");
				await scene.drops(input, "policy_ingress");
				t.equal(scene.flows(), 0);
				scene.block(family === 4 ? "198.51.100.0/24" : "2001:db8::/64", CLASS);
				scene.verdict(INGRESS, CLASS, { ports: 1 }).ports(1, [
					[0, deny(OTHER)],
					[TARGET_PORT, allow(BY_CLASS)],
				]);
				await scene.goes(input, "endpoint");
				t.same(scene.flow(original, TCP)?.rules, { egress: 0, ingress: BY_CLASS });
				const shown: Tuple = [original[0], [podB[family], TARGET_PORT]];
				await scene.goes(fromPod(podB, packetOf(reversed(shown), TCP)), "wire");
				await scene.goes(fromWire(packetOf(original, TCP)), "endpoint");
				scene.verdict(INGRESS, CLASS, deny(OTHER)).raiseEpoch();
				await scene.drops(fromPod(podB, packetOf(reversed(shown), TCP)), "policy_ingress");
				await scene.drops(fromWire(packetOf(original, TCP)), "policy_ingress");
			});

		scene("a backend on another Node is judged there", async (scene, services) => {
			const original: Tuple = [
				[outside[family], PORT],
				[nodeAddress[family], services.service("mixed", UDP).nodePort],
			];
			services.only(services.service("mixed", UDP), geneve4.pod[family]);
			for (const pod of [podA, podB]) scene.pod(pod, { egress: 0, ingress: 0 });
			await scene.goes(fromWire(packetOf(original, UDP)), "wire");
		});

		scene("a link's client by a NodePort, and the Node's own process", async (scene, services) => {
			services.only(services.service("mixed", UDP), podB[family]);
			scene.policy(INGRESS, deny(BY_ISOLATION)).pod(podB, { ingress: INGRESS });
			const { nodePort, clusterIP } = services.service("mixed", UDP);
			const original: Tuple = [
				[outside[family], PORT],
				[nodeAddress[family], nodePort],
			];
			const link: Input = { ...fromWire(packetOf(original, UDP)), hook: Hook.FROM_LINK };
			const { packet } = await scene.goes(link, "wire", "on to from_host");
			const passed: Input = { ...fromHost(packetOf(original, UDP)), packet };
			passed.context = { ...passed.context, ingressIfindex: world.indexOf("wire0") };
			await scene.drops(passed, "policy_ingress");
			scene.block(family === 4 ? "198.51.100.0/24" : "2001:db8::/64", CLASS);
			scene.verdict(INGRESS, CLASS, allow(BY_CLASS));
			const { packet: sent } = await scene.goes(passed, "endpoint");
			t.same(scene.flow(original, UDP)?.rules, { egress: 0, ingress: BY_CLASS });
			const arrives = { ...toPod(podB, packetOf(original, UDP)), packet: sent };
			arrives.context = { ...arrives.context, ingressIfindex: world.indexOf("wire0") };
			await scene.goes(arrives, "pass", "from_host has judged it");
			const shown: Tuple = [original[0], [podB[family], TARGET_PORT]];
			scene.verdict(INGRESS, CLASS, deny(OTHER)).raiseEpoch();
			await scene.drops(passed, "policy_ingress");
			await scene.drops(fromPod(podB, packetOf(reversed(shown), UDP)), "policy_ingress");
			scene.verdict(INGRESS, CLASS, allow(OTHER)).raiseEpoch();
			await scene.goes(passed, "endpoint");
			// Masqueraded, it is the Node's address that is judged.
			const masked: Tuple = [
				[nodeAddress[family], PORT + 7],
				[clusterIP, SERVICE_PORT],
			];
			const forwarded = fromHost(packetOf(masked, UDP));
			forwarded.context = { ...forwarded.context, ingressIfindex: world.indexOf("wire0") };
			await scene.drops(forwarded, "policy_ingress");
			// The Node's own process, whatever the policies say and however often they change.
			const process: Tuple = [
				[nodeAddress[family], PORT + 8],
				[clusterIP, SERVICE_PORT],
			];
			await scene.goes(fromHost(packetOf(process, UDP)), "endpoint");
			scene.raiseEpoch();
			const answer: Tuple = [[podB[family], TARGET_PORT], process[0]];
			await scene.goes(fromPod(podB, packetOf(answer, UDP)), "host");
			await scene.goes(fromHost(packetOf(process, UDP)), "endpoint");
		});

		scene("the Node itself as a backend is judged like the Node", async (scene, services) => {
			const original = vip(services, "mixed", TCP);
			services.only(services.service("mixed", TCP), nodeAddress[family]);
			scene.policy(EGRESS, deny(BY_ISOLATION)).pod(podA, { egress: EGRESS });
			await scene.drops(fromPod(podA, packetOf(original, TCP, SYN)), "policy_egress");
			scene.identity(nodeAddress[family], CLASS).verdict(EGRESS, CLASS, allow(BY_CLASS));
			await scene.goes(fromPod(podA, packetOf(original, TCP, SYN)), "pass");
			const answer: Tuple = [[nodeAddress[family], TARGET_PORT], client];
			await scene.goes(toPod(podA, packetOf(answer, TCP)), "pass");
			scene.verdict(EGRESS, CLASS, deny(OTHER)).raiseEpoch();
			await scene.drops(toPod(podA, packetOf(answer, TCP)), "policy_egress");
			await scene.drops(fromPod(podA, packetOf(original, TCP)), "policy_egress");
		});

		scene("a connection that begins again is judged again", async (scene, services) => {
			const original = vip(services, "mixed", TCP);
			const shown: Tuple = [client, [direct.pod[family], TARGET_PORT]];
			services.only(services.service("mixed", TCP), direct.pod[family]);
			scene.policy(EGRESS, allow(BY_CLASS)).pod(podA, { egress: EGRESS });
			await scene.goes(fromPod(podA, packetOf(original, TCP, SYN)), "wire");
			await scene.goes(fromWire(packetOf(reversed(shown), TCP)), "endpoint");
			await scene.goes(fromPod(podA, packetOf(original, TCP, { flags: build.RST })), "wire");
			// Its flow has proved the source; the new one has to be judged by the Pod's policy.
			await scene.goes(fromPod(podA, packetOf(original, TCP, SYN)), "wire");
			t.same(scene.flow(original, TCP)?.rules, { egress: BY_CLASS, ingress: 0 });
			await scene.goes(fromPod(podA, packetOf(original, TCP, { flags: build.RST })), "wire");
			services.only(services.service("mixed", TCP), geneve4.pod[family]);
			scene.identity(geneve4.pod[family], CLASS).verdict(EGRESS, CLASS, deny(OTHER));
			await scene.drops(fromPod(podA, packetOf(original, TCP, SYN)), "policy_egress");
		});

		scene("a port that another flow's answers need is no bypass", async (scene, services) => {
			const shown: Tuple = [client, [podB[family], TARGET_PORT]];
			services.only(services.service("mixed", UDP), podB[family]);
			scene.policy(EGRESS, allow(BY_CLASS)).pod(podA, { egress: EGRESS });
			const original = vip(services, "mixed", UDP);
			await scene.goes(fromPod(podA, packetOf(original, UDP)), "endpoint");
			const { packet } = await scene.goes(fromPod(podA, packetOf(shown, UDP)), "endpoint");
			const port = parse(packet)!.key.sourcePort;
			notEqual(port, PORT, "its port is translated");
			const answer: Tuple = [shown[1], [own, port]];
			await scene.goes(fromPod(podB, packetOf(answer, UDP)), "endpoint");
			scene.policy(EGRESS, deny(OTHER)).raiseEpoch();
			await scene.drops(fromPod(podB, packetOf(answer, UDP)), "policy_egress");
			await scene.drops(fromPod(podA, packetOf(shown, UDP)), "policy_egress");
			await scene.drops(fromPod(podA, packetOf(original, UDP)), "policy_egress");
			scene.pod(podA, { egress: OPEN }).raiseEpoch();
			await scene.goes(fromPod(podA, packetOf(shown, UDP)), "endpoint");
			await scene.goes(fromPod(podB, packetOf(answer, UDP)), "endpoint");
			t.same(scene.flow(shown, UDP)?.rules, { egress: 0, ingress: 0 });
		});

		scene("the gateway of a hairpin is nobody else's", async (scene, services) => {
			scene.policy(EGRESS, deny(BY_ISOLATION)).policy(INGRESS, deny(BY_ISOLATION));
			scene.pod(podA, { egress: EGRESS, ingress: INGRESS });
			const original = vip(services, "self", UDP);
			await scene.goes(fromPod(podA, packetOf(original, UDP)), "endpoint");
			const answer: Tuple = [
				[own, TARGET_PORT],
				[gateway[family], PORT],
			];
			await scene.goes(fromPod(podA, packetOf(answer, UDP)), "endpoint");
			await scene.drops(
				fromPod(podA, packetOf([[own, 5], answer[1]], UDP)),
				"policy_egress",
				"the Node's gateway",
			);
		});
	}
}
