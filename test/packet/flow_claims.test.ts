/**
 * A CPU that pauses while it creates or removes a flow, as a virtual one may at any moment for milliseconds: what it has
 * written until then stands in the tables, and the packets of others come. They begin their flows, whatever hash
 * or slot they share with that flow; only a packet with that very tuple goes on untracked.
 */
import t, { type Test } from "tap";
import { NOTHING_REMEMBERED, reverse, tuplesOf } from "../../src/forwarder/flow.js";
import { homeOf } from "../../src/forwarder/flow_place.js";
import {
	ClaimBit,
	DropReason,
	EventCounter,
	Flow,
	FlowDirection,
	FlowKey,
	FlowPair,
	FlowRef,
	FlowState,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { DataPath } from "./data_path.js";
import { FAMILIES, type Family } from "./fast_path.js";
import { inNamespace } from "./namespace.js";
import { total } from "./senders.js";
import { fromPod } from "./table.js";
import * as world from "./world.js";

const { podA, direct, outside } = world;
const UDP = 17;
const PORT = 7;
const FLOW_SLOTS = 64;
const GENERATION = 9 << 1;

/** The slot is taken: the old flow's tuples and the new one's are mixed in it, and the flow is in no table. */
const TAKEN = (GENERATION | ClaimBit.LOCKED) >>> 0;
/** The new flow's tuples are written. */
const FILLED = (TAKEN | ClaimBit.IN_USE) >>> 0;

function keyFrom(port: number, destination: string): FlowKey {
	const source = destination.includes(":") ? podA[6] : podA[4];
	return { source, destination, sourcePort: port, destinationPort: 53, protocol: UDP };
}

/** The tables while another CPU pauses. */
class Paused {
	readonly #dataPath: DataPath;
	readonly #node = world.makeTables(FLOW_SLOTS);

	constructor(dataPath: DataPath) {
		this.#dataPath = dataPath;
	}

	async begin(): Promise<void> {
		await this.#dataPath.forget();
		this.#dataPath.write(this.#node);
	}

	home(key: FlowKey): number {
		return homeOf(key, this.#node.config, FLOW_SLOTS);
	}

	/** The tuple of another flow with the place and the hash bits of this one. */
	rival(key: FlowKey): FlowKey {
		const owner = this.#dataPath.ownerOf(0, FlowDirection.REPLY, key);
		for (let sourcePort = 1024; sourcePort < 65536; sourcePort++) {
			const other = { ...key, sourcePort };
			if (
				this.home(other) === this.home(key) &&
				this.#dataPath.ownerOf(0, FlowDirection.REPLY, other) === owner
			)
				return other;
		}
		throw new Error("Cannot find a tuple with the same place: there is none");
	}

	/** Fills a slot with a flow that the Pod begins with this tuple. */
	fill(slot: number, claim: number, original: FlowKey, reply = reverse(original)): void {
		const flow: Flow = {
			lastSeen: process.hrtime.bigint(),
			claim,
			state: FlowState.UDP_OPENING,
			flags: 0,
			...tuplesOf(original, reply),
			endpoint: 1,
			...NOTHING_REMEMBERED,
		};
		this.#dataPath.map("flows").update(u32(slot), Flow.encode(flow));
	}

	/** Gives the place of this tuple to a slot. */
	place(slot: number, direction: number, key: FlowKey): void {
		this.#pair(key, (entry) => {
			entry.owner[this.home(key) & 1] = this.#dataPath.ownerOf(slot, direction, key);
		});
	}

	/** Counts a flow at the home of this tuple. */
	settle(key: FlowKey): void {
		this.#pair(key, (entry) => {
			entry.atHome++;
		});
	}

	/** Enters the tuple in the index. */
	enter(slot: number, direction: number, key: FlowKey): void {
		const ref = { slot, generation: GENERATION >> 1, direction };
		this.#dataPath.map("flow_index").update(FlowKey.encode(key), FlowRef.encode(ref));
		this.#pair(key, (entry) => {
			entry.indexed++;
		});
	}

	#pair(key: FlowKey, change: (entry: FlowPair) => void): void {
		const { pair, entry } = this.#dataPath.pairOf(key);
		change(entry);
		this.#dataPath.map("flow_hints").update(u32(pair), FlowPair.encode(entry));
	}
}

function u32(value: number): Buffer {
	const bytes = Buffer.alloc(4);
	bytes.writeUInt32LE(value);
	return bytes;
}

interface Row {
	shows: string;
	/** The packet's tuple `key`, and a slot that is not at its home. */
	while: (paused: Paused, key: FlowKey, slot: number) => void;
	goes: "tracked" | "untracked";
}

const ROWS: Row[] = [
	{
		shows: "a flow whose answers have the same place and hash bits, before it is written",
		while: (paused, key, slot) => {
			const rival = paused.rival(key);
			paused.fill(slot, TAKEN, keyFrom(1, key.destination), reverse(rival));
			paused.place(slot, FlowDirection.REPLY, reverse(rival));
		},
		goes: "tracked",
	},
	{
		shows: "a flow with the same place and hash bits, after it is written",
		while: (paused, key, slot) => {
			const rival = paused.rival(key);
			paused.fill(slot, FILLED, rival);
			paused.place(slot, FlowDirection.ORIGINAL, rival);
		},
		goes: "tracked",
	},
	{
		shows: "a flow that has left the home of this tuple, and whose words still stand there",
		while: (paused, key) => {
			paused.fill(paused.home(key), TAKEN, key);
			paused.settle(key);
		},
		goes: "tracked",
	},
	{
		shows: "a flow that fills the home, for another tuple",
		while: (paused, key) => {
			paused.fill(paused.home(key), FILLED, paused.rival(key));
			paused.settle(key);
		},
		goes: "tracked",
	},
	{
		shows: "this very flow, in its home",
		while: (paused, key) => {
			paused.fill(paused.home(key) ^ 1, FILLED, key);
			paused.settle(key);
		},
		goes: "untracked",
	},
	{
		shows: "this very flow, by its place",
		while: (paused, key, slot) => {
			paused.fill(slot, FILLED, key);
			paused.place(slot, FlowDirection.ORIGINAL, key);
		},
		goes: "untracked",
	},
	{
		shows: "a flow whose answers have this flow's tuple, before it is written",
		while: (paused, key, slot) => {
			paused.fill(slot, TAKEN, keyFrom(1, key.destination), key);
			paused.place(slot, FlowDirection.REPLY, key);
		},
		goes: "untracked",
	},
	{
		shows: "this very flow, by its entry in the index",
		while: (paused, key, slot) => {
			paused.fill(slot, FILLED, key);
			paused.enter(slot, FlowDirection.ORIGINAL, key);
		},
		goes: "untracked",
	},
	{
		shows: "flows in every slot",
		while: (paused, key) => {
			for (let slot = 0; slot < FLOW_SLOTS; slot++)
				paused.fill(slot, FILLED, keyFrom(100 + slot, key.destination));
		},
		goes: "untracked",
	},
];

function send(dataPath: DataPath, { source, destination, sourcePort }: FlowKey) {
	const packet = build.ip({ source, destination }, build.udp(sourcePort, 53));
	const { hook, packet: frame, context } = fromPod(podA, packet);
	const untracked = total(dataPath, "events", EventCounter.UNTRACKED);
	const { verdict } = dataPath.run(hook, frame, { ...context, now: process.hrtime.bigint() });
	return {
		verdict,
		untracked: Number(total(dataPath, "events", EventCounter.UNTRACKED) - untracked),
	};
}

async function shown(t: Test, dataPath: DataPath, row: Row, family: Family): Promise<void> {
	const paused = new Paused(dataPath);
	const isTracked = row.goes === "tracked";
	const begin = async (destination: string) => {
		await paused.begin();
		const key = keyFrom(PORT, destination);
		row.while(paused, key, (paused.home(key) + 5) % FLOW_SLOTS);
		return key;
	};

	const plain = await begin(direct.pod[family]);
	const { verdict, untracked } = send(dataPath, plain);
	t.equal(verdict.dropReason, DropReason.NONE, "it leaves");
	t.equal(untracked, isTracked ? 0 : 1, row.goes);
	if (isTracked) t.equal(dataPath.flow(plain)?.flow.ports[0]?.source, PORT, "by its flow");
	else t.equal(dataPath.flow(plain), undefined, "without a flow");

	const translated = await begin(outside[family]);
	const { verdict: outward } = send(dataPath, translated);
	const refused = isTracked ? DropReason.NONE : DropReason.FLOW_TABLE_FULL;
	t.equal(outward.dropReason, refused, `with SNAT: ${isTracked ? "tracked" : "refused"}`);
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: FLOW_SLOTS });
	t.teardown(() => dataPath.close());
	for (const family of FAMILIES)
		for (const row of ROWS)
			t.test(`IPv${family}: another CPU pauses with ${row.shows}`, (t) =>
				shown(t, dataPath, row, family),
			);
}
