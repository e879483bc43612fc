/** Opening, adjusting and loading an object; what the verifier and libbpf say. */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t from "tap";
import { BpfError, BpfMap, BpfObject } from "#native";
import {
	collectGarbage,
	frame,
	loadObject,
	MAP_TYPE,
	objectPath,
	PROGRAM_TYPE,
	u32,
	u64,
} from "./fixture.js";

const MAPS = ["a_hash", "a_trie", "an_array", "an_lru_hash", "per_cpu", "ring"];
const PROGRAMS = ["answer_gso", "answer_knob", "emit", "may_be_refused", "pass_all", "short_only"];

function caught(call: () => unknown): BpfError {
	try {
		call();
	} catch (error) {
		if (error instanceof BpfError) return error;
		throw error;
	}
	throw new Error("nothing was thrown");
}

t.test("open", async (t) => {
	const object = BpfObject.open(objectPath());
	t.same([...object.mapNames].sort(), MAPS, "without .rodata and .bss");
	t.same([...object.programNames].sort(), PROGRAMS);
	t.same(object.readOnlyVariables, {
		answer: { offset: 0, size: 4 },
		refuse: { offset: 4, size: 1 },
	});
	object.close();
});

t.test("open a file that is not an object", async (t) => {
	t.match(
		caught(() => BpfObject.open("/nonexistent.o")),
		{ code: "ENOENT", errno: 2 },
	);
	const path = join(dirname(objectPath()), "text.o");
	writeFileSync(path, "no ELF");
	const error = caught(() => BpfObject.open(path));
	t.match(error, { code: "LIBBPF_ERRNO__FORMAT", errno: 4001, name: "BpfError" });
	t.match(
		error.message,
		`Cannot open object ${path}: LIBBPF_ERRNO__FORMAT (BPF object format invalid): elf: `,
	);
	t.match(error.log, "is not a proper ELF object");
	// An object cut short at each of many lengths: refused or opened, never a crash.
	const whole = (await import("node:fs")).readFileSync(objectPath());
	let refused = 0;
	for (let length = 0; length < whole.length; length += 97) {
		writeFileSync(path, whole.subarray(0, length));
		try {
			BpfObject.open(path).close();
		} catch (error) {
			t.ok(error instanceof BpfError);
			refused++;
		}
	}
	t.ok(refused > 10);
});

t.test("knobs", async (t) => {
	for (const answer of [7, 0, 0xffff_ffff]) {
		const object = loadObject(answer === 7 ? {} : { answer });
		const program = object.program("answer_knob");
		t.equal(program.testRun({ data: frame() }).returnValue, answer | 0, "signed");
		program.close();
		object.close();
	}
});

t.test("setMaxEntries", async (t) => {
	const object = BpfObject.open(objectPath());
	object.setMaxEntries("a_hash", 1000);
	object.setMaxEntries("ring", 5000);
	object.load();
	t.equal(object.map("a_hash").info.maxEntries, 1000);
	t.equal(object.map("ring").info.maxEntries, 8192, "a power of two pages");
	object.close();
});

t.test("reuseMap", async (t) => {
	const first = loadObject();
	const kept = first.map("an_array");
	const second = BpfObject.open(objectPath());
	second.reuseMap("an_array", kept);
	second.load();
	t.equal(second.map("an_array").info.id, kept.info.id);
	t.not(second.map("a_hash").info.id, first.map("a_hash").info.id);
	first.close();
	second.program("answer_knob").testRun({ data: frame(), repeat: 3 });
	t.same(kept.lookup(u32(0)), u64(3));
	second.close();

	const other = { type: MAP_TYPE.ARRAY, name: "other", keySize: 4, valueSize: 8, maxEntries: 8 };
	for (const [change, message] of [
		[{ type: MAP_TYPE.HASH }, "expected an_array with type 2, got 1"],
		[{ valueSize: 16 }, "expected an_array with value size 8, got 16"],
		[{ flags: 0x400 }, "expected an_array with flags 0, got 1024"],
	] as const) {
		const object = BpfObject.open(objectPath());
		const map = BpfMap.create({ ...other, ...change });
		t.throws(() => object.reuseMap("an_array", map), {
			name: "RangeError",
			message: new RegExp(`^Cannot reuse a map in object .*: ${message}$`),
		});
		map.close();
		object.close();
	}
});

t.test("setAutoload", async (t) => {
	const object = BpfObject.open(objectPath());
	for (const name of PROGRAMS) object.setAutoload(name, name === "emit");
	object.load();
	t.equal(object.program("emit").info.name, "emit");
	t.throws(() => object.program("pass_all"), {
		name: "RangeError",
		message: /expected a program that was loaded, got pass_all without autoload$/,
	});
	object.close();
});

t.test("a program that the verifier refuses", async (t) => {
	for (const verifierLog of [undefined, true] as const) {
		const object = BpfObject.open(objectPath());
		object.setReadOnlyData(object.readOnlyVariables.refuse!.offset, Buffer.from([1]));
		const error = caught(() => object.load(verifierLog ? { verifierLog } : {}));
		t.match(error, { code: "EACCES", errno: 13 });
		t.match(error.message, "prog 'may_be_refused': BPF program load failed");
		t.match(error.log, "invalid mem access 'map_value_or_null'", "the verifier's own words");
		t.throws(() => object.program("emit"), { message: /got one that failed to load/ });
		t.throws(() => object.load(), { name: "RangeError" });
		object.close();
	}
});

t.test("load on another thread", async (t) => {
	const object = BpfObject.open(objectPath());
	const map = BpfMap.create({
		type: MAP_TYPE.ARRAY,
		name: "other",
		keySize: 4,
		valueSize: 8,
		maxEntries: 8,
	});
	const loaded = object.loadAsync({ verifierLog: "statistics" });
	const busy = { name: "RangeError", message: /expected an object that is not being loaded/ };
	for (const call of [
		() => object.mapNames,
		() => object.programNames,
		() => object.readOnlyVariables,
		() => object.setMaxEntries("a_hash", 8),
		() => object.reuseMap("an_array", map),
		() => object.setAutoload("emit", false),
		() => object.setReadOnlyData(0, u32(0)),
		() => object.load(),
		() => object.loadAsync(),
		() => object.map("a_hash"),
		() => object.program("emit"),
		() => object.verifierLog("emit"),
		() => object.close(),
	])
		t.throws(call, busy);
	t.equal(await loaded, undefined);
	t.equal(object.map("a_hash").info.name, "a_hash");
	t.match(object.verifierLog("emit"), /^processed \d+ insns/m);
	t.throws(() => object.loadAsync(), { name: "RangeError" }, "once");
	map.close();
	object.close();
});

t.test("a program that the verifier refuses on another thread", async (t) => {
	const open = () => {
		const object = BpfObject.open(objectPath());
		object.setReadOnlyData(object.readOnlyVariables.refuse!.offset, Buffer.from([1]));
		return object;
	};
	const object = open();
	const error: BpfError = await object.loadAsync().then(
		() => {
			throw new Error("it was loaded");
		},
		(refusal) => refusal,
	);
	const same = caught(() => open().load());
	t.match(error, { name: "BpfError", code: "EACCES", errno: 13, message: same.message });
	t.match(error.log, "invalid mem access 'map_value_or_null'", "the verifier's own words");
	t.throws(() => object.program("emit"), { message: /got one that failed to load/ });
	object.close();
});

t.test("a load without an awaiter", async (t) => {
	const many = Array.from({ length: 8 }, () => BpfObject.open(objectPath()).loadAsync());
	await collectGarbage();
	t.same(await Promise.all(many), Array(8).fill(undefined), "the object lives until it is done");
});

t.test("the verifier's log of accepted programs", async (t) => {
	for (const verifierLog of [true, "statistics"] as const) {
		const object = BpfObject.open(objectPath());
		object.setAutoload("pass_all", false);
		object.load({ verifierLog });
		for (const name of PROGRAMS.filter((name) => name !== "pass_all")) {
			const processed = /processed (\d+) insns/.exec(object.verifierLog(name))?.[1];
			t.equal(Number(processed), object.program(name).info.verifiedInstructions, name);
			t.match(object.verifierLog(name), /verification time \d+ usec/);
		}
		t.throws(() => object.verifierLog("pass_all"), { name: "RangeError" });
		object.close();
	}
	const object = loadObject();
	t.throws(() => object.verifierLog("emit"), {
		name: "RangeError",
		message: /expected a program that was loaded with verifierLog, got emit$/,
	});
	object.close();
});

t.test("maps and programs outlive their object", async (t) => {
	const object = loadObject();
	const map = object.map("a_hash");
	const program = object.program("pass_all");
	object.close();
	map.update(u32(1), u64(1));
	t.same(map.lookup(u32(1)), u64(1));
	t.match(program.info, { name: "pass_all", type: PROGRAM_TYPE.XDP });
});
