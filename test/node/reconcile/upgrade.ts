/**
 * A newer build takes over: other programs, other layouts, another size of the flow table.
 *
 * A flow is a slot of `flows` and two references to it in `flow_index`; the test makes some as the
 * programs would.
 */
import { readdirSync } from "node:fs";
import t, { type Test } from "tap";
import { BpfLink, BpfMap } from "#native";
import { NOTHING_REMEMBERED, tuplesOf } from "../../../src/forwarder/flow.js";
import type { Reconciler } from "../../../src/reconcile/reconciler.js";
import { u32, u64 } from "../../../src/tables/codec.js";
import {
	ClaimBit,
	Flow,
	FlowFlag,
	FlowKey,
	FlowRef,
	FlowState,
	Limit,
} from "../../../src/tables/generated.js";
import {
	buildObject,
	ip,
	makeDevices,
	memoryLog,
	openReconciler,
	pinDir,
	podInterface,
	recordPods,
	tablesOf,
	until,
} from "./fixture.js";

const pinned = (name: string) => BpfMap.openPinned(`${pinDir}/maps/${name}`);
const links = () =>
	readdirSync(`${pinDir}/links`).map((name) => {
		const { id, programId } = BpfLink.openPinned(`${pinDir}/links/${name}`).info;
		return { name, id, programId };
	});
const counted = (variant: number) =>
	Object.values(reconciler.readings.counters().events)[variant + 1] ?? 0n; // eth0 is a veth: one more

function keyOf(port: number): FlowKey {
	return {
		source: "10.244.1.2",
		destination: "198.51.100.7",
		sourcePort: port,
		destinationPort: 80,
		protocol: 6,
	};
}

function flowOf(port: number, generation: number, lastSeen: bigint): Flow {
	return {
		lastSeen,
		claim: ((generation << 1) | ClaimBit.IN_USE | ClaimBit.PUBLISHED) >>> 0,
		state: FlowState.TCP_ESTABLISHED,
		flags: FlowFlag.REPLIED | FlowFlag.SNAT | FlowFlag.COUNTED,
		...tuplesOf(keyOf(port), replyOf(port)),
		endpoint: 0,
		...NOTHING_REMEMBERED,
		routeEpoch: 7,
	};
}

function replyOf(port: number): FlowKey {
	return {
		source: "198.51.100.7",
		destination: "192.168.1.1",
		sourcePort: 80,
		destinationPort: port + 1000,
		protocol: 6,
	};
}

function addFlow(slot: number, port: number, lastSeen: bigint): void {
	const generation = 5 + slot;
	pinned("flows").update(u32.encode(slot), Flow.encode(flowOf(port, generation, lastSeen)));
	for (const [direction, key] of [keyOf(port), replyOf(port)].entries())
		pinned("flow_index").update(
			FlowKey.encode(key),
			FlowRef.encode({ slot, generation, direction }),
		);
}

/** Checks that both tuples lead to the unchanged flow. */
function hasFlow(t: Test, port: number): void {
	const [original, reply] = [keyOf(port), replyOf(port)].map((key) =>
		reconciler.tableReader.flow(key),
	);
	t.match(original, {
		direction: 0,
		flow: { ...tuplesOf(keyOf(port), replyOf(port)), flags: flowOf(port, 1, 1n).flags },
	});
	t.match(reply, { direction: 1, slot: original?.slot });
}

/** Packets for the Node, on its NIC: they pass from_wire. */
async function ping(): Promise<void> {
	await ip.command("ping", "-c", "1", "-W", "1", "-I", "wire0", "192.168.1.1").catch(() => {});
}

await makeDevices(1);
recordPods(1);
const tables = tablesOf({ peers: 3, pods: 1 });
let reconciler: Reconciler = await openReconciler(buildObject("first"));
await reconciler.apply(tables);
await ip.batch(["neighbour replace 192.168.1.1 lladdr ff:ff:ff:ff:ff:ff dev wire0"]);

async function replaceBy(object: string, flowsMax = 1024) {
	await reconciler.close();
	const log = memoryLog();
	reconciler = await openReconciler(object, { log, flowsMax });
	return log;
}

t.test("other programs, same maps: every link stays and gets its new program", async (t) => {
	await ping();
	await until(() => counted(0) > 0n);
	const before = links();
	const flows = pinned("flows").info.id;
	await replaceBy(buildObject("second", { variant: 2 }));
	t.same(links(), before, "not before the tables are known to be right");
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	const after = links();
	t.same(
		after.map(({ id }) => id),
		before.map(({ id }) => id),
	);
	for (const [index, { name, programId }] of after.entries())
		t.not(programId, before[index]?.programId, name);
	t.equal(pinned("flows").info.id, flows);
	await ping();
	await until(() => counted(2) > 0n);
	t.equal(readdirSync(`${pinDir}/programs`).length, 1, "the old programs are unpinned");
});

t.test("other layouts: entries are migrated by field name", async (t) => {
	addFlow(3, 40_000, 10n);
	addFlow(900, 40_001, 20n);
	pinned("drops").update(u32.encode(5), Buffer.concat([u64.encode(7n), u64.encode(8n)]));
	const before = ["flows", "flow_index", "peers"].map((name) => pinned(name).info.id);
	const drops = pinned("drops").info.id;
	const log = await replaceBy(
		buildObject("third", {
			variant: 2,
			edit: (file, text) =>
				file !== "tables.h"
					? text
					: text
							.replace("\t__u64 last_seen;", "\t__u64 extra;\n\t__u64 last_seen;")
							.replace("struct peer {", "struct peer {\n\t__u64 extra;")
							.replace("struct flow_ref {", "struct flow_ref {\n\t__u64 extra;"),
		}),
	);
	t.match(
		log.lines
			.filter(({ message }) => message === "pinned map has another layout")
			.map(({ facts }) => facts)
			.sort((a, b) => (String(a.map) < String(b.map) ? -1 : 1)),
		[
			{ map: "flow_counts", difference: "layout" },
			{ map: "flow_hints", difference: "layout" },
			{ map: "flow_index", difference: "layout" },
			{ map: "flow_rules", difference: "layout" },
			{ map: "flows", difference: "layout" },
			{ map: "peer_paths", difference: "layout" },
			{ map: "peers", difference: "layout" },
		],
	);
	t.ok(
		log.lines.some(({ message, facts }) => message === "migrated a map" && facts.copied === 6),
		"six peers",
	);
	t.same(
		["flows", "flow_index", "peers"].map((name) => pinned(name).info.id),
		before,
		"nothing is pinned before the programs are swapped",
	);
	t.match(await reconciler.apply(tables), { ready: true });
	// This process has the first build's codecs and cannot write the longer peers.
	t.match(reconciler.problems(), [
		/^Cannot write peer_paths entry 1:.* \(and 5 more\)$/,
		/^Cannot write peers entry 0:.* \(and 5 more\)$/,
	]);
	const flow = pinned("flows").lookup(u32.encode(900));
	// The generated codecs are those of the first build, so bytes are read by offset.
	t.equal(flow?.readBigUInt64LE(0), 0n, "the new field is zero");
	t.same(flow?.subarray(8), Flow.encode(flowOf(40_001, 905, 20n)), "the others moved behind it");
	const ref = pinned("flow_index").lookup(FlowKey.encode(keyOf(40_001)));
	t.same(
		ref?.subarray(8),
		FlowRef.encode({ slot: 900, generation: 905, direction: 0 }),
		"the reference as well",
	);
	t.equal(pinned("drops").info.id, drops, "a map that is the same is the same");
	t.equal(reconciler.readings.counters().drops.no_endpoint, 15n);
});

t.test("back to the first layout", async (t) => {
	await replaceBy(buildObject("fourth", { variant: 2 }));
	t.match(await reconciler.apply(tables), { pending: 0, writes: 5 }, "five programs");
	hasFlow(t, 40_000);
	hasFlow(t, 40_001);
	t.same(reconciler.tableReader.peer(5), tables.peers.get(5));
	t.same(
		reconciler.readings.adoptedPeers().map(({ id }) => id),
		[0, 1, 2],
	);
});

t.test("a smaller flow table, live: flows move, and the most recent are kept", async (t) => {
	await reconciler.resizeFlows(512);
	t.equal(pinned("flows").info.maxEntries, 512);
	t.equal(pinned("flow_index").info.maxEntries, 1024 + Limit.FLOW_INDEX_SPARE);
	hasFlow(t, 40_000);
	hasFlow(t, 40_001);
	// Slots 0 and 3 are those of the two: the one of slot 900 took the first that was free.
	for (let slot = 1; slot < 512; slot++)
		if (slot !== 3) addFlow(slot, 50_000 + slot, BigInt(1000 + slot));
	await reconciler.resizeFlows(256);
	for (const port of [50_256, 50_300, 50_511]) hasFlow(t, port);
	t.equal(reconciler.tableReader.flow(keyOf(50_100)), undefined, "and both its tuples:");
	t.equal(reconciler.tableReader.flow(replyOf(50_100)), undefined);
	t.equal(reconciler.readings.flowsUsed(), 256);
	await reconciler.resizeFlows(4096);
	hasFlow(t, 50_511);
	t.equal(reconciler.readings.flowsUsed(), 256);
	t.same(reconciler.problems(), []);
});

t.test(
	"a flow table that cannot be had: the old one stays, Pods are attached, a start uses what is pinned",
	async (t) => {
		const refused = /^Cannot resize the flow table to 1073741824: /;
		await reconciler.resizeFlows(2 ** 30);
		t.match(reconciler.problems(), [refused]);
		t.equal(reconciler.flowSlots(), 4096);
		hasFlow(t, 50_511);
		t.match(await reconciler.apply(tables), { pending: 1, ready: true });
		t.equal(reconciler.podProblem(podInterface(0)), undefined, "the Pod has its data path");

		await reconciler.close();
		reconciler = await openReconciler(buildObject("again", { variant: 2 }), { flowsMax: 2 ** 30 });
		t.equal(reconciler.flowSlots(), 4096, "the pinned one");
		t.match(await reconciler.apply(tables), { pending: 1, ready: true });
		t.match(reconciler.problems(), [refused]);
		hasFlow(t, 50_511);
		await reconciler.resizeFlows(4096);
		t.same(reconciler.problems(), [], "the size that is there is no problem");
	},
);

t.test(
	"counters grow with the number of peers, live, and keep what they have counted",
	async (t) => {
		await reconciler.close();
		const object = buildObject("again", { variant: 2 });
		// A machine with 128 possible CPUs has room for 256 peers to begin with.
		const options = { flowsMax: 4096, cpus: 128 };
		reconciler = await openReconciler(object, options);
		const counters = () => pinned("peer_counters").info.maxEntries;
		t.match(await reconciler.apply(tables), { pending: 0, ready: true });
		t.equal(counters(), 512, "what an earlier agent took for too many is given back");
		const value = Buffer.alloc(pinned("peer_counters").lookup(u32.encode(3))?.length ?? 0);
		value.writeBigUInt64LE(77n);
		pinned("peer_counters").update(u32.encode(3), value);

		t.match(await reconciler.apply(tablesOf({ peers: 300, pods: 1 })), { pending: 0, ready: true });
		t.equal(counters(), 1024);
		t.equal((await reconciler.readings.peerCounters()).get(3)?.directPackets, 77n);
		t.equal((await reconciler.readings.peerCounters()).size, 600);
		const programs = links();
		t.equal(
			programs.length > 0 && new Set(programs.map(({ programId }) => programId)).size > 1,
			true,
		);

		await reconciler.close();
		reconciler = await openReconciler(object, options);
		t.match(await reconciler.apply(tablesOf({ peers: 300, pods: 1 })), { pending: 0, writes: 0 });
		t.equal(counters(), 1024, "a restart knows how many there are");
		t.same(links(), programs);
		await reconciler.apply(tables);
		t.equal(counters(), 1024, "fewer peers are no reason to load programs");
	},
);

t.test("a map that cannot be migrated starts empty, with a warning", async (t) => {
	const log = await replaceBy(
		buildObject("fifth", {
			variant: 2,
			edit: (file, text) =>
				file === "tables.h"
					? text.replace("\t__u64 last_seen;", "\t__u32 last_seen;\n\t__u32 hole;")
					: text,
		}),
		4096,
	);
	t.match(await reconciler.apply(tables), { pending: 0, ready: true });
	t.ok(
		log.lines.some(
			({ level, message }) => level === "warn" && /cannot migrate the flow table/.test(message),
		),
	);
	t.equal(reconciler.readings.flowsUsed(), 0);
});

t.test("programs that the kernel refuses leave the old ones attached", async (t) => {
	const before = links();
	const bad = buildObject("sixth", {
		variant: 2,
		// Beyond the map's value, so that the verifier refuses every program that counts.
		edit: (file, text) =>
			file === "maps.h"
				? text.replace("__type(value, __u64);\n} events", "__type(value, __u16);\n} events")
				: text,
	});
	await replaceBy(bad, 4096);
	const applied = await reconciler.apply(tables);
	t.match(applied, { ready: false });
	t.ok(applied.pending > 0);
	t.match(reconciler.problems().join(), /Cannot load object/);
	t.same(links(), before);
});

t.teardown(() => reconciler.close());
