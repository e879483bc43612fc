/**
 * Cost of each step of the fast path, and of a look-up among many flows. Each program calls the
 * functions of bpf/lib up to one step further than the program before it, on the same packet.
 *
 *   bench/steps.ts [ROUNDS] [PACKETS]     default 15, 200000
 */
import type { BpfProgram } from "#native";
import { BpfObject } from "#native";
import { run } from "../src/lab/namespace.js";
import { macWord } from "../src/tables/address.js";
import {
	FlowState,
	knobs,
	maps,
	NextHop,
	NodeConfig,
	NodeFlag,
	Path,
	Peer,
} from "../src/tables/generated.js";
import { bench } from "./tools/cleanup.js";
import { buildFrame } from "./tools/frame.js";
import { benchObject, MEASURED_CPU } from "./tools/pktgen.js";
import { publish, type Table } from "./tools/report.js";
import { type Spread, shownSpread, spread } from "./tools/statistics.js";

const rounds = Number(process.argv[2] ?? 15);
const packets = Number(process.argv[3] ?? 200_000);
const FLOWS = [1, 10_000, 1_000_000];
const ALL_FLOWS = 1_000_000;
const FLOW_SLOTS = 2_097_152;
/** Table index of PEER in bpf/steps_out.bpf.c. */
const PEER_INDEX = 1 * 2;
const TC_REDIRECT = 7;
const XDP_REDIRECT = 4;
/** A prime, so that flows are looked up in another order than they were created in. */
const SCATTERED = 2_654_435_761;
/** Bytes of `struct bench` after the frame. */
const COUNTERS = 48;
/** A tick of the coarse clock that programs read, ns. */
const TICK = 10_000_000n;
/** A run is repeated if it took so long that the next hop's trust expired. */
const TRIES = 50;

const POD = { mac: "02:00:00:00:01:02", address: "10.244.1.2" };
const REMOTE_POD = { mac: "02:00:00:00:02:02", address: "10.244.2.2" };
const NODE = { mac: "02:00:00:00:00:01", address: "192.168.1.1" };
const REMOTE_NODE = { mac: "02:00:00:00:00:02", address: "192.168.1.2" };

/** Programs by name, each with the step that it adds to the program before it. */
const OUT: [string, string][] = [
	["headers", "configuration, Ethernet, IP and L4 header"],
	["hash", "hash of the flow's key"],
	["clock", "coarse clock"],
	["find", "flow slot, compare its key"],
	["check", "flow current, not expired, answered"],
	["sender", "the Pod's interface and MAC, TTL"],
	["path", "peer, next hop of this CPU, its trust"],
	["fit", "GSO, MTU"],
	["hop", "touch the flow; TTL, IP checksum"],
	["tunnel", "outer IP, UDP, Geneve, inner Ethernet"],
	["count", "peer's counters"],
	["redirect", "MACs, redirect"],
];
const IN: [string, string][] = [
	["outer", "configuration, outer Ethernet, IP, UDP"],
	["tunnel", "tunnel header; inner IP and L4 header"],
	["hash", "hash of the flow's key"],
	["clock", "coarse clock"],
	["find", "flow slot, compare its key"],
	["check", "flow current, not expired, of a local Pod"],
	["peer", "the flow's peer: tunnel addresses; ECN"],
	["redirectable", "fits the Pod's device; veth: checksum is finished; TTL"],
	["hop", "touch the flow; TTL, IP checksum"],
	["count", "peer's counters"],
	["redirect", "MACs, redirect"],
];
const LOOKS: [string, string][] = [
	["look_touch", "one line of one table"],
	["look_quick", "look-up of the fast path"],
	["look_index", "through flow_index, then the slot"],
];

/** Packets of all runs so far: the next run continues with flows that are not in the caches. */
let begun = 0;

interface Measured {
	program: BpfProgram;
	frame: Buffer;
	/** The return value after all measured steps. */
	result: number;
	/** The map with the program's packet. */
	state: { object: BpfObject; flows: number };
	/** ns per packet, by round. */
	values: number[];
}

await bench(async () => {
	await run(["taskset", "-p", "-c", `${MEASURED_CPU}`, `${process.pid}`]);
	const out = await open("steps_out");
	const incoming = await open("steps_in", out);
	const bare = buildFrame({
		...{ sourceMac: POD.mac, destinationMac: NODE.mac },
		...{ source: POD.address, destination: REMOTE_POD.address, protocol: "udp", size: 64 },
	});
	const tunnelled = geneve(
		buildFrame({
			...{ sourceMac: NODE.mac, destinationMac: "02:fa:1c:00:00:01" },
			...{ source: REMOTE_POD.address, destination: POD.address, protocol: "udp", size: 64 },
		}),
	);
	configure(out);

	const measured = new Map<string, Measured>();
	const add = (object: BpfObject, name: string, program: string, result: number, flows = 1) => {
		const frame = object === out ? bare : tunnelled;
		const values: number[] = [];
		const state = { object, flows };
		measured.set(name, { program: object.program(program), frame, result, state, values });
	};
	const halves = { out: OUT, in: IN };
	for (const [half, steps] of Object.entries(halves)) {
		const object = half === "out" ? out : incoming;
		const redirect = half === "out" ? TC_REDIRECT : XDP_REDIRECT;
		add(object, `${half}_start`, `${half}_start`, 0);
		for (const [i, [step]] of steps.entries())
			add(object, `${half}_${step}`, `${half}_${step}`, i + 1 === steps.length ? redirect : i + 1);
		add(object, `${half}_whole`, `${half}_whole`, redirect);
		add(object, `${half}_room`, `${half}_room`, 0);
	}
	for (const flows of FLOWS)
		for (const program of ["look_nowhere", ...LOOKS.map(([name]) => name)])
			add(out, `${program} ${flows}`, program, 0, flows);

	add(out, "fill", "fill", 0, ALL_FLOWS);
	add(out, "where", "where", 0, ALL_FLOWS);
	const [fill, where] = [measured.get("fill")!, measured.get("where")!];
	measured.delete("fill");
	measured.delete("where");
	measure(fill, ALL_FLOWS, 1);
	measure(where, ALL_FLOWS);
	const places = foundIn(out);
	for (let round = 0; round < rounds; round++) {
		const all = [...measured.values()];
		for (const one of round % 2 === 0 ? all : all.toReversed()) {
			one.values.push(measure(one, packets));
		}
	}

	const values = (name: string): number[] => measured.get(name)!.values;
	const over = (name: string, base: string, share = 1): Spread =>
		spread(values(name).map((value, round) => (value - values(base)[round]!) * share));
	const table = (title: string, half: "out" | "in", room: string, name: string): Table => ({
		title,
		columns: ["", "ns", "ns up to here"],
		rows: [
			...halves[half].map(([step, what], i, all) => [
				what,
				shownSpread(over(`${half}_${step}`, `${half}_${all[i - 1]?.[0] ?? "start"}`), 1),
				over(`${half}_${step}`, `${half}_start`).median.toFixed(1),
			]),
			[room, shownSpread(over(`${half}_room`, `${half}_start`, 0.5), 1), ""],
			[`${name}, whole, without room`, shownSpread(over(`${half}_whole`, `${half}_start`), 1), ""],
		],
	});
	publish({
		bench: "steps",
		method: `The functions of bpf/lib on one UDP packet in a frame of 64 bytes (IPv4, Geneve), BPF_PROG_TEST_RUN, ${rounds} rounds of ${packets} packets, all programs alternating: the cost of a program with one more step minus that of the one without, paired by round; median (least–greatest). Each packet starts when the previous one is complete, with its headers, its flow and the code in the cache. Measuring itself took ${spread(values("out_start")).median.toFixed(0)} ns, which is subtracted. The room for the tunnel is measured separately, as half the cost of making and removing it. The flow table has ${FLOW_SLOTS} slots and ${ALL_FLOWS} flows, ${places}.`,
		tables: [
			table(
				"The fast path, egress, TC",
				"out",
				"room for the tunnel (adjust_room)",
				"established_send",
			),
			table(
				"The fast path, ingress, XDP",
				"in",
				"decapsulate (adjust_head)",
				"established_receive",
			),
			{
				title: "Look-ups of successive flows: extra ns",
				columns: ["", ...FLOWS.map((flows) => `${flows} flow${flows > 1 ? "s" : ""}`)],
				rows: LOOKS.map(([program, what]) => [
					what,
					...FLOWS.map((flows) =>
						shownSpread(over(`${program} ${flows}`, `look_nowhere ${flows}`), 1),
					),
				]),
			},
		],
		data: Object.fromEntries([...measured].map(([name, one]) => [name, spread(one.values)])),
	});
	for (const object of [incoming, out]) object.close();
});

/** CPU time per packet, ns. */
function measure(
	{ program, frame, result, state }: Measured,
	repeat: number,
	stride = SCATTERED,
): number {
	const { object, flows } = state;
	writeState(object, frame, flows, stride);
	begun += repeat;
	for (let attempt = 0; attempt < TRIES; attempt++) {
		trust(object);
		const before = process.cpuUsage();
		const { returnValue } = program.testRun({ data: frame, repeat });
		const { user, system } = process.cpuUsage(before);
		if (returnValue === result) return ((user + system) * 1000) / repeat;
	}
	throw new Error(
		`Cannot measure ${program.info.name}: expected result ${result}, got another in every try`,
	);
}

/** Opens an object; later objects share the tables and knobs of the first. */
async function open(name: string, first?: BpfObject): Promise<BpfObject> {
	const object = BpfObject.open(await benchObject(name));
	object.setMaxEntries(maps.flows.name, FLOW_SLOTS);
	object.setMaxEntries(maps.flowIndex.name, FLOW_SLOTS * 2);
	object.setMaxEntries(maps.flowHints.name, FLOW_SLOTS / 2);
	const values = { flow_slots: knobs.flowSlots.encode(FLOW_SLOTS), veth_wire: Buffer.from([1]) };
	for (const [knob, value] of Object.entries(values))
		object.setReadOnlyData(object.readOnlyVariables[knob]!.offset, value);
	for (const map of first?.mapNames ?? [])
		if (map !== "bench") object.reuseMap(map, first!.map(map));
	object.load();
	return object;
}

function configure(object: BpfObject): void {
	const flowTimeouts: number[] = Array(Object.keys(FlowState).length - 1).fill(86_400);
	const config = {
		...{ flags: NodeFlag.CONFIGURED, routeEpoch: 2, nextHopEpoch: 1, vni: 1 },
		...{ snatAddress4: "::", snatAddress6: "::", gatewayAddress4: "10.244.1.1" },
		...{
			gatewayAddress6: "::",
			returnAddress4: "",
			returnAddress6: "",
			gatewayMac: NODE.mac,
			snatPortFirst: 0,
			snatPortLast: 0,
		},
		...{ genevePort: 6081, vxlanPort: 0, hostIfindex: 0, transportMtu: 1500 },
		...{
			flowHash: { word: [0x5eed5eed, 1, 2, 3, 4, 5] },
			portHash: { word: [5, 4, 3, 2, 1, 0] },
			slowPathRate: 0,
			probeKey: [0n, 0n],
			flowTimeouts,
		},
		...{ wireMacs: [macWord(NODE.mac), 0n, 0n, 0n], strippedMac: macWord("06:00:00:00:00:01") },
	};
	const peer = {
		...{ path: Path.GENEVE, outerFamily: 4, port: 6081, vni: 1, local: NODE.address },
		...{ remote: REMOTE_NODE.address, mtu: 1450, flags: 0, policyEpoch: 0, nodeHash: 0n },
	};
	object.map("node_config").update(u32(0), NodeConfig.encode(config));
	object.map("peers").update(u32(PEER_INDEX), Peer.encode(peer));
}

/**
 * Marks the peer's next hop as just resolved, on every CPU. A time that the coarse clock has not reached is not trusted, and
 * the kernel, which is asked then, knows no neighbour here.
 */
function trust(object: BpfObject): void {
	const hop = NextHop.encode({
		...{ checked: process.hrtime.bigint() - TICK, destinationMac: 1n, sourceMac: 1n },
		...{ ifindex: 1, epoch: 1 },
	});
	const map = object.map("next_hops");
	const cpus = map.lookup(u32(PEER_INDEX))!.length / hop.length;
	map.update(u32(PEER_INDEX), Buffer.concat(Array<Buffer>(cpus).fill(hop)));
}

/** Writes `struct bench`. */
function writeState(object: BpfObject, frame: Buffer, flows: number, stride: number): void {
	const map = object.map("bench");
	const state = Buffer.alloc(map.info.valueSize);
	const frameBytes = map.info.valueSize - COUNTERS;
	frame.copy(state, 0, 0, frameBytes);
	state.writeUInt32LE(flows, frameBytes);
	state.writeUInt32LE(begun, frameBytes + 4);
	state.writeUInt32LE(stride, frameBytes + 8);
	map.update(u32(0), state);
}

function foundIn(object: BpfObject): string {
	const state = object.map("bench").lookup(u32(0))!;
	const [home = 0, next = 0, index = 0] = [24, 16, 8].map((before) =>
		Number(state.readBigUInt64LE(state.length - before)),
	);
	const percent = (count: number) => `${((100 * count) / (home + next + index)).toFixed(1)} %`;
	return `of which ${percent(home)} are in their home slot, ${percent(next)} beside it, and ${percent(index)} found by the index alone`;
}

/** A peer's Geneve packet around `inner`. */
function geneve(inner: Buffer): Buffer {
	const outer = buildFrame({
		...{ sourceMac: REMOTE_NODE.mac, destinationMac: NODE.mac, source: REMOTE_NODE.address },
		...{ destination: NODE.address, protocol: "udp", size: 50 + inner.length },
		...{ sourcePort: 50_000, destinationPort: 6081 },
	});
	outer.writeUInt16BE(0, 40);
	outer.writeUInt32BE(0x6558, 42);
	outer.writeUInt32BE(1 << 8, 46);
	inner.copy(outer, 50);
	return outer;
}

function u32(value: number): Buffer {
	const buffer = Buffer.alloc(4);
	buffer.writeUInt32LE(value);
	return buffer;
}
