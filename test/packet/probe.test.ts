/** Probes: requests are stamped and sent, answered, and their answers handled. */
import t, { type Test } from "tap";
import { possibleCpus } from "#native";
import { token as tokenOf } from "../../src/forwarder/probe.js";
import { macWord } from "../../src/tables/address.js";
import {
	Action,
	ActionName,
	DropReasonName,
	EventCounter,
	Limit,
	NodeFlag,
	Path,
	PathName,
	PeerCounter,
	PeerFlag,
	type Probe,
	ProbeEvent,
	ProbeFlag,
	ProbeKind,
	ProbeWay,
	ProbeWayName,
} from "../../src/tables/generated.js";
import * as build from "./builder.js";
import { type Checked, check, type Input } from "./check.js";
import { DataPath, PEER_INDEXES } from "./data_path.js";
import type { MemoryTables } from "./memory_tables.js";
import { inNamespace } from "./namespace.js";
import {
	arriving,
	type Family,
	isWellFormed,
	PROBE_PORT,
	pair,
	probeOf,
	probeSegment,
	request,
	unwrapped,
} from "./probes.js";
import { atXdp, fresh, fromHost, fromWire, tunnelled } from "./table.js";
import * as world from "./world.js";

const { direct, down, geneve4, geneve6, vxlan4, gateway, nodeAddress, podA } = world;
const { DIRECT, TUNNEL } = ProbeWay;
const WAYS = [DIRECT, TUNNEL];
const FLOW_SLOTS = 128;
const NS_PER_MS = 1_000_000n;

/** A packet that left one Node, as input of the other. */
function arrived({ outcome }: Checked): Input {
	return fromWire(outcome.packet.subarray(14));
}

/** From this Node's gateway address to a peer's. */
function toPeer(peer: world.PeerFacts, family: Family): { source: string; destination: string } {
	return { source: gateway[family], destination: peer.gateway[family] };
}

function ofPeer(peer: world.PeerFacts, family: Family): { source: string; destination: string } {
	return { source: peer.gateway[family], destination: gateway[family] };
}

function indexOf(peer: world.PeerFacts, family: Family): number {
	return peer.id * 2 + (family === 6 ? 1 : 0);
}

/** Runs one packet, on which forwarder and data path must agree. */
async function run(t: Test, core: DataPath, tables: MemoryTables, input: Input): Promise<Checked> {
	const checked = await check(core, tables, input);
	t.same(checked.differences, [], "the forwarder says the same");
	return checked;
}

/** The result: "drop peer_down", "wire none". */
function fate({ outcome: { verdict } }: Checked): string {
	const action = verdict.action === Action.WIRE_NEIGHBOUR ? Action.WIRE : verdict.action;
	return `${ActionName[action]} ${DropReasonName[verdict.dropReason]}`;
}

/** No Pod packet was counted. */
function countedNothing(t: Test, core: DataPath): void {
	for (let index = 0; index < PEER_INDEXES; index++) {
		const counted = Object.values(core.counter(index)).some((value) => value !== 0n);
		t.notOk(counted, `no packets of index ${index}`);
	}
}

function roundTrips(t: Test, asking: DataPath, answering: DataPath, family: Family): void {
	const side = toPeer(geneve4, family);
	for (const outer of [4, 6] as const) {
		for (const path of [Path.GENEVE, Path.VXLAN]) {
			const over = `${PathName[path]} over IPv${outer}`;
			for (const wayThere of WAYS) {
				for (const wayBack of WAYS) {
					const ways = `${ProbeWayName[wayThere]} there, ${ProbeWayName[wayBack]} back`;
					t.test(`IPv${family}: a round trip, ${over}, ${ways}`, async (t) => {
						const { a, b } = pair(FLOW_SLOTS, { a: outer, b: outer }, path);
						for (const core of [asking, answering]) await core.forget();
						asking.write(a);
						answering.write(b);
						const change = { wayThere, wayBack, answerLength: 1300 };
						const asked = await run(t, asking, a, fromHost(request(side, 1400, change)));
						t.equal(asked.outcome.verdict.action, Action.WIRE_NEIGHBOUR);
						t.equal(asked.outcome.verdict.path, wayThere === TUNNEL ? path : Path.ROUTED);
						const sent = unwrapped(asked.outcome.packet);
						isWellFormed(t, sent);
						t.equal(probeOf(sent).length, 1400);

						const answered = await run(t, answering, b, arrived(asked));
						t.equal(answered.outcome.verdict.action, Action.WIRE_NEIGHBOUR);
						t.equal(answered.outcome.verdict.path, wayBack === TUNNEL ? path : Path.ROUTED);
						t.equal(answering.event(EventCounter.PROBE_ANSWERED), 1n);
						const answer = unwrapped(answered.outcome.packet);
						isWellFormed(t, answer);
						t.equal(answer.length, 1300, "cut");
						t.match(answer.key, { source: side.destination, destination: side.source });

						const taken = await run(t, asking, a, arrived(answered));
						t.equal(fate(taken), "probe none");
						const expected = { wayThere, wayBack, length: 1400, answerLength: 1300 };
						t.match(taken.decision.records, [{ event: ProbeEvent.ANSWERED, ...expected }]);
						const proofs = WAYS.map((way) => indexOf(geneve4, family) * 2 + way);
						t.strictSame(
							proofs.map((index) => asking.pathProof(index).largeAnsweredAt > 0n),
							WAYS.map((way) => way === wayThere && way === wayBack),
							"only a way that went both times is proven",
						);
						for (const core of [asking, answering]) {
							countedNothing(t, core);
							t.equal(core.tuples(), 0, "no flow");
						}
					});
				}
			}
		}
	}
}

/** Requests of the agent, with their results. */
const ASKED: {
	shows: string;
	peer?: world.PeerFacts;
	length?: number;
	change?: Partial<Probe>;
	fate: string;
}[] = [
	{ shows: "direct", fate: "wire none" },
	{ shows: "in Geneve", peer: geneve4, change: { wayThere: TUNNEL }, fate: "wire none" },
	{ shows: "in VXLAN", peer: vxlan4, change: { wayThere: TUNNEL }, fate: "wire none" },
	{ shows: "in the other family", peer: geneve6, change: { wayThere: TUNNEL }, fate: "wire none" },
	{
		shows: "longer than the path is said to carry",
		peer: geneve4,
		length: 1500,
		change: { wayThere: TUNNEL },
		fate: "wire none",
	},
	{
		shows: "on a path that is not in use",
		peer: down,
		change: { wayThere: TUNNEL },
		fate: "wire none",
	},
	{ shows: "on a path that is none", peer: down, fate: "drop peer_down" },
	{ shows: "on no way at all", change: { wayThere: 2 }, fate: "drop probe_refused" },
	{ shows: "answered on no way", change: { wayBack: 2 }, fate: "drop probe_refused" },
	{ shows: "an answer", change: { kind: ProbeKind.ANSWER }, fate: "drop probe_refused" },
	{ shows: "no kind", change: { kind: 0 }, fate: "drop probe_refused" },
	{ shows: "another version", change: { magic: 0x46570002 }, fate: "drop probe_refused" },
];

/** Requests of peers. */
const RECEIVED: {
	shows: string;
	length?: number;
	change?: Partial<Probe>;
	fate: string;
}[] = [
	{ shows: "the smallest", length: 96, fate: "wire none" },
	{ shows: "full size", length: 1500, fate: "wire none" },
	{ shows: "cut to the least", length: 1500, change: { answerLength: 96 }, fate: "wire none" },
	{ shows: "cut to less", change: { answerLength: 75 }, fate: "drop probe_refused" },
	{ shows: "to be grown", change: { answerLength: 601 }, fate: "drop probe_refused" },
	{ shows: "of another length than it says", change: { length: 700 }, fate: "drop probe_refused" },
	{ shows: "another version", change: { magic: 1 }, fate: "drop probe_refused" },
	{ shows: "no kind", change: { kind: 3 }, fate: "drop probe_refused" },
	{ shows: "answered on no way", change: { wayBack: 7 }, fate: "drop probe_refused" },
	{ shows: "come on no way", change: { wayThere: 7 }, fate: "drop probe_refused" },
	{ shows: "an answer to nothing", change: { kind: ProbeKind.ANSWER }, fate: "drop probe_refused" },
];

function requests(t: Test, core: DataPath, family: Family): void {
	for (const { shows, peer = direct, length = 600, change = {}, fate: expected } of ASKED) {
		t.test(`IPv${family}: a request, ${shows}`, async (t) => {
			const tables = await fresh(core);
			const input = fromHost(request(toPeer(peer, family), length, change));
			const checked = await run(t, core, tables, input);
			t.equal(fate(checked), expected);
			t.equal(checked.outcome.verdict.peer, peer.id);
			countedNothing(t, core);
			if (expected === "wire none") isWellFormed(t, unwrapped(checked.outcome.packet));
		});
	}
	for (const { shows, length = 600, change = {}, fate: expected } of RECEIVED) {
		t.test(`IPv${family}: a peer's request, ${shows}`, async (t) => {
			const tables = await fresh(core);
			const packet = arriving(ofPeer(geneve4, family), length, change);
			for (const [input, decapsulated] of [
				[fromWire(packet), false],
				[fromWire(tunnelled(geneve4, packet)), true],
			] as const) {
				const checked = await run(t, core, tables, input);
				t.equal(fate(checked), expected, decapsulated ? "in a tunnel" : "bare");
				countedNothing(t, core);
				if (expected !== "wire none") continue;
				const answer = unwrapped(checked.outcome.packet);
				isWellFormed(t, answer);
				t.equal(answer.length, change.answerLength ?? length);
				t.equal(answer.ttl, 64);
			}
		});
	}
	t.test(`IPv${family}: an answer on a path that is none`, async (t) => {
		const tables = await fresh(core);
		const packet = arriving(ofPeer(down, family), 200);
		t.equal(fate(await run(t, core, tables, fromWire(packet))), "drop peer_down");
	});
	t.test(`IPv${family}: options and extension headers`, async (t) => {
		const tables = await fresh(core);
		const extra = { options: Buffer.from([1, 1, 1, 0]), extensions: [build.extension(60)] };
		const packet = arriving({ ...ofPeer(geneve4, family), ...extra }, 600);
		const checked = await run(t, core, tables, fromWire(packet));
		t.equal(fate(checked), "drop probe_refused");
	});
	t.test(`IPv${family}: a TTL that has run down`, async (t) => {
		const tables = await fresh(core);
		const packet = arriving({ ...ofPeer(geneve4, family), ttl: 1 }, 600);
		t.equal(fate(await run(t, core, tables, fromWire(packet))), "wire none");
	});
}

/** Packets that almost look like probes and are treated as ordinary ones. */
function ordinary(t: Test, core: DataPath, family: Family): void {
	const header = family === 4 ? 28 : 48;
	const short = build.udp(PROBE_PORT, PROBE_PORT, Buffer.alloc(47));
	const lying = request(toPeer(direct, family), 600);
	lying.writeUInt16BE(header - 20 + 30, family === 4 ? 24 : 44);
	const rows: [string, Input, string][] = [
		[
			"from another address of the Node",
			fromHost(request({ ...toPeer(direct, family), source: nodeAddress[family] }, 600)),
			"wire none",
		],
		[
			"to another address of the peer's",
			fromHost(request({ ...toPeer(direct, family), destination: direct.pod[family] }, 600)),
			"wire none",
		],
		["cut short", fromHost(build.ip(toPeer(direct, family), short)), "wire none"],
		["whose UDP length is too small", fromHost(lying), "wire none"],
		[
			"from another port",
			fromHost(build.ip(toPeer(direct, family), build.udp(6084, PROBE_PORT, Buffer.alloc(90)))),
			"wire none",
		],
		[
			"from a Pod of the peer's",
			fromWire(arriving({ ...ofPeer(direct, family), source: direct.pod[family] }, 600)),
			"host none",
		],
		[
			"to another address of the Node",
			fromWire(arriving({ ...ofPeer(direct, family), destination: nodeAddress[family] }, 600)),
			"host none",
		],
		[
			"to a Pod",
			fromWire(arriving({ ...ofPeer(direct, family), destination: podA[family] }, 600)),
			"endpoint none",
		],
		["of a peer's, cut short", fromWire(build.ip(ofPeer(direct, family), short)), "host none"],
		["at XDP", atXdp(fromWire(arriving(ofPeer(direct, family), 600))), "pass none"],
	];
	for (const [shows, input, expected] of rows) {
		t.test(`IPv${family}: no probe: ${shows}`, async (t) => {
			const tables = await fresh(core);
			t.equal(fate(await run(t, core, tables, input)), expected);
		});
	}
	t.test(`IPv${family}: no probe: fragments`, async (t) => {
		const tables = await fresh(core);
		const how = { ...ofPeer(direct, family), dontFragment: false };
		for (const fragment of build.fragmented(arriving(how, 900), 512, 7)) {
			t.equal(fate(await run(t, core, tables, fromWire(fragment))), "host none");
		}
	});
	t.test(`IPv${family}: no probe: from a Pod`, async (t) => {
		const tables = await fresh(core);
		const packet = request({ source: podA[family], destination: direct.gateway[family] }, 600);
		const macs = { source: podA.mac, destination: world.GATEWAY_MAC };
		const context = { ifindex: world.indexOf(podA.interface) };
		const input = { hook: 0, packet: build.frame(macs, packet), context };
		t.equal(fate(await run(t, core, tables, input)), "wire none");
		t.equal(core.counter(indexOf(direct, family)).directPackets, 1n);
	});
	t.test(`IPv${family}: XDP strips a probe, and counts no packet`, async (t) => {
		const tables = await fresh(core);
		const packet = arriving(ofPeer(geneve4, family), 600);
		const stripped = await run(t, core, tables, atXdp(fromWire(tunnelled(geneve4, packet))));
		t.equal(fate(stripped), "pass none");
		t.equal(stripped.outcome.packet.subarray(14).toString("hex"), packet.toString("hex"));
		countedNothing(t, core);
	});
}

/** The answer to a request of this Node. */
async function answered(
	t: Test,
	core: DataPath,
	tables: MemoryTables,
	family: Family,
	change: Partial<Probe> = {},
	length = 1400,
): Promise<Probe> {
	const input = fromHost(request(toPeer(geneve4, family), length, change));
	const { outcome } = await run(t, core, tables, input);
	return { ...probeOf(unwrapped(outcome.packet)), kind: ProbeKind.ANSWER };
}

function answers(t: Test, core: DataPath, family: Family): void {
	const taken = (
		t: Test,
		tables: MemoryTables,
		probe: Probe,
		length: number,
		peer = geneve4,
	): Promise<Checked> =>
		run(
			t,
			core,
			tables,
			fromWire(build.ip(ofPeer(peer, family), probeSegment(family, length, probe))),
		);

	t.test(`IPv${family}: an answer is told and kept`, async (t) => {
		const tables = await fresh(core);
		const probe = await answered(t, core, tables, family, { sequence: 0xfedcba98 });
		const filled = { ...probe, receivedPackets: 0xffffffff, receivedLarge: 12 };
		const { decision } = await taken(t, tables, filled, 1281);
		t.match(decision.records, [
			{ sequence: 0xfedcba98, length: 1400, answerLength: 1281, receivedPackets: 0xffffffff },
		]);
		const before = core.pathProof(indexOf(geneve4, family) * 2);
		t.equal(before.largeAnsweredAt, before.answeredAt);
		// A small answer to a large request proves only small packets.
		await taken(t, tables, filled, 1280);
		const after = core.pathProof(indexOf(geneve4, family) * 2);
		t.equal(after.largeAnsweredAt, before.largeAnsweredAt);
		t.ok(after.answeredAt > before.answeredAt);
	});
	const forgeries: [string, (probe: Probe) => Partial<Probe>][] = [
		["token", ({ token }) => ({ token: token ^ 1n })],
		["sequence", ({ sequence }) => ({ sequence: sequence + 1 })],
		["way", () => ({ wayBack: TUNNEL })],
		["length", () => ({ length: 1399 })],
		["time", ({ sentAt }) => ({ sentAt: sentAt - 1n })],
		["flags", () => ({ flags: 1 })],
	];
	for (const [what, change] of forgeries) {
		t.test(`IPv${family}: a forged answer: another ${what}`, async (t) => {
			const tables = await fresh(core);
			const probe = await answered(t, core, tables, family);
			const checked = await taken(t, tables, { ...probe, ...change(probe) }, 1400);
			t.equal(fate(checked), "drop probe_refused");
			t.equal(core.pathProof(indexOf(geneve4, family) * 2).answeredAt, 0n);
			t.same(await core.probeRecords(), []);
		});
	}
	t.test(`IPv${family}: another peer's answer`, async (t) => {
		const tables = await fresh(core);
		const probe = await answered(t, core, tables, family);
		t.equal(fate(await taken(t, tables, probe, 1400, vxlan4)), "drop probe_refused");
	});
	t.test(`IPv${family}: an answer that is late, or from the future`, async (t) => {
		const tables = await fresh(core);
		const late = await answered(t, core, tables, family);
		const restamped = (probe: Probe, by: bigint) => {
			const moved = { ...probe, sentAt: probe.sentAt + by };
			const packet = build.frame(
				{ source: world.ROUTER_MAC, destination: world.NODE_MAC },
				build.ip(ofPeer(geneve4, family), probeSegment(family, 1400, moved)),
			);
			const read = unwrapped(packet);
			return { ...moved, token: tokenOf(read, geneve4.gateway[family], tables.config) };
		};
		const within = restamped(late, -4900n * NS_PER_MS);
		t.equal(fate(await taken(t, tables, within, 1400)), "probe none");
		const beyond = restamped(late, -5001n * NS_PER_MS);
		t.equal(fate(await taken(t, tables, beyond, 1400)), "drop probe_refused");
		const early = restamped(late, 60_000n * NS_PER_MS);
		t.equal(fate(await taken(t, tables, early, 1400)), "drop probe_refused");
	});
}

function facts(t: Test, core: DataPath, family: Family): void {
	const index = indexOf(direct, family);

	t.test(`IPv${family}: counts of all CPUs, modulo 2^32`, async (t) => {
		const tables = await fresh(core);
		const counter = (n: bigint): PeerCounter => ({
			...{ directPackets: 0xffffffffn + n, directBytes: 9n, tunnelPackets: 9n, tunnelBytes: 9n },
			...{ directLarge: 3n * n, receivedPackets: 100n * n, receivedLarge: 50n * n },
			...{ receivedTunnelPackets: 10n * n, receivedTunnelLarge: 7n * n },
		});
		const cpus = possibleCpus();
		const values = Array.from({ length: cpus }, (_, cpu) =>
			PeerCounter.encode(counter(BigInt(cpu + 1))),
		);
		const key = Buffer.alloc(4);
		key.writeUInt32LE(index);
		core.map("peer_counters").update(key, Buffer.concat(values));
		const total = (cpus * (cpus + 1)) / 2;
		tables.peerCounters.set(index, {
			sentPackets: (0xffffffff * cpus + total) % 2 ** 32,
			sentLarge: 3 * total,
			receivedPackets: 90 * total,
			receivedLarge: 43 * total,
		});
		const asked = await run(t, core, tables, fromHost(request(toPeer(direct, family), 600)));
		const sent = probeOf(unwrapped(asked.outcome.packet));
		t.match(sent, { sentPackets: total - cpus, sentLarge: 3 * total, receivedPackets: 0 });
		const input = fromWire(arriving(ofPeer(direct, family), 600));
		const answer = probeOf(unwrapped((await run(t, core, tables, input)).outcome.packet));
		t.match(answer, { receivedPackets: 90 * total, receivedLarge: 43 * total });
	});
	t.test(`IPv${family}: a peer that introduces itself is told of, once in a while`, async (t) => {
		const tables = await fresh(core);
		const greet = async (change: Partial<Probe> = {}) => {
			const packet = arriving(ofPeer(direct, family), 600, { flags: ProbeFlag.HELLO, ...change });
			const checked = await run(t, core, tables, fromWire(packet));
			return [fate(checked), ...checked.decision.records.map(({ event }) => event)];
		};
		t.same(await greet(), ["wire none", ProbeEvent.GREETED]);
		t.same(await greet(), ["wire none"]);
		const key = Buffer.alloc(4);
		key.writeUInt32LE(index);
		const activity = {
			sentAt: 0n,
			greetedAt: process.hrtime.bigint() - 520n * NS_PER_MS,
			answersUntil: 0n,
		};
		core.writeActivity(index, activity);
		tables.activities.set(index, activity);
		t.same(await greet({ flags: 0 }), ["wire none"]);
		t.same(await greet(), ["wire none", ProbeEvent.GREETED]);
	});
	for (const [mode, flags] of [
		["in tunnels only", 0],
		["without a tunnel", NodeFlag.SENDS_UNTUNNELLED],
	] as const) {
		t.test(`IPv${family}: what a Node that sends ${mode} announces`, async (t) => {
			const { ANNOUNCES, SENDS_UNTUNNELLED, TAKES_UNTUNNELLED, HELLO } = ProbeFlag;
			for (const takes of [true, false]) {
				const tables = await fresh(core, {
					config: { flags: NodeFlag.CONFIGURED | flags },
					peers: { [direct.id]: { flags: takes ? 0 : PeerFlag.TUNNELLED_ONLY } },
				});
				const own = ANNOUNCES | (flags ? SENDS_UNTUNNELLED : 0) | (takes ? TAKES_UNTUNNELLED : 0);
				const packet = request(toPeer(direct, family), 600, { flags: HELLO });
				const asked = await run(t, core, tables, fromHost(packet));
				t.equal(probeOf(unwrapped(asked.outcome.packet)).flags, HELLO | own);
				const theirs = arriving(ofPeer(direct, family), 600, { flags: HELLO | ANNOUNCES });
				const answer = await run(t, core, tables, fromWire(theirs));
				t.equal(
					probeOf(unwrapped(answer.outcome.packet)).flags,
					HELLO | ANNOUNCES | (own << Limit.PROBE_ANSWER_SHIFT),
				);
			}
		});
	}
	t.test(`IPv${family}: the agent is told what an answer announces`, async (t) => {
		const tables = await fresh(core);
		const probe = await answered(t, core, tables, family);
		const announced = ProbeFlag.ANNOUNCES | ProbeFlag.TAKES_UNTUNNELLED;
		const flags = (probe.flags & 15) | (announced << Limit.PROBE_ANSWER_SHIFT);
		const segment = probeSegment(family, 1400, { ...probe, flags });
		const input = fromWire(build.ip(ofPeer(geneve4, family), segment), "02:00:00:00:01:77");
		const { decision } = await run(t, core, tables, input);
		t.match(decision.records, [{ announced }]);
		const { sourceMac } = core.pathProof(indexOf(geneve4, family) * 2);
		t.equal(sourceMac, macWord("02:00:00:00:01:77"), "and the peer's MAC is known");
	});
	t.test(`IPv${family}: a request that announces something new makes the agent ask`, async (t) => {
		const { ANNOUNCES, SENDS_UNTUNNELLED } = ProbeFlag;
		for (const [own, flags, isNew] of [
			[0, 0, false],
			[0, ANNOUNCES, true],
			[0, ANNOUNCES | SENDS_UNTUNNELLED, false],
			[PeerFlag.TUNNELLED_ONLY, 0, false],
			[PeerFlag.TUNNELLED_ONLY, ANNOUNCES, false],
			[PeerFlag.TUNNELLED_ONLY, ANNOUNCES | SENDS_UNTUNNELLED, true],
			[PeerFlag.ENDING, ANNOUNCES, false],
			[PeerFlag.ENDING, ANNOUNCES | SENDS_UNTUNNELLED, true],
		] as const) {
			const tables = await fresh(core, { peers: { [direct.id]: { flags: own } } });
			const input = fromWire(arriving(ofPeer(direct, family), 600, { flags }));
			const { decision } = await run(t, core, tables, input);
			const events = decision.records.map(({ event }) => event);
			t.same(events, isNew ? [ProbeEvent.GREETED] : [], `${own} known, ${flags} announced`);
		}
	});
	t.test(`IPv${family}: a request with a peer's address from another host`, async (t) => {
		const tables = await fresh(core);
		const packet = arriving(ofPeer(direct, family), 600);
		const checked = await run(t, core, tables, fromWire(packet, "02:00:00:00:01:66"));
		t.equal(fate(checked), "drop peer_mac_mismatch");
	});
	t.test(
		`IPv${family}: a peer is answered so often and no more, others all the same`,
		async (t) => {
			const tables = await fresh(core);
			const ask = async (peer: world.PeerFacts) =>
				fate(await run(t, core, tables, fromWire(arriving(ofPeer(peer, family), 600))));
			const owed = BigInt(Limit.PROBE_ANSWER_BURST * Limit.PROBE_ANSWER_NS);
			const spend = (ahead: bigint) => {
				const answersUntil = process.hrtime.bigint() + ahead;
				const activity = { sentAt: 0n, greetedAt: 0n, answersUntil };
				core.writeActivity(index, activity);
				tables.activities.set(index, activity);
			};
			spend(owed + 1000n * NS_PER_MS);
			t.equal(await ask(direct), "drop probe_rate");
			t.equal(await ask(geneve4), "wire none");
			spend(owed / 2n);
			t.equal(await ask(direct), "wire none");
			const { answersUntil } = core.peerActivity(index);
			await ask(direct);
			t.equal(core.peerActivity(index).answersUntil - answersUntil, 2n * NS_PER_MS);
		},
	);
	t.test(`IPv${family}: traffic begins, and begins again after a pause`, async (t) => {
		const tables = await fresh(core);
		const send = async () => {
			const packet = build.ip(toPeer(direct, family), build.udp(1, 2));
			const { decision } = await run(t, core, tables, fromHost(packet));
			const told = await core.traffic();
			const model = decision.records.map((record) => record.index);
			t.same(told, model, "the forwarder says the same");
			return told;
		};
		t.same(await send(), [index]);
		t.same(await send(), []);
		for (const [ago, expected] of [
			[1900n, []],
			[2100n, [index]],
		] as const) {
			const activity = {
				sentAt: process.hrtime.bigint() - ago * NS_PER_MS,
				greetedAt: 0n,
				answersUntil: 0n,
			};
			core.writeActivity(index, activity);
			tables.activities.set(index, activity);
			tables.config = { ...tables.config, nextHopEpoch: tables.config.nextHopEpoch + 1 };
			core.writeConfig(tables.config);
			t.same(await send(), expected, `${ago} ms`);
		}
		t.same(await core.probeRecords(), [], "nobody was told more");
	});
	t.test(`IPv${family}: no traffic to a peer without a path`, async (t) => {
		const tables = await fresh(core);
		const packet = build.ip(toPeer(down, family), build.udp(1, 2));
		t.equal(fate(await run(t, core, tables, fromHost(packet))), "drop peer_down");
		t.equal(core.peerActivity(indexOf(down, family)).sentAt, 0n);
		t.same(await core.traffic(), []);
	});
}

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const asking = new DataPath({ flowSlots: FLOW_SLOTS });
	const answering = new DataPath({ flowSlots: FLOW_SLOTS });
	const before63 = new DataPath({ flowSlots: FLOW_SLOTS, hasDecapL3: false });
	t.teardown(() => {
		for (const core of [asking, answering, before63]) core.close();
	});
	for (const family of [4, 6] as const) {
		roundTrips(t, asking, answering, family);
		requests(t, asking, family);
		requests(t, before63, family);
		ordinary(t, asking, family);
		answers(t, asking, family);
		facts(t, asking, family);
	}
}
