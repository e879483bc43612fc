/** What the core notes of packets that network policy denies: who, to whom, which port, by which rule. */
import t from "tap";
import { Limit, PolicyDenial } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { deny, PolicyScene, u32 } from "./policy_scene.js";
import { packetOf, TCP, type Tuple, UDP } from "./service_scene.js";
import { fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, direct, outside } = world;
const SYN = { flags: build.SYN };
const EGRESS = 2;
const INGRESS = 3;
const [BY_EGRESS, BY_INGRESS] = [21, 22];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const noted = (rule: number) =>
		PolicyDenial.decode(
			dataPath.map("policy_denials").lookup(u32(rule % Limit.DENIALS_MAX)) as Buffer,
		);
	/** As if it had been noted that long ago. Negative: none follows for so long. */
	const age = (rule: number, ns: number) => {
		const note = { ...noted(rule), at: process.hrtime.bigint() - BigInt(ns) };
		dataPath.map("policy_denials").update(u32(rule), PolicyDenial.encode(note));
		return note;
	};
	const none = Buffer.alloc(PolicyDenial.size);

	for (const family of [4, 6] as const)
		t.test(
			`IPv${family}: a denied packet is noted, and none of the same rule soon after`,
			async (t) => {
				for (const rule of [BY_EGRESS, BY_INGRESS])
					dataPath.map("policy_denials").update(u32(rule), none);
				const scene = await PolicyScene.begin(dataPath, family);
				scene.policy(EGRESS, deny(BY_EGRESS)).policy(INGRESS, deny(BY_INGRESS));
				scene.pod(podA, { egress: EGRESS }).pod(podB, { ingress: INGRESS });
				const tuple = (from: string, to: string, port: number): Tuple => [
					[from, 40000],
					[to, port],
				];
				const out = (port: number) =>
					fromPod(podA, packetOf(tuple(podA[family], outside[family], port), TCP, SYN));
				const before = process.hrtime.bigint() - 20_000_000n;
				await scene.drops(out(443), "policy_egress");
				const first = noted(BY_EGRESS);
				t.match(first, {
					...{ source: podA[family], destination: outside[family], destinationPort: 443 },
					...{ protocol: TCP, rule: BY_EGRESS },
				});
				t.ok(first.at > before, "with its time");
				const now = age(BY_EGRESS, -60_000_000_000);
				await scene.drops(out(80), "policy_egress");
				t.same(noted(BY_EGRESS), now, "a flood costs a look-up, and no more");
				t.equal(scene.counter(BY_EGRESS).packets, 2, "all are counted");

				const comes = packetOf(tuple(direct.pod[family], podB[family], 53), UDP);
				await scene.drops(fromWire(comes), "policy_ingress");
				t.match(noted(BY_INGRESS), {
					...{ source: direct.pod[family], destination: podB[family], destinationPort: 53 },
					...{ protocol: UDP, rule: BY_INGRESS },
				});

				age(BY_EGRESS, 2 * Limit.DENIAL_PAUSE_NS);
				await scene.drops(out(80), "policy_egress");
				t.match(noted(BY_EGRESS), { destinationPort: 80 }, "after a pause another one is noted");
			},
		);
}
