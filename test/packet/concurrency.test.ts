/**
 * Several CPUs in one flow table: floods of new flows into small tables, and the tables compared when
 * all CPUs rest. Whatever two CPUs did to each other, each place of a pair and each entry of the index leads to
 * the flow of that very tuple, a flow has those that it needs and no others, no tuple is in two slots, both tuples
 * of a flow are found, the counts are right, nothing is left locked, and nobody was refused.
 */
import { rmSync } from "node:fs";
import t from "tap";
import { liveGeneration, originalKey, replyKey, tupleOf } from "../../src/forwarder/flow.js";
import { isSpare } from "../../src/forwarder/flow_state.js";
import {
	ClaimBit,
	DropReason,
	EventCounter,
	Flow,
	FlowCount,
	FlowFlag,
	FlowKey,
	FlowPair,
	FlowPlace,
	FlowRef,
	Limit,
	maps,
} from "../../src/tables/generated.js";
import { pinDirectory } from "../native/fixture.js";
import * as build from "./builder.js";
import { DataPath, entriesOf } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { Senders, total } from "./senders.js";
import { fromPod, fromWire } from "./table.js";
import * as world from "./world.js";

const { podA, podB, outside, direct } = world;
/** UDP and TCP source port behind Ethernet and IPv4. */
const PORT_OFFSET = 14 + 20;
/** A round, and how many: some ten seconds in all. */
const PACKETS = 15_000;
const ROUNDS = 6;
/** Turns of a loop in a pause, which is longer than the rest of a new flow, and the rounds with pauses. */
const PAUSE = 1_000;
const SLOW_ROUNDS = 2;

/** What is wrong with the tables at rest; empty: nothing. */
function disorder(dataPath: DataPath): string[] {
	const wrong: string[] = [];
	const homes = new Map<number, { indexed: number; atHome: number }>();
	const home = (pair: number) => {
		const known = homes.get(pair) ?? { indexed: 0, atHome: 0 };
		homes.set(pair, known);
		return known;
	};
	const tuples = new Map<string, number>();
	const flows = dataPath.map(maps.flows.name).entries();
	const slots = Array.from({ length: dataPath.flowSlots }, (_, slot) =>
		Flow.decode(flows.values, slot * Flow.size),
	);
	const entries = new Map<number, number>();
	const index = dataPath.map(maps.flowIndex.name).entries();
	for (let i = 0; i * FlowKey.size < index.keys.length; i++) {
		const key = FlowKey.decode(index.keys, i * FlowKey.size);
		const ref = FlowRef.decode(index.values, i * FlowRef.size);
		const flow = slots[ref.slot]!;
		const text = `${key.source} ${key.sourcePort} > ${key.destination} ${key.destinationPort}`;
		entries.set(ref.slot, (entries.get(ref.slot) ?? 0) + 1);
		home(dataPath.pairOf(key).pair).indexed++;
		if (liveGeneration(flow.claim) !== ref.generation) {
			wrong.push(`dead: ${text} leads to slot ${ref.slot}, which has another flow`);
			continue;
		}
		const own = ref.direction === 0 ? originalKey(flow) : replyKey(flow);
		if (!FlowKey.encode(own).equals(FlowKey.encode(key)))
			wrong.push(`${text} leads to the flow of ${own.source} ${own.sourcePort}`);
	}
	const pairs = dataPath.map(maps.flowHints.name).entries().values;
	for (let pair = 0; pair * FlowPair.size < pairs.length; pair++)
		for (const owner of FlowPair.decode(pairs, pair * FlowPair.size).owner) {
			if (owner === 0) continue;
			const slot = (owner & FlowPlace.SLOT) - 1;
			const direction = (owner >>> FlowPlace.DIRECTION_SHIFT) & 1;
			const flow = slots[slot]!;
			const key = tupleOf(flow, direction);
			entries.set(slot, (entries.get(slot) ?? 0) + 1);
			if (liveGeneration(flow.claim) === undefined)
				wrong.push(`dead: a place of pair ${pair} leads to slot ${slot}, which has no flow`);
			else if (
				dataPath.pairOf(key).pair !== pair ||
				dataPath.ownerOf(slot, direction, key) !== owner
			)
				wrong.push(`a place of pair ${pair} leads to slot ${slot}, which has another flow`);
		}
	const counts = new Map<number, { flows: number; spare: number }>();
	for (const [slot, flow] of slots.entries()) {
		if (flow.claim & ClaimBit.LOCKED) wrong.push(`slot ${slot} is locked`);
		const isLive = liveGeneration(flow.claim) !== undefined;
		if ((entries.get(slot) ?? 0) !== (isLive ? entriesOf(flow) : 0))
			wrong.push(`slot ${slot} has ${entries.get(slot) ?? 0} entries`);
		if (!isLive) continue;
		for (const key of [originalKey(flow), replyKey(flow)]) {
			const text = FlowKey.encode(key).toString("hex");
			const other = tuples.get(text) ?? slot;
			if (other !== slot) wrong.push(`slots ${other} and ${slot} have one tuple`);
			tuples.set(text, slot);
			if (dataPath.flow(key)?.slot !== slot) wrong.push(`a tuple of slot ${slot} is not found`);
		}
		const { pair } = dataPath.pairOf(originalKey(flow));
		if (flow.flags & FlowFlag.AT_HOME) home(pair).atHome++;
		if (flow.flags & FlowFlag.AT_HOME && pair !== slot >> 1) wrong.push(`slot ${slot} is no home`);
		const count = counts.get(flow.endpoint) ?? { flows: 0, spare: 0 };
		count.flows++;
		if (isSpare(flow)) count.spare++;
		counts.set(flow.endpoint, count);
	}
	for (let pair = 0; pair * FlowPair.size < pairs.length; pair++) {
		const { indexed, atHome } = FlowPair.decode(pairs, pair * FlowPair.size);
		const { indexed: entered, atHome: settled } = homes.get(pair) ?? { indexed: 0, atHome: 0 };
		if (indexed !== entered || atHome !== settled)
			wrong.push(
				`pair ${pair}: ${entered} entries, ${settled} at home; counted ${indexed}, ${atHome}`,
			);
	}
	const counted = dataPath.map(maps.flowCounts.name).entries().values;
	for (let endpoint = 0; endpoint <= Limit.ENDPOINTS_MAX; endpoint++) {
		const actual = FlowCount.decode(counted, endpoint * FlowCount.size);
		const { flows, spare } = counts.get(endpoint) ?? { flows: 0, spare: 0 };
		if (actual.flows !== flows || actual.spare !== spare)
			wrong.push(
				`Pod ${endpoint}: ${flows} flows, ${spare} spare; counted ${actual.flows}, ${actual.spare}`,
			);
	}
	return wrong;
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const pods = [podA, podB];
	const udp = (pod: world.Pod, destination: string, port = 53) =>
		fromPod(pod, build.ip({ source: pod[4], destination }, build.udp(1, port))).packet.toString(
			"hex",
		);
	const tcp = (pod: world.Pod, flags: number) =>
		fromPod(
			pod,
			build.ip({ source: pod[4], destination: direct.pod[4] }, build.tcp(1, 80, { flags })),
		).packet.toString("hex");
	const answer = (pod: world.Pod, flags: number) =>
		fromWire(
			build.ip({ source: direct.pod[4], destination: pod[4] }, build.tcp(80, 1, { flags })),
		).packet.toString("hex");

	// The barriers of a CPU that may reorder are run where it does not: for what they cost in
	// mistakes, not for what they order.
	for (const { title, ...knobs } of [
		{ title: "64 slots", flowSlots: 64, weakMemoryOrder: true },
		{ title: "64 slots, and CPUs that pause with one locked", flowSlots: 64, slowWrites: PAUSE },
		{ title: "1024 slots", flowSlots: 1024 },
	])
		t.test(title, async (t) => {
			const { flowSlots } = knobs;
			const rounds = "slowWrites" in knobs ? SLOW_ROUNDS : ROUNDS;
			const dataPath = new DataPath(knobs);
			const pins = `${pinDirectory()}/concurrency`;
			const senders = await Senders.start(dataPath, pins, pods);
			t.teardown(async () => {
				await senders.stop();
				rmSync(pins, { recursive: true, force: true });
				dataPath.close();
			});
			const fresh = async () => {
				const tables = world.makeTables(flowSlots);
				await dataPath.forget();
				dataPath.write(tables);
			};
			const rest = (t: import("tap").Test, round: number) => {
				const wrong = disorder(dataPath);
				t.same(wrong.slice(0, 5), [], `round ${round}: the tables are in order`);
			};

			t.test("floods of new flows: in order, and nobody is refused", async (t) => {
				await fresh();
				for (let round = 0; round < rounds; round++) {
					await senders.send((i) => {
						const pod = pods[i % pods.length]!;
						const frames = [udp(pod, outside[4]), udp(pod, direct.pod[4])];
						return {
							packets: frames.map((frame) => ({ hook: "fromPod" as const, frame })),
							portOffset: PORT_OFFSET,
							firstPort: 1 + i * 15_000,
							ports: 15_000,
							count: PACKETS,
						};
					});
					rest(t, round);
				}
				for (const reason of [DropReason.FLOW_TABLE_FULL, DropReason.SNAT_PORTS_EXHAUSTED])
					t.equal(total(dataPath, "drops", reason), 0n, "nothing is refused");
				t.equal(total(dataPath, "events", EventCounter.UNTRACKED), 0n, "nothing goes untracked");
				const evicted = total(dataPath, "events", EventCounter.FLOW_EVICTED_EARLY);
				t.ok(evicted > BigInt(flowSlots), `${evicted} flows made room`);
			});

			t.test("the same few flows on every CPU, opened, answered, reset, and evicted", async (t) => {
				await fresh();
				for (let round = 0; round < rounds; round++) {
					await senders.send((i) => ({
						packets: [
							{ hook: "fromPod", frame: tcp(podA, build.SYN) },
							{ hook: "fromWire", frame: answer(podA, build.SYN | build.ACK) },
							{ hook: "fromPod", frame: udp(podA, outside[4], 53 + (i % 2)) },
							{ hook: "fromPod", frame: tcp(podA, build.RST) },
						],
						portOffset: PORT_OFFSET,
						firstPort: 1,
						ports: Math.floor(flowSlots * 1.5),
						count: PACKETS,
					}));
					rest(t, round);
				}
			});
		});
}
