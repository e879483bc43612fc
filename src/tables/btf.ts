/**
 * Parses BTF, the kernel's type information (Documentation/bpf/btf.rst), from the raw bytes of an
 * object's .BTF section or of a map in the kernel.
 */
import { textAt } from "./elf.js";

/** BTF_KIND_* by number. */
const kinds = [
	"void",
	"int",
	"pointer",
	"array",
	"struct",
	"union",
	"enum",
	"forward",
	"typedef",
	"volatile",
	"const",
	"restrict",
	"function",
	"prototype",
	"variable",
	"dataSection",
	"float",
	"declarationTag",
	"typeTag",
	"enum64",
] as const;

export interface Member {
	name: string;
	type: number;
	bitOffset: number;
	/** 0: not a bit field. */
	bitSize: number;
}

export type Type =
	| { kind: "void"; name: "" }
	| { kind: "int"; name: string; size: number; signed: boolean; boolean: boolean }
	| { kind: "float" | "forward" | "prototype"; name: string; size: number }
	| { kind: "array"; name: ""; element: number; length: number }
	| { kind: "struct" | "union"; name: string; size: number; members: Member[] }
	| { kind: "enum"; name: string; size: number; values: { name: string; value: bigint }[] }
	| { kind: "dataSection"; name: string; size: number; variables: number[] }
	| {
			kind:
				| "pointer"
				| "typedef"
				| "volatile"
				| "const"
				| "restrict"
				| "function"
				| "variable"
				| "declarationTag"
				| "typeTag";
			name: string;
			type: number;
	  };

/** The types by their BTF id; 0 is void. */
export type Btf = readonly Type[];

/** Throws if `raw` is not little-endian BTF version 1, or is truncated. */
export function parseBtf(raw: Buffer): Btf {
	if (raw.length < 24 || raw.readUInt16LE(0) !== 0xeb9f || raw[2] !== 1)
		throw new Error("Cannot read BTF: expected little-endian BTF version 1, got another header");
	const headerLength = raw.readUInt32LE(4);
	const typesStart = headerLength + raw.readUInt32LE(8);
	const typesEnd = typesStart + raw.readUInt32LE(12);
	const stringsStart = headerLength + raw.readUInt32LE(16);
	const stringsEnd = stringsStart + raw.readUInt32LE(20);
	if (Math.max(typesEnd, stringsEnd) > raw.length)
		throw new Error(
			`Cannot read BTF: expected ${Math.max(typesEnd, stringsEnd)} bytes, got ${raw.length}`,
		);
	const strings = raw.subarray(stringsStart, stringsEnd);

	let at = typesStart;
	const u32 = (): number => {
		at += 4;
		if (at > typesEnd) throw new Error("Cannot read BTF: the type section ends within a type");
		return raw.readUInt32LE(at - 4);
	};
	const text = (): string => textAt(strings, u32());

	const types: Type[] = [{ kind: "void", name: "" }];
	while (at < typesEnd) types.push(readType());
	return types;

	function readType(): Type {
		const name = text();
		const info = u32();
		const sizeOrType = u32();
		const kind = kinds[(info >>> 24) & 0x1f];
		const flag = info >>> 31 === 1;
		const rows = <T>(row: () => T): T[] => Array.from({ length: info & 0xffff }, row);
		switch (kind) {
			case "int": {
				const encoding = (u32() >>> 24) & 0xf;
				return {
					kind,
					name,
					size: sizeOrType,
					signed: (encoding & 1) !== 0,
					boolean: (encoding & 4) !== 0,
				};
			}
			case "array": {
				const element = u32();
				u32(); // the type of an index
				return { kind, name: "", element, length: u32() };
			}
			case "struct":
			case "union":
				return {
					kind,
					name,
					size: sizeOrType,
					members: rows(() => {
						const memberName = text();
						const type = u32();
						const offset = u32();
						return {
							name: memberName,
							type,
							bitOffset: flag ? offset & 0xffffff : offset,
							bitSize: flag ? offset >>> 24 : 0,
						};
					}),
				};
			case "enum":
				return {
					kind,
					name,
					size: sizeOrType,
					values: rows(() => {
						const valueName = text();
						const value = u32();
						return { name: valueName, value: BigInt(flag ? value | 0 : value) };
					}),
				};
			case "enum64":
				return {
					kind: "enum",
					name,
					size: sizeOrType,
					values: rows(() => {
						const valueName = text();
						const low = BigInt(u32());
						const value = low | (BigInt(u32()) << 32n);
						return { name: valueName, value: flag ? BigInt.asIntN(64, value) : value };
					}),
				};
			case "prototype":
				rows(() => [u32(), u32()]);
				return { kind, name, size: 0 };
			case "variable":
			case "declarationTag":
				u32(); // linkage, or the member that is tagged
				return { kind, name, type: sizeOrType };
			case "dataSection":
				return {
					kind,
					name,
					size: sizeOrType,
					variables: rows(() => {
						const type = u32();
						u32(); // offset: filled in by the loader only
						u32(); // size
						return type;
					}),
				};
			case "float":
			case "forward":
				return { kind, name, size: kind === "float" ? sizeOrType : 0 };
			case "pointer":
			case "typedef":
			case "volatile":
			case "const":
			case "restrict":
			case "function":
			case "typeTag":
				return { kind, name, type: sizeOrType };
			default:
				throw new Error(`Cannot read BTF: expected a known kind, got ${(info >>> 24) & 0x1f}`);
		}
	}
}

/** The type with this id. Throws if there is none. */
export function typeOf(btf: Btf, id: number): Type {
	const type = btf[id];
	if (!type) throw new Error(`Cannot find BTF type ${id}: expected an id below ${btf.length}`);
	return type;
}

/** Follows typedefs and qualifiers; `typedefs` are the typedef names on the way, outermost first. */
export function resolve(btf: Btf, id: number): { type: Type; id: number; typedefs: string[] } {
	const typedefs: string[] = [];
	for (let steps = 0; steps < btf.length; steps++) {
		const type = typeOf(btf, id);
		switch (type.kind) {
			case "typedef":
				typedefs.push(type.name);
				id = type.type;
				break;
			case "const":
			case "volatile":
			case "restrict":
			case "typeTag":
				id = type.type;
				break;
			default:
				return { type, id, typedefs };
		}
	}
	throw new Error(`Cannot resolve BTF type ${id}: it refers to itself`);
}
