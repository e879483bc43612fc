/** What is read of pinned maps when the agent starts. */

import { readFileSync } from "node:fs";
import t from "tap";
import type { BpfMap } from "#native";
import { MapLayouts } from "../../src/reconcile/programs/map_layouts.js";
import { endOf } from "../../src/reconcile/programs/migration.js";
import { parseBtf } from "../../src/tables/btf.js";
import { parseElf, sectionData } from "../../src/tables/elf.js";

const object = new URL("../../build/bpf/fairway.bpf.o", import.meta.url);
const raw = Buffer.from(sectionData(parseElf(readFileSync(object)), ".BTF"));
const idOf = (name: string) =>
	parseBtf(raw).findIndex((type) => type.kind === "struct" && type.name === name);

t.test("type information that maps share is parsed once", async (t) => {
	const read: number[] = [];
	const map = (btfId: number, bytes = raw) =>
		({
			info: { btfId, btfKeyTypeId: idOf("flow_key"), btfValueTypeId: idOf("peer") },
			btf: () => {
				read.push(btfId);
				return bytes;
			},
		}) as unknown as BpfMap;
	const layouts = new MapLayouts();
	const [first, same, copy] = [map(1), map(1), map(2, Buffer.from(raw))].map((one) =>
		layouts.of(one),
	);
	t.equal(first?.value.kind === "struct" && first.value.name, "peer");
	t.same([same, copy], [first, first]);
	t.same(read, [1, 2], "the kernel is asked once for each id");
	t.equal(layouts.of(map(3, raw.subarray(0, 30))), undefined, "what cannot be read has no layout");
	t.equal(layouts.of(map(3)), undefined);
});

t.test("the end of an array is behind its last entry", async (t) => {
	const array = (count: number, used: readonly number[]) => {
		const values = Buffer.alloc(count * 56);
		for (const index of used) values[index * 56 + 55] = 1;
		const slice = (cursor: Buffer | null, room: number) => {
			const first = cursor?.readUInt32LE() ?? 0;
			const end = Math.min(count, first + room);
			const next = Buffer.alloc(4);
			next.writeUInt32LE(end);
			return {
				keys: Buffer.alloc((end - first) * 4),
				values: values.subarray(first * 56, end * 56),
				...(end < count ? { next } : {}),
			};
		};
		return { info: { valueSize: 56 }, slice } as unknown as BpfMap;
	};
	t.equal(endOf(array(10_000, [])), 0);
	for (const last of [0, 1, 4095, 4096, 9999])
		t.equal(endOf(array(10_000, [0, last])), last + 1, `entry ${last}`);
});
