import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t, { type Test } from "tap";
import { type Btf, parseBtf } from "../../src/tables/btf.js";
import { parseElf, sectionData } from "../../src/tables/elf.js";
import { layoutOf, mapDefinitions, sameLayout, structLayout } from "../../src/tables/layout.js";

/** BTF as clang writes it for C source. */
function compile(t: Test, source: string): { btf: Btf; raw: Buffer; object: Buffer } {
	const folder = t.testdir({ "a.c": source });
	const clang = spawnSync("clang-19", ["-target", "bpf", "-g", "-O2", "-c", "a.c", "-o", "a.o"], {
		cwd: folder,
		encoding: "utf8",
	});
	if (clang.status !== 0) throw new Error(clang.stderr);
	const object = readFileSync(`${folder}/a.o`);
	const raw = sectionData(parseElf(object), ".BTF");
	return { btf: parseBtf(raw), raw, object };
}

t.test("a struct: offsets, sizes, byte order, nesting", async (t) => {
	const { btf } = compile(
		t,
		`typedef unsigned short __be16; typedef unsigned char u8;
		struct inner { unsigned long long a; };
		struct outer { __be16 port; u8 bytes[6]; struct inner inner; const volatile int signed_one; _Bool yes; u8 pad[3]; } o;`,
	);
	t.same(structLayout(btf, "outer"), {
		kind: "struct",
		size: 24,
		name: "outer",
		fields: [
			{
				name: "port",
				offset: 0,
				layout: { kind: "integer", size: 2, bigEndian: true, signed: false },
			},
			{
				name: "bytes",
				offset: 2,
				layout: {
					kind: "array",
					size: 6,
					length: 6,
					element: { kind: "integer", size: 1, bigEndian: false, signed: false },
				},
			},
			{
				name: "inner",
				offset: 8,
				layout: {
					kind: "struct",
					size: 8,
					name: "inner",
					fields: [
						{
							name: "a",
							offset: 0,
							layout: { kind: "integer", size: 8, bigEndian: false, signed: false },
						},
					],
				},
			},
			{
				name: "signed_one",
				offset: 16,
				layout: { kind: "integer", size: 4, bigEndian: false, signed: true },
			},
			{
				name: "yes",
				offset: 20,
				layout: { kind: "integer", size: 1, bigEndian: false, signed: false },
			},
			{
				name: "pad",
				offset: 21,
				layout: {
					kind: "array",
					size: 3,
					length: 3,
					element: { kind: "integer", size: 1, bigEndian: false, signed: false },
				},
			},
		],
	});
});

t.test("types that no table may hold are refused", async (t) => {
	const rows: [string, string, string][] = [
		[
			"a hole",
			"struct s { char a; int b; } s;",
			"Cannot lay out struct s: expected explicit padding, got 3 hidden bytes before b",
		],
		[
			"a hole at the end",
			"struct s { int b; char a; } s;",
			"Cannot lay out struct s: expected explicit padding, got 3 hidden bytes before its end",
		],
		[
			"a hole in a struct inside",
			"struct in { char a; short b; }; struct s { struct in in; } s;",
			"Cannot lay out struct in: expected explicit padding, got 1 hidden bytes before b",
		],
		[
			"a bit field",
			"struct s { int a : 3; int b : 29; } s;",
			"Cannot lay out struct s: expected whole bytes, a is a bit field",
		],
		[
			"a pointer",
			"struct s { int *p; } s;",
			"Cannot lay out pointer : expected an integer, an array or a struct",
		],
		[
			"a union",
			"struct s { union u { int a; } u; } s;",
			"Cannot lay out union u: expected an integer, an array or a struct",
		],
	];
	for (const [shows, source, message] of rows) {
		const { btf } = compile(t, source);
		t.throws(() => structLayout(btf, "s"), { message }, shows);
	}
	const { btf } = compile(t, "int x;");
	t.throws(() => structLayout(btf, "s"), /Cannot find struct s/);
	t.throws(() => layoutOf(btf, 999), /Cannot find BTF type 999/);
});

t.test("enum values: negative, above 31 bits, 64 bits", async (t) => {
	const { btf } = compile(
		t,
		`enum small { A = -1, B = 2 } a; enum large { C = 0xffffffff } b;
		enum huge { D = 0x100000002 } c;`,
	);
	const values = (name: string): unknown => {
		const type = btf.find((each) => each.kind === "enum" && each.name === name);
		return type?.kind === "enum" && type.values.map((each) => [each.name, each.value]);
	};
	t.same(values("small"), [
		["A", -1n],
		["B", 2n],
	]);
	t.same(values("large"), [["C", 0xffffffffn]]);
	t.same(values("huge"), [["D", 0x100000002n]]);
});

t.test("maps from the .maps section", async (t) => {
	const { btf } = compile(
		t,
		`struct value { int a; };
		struct { int (*type)[1]; int (*max_entries)[70]; int (*map_flags)[3]; unsigned *key; struct value *value; } second __attribute__((section(".maps"), used));
		struct { int (*type)[27]; int (*max_entries)[4096]; } first __attribute__((section(".maps"), used));`,
	);
	t.same(mapDefinitions(btf), [
		{ name: "first", type: 27, maxEntries: 4096, flags: 0 },
		{
			name: "second",
			type: 1,
			maxEntries: 70,
			flags: 3,
			key: { kind: "integer", size: 4, bigEndian: false, signed: false },
			value: {
				kind: "struct",
				size: 4,
				name: "value",
				fields: [
					{
						name: "a",
						offset: 0,
						layout: { kind: "integer", size: 4, bigEndian: false, signed: true },
					},
				],
			},
		},
	]);
});

t.test("layouts are the same only when the same bytes mean the same", async (t) => {
	const layout = (fields: string) =>
		structLayout(compile(t, `typedef unsigned __be32; struct s { ${fields} } s;`).btf, "s");
	const one = layout("unsigned a; unsigned b;");
	t.ok(sameLayout(one, layout("unsigned int a, b;")));
	for (const other of ["unsigned b; unsigned a;", "unsigned a; __be32 b;", "unsigned a;"])
		t.notOk(sameLayout(one, layout(other)), other);
});

t.test("bytes that are neither BTF nor ELF", async (t) => {
	const { raw, object } = compile(t, "struct s { int a; } s;");
	t.throws(() => parseBtf(Buffer.alloc(3)), /expected little-endian BTF/);
	t.throws(() => parseBtf(raw.subarray(0, raw.length - 1)), /Cannot read BTF: expected \d+ bytes/);
	const cut = Buffer.from(raw);
	cut.writeUInt32LE(cut.readUInt32LE(12) - 4, 12);
	t.throws(() => parseBtf(cut), /the type section ends within a type/);
	t.throws(() => parseElf(Buffer.from("#!/bin/sh\n".padEnd(64))), /expected an ELF file/);
	t.throws(() => parseElf(object.subarray(0, object.length - 64)), /the file ends/);
	t.throws(() => sectionData(parseElf(object), ".nowhere"), /Cannot find section .nowhere/);
});
