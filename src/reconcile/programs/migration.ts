/**
 * Copies a map's entries into a map with another layout, field by field, by name, according to the BTF of
 * both. A plan of byte ranges is made once; each entry then takes a few copies.
 */
import type { BpfMap } from "#native";
import { possibleCpus } from "#native";
import { type Layout, PADDING } from "../../tables/layout.js";

interface Range {
	from: number;
	to: number;
	length: number;
}

export interface CopyPlan {
	ranges: Range[];
	/** What the new bytes are where nothing is copied; absent: zero. */
	preset?: Buffer;
	fromSize: number;
	toSize: number;
}

/**
 * How to make the new bytes from the old ones; undefined if that is impossible. New fields are zero, removed
 * ones are dropped; an integer may grow, but not shrink.
 *
 * @param whole true: every field of the new layout must come from the old one. A key with a new field would
 * mean something else.
 */
export function copyPlan(old: Layout, wanted: Layout, whole: boolean): CopyPlan | undefined {
	const ranges: Range[] = [];
	if (!plan(old, 0, wanted, 0, whole, ranges)) return undefined;
	return { ranges: merge(ranges), fromSize: old.size, toSize: wanted.size };
}

function plan(
	old: Layout,
	from: number,
	wanted: Layout,
	to: number,
	whole: boolean,
	ranges: Range[],
): boolean {
	if (old.kind === "integer" && wanted.kind === "integer") {
		const grows = wanted.size > old.size;
		if (wanted.size < old.size || old.bigEndian !== wanted.bigEndian) return false;
		if (grows && (old.signed || old.bigEndian)) return false;
		ranges.push({ from, to, length: old.size });
		return true;
	}
	if (old.kind === "array" && wanted.kind === "array") {
		if (wanted.length < old.length || (whole && wanted.length !== old.length)) return false;
		for (let index = 0; index < old.length; index++) {
			const oldAt = from + index * old.element.size;
			const newAt = to + index * wanted.element.size;
			if (!plan(old.element, oldAt, wanted.element, newAt, whole, ranges)) return false;
		}
		return true;
	}
	if (old.kind === "struct" && wanted.kind === "struct") {
		for (const field of wanted.fields) {
			if (field.name === PADDING) continue;
			const before = old.fields.find(({ name }) => name === field.name);
			if (before === undefined) {
				if (whole) return false;
				continue;
			}
			const oldAt = from + before.offset;
			if (!plan(before.layout, oldAt, field.layout, to + field.offset, whole, ranges)) return false;
		}
		return true;
	}
	return false;
}

/** Merges adjacent ranges. */
function merge(ranges: Range[]): Range[] {
	const merged: Range[] = [];
	for (const range of ranges) {
		const last = merged.at(-1);
		if (last && last.from + last.length === range.from && last.to + last.length === range.to)
			last.length += range.length;
		else merged.push({ ...range });
	}
	return merged;
}

export function convert({ ranges, preset, toSize }: CopyPlan, old: Buffer): Buffer {
	const bytes = preset === undefined ? Buffer.alloc(toSize) : Buffer.from(preset);
	for (const { from, to, length } of ranges) old.copy(bytes, to, from, from + length);
	return bytes;
}

const SLICE_BYTES = 1024 * 1024;

/** BPF_MAP_TYPE_* */
const MapType = {
	ARRAY: 2,
	PERCPU_HASH: 5,
	PERCPU_ARRAY: 6,
	LRU_PERCPU_HASH: 10,
} as const;

const perCpuTypes: readonly number[] = [
	MapType.PERCPU_HASH,
	MapType.PERCPU_ARRAY,
	MapType.LRU_PERCPU_HASH,
];

export function isPerCpu(type: number): boolean {
	return perCpuTypes.includes(type);
}

/** Size of a value in the addon: in per-CPU maps, rounded up to a multiple of 8. */
function valueStride(type: number, valueSize: number): number {
	return isPerCpu(type) ? Math.ceil(valueSize / 8) * 8 * possibleCpus() : valueSize;
}

export interface Entry {
	key: Buffer;
	value: Buffer;
}

/** The entries of a map, without all-zero entries of an array. */
export function* entriesOf(map: BpfMap): Generator<Entry> {
	const { type, keySize, valueSize } = map.info;
	const stride = valueStride(type, valueSize);
	const isArray = type === MapType.ARRAY || type === MapType.PERCPU_ARRAY;
	const zero = Buffer.alloc(stride);
	// With many CPUs the whole of a map would be hundreds of megabytes at once.
	const room = Math.max(1, Math.min(4096, Math.floor(SLICE_BYTES / (stride || 1))));
	let cursor: Buffer | null = null;
	do {
		const slice: ReturnType<BpfMap["slice"]> = map.slice(cursor, room);
		const { keys, values } = slice;
		for (let index = 0; index * keySize < keys.length; index++) {
			const value = values.subarray(index * stride, (index + 1) * stride);
			if (isArray && value.equals(zero)) continue;
			yield { key: keys.subarray(index * keySize, (index + 1) * keySize), value };
		}
		cursor = slice.next ?? null;
	} while (cursor !== null);
}

/** The index behind the last entry of an array that is not all zero. */
export function endOf(map: BpfMap): number {
	const { valueSize } = map.info;
	const room = Math.max(1, Math.min(4096, Math.floor(SLICE_BYTES / valueSize)));
	const zero = Buffer.alloc(room * valueSize);
	let end = 0;
	let first = 0;
	let cursor: Buffer | null = null;
	do {
		const slice: ReturnType<BpfMap["slice"]> = map.slice(cursor, room);
		const { values } = slice;
		const count = values.length / valueSize;
		if (zero.compare(values, 0, values.length, 0, values.length) !== 0) {
			let last = count;
			while (zero.compare(values, (last - 1) * valueSize, last * valueSize, 0, valueSize) === 0)
				last--;
			end = first + last;
		}
		first += count;
		cursor = slice.next ?? null;
	} while (cursor !== null);
	return end;
}

export interface MapCopy {
	from: BpfMap;
	to: BpfMap;
	key: CopyPlan;
	value: CopyPlan;
}

/** Copies all entries that fit. Returns the numbers of copied and of skipped entries. */
export function copyEntries({ from, to, key, value }: MapCopy): { copied: number; left: number } {
	const perCpu = isPerCpu(from.info.type);
	const oldStride = Math.ceil(value.fromSize / 8) * 8;
	const newStride = Math.ceil(value.toSize / 8) * 8;
	let copied = 0;
	let left = 0;
	for (const entry of entriesOf(from)) {
		let bytes: Buffer;
		if (perCpu) {
			bytes = Buffer.alloc(newStride * possibleCpus());
			for (let cpu = 0; cpu < possibleCpus(); cpu++) {
				const old = entry.value.subarray(cpu * oldStride, cpu * oldStride + value.fromSize);
				convert(value, old).copy(bytes, cpu * newStride);
			}
		} else {
			bytes = convert(value, entry.value);
		}
		try {
			to.update(convert(key, entry.key), bytes);
			copied++;
		} catch {
			left++;
		}
	}
	return { copied, left };
}
