/** Pins on a bpffs: made, opened again, replaced, and refused where they are of another kind. */
import { existsSync, renameSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { BpfLink, BpfMap, BpfProgram } from "#native";
import { bpfDescriptors, loadObject, pinDirectory, u32, u64 } from "./fixture.js";

const directory = pinDirectory();
const object = loadObject();
t.teardown(() => object.close());

t.test("a map lives on in its pin", async (t) => {
	const path = join(directory, "map");
	const map = object.map("a_hash");
	map.update(u32(1), u64(1));
	map.pin(path);
	const { info } = map;
	map.close();
	const again = BpfMap.openPinned(path);
	t.same(again.info, info);
	t.same(again.lookup(u32(1)), u64(1));
	t.throws(() => again.pin(path), { name: "BpfError", code: "EEXIST" });
	again.close();
	unlinkSync(path);
});

t.test("a program", async (t) => {
	const path = join(directory, "program");
	const program = object.program("emit");
	program.pin(path);
	t.same(BpfProgram.openPinned(path).info, program.info);
	unlinkSync(path);
});

t.test("a pin is replaced by renaming", async (t) => {
	const path = join(directory, "kept");
	object.map("a_hash").pin(path);
	object.map("an_array").pin(`${path}_new`);
	renameSync(`${path}_new`, path);
	t.equal(BpfMap.openPinned(path).info.name, "an_array");
	t.notOk(existsSync(`${path}_new`));
	unlinkSync(path);
});

t.test("another kind of pin", async (t) => {
	const map = join(directory, "a_map");
	const program = join(directory, "a_program");
	object.map("a_hash").pin(map);
	object.program("emit").pin(program);
	const open = bpfDescriptors().length;
	for (const [call, wanted] of [
		[() => BpfMap.openPinned(program), "map"],
		[() => BpfProgram.openPinned(map), "program"],
		[() => BpfLink.openPinned(map), "link"],
		[() => BpfLink.openPinned(program), "link"],
	] as const)
		t.throws(call, {
			name: "RangeError",
			message: new RegExp(`^Cannot open pinned .*: expected a pinned ${wanted}, got another kind`),
		});
	t.equal(bpfDescriptors().length, open, "what was opened by mistake is closed");
	unlinkSync(map);
	unlinkSync(program);
});

t.test("no pin, or no bpffs", async (t) => {
	const path = join(directory, "none");
	t.throws(() => BpfMap.openPinned(path), {
		name: "BpfError",
		code: "ENOENT",
		message: `Cannot open pinned map ${path}: ENOENT (No such file or directory)`,
	});
	t.throws(() => BpfProgram.openPinned(directory), { name: "BpfError", code: "EACCES" });
	t.throws(() => object.map("a_hash").pin("/tmp/fairway-no-bpffs"), { code: "EPERM" });
	t.throws(() => object.map("a_hash").pin(join(directory, "no/such/directory")), {
		code: "ENOENT",
	});
});
