/**
 * Every method in every state it must refuse: arguments of a wrong type, of a wrong length or
 * range, a closed handle, a foreign `this`. Each refusal is a TypeError or RangeError that begins
 * with "Cannot" and says what was wanted; nothing may crash and nothing may reach the kernel.
 */
import t from "tap";
import {
	BpfLink,
	BpfMap,
	BpfObject,
	BpfProgram,
	clsact,
	flock,
	PacketSender,
	possibleCpus,
	RingBuffer,
	supportsTcx,
} from "#native";
import { frame, loadObject, MAP_TYPE, objectPath, u32, u64 } from "./fixture.js";

// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested here
type Any = any;

const object = loadObject();
const map = object.map("a_hash");
const ring = object.map("ring");
const tc = object.program("answer_knob");
const xdp = object.program("pass_all");
const fresh = () => BpfObject.open(objectPath());
t.teardown(() => object.close());

const notBuffers = [
	undefined,
	null,
	4,
	"key!",
	true,
	{},
	[1, 2, 3, 4],
	new Uint16Array(2),
	() => 4,
];
const notStrings = [undefined, null, 4, true, {}, Buffer.from("path"), Symbol("path")];
const notNumbers = [null, "1", true, {}, 1n];
const notWholes = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32];
const notObjects = [null, 4, "options", true];
const notMaps = [undefined, null, {}, 7, tc, object, Object.create(BpfMap.prototype)];
const notPrograms = [undefined, null, {}, 7, map, object, Object.create(BpfProgram.prototype)];

interface Method {
	name: string;
	/** Calls it with right arguments, but for those that the (sparse) list replaces. */
	call: (replaced: Any[]) => unknown;
	/** For each argument: what must be refused with a TypeError. */
	types: unknown[][];
	/** For each argument: what must be refused with a RangeError. */
	ranges?: unknown[][];
}

const or = <T>(replaced: Any[], index: number, right: T): T =>
	index in replaced ? replaced[index] : right;

const methods: Method[] = [
	{
		name: "BpfObject.open",
		call: (a) => BpfObject.open(or(a, 0, objectPath())),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfObject.setMaxEntries",
		call: (a) => fresh().setMaxEntries(or(a, 0, "a_hash"), or(a, 1, 8)),
		types: [notStrings, [undefined, ...notNumbers]],
		ranges: [
			["", "nothing"],
			[0, ...notWholes],
		],
	},
	{
		name: "BpfObject.reuseMap",
		call: (a) => fresh().reuseMap(or(a, 0, "a_hash"), or(a, 1, map)),
		types: [notStrings, notMaps],
		ranges: [["", "nothing", ".rodata"], [ring]],
	},
	{
		name: "BpfObject.setAutoload",
		call: (a) => fresh().setAutoload(or(a, 0, "emit"), or(a, 1, false)),
		types: [notStrings, [undefined, 0, "true"]],
		ranges: [["", "nothing"]],
	},
	{
		name: "BpfObject.setReadOnlyData",
		call: (a) => fresh().setReadOnlyData(or(a, 0, 0), or(a, 1, u32(1))),
		types: [[undefined, ...notNumbers], notBuffers],
		ranges: [[...notWholes, 2, 1000], [Buffer.alloc(6)]],
	},
	{
		name: "BpfObject.load",
		call: (a) => fresh().load(or(a, 0, { verifierLog: false })),
		types: [[...notObjects, { verifierLog: 1 }, { verifierLog: "all" }]],
	},
	{
		name: "BpfObject.loadAsync",
		call: (a) => void fresh().loadAsync(or(a, 0, { verifierLog: false })),
		types: [[...notObjects, { verifierLog: 1 }, { verifierLog: "all" }]],
	},
	{
		name: "BpfObject.map",
		call: (a) => object.map(or(a, 0, "a_hash")),
		types: [notStrings],
		ranges: [["", "nothing"]],
	},
	{
		name: "BpfObject.program",
		call: (a) => object.program(or(a, 0, "emit")),
		types: [notStrings],
		ranges: [["", "nothing"]],
	},
	{
		name: "BpfObject.verifierLog",
		call: (a) => object.verifierLog(or(a, 0, "no such program")),
		types: [notStrings],
		ranges: [["", "nothing", "emit"]],
	},
	{
		name: "BpfMap.openPinned",
		call: (a) => BpfMap.openPinned(or(a, 0, "/")),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfMap.openId",
		call: (a) => BpfMap.openId(or(a, 0, map.info.id)),
		types: [[undefined, ...notNumbers]],
		ranges: [[0, ...notWholes]],
	},
	...(["type", "keySize", "valueSize", "maxEntries", "flags"] as const).map((option) => ({
		name: `BpfMap.create ${option}`,
		call: (a: Any[]) =>
			BpfMap.create({
				type: MAP_TYPE.HASH,
				name: "made",
				keySize: 4,
				valueSize: 4,
				maxEntries: 4,
				flags: 0,
				[option]: or(a, 0, 4),
			}),
		types: [notNumbers],
		ranges: [notWholes],
	})),
	{
		name: "BpfMap.create",
		call: (a) =>
			BpfMap.create(
				or(a, 0, { type: MAP_TYPE.HASH, name: "made", keySize: 4, valueSize: 4, maxEntries: 4 }),
			),
		types: [[undefined, ...notObjects, {}, { name: "made" }]],
	},
	{
		name: "BpfMap.lookup",
		call: (a) => map.lookup(or(a, 0, u32(1))),
		types: [notBuffers],
		ranges: [[Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(5)]],
	},
	{
		name: "BpfMap.update",
		call: (a) => map.update(or(a, 0, u32(1)), or(a, 1, u64(1)), or(a, 2, 0)),
		types: [notBuffers, notBuffers, notNumbers],
		ranges: [
			[Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(5)],
			[Buffer.alloc(0), Buffer.alloc(7), Buffer.alloc(9)],
			notWholes,
		],
	},
	{
		name: "BpfMap.delete",
		call: (a) => map.delete(or(a, 0, u32(1))),
		types: [notBuffers],
		ranges: [[Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(5)]],
	},
	{
		name: "BpfMap.nextKey",
		call: (a) => map.nextKey(or(a, 0, null)),
		types: [notBuffers.filter((value) => value !== null)],
		ranges: [[Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(5)]],
	},
	{
		name: "BpfMap.updateBatch",
		call: (a) =>
			map.updateBatch(or(a, 0, Buffer.alloc(8)), or(a, 1, Buffer.alloc(16)), or(a, 2, 0)),
		types: [notBuffers, notBuffers, notNumbers],
		ranges: [
			[Buffer.alloc(7), Buffer.alloc(12), Buffer.alloc(0)],
			[Buffer.alloc(0), Buffer.alloc(15), Buffer.alloc(24)],
			notWholes,
		],
	},
	{
		name: "BpfMap.deleteBatch",
		call: (a) => map.deleteBatch(or(a, 0, Buffer.alloc(8))),
		types: [notBuffers],
		ranges: [[Buffer.alloc(3), Buffer.alloc(5)]],
	},
	{
		name: "BpfMap.slice",
		call: (a) => map.slice(or(a, 0, null), or(a, 1, 4)),
		types: [
			[undefined, 4, "key!", true, {}],
			[undefined, ...notNumbers],
		],
		ranges: [
			[Buffer.alloc(0), Buffer.alloc(8), Buffer.alloc(10)],
			[0, 2 ** 21, ...notWholes],
		],
	},
	{
		name: "BpfMap.sums",
		call: (a) => map.sums(or(a, 0, u32(1))),
		types: [notBuffers],
		ranges: [[Buffer.alloc(3), Buffer.alloc(5)]],
	},
	{
		name: "flock",
		call: (a) => flock(or(a, 0, 0)),
		types: [[undefined, ...notNumbers]],
		ranges: [notWholes],
	},
	{
		name: "BpfMap.pin",
		call: (a) => map.pin(or(a, 0, "/")),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfProgram.openPinned",
		call: (a) => BpfProgram.openPinned(or(a, 0, "/")),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfProgram.openId",
		call: (a) => BpfProgram.openId(or(a, 0, tc.info.id)),
		types: [[undefined, ...notNumbers]],
		ranges: [[0, ...notWholes]],
	},
	{
		name: "BpfProgram.testRun",
		call: (a) => tc.testRun(or(a, 0, { data: frame() })),
		types: [[undefined, ...notObjects, {}]],
	},
	{
		name: "BpfProgram.testRun data",
		call: (a) => tc.testRun({ data: or(a, 0, frame()) }),
		types: [notBuffers],
		ranges: [[Buffer.alloc((16 << 20) + 1)]],
	},
	{
		name: "BpfProgram.testRun context",
		call: (a) => tc.testRun({ data: frame(), context: or(a, 0, Buffer.alloc(192)) }),
		types: [notBuffers.slice(1)],
		ranges: [[Buffer.alloc(4097)]],
	},
	...(["repeat", "dataOutSize", "flags", "batchSize"] as const).map((option) => ({
		name: `BpfProgram.testRun ${option}`,
		call: (a: Any[]) => tc.testRun({ data: frame(), [option]: or(a, 0, undefined) }),
		types: [notNumbers],
		ranges: [notWholes],
	})),
	{
		name: "BpfProgram.pin",
		call: (a) => tc.pin(or(a, 0, "/")),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfLink.attach",
		call: (a) => BpfLink.attach(or(a, 0, tc), or(a, 1, 1), or(a, 2, "tcx_ingress")),
		types: [notPrograms, [undefined, ...notNumbers], notStrings],
		ranges: [[xdp], [0, 2 ** 31, ...notWholes], ["", "tcx", "xdp_native"]],
	},
	{
		name: "BpfLink.openPinned",
		call: (a) => BpfLink.openPinned(or(a, 0, "/")),
		types: [notStrings],
		ranges: [["", "a\0b"]],
	},
	{
		name: "BpfLink.openId",
		call: (a) => BpfLink.openId(or(a, 0, 1)),
		types: [[undefined, ...notNumbers]],
		ranges: [[0, ...notWholes]],
	},
	{
		name: "clsact.attach",
		call: (a) =>
			clsact.attach(or(a, 0, tc), or(a, 1, 1), or(a, 2, "ingress"), or(a, 3, 1), or(a, 4, 1)),
		types: [
			notPrograms,
			[undefined, ...notNumbers],
			notStrings,
			[undefined, ...notNumbers],
			[undefined, ...notNumbers],
		],
		ranges: [[xdp], [0, ...notWholes], ["", "in"], [0, 65536, ...notWholes], [0, ...notWholes]],
	},
	...(["detach", "query"] as const).map((name) => ({
		name: `clsact.${name}`,
		call: (a: Any[]) => clsact[name](or(a, 0, 1), or(a, 1, "ingress"), or(a, 2, 1), or(a, 3, 1)),
		types: [
			[undefined, ...notNumbers],
			notStrings,
			[undefined, ...notNumbers],
			[undefined, ...notNumbers],
		],
		ranges: [
			[0, ...notWholes],
			["", "in"],
			[0, 65536, ...notWholes],
			[0, ...notWholes],
		],
	})),
	{
		name: "RingBuffer",
		call: (a) =>
			new RingBuffer(
				or(a, 0, ring),
				or(a, 1, () => {}),
				or(a, 2, {}),
			),
		types: [notMaps, [undefined, null, {}, 4], [...notObjects, () => {}, { burst: "1" }]],
		ranges: [[map], [], [{ burst: 0 }, { burst: 2 ** 31 }, { burst: 1.5 }]],
	},
	{
		name: "PacketSender.sendFrame",
		call: (a) => new PacketSender().sendFrame(or(a, 0, Buffer.alloc(60)), or(a, 1, 1)),
		types: [notBuffers, [undefined, ...notNumbers]],
		ranges: [
			[Buffer.alloc(0), Buffer.alloc(13)],
			[0, 2 ** 31, ...notWholes],
		],
	},
	{
		name: "PacketSender.sendPacket",
		call: (a) => new PacketSender().sendPacket(or(a, 0, Buffer.alloc(20, 0x45))),
		types: [notBuffers],
		ranges: [[Buffer.alloc(0), Buffer.alloc(19, 0x45), Buffer.alloc(39, 0x60), Buffer.alloc(40)]],
	},
];

for (const method of methods) {
	t.test(method.name, async (t) => {
		const refuse = (kind: ErrorConstructor, values: unknown[][]) => {
			for (const [index, wrong] of values.entries()) {
				for (const value of wrong) {
					const replaced: unknown[] = [];
					replaced[index] = value;
					t.throws(
						() => method.call(replaced),
						{ name: kind.name, message: /^Cannot .*expected .*, got / },
						`argument ${index}: ${typeof value === "symbol" ? "symbol" : JSON.stringify(value, (_, v) => (typeof v === "bigint" ? "bigint" : v))?.slice(0, 40)}`,
					);
				}
			}
		};
		refuse(TypeError, method.types);
		refuse(RangeError, method.ranges ?? []);
	});
}

t.test("a closed handle", async (t) => {
	const closed = {
		name: "TypeError",
		message: /^Cannot .*: expected an open (Bpf\w+|PacketSender), got a closed one$/,
	};
	const refused = (calls: Record<string, () => unknown>) => {
		for (const [name, call] of Object.entries(calls)) t.throws(call, closed, name);
	};
	const gone = loadObject();
	const goneMap = gone.map("a_hash");
	const goneRing = gone.map("ring");
	const goneProgram = gone.program("emit");
	const goneSender = new PacketSender();
	goneMap.close();
	goneRing.close();
	goneProgram.close();
	goneSender.close();
	gone.close();
	refused({
		mapNames: () => gone.mapNames,
		programNames: () => gone.programNames,
		readOnlyVariables: () => gone.readOnlyVariables,
		setMaxEntries: () => gone.setMaxEntries("a_hash", 1),
		reuseMap: () => gone.reuseMap("a_hash", map),
		"reuseMap of a closed map": () => fresh().reuseMap("a_hash", goneMap),
		setAutoload: () => gone.setAutoload("emit", true),
		setReadOnlyData: () => gone.setReadOnlyData(0, u32(0)),
		load: () => gone.load(),
		loadAsync: () => gone.loadAsync(),
		map: () => gone.map("a_hash"),
		program: () => gone.program("emit"),
		verifierLog: () => gone.verifierLog("emit"),
		"map.info": () => goneMap.info,
		lookup: () => goneMap.lookup(u32(1)),
		update: () => goneMap.update(u32(1), u64(1)),
		delete: () => goneMap.delete(u32(1)),
		nextKey: () => goneMap.nextKey(null),
		updateBatch: () => goneMap.updateBatch(u32(1), u64(1)),
		deleteBatch: () => goneMap.deleteBatch(u32(1)),
		entries: () => goneMap.entries(),
		slice: () => goneMap.slice(null, 1),
		sums: () => goneMap.sums(u32(1)),
		"map.pin": () => goneMap.pin("/sys/fs/bpf/never"),
		btf: () => goneMap.btf(),
		"program.info": () => goneProgram.info,
		testRun: () => goneProgram.testRun({ data: frame() }),
		"program.pin": () => goneProgram.pin("/sys/fs/bpf/never"),
		"BpfLink.attach": () => BpfLink.attach(goneProgram, 1, "tcx_ingress"),
		"clsact.attach": () => clsact.attach(goneProgram, 1, "ingress", 1, 1),
		RingBuffer: () => new RingBuffer(goneRing, () => {}),
		sendFrame: () => goneSender.sendFrame(Buffer.alloc(60), 1),
		sendPacket: () => goneSender.sendPacket(Buffer.alloc(20, 0x45)),
	});
	// Closing again is no mistake: teardown code need not know.
	for (const handle of [gone, goneMap, goneRing, goneProgram, goneSender])
		t.doesNotThrow(() => handle.close());
});

t.test("an object before and after load", async (t) => {
	const before = fresh();
	const unloaded = { name: "RangeError", message: /expected a loaded object, got one before load/ };
	t.throws(() => before.map("a_hash"), unloaded);
	t.throws(() => before.program("emit"), unloaded);
	before.close();
	const loaded = { name: "RangeError", message: /expected an object that is not loaded yet/ };
	t.throws(() => object.load(), loaded);
	t.throws(() => object.loadAsync(), loaded);
	t.throws(() => object.setMaxEntries("a_hash", 1), loaded);
	t.throws(() => object.reuseMap("a_hash", map), loaded);
	t.throws(() => object.setAutoload("emit", false), loaded);
	t.throws(() => object.setReadOnlyData(0, u32(0)), loaded);
});

t.test("objects that cannot be constructed", async (t) => {
	for (const type of [BpfObject, BpfMap, BpfProgram, BpfLink] as Any[]) {
		t.throws(() => new type(), { name: "TypeError", message: /^Cannot construct Bpf/ });
		t.throws(() => new type({}), { name: "TypeError" });
		t.throws(() => type(), { name: "TypeError" });
	}
	t.throws(() => (RingBuffer as Any)(), { name: "TypeError" });
});

t.test("a foreign this", async (t) => {
	const foreign: Any[] = [undefined, {}, tc, Object.create(BpfMap.prototype), BpfMap.prototype];
	for (const that of foreign) {
		t.throws(() => BpfMap.prototype.lookup.call(that, u32(1)), { name: "TypeError" });
		t.throws(() => BpfMap.prototype.close.call(that), { name: "TypeError" });
		t.throws(() => RingBuffer.prototype.close.call(that), { name: "TypeError" });
		t.throws(() => PacketSender.prototype.close.call(that), { name: "TypeError" });
		t.throws(() => BpfObject.prototype.load.call(that), { name: "TypeError" });
	}
	t.throws(() => BpfProgram.prototype.testRun.call(map as Any, { data: frame() }), {
		name: "TypeError",
	});
});

t.test("options whose getters throw or close the object", async (t) => {
	const boom = new Error("boom");
	const throwing = {
		get data(): Buffer {
			throw boom;
		},
	};
	t.throws(() => tc.testRun(throwing), boom);
	// The handle is read after the guards: closed meanwhile, it is refused by the kernel.
	const program = object.program("emit");
	const closing = {
		data: frame(),
		get repeat() {
			program.close();
			return 1;
		},
	};
	t.throws(() => program.testRun(closing), { code: "EBADF" });
});

t.test("a detached buffer", async (t) => {
	const key = new Uint8Array(4);
	structuredClone(key.buffer, { transfer: [key.buffer] });
	t.throws(() => map.lookup(key as Buffer), { name: "RangeError" });
});

t.test("methods without arguments ignore them", async (t) => {
	t.equal((possibleCpus as Any)("x"), possibleCpus());
	t.equal((supportsTcx as Any)({}), supportsTcx());
});
