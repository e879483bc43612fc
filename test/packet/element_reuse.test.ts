/**
 * The kernel gives the element of a hash map's key that goes to the next key that comes, at once. A CPU that pauses
 * between what it finds and what it reads takes nothing of the new one for the old one's: no forbidden packet passes.
 * Here each read is a pause, in which another CPU removes the entry that denies and adds one that allows somebody
 * else, over and over. These stay, so that the entry that denies never has an element twice: a reader cannot tell
 * that from an entry that has stayed.
 *
 * The core knows in two ways that an element has stayed (bpf/lib/element.h), so there are two ways to write: each write
 * is announced by itself, as single ones of the agent are, or all of them are one that lasts.
 */
import { rmSync } from "node:fs";
import t from "tap";
import { ElementWrites } from "../../src/reconcile/maps/element_writes.js";
import { DropReason, maps, PolicyVerdict, PortSet } from "../../src/tables/generated.js";
import { pinDirectory } from "../native/fixture.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { allow, deny, PolicyScene, u32 } from "./policy_scene.js";
import { Senders, total } from "./senders.js";
import { fromPod } from "./table.js";
import * as world from "./world.js";

const { podA, direct } = world;
/** Turns of a loop in each pause: some 50 us, in which the agent writes several times. */
const PAUSE = 2_000;
const PACKETS = 2_000;
/** Times that an element is given away: for so long the other CPU writes. All three tables have room for them. */
const WRITES = 20_000;
const POLICY = 2;
/** Both below the limit of classes. */
const [DENIED, ALLOWED] = [7, 50];
const [BY_DEFAULT, DENIES, ALLOWS] = [11, 12, 13];
const [SET, OTHER_SET] = [20, 100];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 1024, slowReads: PAUSE });
	const pins = `${pinDirectory()}/element-reuse`;
	t.teardown(() => {
		rmSync(pins, { recursive: true, force: true });
		dataPath.close();
	});

	const packet = (to: world.PeerFacts, from: number) =>
		build.ip({ source: podA[4], destination: to.pod[4] }, build.udp(from, 53));
	/** An entry of one of the tables: it denies what goes to the direct peer's Pod, or allows somebody else. */
	interface Entry {
		key: Buffer;
		value: Buffer;
	}
	const tables: [
		table: string,
		begin: (scene: PolicyScene) => void,
		denies: Entry,
		allows: (number: number) => Entry,
	][] = [
		[
			"identities",
			(scene) => scene.verdict(POLICY, ALLOWED, allow(ALLOWS)),
			{ key: maps.identities.key.encode(direct.pod[4]), value: u32(DENIED) },
			(number) => ({
				key: maps.identities.key.encode(`10.99.${number >> 8}.${number & 255}`),
				value: u32(ALLOWED),
			}),
		],
		[
			"policy_verdicts",
			(scene) => scene.identity(direct.pod[4], DENIED),
			verdict(DENIED, false),
			(number) => verdict(ALLOWED + number, true),
		],
		[
			"port_sets",
			(scene) => scene.identity(direct.pod[4], DENIED).verdict(POLICY, DENIED, { ports: SET }),
			portSet(SET, false),
			(number) => portSet(OTHER_SET + number, true),
		],
	];
	const elements = new ElementWrites(dataPath.map);
	const ways: [
		title: string,
		one: (write: () => void) => void,
		all: (write: () => void) => void,
	][] = [
		["single writes", (write) => elements.around(write), (writes) => writes()],
		["a write that lasts", (write) => write(), (writes) => elements.around(writes)],
	];
	for (const [[table, begin, denies, allows], [title, one, all]] of tables.flatMap((table) =>
		ways.map((way) => [table, way] as const),
	))
		t.test(`an element of ${table} that becomes another key's, by ${title}`, async (t) => {
			const scene = await PolicyScene.begin(dataPath, 4);
			scene.policy(POLICY, deny(BY_DEFAULT)).pod(podA, { egress: POLICY });
			begin(scene);
			const senders = await Senders.start(dataPath, pins, [podA]);
			// Not this process's own.
			const another = senders.count - 1;
			const map = dataPath.map(table);
			const before = (reason: number) => total(dataPath, "drops", reason);
			const denied = before(DropReason.POLICY_EGRESS);
			const incomplete = before(DropReason.POLICY_INCOMPLETE);
			const packets = [
				{
					hook: "fromPod" as const,
					frame: fromPod(podA, packet(direct, 1)).packet.toString("hex"),
				},
			];
			let isOver = false;
			const burst = { packets, portOffset: 34, firstPort: 1, ports: 50, count: PACKETS };
			const over = senders
				.send((sender) => ({ ...burst, count: sender === another ? PACKETS : 0 }))
				.then(() => {
					isOver = true;
				});
			let writes = 0;
			while (!isOver) {
				all(() => {
					for (let i = 0; i < 200 && writes < WRITES; i++, writes++) {
						const { key, value } = allows(writes);
						one(() => map.update(denies.key, denies.value));
						one(() => map.delete(denies.key));
						one(() => map.update(key, value));
					}
				});
				await new Promise((resolve) => setImmediate(resolve));
			}
			await over;
			await senders.stop();
			for (let number = 0; number < writes; number++) map.delete(allows(number).key);
			rmSync(pins, { recursive: true, force: true });
			t.ok(writes > 0, `${writes} times`);
			const drops = before(DropReason.POLICY_EGRESS) - denied;
			const unsure = before(DropReason.POLICY_INCOMPLETE) - incomplete;
			t.equal(drops + unsure, BigInt(PACKETS), "nothing passed");
			t.equal(dataPath.flows().length, 0, "and no flow began");
		});

	function verdict(classNumber: number, isAllowed: boolean): Entry {
		return {
			key: Buffer.concat([u32(POLICY), u32(classNumber)]),
			value: PolicyVerdict.encode({ judgement: judgement(isAllowed), portSet: 0 }),
		};
	}

	function portSet(id: number, isAllowed: boolean): Entry {
		const segments = Array.from({ length: 16 }, () => ({
			from: 0,
			judgement: judgement(isAllowed),
		}));
		return { key: u32(id), value: PortSet.encode({ nextFrom: 0, next: 0, count: 1, segments }) };
	}

	function judgement(isAllowed: boolean) {
		return { rule: isAllowed ? ALLOWS : DENIES, stagedRule: 0, flags: isAllowed ? 1 : 0 };
	}
}
