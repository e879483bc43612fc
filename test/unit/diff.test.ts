import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { addEntries, type EntryChanges, takeEntries } from "../../src/tables/changes.js";
import { diffMap } from "../../src/tables/diff.js";

t.test("differences of maps", async (t) => {
	const value = (path: number) => ({ path, list: [path] });
	const from = new Map([
		["a", value(1)],
		["b", value(2)],
		["c", value(3)],
	]);
	const to = new Map([
		["a", value(1)],
		["b", value(9)],
		["d", value(4)],
	]);
	t.same(diffMap(from, to), {
		put: [
			["b", value(9)],
			["d", value(4)],
		],
		remove: ["c"],
	});
	t.same(diffMap(new Map([["a", undefined]]), new Map([["b", undefined]])), {
		put: [["b", undefined]],
		remove: ["a"],
	});
	t.same(
		diffMap<string, object>(new Map([["a", { x: undefined }]]), new Map([["a", { y: undefined }]]))
			.put.length,
		1,
	);
});

const map = fc
	.array(
		fc.tuple(
			fc.nat(6),
			fc.nat(2).map((n) => ({ n })),
		),
		{ maxLength: 6 },
	)
	.map((entries) => new Map(entries));

function changesOf<K, V>(from: Map<K, V>, to: Map<K, V>): EntryChanges<K, V> {
	const { put, remove } = diffMap(from, to);
	return { put: new Map(put), remove: new Set(remove) };
}

t.test("random maps: diffMap(a, a) is empty, and a plus diffMap(a, b) is b", async () => {
	fc.assert(
		fc.property(map, map, (a, b) => {
			assert.deepEqual(diffMap(a, structuredClone(a)), { put: [], remove: [] });
			takeEntries(a, changesOf(a, b));
			assert.deepEqual(a, b);
		}),
	);
});

t.test("random changes: both at once are one after the other", async () => {
	fc.assert(
		fc.property(map, map, map, (a, b, c) => {
			const changes = changesOf(a, b);
			addEntries(changes, changesOf(b, c));
			for (const key of changes.put.keys()) assert.ok(!changes.remove.has(key));
			const keys = new Set<number>();
			const before = new Map(a);
			takeEntries(a, changes, (key) => keys.add(key));
			assert.deepEqual(a, c);
			for (const key of new Set([...before.keys(), ...c.keys()]))
				if (before.get(key)?.n !== c.get(key)?.n) assert.ok(keys.has(key), "each key is told");
		}),
	);
});
