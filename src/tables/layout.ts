/**
 * The memory layout of table values, read from BTF. The generator derives codecs from it, and the
 * reconciler compares the layouts of an existing map and a new one.
 */
import { type Btf, resolve, typeOf } from "./btf.js";

export type Layout =
	| { kind: "integer"; size: 1 | 2 | 4 | 8; bigEndian: boolean; signed: boolean }
	| { kind: "array"; size: number; length: number; element: Layout }
	| { kind: "struct"; size: number; name: string; fields: Field[] };

export interface Field {
	name: string;
	/** Bytes from the start of the struct. */
	offset: number;
	layout: Layout;
}

export type StructLayout = Extract<Layout, { kind: "struct" }>;

/** A map as declared in an object's .maps section. */
export interface MapDefinition {
	name: string;
	/** BPF_MAP_TYPE_* */
	type: number;
	maxEntries: number;
	/** BPF_F_* */
	flags: number;
	key?: Layout;
	value?: Layout;
}

/** The name of padding fields, which are always zero. */
export const PADDING = "pad";

/**
 * The layout of a type. Throws for types that no table may hold: pointers, unions, bit fields, and
 * implicit padding (its bytes would be whatever was on the stack).
 */
export function layoutOf(btf: Btf, id: number): Layout {
	const { type, typedefs } = resolve(btf, id);
	switch (type.kind) {
		case "int":
		case "enum": {
			const { size } = type;
			if (size !== 1 && size !== 2 && size !== 4 && size !== 8)
				throw new Error(`Cannot lay out ${type.name}: expected 1, 2, 4 or 8 bytes, got ${size}`);
			return {
				kind: "integer",
				size,
				bigEndian: typedefs.some((name) => /^__be(16|32|64)$/.test(name)),
				signed: type.kind === "int" && type.signed,
			};
		}
		case "array": {
			const element = layoutOf(btf, type.element);
			return { kind: "array", size: element.size * type.length, length: type.length, element };
		}
		case "struct": {
			const fields = type.members.map((member): Field => {
				if (member.bitSize !== 0 || member.bitOffset % 8 !== 0)
					throw new Error(
						`Cannot lay out struct ${type.name}: expected whole bytes, ${member.name} is a bit field`,
					);
				return {
					name: member.name,
					offset: member.bitOffset / 8,
					layout: layoutOf(btf, member.type),
				};
			});
			const layout: StructLayout = { kind: "struct", size: type.size, name: type.name, fields };
			refuseHoles(layout);
			return layout;
		}
		default:
			throw new Error(
				`Cannot lay out ${type.kind} ${type.name}: expected an integer, an array or a struct`,
			);
	}
}

function refuseHoles({ name, size, fields }: StructLayout): void {
	let end = 0;
	for (const field of [...fields, { name: "its end", offset: size, layout: { size: 0 } }]) {
		if (field.offset !== end)
			throw new Error(
				`Cannot lay out struct ${name}: expected explicit padding, got ${field.offset - end} hidden bytes before ${field.name}`,
			);
		end = field.offset + field.layout.size;
	}
}

/** The layout of `struct name`. */
export function structLayout(btf: Btf, name: string): StructLayout {
	const id = btf.findIndex((type) => type.kind === "struct" && type.name === name);
	const layout = id < 0 ? undefined : layoutOf(btf, id);
	if (layout?.kind !== "struct")
		throw new Error(`Cannot find struct ${name}: BTF does not have it`);
	return layout;
}

/** True if the same bytes mean the same in both, including names. */
export function sameLayout(one: Layout, other: Layout): boolean {
	return JSON.stringify(one) === JSON.stringify(other);
}

/** The maps that an object declares. */
export function mapDefinitions(btf: Btf): MapDefinition[] {
	return sectionVariables(btf, ".maps")
		.map(({ name, type }): MapDefinition => {
			const struct = resolve(btf, type).type;
			if (struct.kind !== "struct")
				throw new Error(`Cannot read map ${name}: expected a struct, got ${struct.kind}`);
			const pointee = (attribute: string): number | undefined => {
				const member = struct.members.find((candidate) => candidate.name === attribute);
				const pointer = member && resolve(btf, member.type).type;
				return pointer?.kind === "pointer" ? pointer.type : undefined;
			};
			/** __uint(x, n) declares `int (*x)[n]`. */
			const number = (attribute: string): number => {
				const id = pointee(attribute);
				const array = id === undefined ? undefined : typeOf(btf, id);
				return array?.kind === "array" ? array.length : 0;
			};
			const key = pointee("key");
			const value = pointee("value");
			return {
				name,
				type: number("type"),
				maxEntries: number("max_entries"),
				flags: number("map_flags"),
				...(key !== undefined && { key: layoutOf(btf, key) }),
				...(value !== undefined && { value: layoutOf(btf, value) }),
			};
		})
		.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The variables of a data section, with their types. */
export function sectionVariables(btf: Btf, section: string): { name: string; type: number }[] {
	const found = btf.find((type) => type.kind === "dataSection" && type.name === section);
	if (found?.kind !== "dataSection") return [];
	return found.variables.map((id) => {
		const variable = typeOf(btf, id);
		if (variable.kind !== "variable")
			throw new Error(`Cannot read section ${section}: expected variables, got ${variable.kind}`);
		return { name: variable.name, type: variable.type };
	});
}
