/**
 * Finds sections and symbols in a little-endian 64-bit ELF file (System V ABI), the format of BPF
 * objects on the machines that Fairway supports.
 */

const SECTION_HEADER_SIZE = 64;
const SYMBOL_SIZE = 24;
const TYPE_SYMBOLS = 2;

export interface Section {
	name: string;
	type: number;
	/** Index of the section that this one refers to (for a symbol table: its strings). */
	link: number;
	data: Buffer;
}

export interface Symbol {
	name: string;
	/** Index of the symbol's section. */
	section: number;
	/** Offset in the section. */
	value: number;
	size: number;
}

export interface Elf {
	sections: Section[];
	symbols: Symbol[];
}

/** Text up to the next zero byte. */
export function textAt(strings: Buffer, offset: number): string {
	const end = strings.indexOf(0, offset);
	return strings.toString("utf8", offset, end < 0 ? strings.length : end);
}

/** Throws if `file` is not such an ELF file. */
export function parseElf(file: Buffer): Elf {
	if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46)
		throw new Error("Cannot read object: expected an ELF file, got another magic number");
	if (file[4] !== 2 || file[5] !== 1)
		throw new Error("Cannot read object: expected 64-bit little-endian ELF, got another kind");
	const tableOffset = Number(file.readBigUInt64LE(40));
	const count = file.readUInt16LE(60);
	const namesIndex = file.readUInt16LE(62);
	if (tableOffset + count * SECTION_HEADER_SIZE > file.length)
		throw new Error(`Cannot read object: the file ends before its ${count} section headers`);

	const headers = Array.from({ length: count }, (_, index) => {
		const at = tableOffset + index * SECTION_HEADER_SIZE;
		const type = file.readUInt32LE(at + 4);
		const offset = Number(file.readBigUInt64LE(at + 24));
		const size = Number(file.readBigUInt64LE(at + 32));
		const inFile = type !== 8; // SHT_NOBITS
		if (inFile && offset + size > file.length)
			throw new Error(`Cannot read object: the file ends within section ${index}`);
		return {
			nameOffset: file.readUInt32LE(at),
			type,
			link: file.readUInt32LE(at + 40),
			data: inFile ? file.subarray(offset, offset + size) : Buffer.alloc(0),
		};
	});
	const names = headers[namesIndex]?.data ?? Buffer.alloc(0);
	const sections = headers.map(({ nameOffset, ...rest }) => ({
		name: textAt(names, nameOffset),
		...rest,
	}));

	const table = sections.find(({ type }) => type === TYPE_SYMBOLS);
	const strings = table && sections[table.link]?.data;
	const symbols: Symbol[] = [];
	for (let at = 0; table && strings && at + SYMBOL_SIZE <= table.data.length; at += SYMBOL_SIZE)
		symbols.push({
			name: textAt(strings, table.data.readUInt32LE(at)),
			section: table.data.readUInt16LE(at + 6),
			value: Number(table.data.readBigUInt64LE(at + 8)),
			size: Number(table.data.readBigUInt64LE(at + 16)),
		});
	return { sections, symbols };
}

/** The bytes of a section. Throws if there is none of that name. */
export function sectionData(elf: Elf, name: string): Buffer {
	const section = elf.sections.find((candidate) => candidate.name === name);
	if (!section)
		throw new Error(
			`Cannot find section ${name}: the object only has ${elf.sections.map((s) => s.name).join(" ")}`,
		);
	return section.data;
}
