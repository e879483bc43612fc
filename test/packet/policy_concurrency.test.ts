/**
 * Several CPUs send packets of the same flows, in both directions, while the agent changes policies, and what
 * the addresses of a peer are. What every policy allows loses nothing; at rest each flow has the verdict of the
 * tables as they are, under the epochs as they are, and nothing is left locked.
 */
import { rmSync } from "node:fs";
import t from "tap";
import { rulesOfFlow } from "../../src/forwarder/flow.js";
import { ElementWrites } from "../../src/reconcile/maps/element_writes.js";
import {
	ClaimBit,
	DropReason,
	Endpoint,
	Flow,
	FlowFlag,
	FlowRules,
	maps,
	NodeConfig,
	Peer,
	RuleCounter,
} from "../../src/tables/generated.js";
import { pinDirectory } from "../native/fixture.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { allow, deny, PolicyScene, u32 } from "./policy_scene.js";
import { Senders, total } from "./senders.js";
import { fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, direct, routed } = world;
const PORT_OFFSET = 14 + 20;
const PORTS = 48;
const PACKETS = 8_000;
const ROUNDS = 6;
/** In a round, at least. */
const CHANGES = 20;
/** Policies of Pod A: the routed peer's Pod is allowed by one, denied by the other. */
const [LENIENT, STRICT] = [2, 3];
/** Classes of that Pod's address: by its policy, and denied by both. */
const [KNOWN, STRANGE] = [7, 8];
const [ALWAYS, LENIENTLY, STRICTLY, AS_STRANGER] = [11, 12, 13, 14];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	t.test("flows that two CPUs judge while the tables change", async (t) => {
		const dataPath = new DataPath({ flowSlots: 1024 });
		const pins = `${pinDirectory()}/policy-concurrency`;
		const senders = await Senders.start(dataPath, pins, [podA]);
		t.teardown(async () => {
			await senders.stop();
			rmSync(pins, { recursive: true, force: true });
			dataPath.close();
		});
		const scene = await PolicyScene.begin(dataPath, 4, {
			config: { flowTimeouts: world.LONG_TIMEOUTS },
		});
		scene.policy(LENIENT, allow(ALWAYS)).policy(STRICT, allow(ALWAYS));
		scene.verdict(LENIENT, KNOWN, allow(LENIENTLY)).verdict(STRICT, KNOWN, deny(STRICTLY));
		for (const id of [LENIENT, STRICT]) scene.verdict(id, STRANGE, deny(AS_STRANGER));
		scene.identity(routed.pod[4], KNOWN).pod(podA, { egress: LENIENT });
		const { tables } = scene;

		const elements = new ElementWrites(dataPath.map);
		/** As the agent writes: the tables, then what says that they are new. */
		const now = { policy: LENIENT, class: KNOWN, peerEpoch: 0 };
		const putPolicy = (policy: number) => {
			now.policy = policy;
			const endpoint = { ...tables.endpoints.get(podA[4])!, egressPolicy: policy };
			const [key, value] = [maps.endpoints.key.encode(podA[4]), Endpoint.encode(endpoint)];
			elements.around(() => dataPath.map("endpoints").update(key, value));
			tables.config.routeEpoch++;
			dataPath.map("node_config").update(u32(0), NodeConfig.encode(tables.config));
		};
		const putClass = (number: number) => {
			now.class = number;
			const key = maps.identities.key.encode(routed.pod[4]);
			elements.around(() => dataPath.map("identities").update(key, u32(number)));
			now.peerEpoch = (now.peerEpoch + 1) & 0xffff;
			const index = routed.id * 2;
			const peer = { ...tables.peers.get(index)!, policyEpoch: now.peerEpoch };
			dataPath.map("peers").update(u32(index), Peer.encode(peer));
		};

		const udp = (source: string, destination: string, from: number, to: number) =>
			build.ip({ source, destination }, build.udp(from, to));
		const frames = [direct, routed].flatMap(({ pod }) => [
			{ hook: "fromPod" as const, frame: fromPod(podA, udp(podA[4], pod[4], 1, 53)).packet },
			{ hook: "fromWire" as const, frame: fromWire(udp(pod[4], podA[4], 53, 1)).packet },
		]);
		const packets = frames.map(({ hook, frame }) => ({ hook, frame: frame.toString("hex") }));
		const burst = { packets, portOffset: PORT_OFFSET, firstPort: 1, ports: PORTS, count: PACKETS };

		const atRest = (round: number) => {
			const { values } = dataPath.map("flows").entries();
			const rules = dataPath.map("flow_rules");
			const wrong: string[] = [];
			const seen = { [direct.pod[4]]: 0, [routed.pod[4]]: 0 };
			const isDenied = now.policy === STRICT || now.class === STRANGE;
			const rule =
				now.class === STRANGE ? AS_STRANGER : now.policy === STRICT ? STRICTLY : LENIENTLY;
			for (let slot = 0; slot < dataPath.flowSlots; slot++) {
				const flow = Flow.decode(values, slot * Flow.size);
				if (flow.claim & ClaimBit.LOCKED) wrong.push(`slot ${slot} is locked`);
				if (!(flow.claim & ClaimBit.IN_USE)) continue;
				const far = flow.addresses[0]!.destination;
				seen[far] = (seen[far] ?? 0) + 1;
				const { egress } = rulesOfFlow(flow, FlowRules.decode(rules.lookup(u32(slot))!));
				const denied = (flow.flags & FlowFlag.DENIED) !== 0;
				const [wanted, by] = far === direct.pod[4] ? [false, ALWAYS] : [isDenied, rule];
				if (denied !== wanted || egress !== by)
					wrong.push(`slot ${slot}: denied ${denied} by rule ${egress}, expected ${wanted}, ${by}`);
				const epoch = wanted ? 0 : tables.config.routeEpoch;
				if (flow.routeEpoch !== epoch)
					wrong.push(`slot ${slot}: of epoch ${flow.routeEpoch}, expected ${epoch}`);
				if (!wanted && far === routed.pod[4] && flow.remoteEpoch !== now.peerEpoch)
					wrong.push(`slot ${slot}: of its peer's epoch ${flow.remoteEpoch}`);
			}
			t.same(wrong.slice(0, 5), [], `round ${round}: verdicts are those of the tables`);
			t.same(Object.values(seen), [PORTS, PORTS], `round ${round}: every flow has its slot`);
		};

		// All flows have begun. By one CPU: where two begin a flow, both may give up, and the answer would begin it.
		await senders.send((i) => ({ ...burst, count: i === 0 ? PORTS * packets.length : 0 }));
		for (let round = 0; round < ROUNDS; round++) {
			let changes = 0;
			while (changes < CHANGES) {
				let isOver = false;
				const over = senders
					.send(() => burst)
					.then(() => {
						isOver = true;
					});
				while (!isOver) {
					if (changes % 3 === 0) putClass(now.class === KNOWN ? STRANGE : KNOWN);
					else putPolicy(now.policy === LENIENT ? STRICT : LENIENT);
					changes++;
					await new Promise((resolve) => setImmediate(resolve));
				}
				await over;
			}
			for (const [policy, number] of [
				[STRICT, KNOWN],
				[LENIENT, KNOWN],
				[LENIENT, STRANGE],
				[LENIENT, KNOWN],
			] as const) {
				if (now.policy !== policy) putPolicy(policy);
				if (now.class !== number) putClass(number);
				// Two packets of each flow: whoever lost a lock to the other writes with the next one.
				await senders.send(() => ({ ...burst, count: PORTS * packets.length * 2 }));
				atRest(round);
			}
		}
		const counter = (rule: number) =>
			RuleCounter.decode(dataPath.map("rule_counters").lookup(u32(rule))!);
		const denied = counter(STRICTLY).packets + counter(AS_STRANGER).packets;
		t.ok(denied > 0n, `${denied} packets were denied`);
		t.equal(total(dataPath, "drops", DropReason.POLICY_EGRESS), denied, "each by its rule");
		t.equal(counter(ALWAYS).packets, 0n);
		t.equal(counter(ALWAYS).flows, BigInt(PORTS), "each flow counts once");
		for (const reason of [
			DropReason.POLICY_INGRESS,
			DropReason.POLICY_INCOMPLETE,
			DropReason.POLICY_NOT_READY,
			DropReason.FLOW_TABLE_FULL,
		])
			t.equal(total(dataPath, "drops", reason), 0n);
	});
}
