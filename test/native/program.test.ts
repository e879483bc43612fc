/** Programs: what they are, and test runs with both kinds of context. */
import t from "tap";
import { BpfProgram } from "#native";
import { frame, loadObject, PROGRAM_TYPE, u32 } from "./fixture.js";

/** Offsets in struct __sk_buff and struct xdp_md of linux/bpf.h. */
const SK_BUFF = { size: 192, mark: 8, gsoSegments: 164, gsoSize: 176 };
const XDP_MD = { size: 24, dataEnd: 4 };

const object = loadObject();
t.teardown(() => object.close());

t.test("info", async (t) => {
	const program = object.program("answer_knob");
	const { info } = program;
	t.match(info, { name: "answer_knob", type: PROGRAM_TYPE.SCHED_CLS, tag: /^[0-9a-f]{16}$/ });
	t.ok(info.verifiedInstructions > 0);
	t.ok(info.loadedAt > 0n);
	t.same(BpfProgram.openId(info.id).info, info);
	const again = loadObject();
	t.not(again.program("answer_knob").info.id, info.id);
	// The knob is in a map, so only the code counts.
	t.equal(again.program("pass_all").info.tag, object.program("pass_all").info.tag);
	t.not(info.tag, object.program("emit").info.tag);
	again.close();
	t.throws(() => BpfProgram.openId(0xffff_fff0), { name: "BpfError", code: "ENOENT" });
});

t.test("a tc program", async (t) => {
	const program = object.program("answer_knob");
	const runs = () => object.map("an_array").lookup(u32(0))!.readBigUInt64LE();
	const before = runs();
	const data = Buffer.from(Array.from({ length: 64 }, (_, index) => index));
	const result = program.testRun({ data });
	t.equal(result.returnValue, 7);
	t.same(result.data, data);
	t.equal(result.context, undefined);
	const { duration } = program.testRun({ data, repeat: 1000 });
	t.type(duration, "number");
	t.equal(runs() - before, 1001n);
	t.throws(() => program.testRun({ data: frame(13) }), { name: "BpfError", code: "EINVAL" });
	t.throws(() => program.testRun({ data: frame(100), dataOutSize: 10 }), { code: "ENOSPC" });
});

t.test("a tc program's context", async (t) => {
	const program = object.program("answer_gso");
	const context = Buffer.alloc(SK_BUFF.size);
	context.writeUInt32LE(1448, SK_BUFF.gsoSize);
	context.writeUInt32LE(3, SK_BUFF.gsoSegments);
	const result = program.testRun({ data: frame(3000), context });
	t.equal(result.returnValue, 1448);
	t.equal(result.context?.readUInt32LE(SK_BUFF.mark), 0x1234);
	t.equal(context.readUInt32LE(SK_BUFF.mark), 0, "what goes in is not written to");
	context.writeUInt32LE(1, 0);
	t.throws(() => program.testRun({ data: frame(), context }), { code: "EINVAL" });
});

t.test("an xdp program", async (t) => {
	const program = object.program("short_only");
	t.equal(program.testRun({ data: frame(101) }).returnValue, 1, "XDP_DROP");
	const passed = program.testRun({ data: frame(100) });
	t.equal(passed.returnValue, 2, "XDP_PASS");
	t.equal(passed.data[0], 0xee);
	t.equal(passed.data.length, 100);
	const context = Buffer.alloc(XDP_MD.size);
	context.writeUInt32LE(64, XDP_MD.dataEnd);
	t.equal(program.testRun({ data: frame(64), context }).context?.readUInt32LE(XDP_MD.dataEnd), 64);
	t.throws(() => program.testRun({ data: frame(60), context }), { code: "EINVAL" });
});

t.test("an xdp program with fragments", async (t) => {
	const data = Buffer.alloc(9000, 0x5a);
	const result = object.program("pass_all").testRun({ data });
	t.equal(result.returnValue, 2);
	t.same(result.data, data);
});

t.test("an xdp program on live frames", async (t) => {
	const before = object.program("pass_all").testRun({ data: frame(), repeat: 1 });
	t.equal(before.data.length, 64);
	const context = Buffer.alloc(XDP_MD.size);
	context.writeUInt32LE(64, XDP_MD.dataEnd);
	context.writeUInt32LE(1, 12);
	const live = object
		.program("short_only")
		.testRun({ data: frame(), context, flags: 2, repeat: 4, batchSize: 2 });
	t.same(live.data, Buffer.alloc(0), "they are gone: passed to the stack of lo");
	t.equal(live.returnValue, 0);
});
