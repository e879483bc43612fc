// Writes src/tables/generated.ts from the BTF of the linked BPF object:
//   1 enums   2 structs as codecs   3 maps   4 knobs
// docs/COUNTERS.md from the header's comments, docs/CLOUDS.md from src/probe/causes.ts,
// docs/CONFIGURATION.md from src/config/schema.ts and docs/METRICS.md from src/http/metrics.ts,
// man/fairway.8 from the commands as src/cli/main.ts defines them, deploy/helm from deploy/fairway.yaml.
// With --check it only compares, and fails when a committed file is another.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { type Btf, parseBtf, resolve } from "../src/tables/btf.js";
import { type Elf, parseElf, sectionData } from "../src/tables/elf.js";
import {
	type Field,
	type Layout,
	layoutOf,
	type MapDefinition,
	mapDefinitions,
	PADDING,
	type StructLayout,
	sectionVariables,
} from "../src/tables/layout.js";
import { CHART, chartFiles } from "./chart.js";
import { cloudsPage } from "./clouds.js";
import { configurationPage } from "./configuration.js";
import { countersPage } from "./counters.js";
import { manualPage } from "./man.js";
import { metricsPage } from "./metrics.js";

const OBJECT = "build/bpf/fairway.bpf.o";
const OUTPUT = "src/tables/generated.ts";
const HEADER = "bpf/lib/tables.h";
const COUNTERS = "docs/COUNTERS.md";
const CLOUDS = "docs/CLOUDS.md";
const CONFIGURATION = "docs/CONFIGURATION.md";
const METRICS = "docs/METRICS.md";
const MANUAL = "man/fairway.8";

const PER_CPU_TYPES = new Set([5, 6, 10]); // BPF_MAP_TYPE_{PERCPU_HASH,PERCPU_ARRAY,LRU_PERCPU_HASH}

/** Structs that TypeScript represents as text, with their codec and field helpers. */
const textTypes: Record<string, { codec?: string; read: string; write: string }> = {
	address: { codec: "address", read: "readAddress", write: "writeAddress" },
	mac: { read: "readMac", write: "writeMac" },
};
/** Keys of maps that TypeScript represents as text, or as a number: their codecs, and the members that these expect. */
const textKeys: Record<
	string,
	{ codec: string; type?: "number"; members: readonly string[]; about: string }
> = {
	route_key: {
		codec: "prefix",
		members: ["prefix_length", "address"],
		about: 'A prefix as text: "10.0.0.0/8".',
	},
	frontend_key: {
		codec: "frontendKey",
		members: ["address", "port", "protocol", PADDING],
		about: 'As text: "ADDRESS PROTOCOL PORT".',
	},
	range_key: {
		codec: "rangeKey",
		members: ["prefix_length", "service", "address"],
		about: 'As text: "SERVICE PREFIX".',
	},
	policy_verdict_key: {
		codec: "policyVerdictKey",
		type: "number",
		members: ["policy", "class"],
		about: "As one number: policy * 2^32 + class.",
	},
};

/** Structs of which bulk readers look at a few fields: these get their offsets, too. */
const BULK: ReadonlySet<string> = new Set(["flow", "flow_addresses", "flow_ports"]);

const pascal = (name: string): string =>
	name.replace(/(^|_)([a-z0-9])/g, (_match, _start, letter: string) => letter.toUpperCase());
const camel = (name: string): string =>
	name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
const plus = (offset: number): string => (offset === 0 ? "o" : `o + ${offset}`);

// ------------------------------------------------------------------ 1 enums

function enumText(name: string, values: { name: string; value: bigint }[]): string {
	// PATH_DIRECT becomes Path.DIRECT if every member starts with the same word.
	const first = /^[A-Z0-9]+_/.exec(values[0]?.name ?? "")?.[0] ?? "";
	const common = values.every((value) => value.name.startsWith(first)) ? first : "";
	const members = values.map((value) => ({
		name: value.name.slice(common.length),
		value: value.value,
	}));
	const type = pascal(name);
	const lines = [
		`export const ${type} = {`,
		...members.map((member) => `${member.name}: ${member.value},`),
		"} as const;",
		`export type ${type} = (typeof ${type})[keyof typeof ${type}];`,
	];
	if (common !== "")
		lines.push(
			`export const ${type}Name: Readonly<Record<number, string>> = {`,
			...members
				.filter((member) => !/(^|_)COUNT$/.test(member.name))
				.map((member) => `${member.value}: ${JSON.stringify(member.name.toLowerCase())},`),
			"};",
		);
	return lines.join("\n");
}

// ------------------------------------------------------------------ 2 structs

function tsType(layout: Layout): string {
	switch (layout.kind) {
		case "integer":
			return layout.size === 8 ? "bigint" : "number";
		case "array":
			return `${tsType(layout.element)}[]`;
		case "struct":
			if (layout.name in textTypes) return "string";
			return layout.name in textKeys
				? (textKeys[layout.name]!.type ?? "string")
				: pascal(layout.name);
	}
}

/** The name of a Buffer accessor: "UInt32LE", "BigUInt64BE". */
function accessor({ size, bigEndian, signed }: Extract<Layout, { kind: "integer" }>): string {
	const order = size === 1 ? "" : bigEndian ? "BE" : "LE";
	return `${size === 8 ? "Big" : ""}${signed ? "" : "U"}Int${size * 8}${order}`;
}

function writeText(layout: Layout, at: string, value: string, field: string): string {
	switch (layout.kind) {
		case "integer":
			return `b.write${accessor(layout)}(${value}, ${at});`;
		case "struct": {
			const text = textTypes[layout.name];
			return text
				? `${text.write}(b, ${at}, ${value});`
				: `${pascal(layout.name)}.write(b, ${at}, ${value});`;
		}
		case "array": {
			const element = writeText(layout.element, `${at} + i * ${layout.element.size}`, "e", field);
			return `elements(${value}, ${layout.length}, "${field}").forEach((e, i) => { ${element} });`;
		}
	}
}

function readText(layout: Layout, at: string): string {
	switch (layout.kind) {
		case "integer":
			return `b.read${accessor(layout)}(${at})`;
		case "struct": {
			const text = textTypes[layout.name];
			return text ? `${text.read}(b, ${at})` : `${pascal(layout.name)}.decode(b, ${at})`;
		}
		case "array": {
			const element = readText(layout.element, `${at} + i * ${layout.element.size}`);
			return `Array.from({ length: ${layout.length} }, (_, i) => ${element})`;
		}
	}
}

function structText(layout: StructLayout): string {
	const type = pascal(layout.name);
	const key = textKeys[layout.name];
	if (key !== undefined) {
		if (layout.fields.map(({ name }) => name).join() !== key.members.join())
			throw new Error(
				`Cannot generate struct ${layout.name}: expected the members ${key.members.join(", ")}, got others`,
			);
		return `/** ${key.about} */\nexport type ${type} = ${key.type ?? "string"};\nexport const ${type} = ${key.codec};`;
	}
	const fields = layout.fields.filter((field) => field.name !== PADDING);
	const each = (line: (field: Field, name: string) => string): string =>
		fields.map((field) => line(field, camel(field.name))).join("\n");
	const body = each((field, name) =>
		writeText(field.layout, plus(field.offset), `v.${name}`, `${layout.name}.${field.name}`),
	);
	const offsets = BULK.has(layout.name)
		? `/** Bytes from the start of a ${type} to each field. */
	export const ${type}Offset = { ${each((field, name) => `${name}: ${field.offset},`)} } as const;\n`
		: "";
	return `${offsets}export interface ${type} {
		${each((field, name) => `${name}: ${tsType(field.layout)};`)}
	}
	export const ${type}: Codec<${type}> = codec<${type}>(${layout.size}, (b, o, v) => {
		${body}
	}, (b, o) => ({
		${each((field, name) => `${name}: ${readText(field.layout, plus(field.offset))},`)}
	}));`;
}

/** Every struct in BTF that tables use, nested ones first. */
function tableStructs(roots: Layout[]): StructLayout[] {
	const found = new Map<string, StructLayout>();
	const visit = (layout: Layout): void => {
		if (layout.kind === "array") visit(layout.element);
		if (layout.kind !== "struct" || layout.name in textTypes || found.has(layout.name)) return;
		if (layout.name === "") throw new Error("Cannot generate struct: it has no name");
		for (const field of layout.fields) visit(field.layout);
		found.set(layout.name, layout);
	};
	roots.forEach(visit);
	return [...found.values()];
}

// ------------------------------------------------------------------ 3 maps

function codecName(layout: Layout): string {
	if (layout.kind === "struct") return textTypes[layout.name]?.codec ?? pascal(layout.name);
	if (layout.kind === "integer" && !layout.bigEndian && !layout.signed && layout.size !== 2)
		return `u${layout.size * 8}`;
	throw new Error(`Cannot generate a map: expected a struct or an integer, got an array`);
}

function mapText({ name, type, maxEntries, flags, key, value }: MapDefinition): string {
	return `${camel(name)}: {
		name: "${name}",
		type: ${type},
		maxEntries: ${maxEntries},
		flags: ${flags},
		perCpu: ${PER_CPU_TYPES.has(type)},
		keySize: ${key?.size ?? 0},
		valueSize: ${value?.size ?? 0},
		${key ? `key: ${codecName(key)},` : ""}
		${value ? `value: ${codecName(value)},` : ""}
	},`;
}

// ------------------------------------------------------------------ 4 knobs

/** The numbers in .rodata that are set before loading. */
function knobText(elf: Elf, btf: Btf): string {
	const section = elf.sections.findIndex(({ name }) => name === ".rodata");
	return sectionVariables(btf, ".rodata")
		.filter(({ type }) => resolve(btf, type).type.kind === "int")
		.map(({ name, type }) => {
			const symbol = elf.symbols.find((s) => s.name === name && s.section === section);
			if (!symbol) throw new Error(`Cannot find knob ${name}: no such symbol`);
			return `${camel(name)}: { offset: ${symbol.value}, ...${codecName(layoutOf(btf, type))} },`;
		})
		.join("\n");
}

// ------------------------------------------------------------------

/** The types that the object exports for this generator: the members of `described_types`. */
function describedTypes(btf: Btf): { enums: string[]; structs: Layout[] } {
	const variable = sectionVariables(btf, ".rodata").find((v) => v.name === "described_types");
	const union = variable && resolve(btf, variable.type).type;
	if (union?.kind !== "union")
		throw new Error("Cannot find described_types: expected a union in .rodata, got none");
	const enums: string[] = [];
	const structs: Layout[] = [];
	for (const member of union.members) {
		const { type, id } = resolve(btf, member.type);
		if (type.kind === "enum") enums.push(enumText(type.name, type.values));
		else structs.push(layoutOf(btf, id));
	}
	return { enums, structs };
}

function generate(object: Buffer): string {
	const elf = parseElf(object);
	const btf = parseBtf(sectionData(elf, ".BTF"));
	const maps = mapDefinitions(btf);
	const { enums, structs } = describedTypes(btf);
	const roots = [...maps.flatMap(({ key, value }) => [key, value]), ...structs];
	const layouts = tableStructs(roots.filter((layout) => layout !== undefined));
	const text = [
		[
			"// Generated from BTF by `npm run generate`. What it says is declared in bpf/lib/tables.h.",
			'import { readAddress, readMac, writeAddress, writeMac } from "./address.js";',
			'import { address, type Codec, codec, elements, frontendKey, policyVerdictKey, prefix, rangeKey, u8, u32, u64 } from "./codec.js";',
		].join("\n"),
		...enums,
		...layouts.map(structText),
		`/** Every map of the object, by its name in camel case. */\nexport const maps = {\n${maps.map(mapText).join("\n")}\n} as const;`,
		`/** Bytes of .rodata that are written before the load. */\nexport const knobs = {\n${knobText(elf, btf)}\n} as const;`,
	].join("\n\n");
	return formatted(text);
}

function formatted(text: string): string {
	const biome = spawnSync(
		"node_modules/.bin/biome",
		["check", "--write", "--linter-enabled=false", `--stdin-file-path=${OUTPUT}`],
		{ input: text, encoding: "utf8" },
	);
	if (biome.status !== 0) throw new Error(`Cannot format ${OUTPUT}: ${biome.stderr}`);
	return biome.stdout;
}

/** Writes a file that differs; with --check, only reports it. */
function accept(output: string, text: string): void {
	const present = readFileSync(output, { encoding: "utf8", flag: "a+" });
	if (text === present) return;
	if (process.argv.includes("--check")) {
		process.stderr.write(
			`${output}: Cannot use this file: it is out of date, run npm run generate\n`,
		);
		process.exitCode = 1;
		return;
	}
	writeFileSync(output, text);
	process.stderr.write(`fairway: Generated ${output}\n`);
}

accept(OUTPUT, generate(readFileSync(OBJECT)));
accept(COUNTERS, countersPage(readFileSync(HEADER, "utf8")));
accept(CLOUDS, cloudsPage());
accept(CONFIGURATION, configurationPage());
accept(METRICS, metricsPage());
const { version } = JSON.parse(readFileSync("package.json", "utf8"));
accept(MANUAL, manualPage(version));
const manifest = readFileSync("deploy/fairway.yaml", "utf8");
for (const [name, text] of Object.entries(chartFiles(manifest, version)))
	accept(`${CHART}/${name}`, text);
