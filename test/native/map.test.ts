/** Maps of each type that Fairway uses, entry by entry and in batches, on the real kernel. */
import t from "tap";
import { BpfMap, possibleCpus } from "#native";
import { loadObject, MAP_TYPE, pairs, u32, u64 } from "./fixture.js";

const object = loadObject();
t.teardown(() => object.close());

/** The keys 0 to count - 1, one after another, and values made from them. */
function many(count: number, value: (key: number) => Buffer): { keys: Buffer; values: Buffer } {
	const all = Array.from({ length: count }, (_, key) => key);
	return { keys: Buffer.concat(all.map(u32)), values: Buffer.concat(all.map(value)) };
}

for (const [name, type] of [
	["a_hash", MAP_TYPE.HASH],
	["an_lru_hash", MAP_TYPE.LRU_HASH],
] as const) {
	t.test(name, async (t) => {
		const map = object.map(name);
		t.match(map.info, { type, name, keySize: 4, valueSize: 8, maxEntries: 64, flags: 0 });
		t.equal(map.lookup(u32(1)), undefined);
		t.equal(map.delete(u32(1)), false);
		t.equal(map.nextKey(null), undefined);
		t.same(map.entries(), { keys: Buffer.alloc(0), values: Buffer.alloc(0) });

		map.update(u32(1), u64(10n));
		map.update(u32(2), u64(20n), 1);
		t.same(map.lookup(u32(2)), u64(20n));
		t.throws(() => map.update(u32(2), u64(0), 1), { code: "EEXIST", errno: 17 });
		t.throws(() => map.update(u32(3), u64(0), 2), { code: "ENOENT", errno: 2 });
		map.update(u32(2), u64(21n), 2);

		const first = map.nextKey(null)!;
		const second = map.nextKey(first)!;
		t.same([first, second].map((key) => key.readUInt32LE()).sort(), [1, 2]);
		t.equal(map.nextKey(second), undefined);
		t.same(pairs(map), [
			[1, u64(10n).toString("hex")],
			[2, u64(21n).toString("hex")],
		]);

		t.equal(map.delete(u32(1)), true);
		t.equal(map.delete(u32(1)), false);
		// Missing keys at the start, in the middle and at the end of a batch are skipped.
		const { keys, values } = many(6, u64);
		map.updateBatch(keys, values);
		t.equal(map.deleteBatch(Buffer.concat([9, 0, 1, 9, 9, 3, 9].map(u32))), 3);
		t.same(
			pairs(map).map(([key]) => key),
			[2, 4, 5],
		);
		t.equal(map.deleteBatch(Buffer.alloc(0)), 0);
		map.close();
	});
}

t.test("a full hash map", async (t) => {
	const map = BpfMap.create({
		type: MAP_TYPE.HASH,
		name: "full",
		keySize: 4,
		valueSize: 4,
		maxEntries: 4,
	});
	const { keys, values } = many(5, u32);
	t.throws(() => map.updateBatch(keys, values), {
		name: "BpfError",
		code: "E2BIG",
		message: "Cannot update map full, entry 4 of 5: E2BIG (Argument list too long)",
	});
	t.equal(pairs(map).length, 4, "those before it are written");
	map.close();
});

t.test("batch flags, which the kernel's batches lack", async (t) => {
	const map = object.map("a_hash");
	const { keys, values } = many(3, u64);
	map.updateBatch(keys, values);
	t.throws(() => map.updateBatch(keys, values, 1), { code: "EEXIST", message: /entry 0 of 3/ });
	map.updateBatch(keys, Buffer.concat([7, 8, 9].map(u64)), 2);
	t.same(map.lookup(u32(2)), u64(9));
	map.close();
});

t.test("an array", async (t) => {
	const map = object.map("an_array");
	t.match(map.info, { type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 8, maxEntries: 8 });
	t.same(map.lookup(u32(7)), u64(0));
	t.equal(map.lookup(u32(8)), undefined);
	const { keys, values } = many(8, (key) => u64(key * key));
	map.updateBatch(keys, values);
	t.same(map.entries(), { keys, values });
	t.throws(() => map.update(u32(8), u64(0)), { code: "E2BIG" });
	t.throws(() => map.delete(u32(0)), { name: "BpfError", code: "EINVAL" });
	t.throws(() => map.deleteBatch(u32(0)), { name: "BpfError", code: "EINVAL" });
	map.close();
});

t.test("a per-CPU array", async (t) => {
	const map = object.map("per_cpu");
	const cpus = possibleCpus();
	t.match(map.info, { type: MAP_TYPE.PERCPU_ARRAY, valueSize: 4, maxEntries: 4 });
	// Each CPU's value takes 8 bytes, of which the kernel writes the first 4.
	const value = Buffer.concat(Array.from({ length: cpus }, (_, cpu) => u64(cpu + 1)));
	map.update(u32(2), value);
	t.same(map.lookup(u32(2)), value);
	t.equal(map.lookup(u32(0))?.length, 8 * cpus);
	t.throws(() => map.update(u32(2), u32(1)), {
		name: "RangeError",
		message: `Cannot update map per_cpu: expected a value of ${8 * cpus} bytes, got 4`,
	});
	const { keys, values } = map.entries();
	t.equal(keys.length, 16);
	t.same(values.subarray(16 * cpus, 24 * cpus), value);
	map.updateBatch(u32(3), value);
	t.same(map.lookup(u32(3)), value);
	map.close();
});

t.test("an LPM trie", async (t) => {
	const map = object.map("a_trie");
	const prefix = (length: number, ...address: number[]) =>
		Buffer.concat([u32(length), Buffer.from(address)]);
	t.match(map.info, { type: MAP_TYPE.LPM_TRIE, keySize: 8, valueSize: 4, flags: 1 });
	t.same(map.entries(), { keys: Buffer.alloc(0), values: Buffer.alloc(0) });
	const keys = Buffer.concat([
		prefix(8, 10, 0, 0, 0),
		prefix(24, 10, 1, 2, 0),
		prefix(0, 0, 0, 0, 0),
	]);
	map.updateBatch(keys, Buffer.concat([8, 24, 0].map(u32)));
	t.same(map.lookup(prefix(32, 10, 1, 2, 3)), u32(24));
	t.same(map.lookup(prefix(32, 10, 2, 2, 3)), u32(8));
	t.same(map.lookup(prefix(32, 11, 2, 2, 3)), u32(0));
	const entries = map.entries();
	const lengths = [0, 1, 2].map((index) => entries.keys.readUInt32LE(8 * index)).sort();
	t.same(lengths, [0, 24, 8]);
	for (let index = 0; index < 3; index++)
		t.equal(entries.values.readUInt32LE(4 * index), entries.keys.readUInt32LE(8 * index));
	t.equal(map.deleteBatch(Buffer.concat([prefix(9, 10, 0, 0, 0), keys.subarray(8)])), 2);
	t.equal(map.lookup(prefix(32, 11, 2, 2, 3)), undefined);
	t.throws(() => map.update(prefix(33, 10, 0, 0, 0), u32(0)), { code: "EINVAL" });
	map.close();
});

t.test("a ring buffer holds no entries", async (t) => {
	const map = object.map("ring");
	t.match(map.info, { type: MAP_TYPE.RINGBUF, keySize: 0, valueSize: 0 });
	t.throws(() => map.entries(), { name: "BpfError", code: "ENOTSUPP", errno: 524 });
	t.throws(() => map.lookup(Buffer.alloc(0)), { name: "BpfError" });
	t.throws(() => map.update(Buffer.alloc(0), Buffer.alloc(0)), { name: "BpfError" });
	t.throws(() => map.updateBatch(Buffer.alloc(0), Buffer.alloc(0)), { name: "RangeError" });
	map.close();
});

t.test("more entries than one batch takes", async (t) => {
	for (const type of [MAP_TYPE.HASH, MAP_TYPE.ARRAY]) {
		const count = 20_000;
		const map = BpfMap.create({ type, name: "large", keySize: 4, valueSize: 8, maxEntries: count });
		const { keys, values } = many(count, (key) => u64(BigInt(key) * 0x1_0000_0001n));
		map.updateBatch(keys, values);
		const read = pairs(map);
		t.equal(read.length, count);
		t.ok(
			read.every(
				([key, value], index) =>
					key === index && value === u64(BigInt(key) * 0x1_0000_0001n).toString("hex"),
			),
		);
		if (type === MAP_TYPE.HASH) {
			t.equal(map.deleteBatch(keys), count);
			t.same(pairs(map), []);
		}
		map.close();
	}
});

t.test("create, and open by id", async (t) => {
	const map = BpfMap.create({
		type: MAP_TYPE.LPM_TRIE,
		name: "name_that_is_too_long_for_the_kernel",
		keySize: 20,
		valueSize: 4,
		maxEntries: 16,
		flags: 1,
	});
	t.match(map.info, { name: "name_that_is_to", keySize: 20, btfId: 0, flags: 1 });
	t.equal(map.btf(), undefined);
	const same = BpfMap.openId(map.info.id);
	t.same(same.info, map.info);
	const id = map.info.id;
	map.close();
	t.equal(same.info.id, id, "each handle has a descriptor of its own");
	same.close();
	const empty = { type: MAP_TYPE.HASH, name: "x", keySize: 0, valueSize: 4, maxEntries: 1 };
	t.throws(() => BpfMap.create(empty), { name: "BpfError", code: "EINVAL" });
	t.throws(() => BpfMap.openId(0xffff_fff0), {
		name: "BpfError",
		code: "ENOENT",
		message: "Cannot open map with id 4294967280: ENOENT (No such file or directory)",
	});
});

t.test("BTF of the object that made a map", async (t) => {
	const map = object.map("a_trie");
	const btf = map.btf()!;
	t.equal(btf.readUInt16LE(0), 0xeb9f, "magic");
	t.ok(btf.includes("prefix_length"), "names of the key's members");
	t.not(map.info.btfKeyTypeId, 0);
	t.not(map.info.btfValueTypeId, 0);
	map.close();
});

t.test("read-only data is frozen", async (t) => {
	const name = "fixture.rodata";
	const map = object.map(name);
	t.throws(() => map.update(u32(0), Buffer.alloc(map.info.valueSize)), { code: "EPERM" });
	map.close();
});

t.test("sums of 64-bit words over all CPUs", async (t) => {
	const cpus = possibleCpus();
	const map = BpfMap.create({
		type: MAP_TYPE.PERCPU_ARRAY,
		name: "words",
		keySize: 4,
		valueSize: 16,
		maxEntries: 8,
	});
	const value = (first: bigint, second: bigint) =>
		Buffer.concat(Array.from({ length: cpus }, () => [u64(first), u64(second)]).flat());
	map.update(u32(1), value(7n, 2n ** 63n + 5n));
	map.update(u32(3), value(1n, 2n));
	const wrapped = BigInt.asUintN(64, BigInt(cpus) * (2n ** 63n + 5n));
	const all = BigInt(cpus);
	t.same(
		[...map.sums(Buffer.concat([3, 0, 1, 8].map(u32)))],
		[all, 2n * all, 0n, 0n, 7n * all, wrapped, 0n, 0n],
		"in the order of the keys; zeros where there is no such key",
	);
	t.equal(map.sums(Buffer.alloc(0)).length, 0);
	map.close();

	const other = object.map("an_array");
	other.update(u32(2), u64(9));
	t.same([...other.sums(u32(2))], [9n], "of a map that is not per CPU, its values");
	other.close();
	const odd = object.map("per_cpu");
	t.throws(() => odd.sums(u32(0)), { name: "RangeError", message: /64 bit words, got 4 bytes/ });
	odd.close();
});

for (const [type, flags] of [
	[MAP_TYPE.HASH, 0],
	[MAP_TYPE.LRU_HASH, 0],
	[MAP_TYPE.ARRAY, 0],
	[MAP_TYPE.PERCPU_ARRAY, 0],
	[MAP_TYPE.LPM_TRIE, 1],
] as const) {
	t.test(`slices of a map of type ${type} cover it exactly once`, async (t) => {
		const isTrie = type === MAP_TYPE.LPM_TRIE;
		const isPerCpu = type === MAP_TYPE.PERCPU_ARRAY;
		const map = BpfMap.create({
			...{ type, name: "sliced", keySize: isTrie ? 8 : 4, valueSize: 8 },
			...{ maxEntries: 1000, flags },
		});
		const values = isPerCpu ? possibleCpus() : 1;
		for (let key = 0; key < 1000; key++) {
			const value = Buffer.concat(Array.from({ length: values }, () => u64(key)));
			map.update(isTrie ? Buffer.concat([u32(32), u32(key)]) : u32(key), value);
		}
		for (const room of [1000, 64, 7]) {
			const keys: Buffer[] = [];
			const found: Buffer[] = [];
			let cursor: Buffer | undefined;
			do {
				const slice = map.slice(cursor ?? null, room);
				keys.push(slice.keys);
				found.push(slice.values);
				cursor = slice.next;
			} while (cursor !== undefined);
			const whole = map.entries();
			const size = map.info.keySize;
			const listed = (buffer: Buffer) =>
				Array.from({ length: buffer.length / size }, (_, i) =>
					buffer.toString("hex", i * size, (i + 1) * size),
				).sort();
			t.same(listed(Buffer.concat(keys)), listed(whole.keys), `${room} at a time`);
			t.equal(Buffer.concat(found).length, whole.values.length);
		}
		map.close();
	});
}

t.test("a slice of an empty map is empty, and the last", async (t) => {
	for (const [type, flags] of [
		[MAP_TYPE.HASH, 0],
		[MAP_TYPE.LPM_TRIE, 1],
	] as const) {
		const map = BpfMap.create({
			...{ type, name: "empty", keySize: 8, valueSize: 8, maxEntries: 4, flags },
		});
		t.same(map.slice(null, 16), { keys: Buffer.alloc(0), values: Buffer.alloc(0) });
		map.close();
	}
});
