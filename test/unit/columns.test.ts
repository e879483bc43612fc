/** Columns against the obvious: Maps and objects. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { PodObject } from "../../src/cluster/pod_object.js";
import { PodTable } from "../../src/cluster/pod_table.js";
import { ObjectTable } from "../../src/cluster/record_table.js";
import { AddressIndex } from "../../src/columns/address_index.js";
import { AddressNumbers } from "../../src/columns/address_numbers.js";
import { AddressPages, PAUSE } from "../../src/columns/address_pages.js";
import { grown } from "../../src/columns/grow.js";
import { Pool } from "../../src/columns/pool.js";
import { Rows } from "../../src/columns/rows.js";
import { Slots } from "../../src/columns/slots.js";
import { Texts } from "../../src/columns/texts.js";
import { parseAddress } from "../../src/tables/address.js";
import { containsAddress, parsePrefix } from "../../src/tables/prefix.js";

/** Adds and removes, of few values, so that most meet one that is there. */
const steps = <T>(value: fc.Arbitrary<T>) =>
	fc.array(fc.record({ value, adds: fc.boolean() }), { maxLength: 200 });

t.test("a column keeps what it has when it grows, and what is new is zero", async (t) => {
	const column = Int32Array.of(1, 2, 3);
	t.equal(grown(column, 3), column);
	const longer = grown(column, 4);
	t.ok(longer.length >= 64 && longer instanceof Int32Array);
	t.same([...longer.subarray(0, 5)], [1, 2, 3, 0, 0]);
});

t.test("rows keep their numbers apart and in place, and a new one is of zeros", async (t) => {
	const SIZE = 24;
	const rows = new Rows(SIZE);
	const numbers = Array.from({ length: 2100 }, () => rows.add());
	const doubleAt = (row: number) => rows.piece(row).doubles[rows.start(row) / 8];
	for (const row of numbers) {
		const { doubles, words, bytes } = rows.piece(row);
		const start = rows.start(row);
		doubles[start / 8] = row + 0.5;
		words[start / 4 + 2] = 0xffffffff;
		bytes.fill(0xee, start + 12, start + SIZE);
	}
	t.same(new Set(numbers).size, 2100);
	t.ok(numbers.every((row) => doubleAt(row) === row + 0.5));
	const before = rows.piece(3);
	rows.remove(3);
	t.equal(rows.add(), 3, "a place is used again");
	t.equal(rows.piece(3), before);
	const start = rows.start(3);
	t.same([...before.bytes.subarray(start, start + SIZE)], Array(SIZE).fill(0));
	t.equal(doubleAt(4), 4.5);
	t.throws(() => new Rows(12), /expected a multiple of 8 bytes, got 12/);
});

t.test("slots find each id whatever meets in one place, and after removals", async () => {
	fc.assert(
		fc.property(steps(fc.nat(60)), (all) => {
			// Three places for all.
			const hashOf = (id: number) => (id % 3) * 31;
			const slots = new Slots(hashOf);
			const there = new Set<number>();
			for (const { value, adds } of all) {
				if (adds && !there.has(value)) slots.add(hashOf(value), value);
				if (!adds && there.has(value)) slots.remove(value);
				if (adds) there.add(value);
				else there.delete(value);
				for (let id = 0; id <= 60; id++)
					if (slots.find(hashOf(id), (one) => one === id) !== (there.has(id) ? id : -1))
						return false;
			}
			return true;
		}),
	);
});

t.test("texts have numbers as long as they are there", async (t) => {
	const value = fc.oneof(
		fc.constantFrom("", "a", "x/y", "ä", "ns/päd", "a".repeat(300)),
		fc.string({ maxLength: 6 }),
	);
	fc.assert(
		fc.property(steps(value), (all) => {
			const texts = new Texts();
			const ids = new Map<string, number>();
			for (const { value, adds } of all) {
				const known = ids.get(value);
				if (adds) {
					const id = texts.add(value);
					if (known !== undefined && known !== id) return false;
					ids.set(value, id);
				} else {
					if (texts.find(value) !== (known ?? -1)) return false;
					if (known !== undefined) texts.remove(known);
					ids.delete(value);
				}
			}
			const same = [...ids].every(
				([text, id]) => texts.find(text) === id && texts.text(id) === text,
			);
			const all2 = [...texts.ids()].map((id) => texts.text(id)).sort();
			return same && texts.size === ids.size && `${all2}` === `${[...ids.keys()].sort()}`;
		}),
	);
	t.throws(
		() => new Texts().add("a".repeat(70_000)),
		/^Cannot keep a text: expected at most 65535/,
	);
});

t.test("addresses have numbers as long as they are there", async (t) => {
	const value = fc
		.record({ last: fc.nat(40), family: fc.constantFrom(4, 6) })
		.map(({ last, family }) =>
			family === 4 ? `10.0.0.${last}` : `fd00::${(last + 1).toString(16)}`,
		);
	fc.assert(
		fc.property(steps(value), (all) => {
			const index = new AddressIndex();
			const ids = new Map<string, number>();
			for (const { value, adds } of all) {
				if (adds) ids.set(value, index.add(value));
				else {
					index.remove(ids.get(value) ?? index.find(value));
					ids.delete(value);
				}
			}
			return (
				index.size === ids.size &&
				[...ids].every(
					([text, id]) =>
						index.find(text) === id &&
						index.findAt(parseAddress(text)!) === id &&
						index.text(id) === text &&
						index.isIPv4(id) === !text.includes(":"),
				)
			);
		}),
	);
	const numbers = new AddressNumbers([["10.0.0.1", 7]]);
	numbers.setAt(parseAddress("fd00::1")!, 0, 2 ** 32 - 1);
	t.same(
		new Map(numbers),
		new Map([
			["10.0.0.1", 7],
			["fd00::1", 2 ** 32 - 1],
		]),
	);
	t.equal(numbers.get("10.0.0.2"), undefined);
	t.equal(numbers.at(parseAddress("10.0.0.1")!), 7);
});

t.test(
	"the addresses of a prefix are found by pages, and their number is known before",
	async (t) => {
		const address = fc
			.tuple(fc.nat(1), fc.nat(3), fc.nat(2), fc.boolean())
			.map(([a, b, c, isIPv4]) =>
				isIPv4 ? `10.${a}.${b}.${c}` : ["::", "fd00::", "fd00:1::"][b % 3]! + (c + 1 + 8 * a),
			);
		const prefixes = [
			"0.0.0.0/0",
			"10.0.0.0/8",
			"10.0.0.0/24",
			"10.0.1.0/31",
			"10.1.2.1/32",
			"::/0",
		];
		prefixes.push(
			"10.0.0.0/15",
			"fd00::/16",
			"fd00::/63",
			"fd00::1/128",
			"::/96",
			"::/124",
			"::/64",
		);
		fc.assert(
			fc.property(steps(address), (all) => {
				const index = new AddressIndex();
				const pages = new AddressPages(index);
				for (const { value, adds } of all) {
					const id = index.find(value);
					if (adds && id < 0) pages.enter(index.add(value));
					if (adds || id < 0) continue;
					pages.leave(id);
					index.remove(id);
				}
				for (const text of prefixes) {
					const prefix = parsePrefix(text);
					const found = [...pages.within(prefix)].filter((id) => id !== PAUSE);
					const wanted = [...index.ids()].filter((id) => containsAddress(prefix, index.bytes(id)));
					assert.deepEqual(found.sort(), wanted.sort(), text);
					assert.ok(pages.cost(prefix) >= found.length);
				}
			}),
		);
		const index = new AddressIndex();
		const pages = new AddressPages(index);
		for (let i = 0; i < 2000; i++) pages.enter(index.add(`10.${i >> 8}.${i & 255}.1`));
		t.ok(pages.cost(parsePrefix("10.1.1.0/24")) === 1);
		let [most, since] = [0, 0];
		for (const id of pages.within(parsePrefix("10.7.0.0/16"))) {
			since = id === PAUSE ? 0 : since + 1;
			most = Math.max(most, since);
		}
		t.ok(most <= 256, "there are pauses");
	},
);

t.test("a shared value goes with its last user, and its number is given again", async (t) => {
	const pool = new Pool<object>();
	const value = {};
	const id = pool.take("a", () => value);
	t.equal(
		pool.take("a", () => ({})),
		id,
	);
	pool.release(id);
	t.equal(pool.at(id), value);
	pool.release(id);
	t.equal(pool.size, 0);
	t.equal(
		pool.take("b", () => ({})),
		id,
	);
});

const pods: fc.Arbitrary<PodObject> = fc
	.record(
		{
			namespace: fc.constantFrom("x", "y"),
			name: fc.constantFrom("a", "b", "c"),
			node: fc.constantFrom("", "n1", "n2"),
			labels: fc.constantFrom([], ["app", "web"], ["app", "web", "tier", ""]),
			addresses: fc.uniqueArray(
				fc.constantFrom("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "FD00::3", "nonsense"),
				{ maxLength: 3 },
			),
			hostNetwork: fc.boolean(),
			ended: fc.boolean(),
			isReady: fc.boolean(),
			isTerminating: fc.boolean(),
			ports: fc.constantFrom([], [{ name: "http", port: 80, protocol: "TCP" }]),
			limits: fc.constantFrom([], ["kubernetes.io/egress-bandwidth"]),
			uid: fc.constantFrom("u1", "0f5e1c1e-9f3a-4b5e-8d2a-1a2b3c4d5e6f", "0F5E1C1E"),
			created: fc.constantFrom(0, 1.5, 1_700_000_000_000),
			mirrorOf: fc.constantFrom("m1"),
			isWrittenBack: fc.constant(true as const),
		},
		{
			requiredKeys: [
				...(["namespace", "name", "node", "labels", "addresses", "hostNetwork", "ended"] as const),
				...(["isReady", "isTerminating", "ports", "limits"] as const),
			],
		},
	)
	.map((pod) => ({ ...pod }) as PodObject);

t.test("a table of Pods says what a table of objects says", async () => {
	const value = fc.record({ pod: pods, file: fc.constantFrom(undefined, "a.yaml", "b.yaml") });
	fc.assert(
		fc.property(steps(value), (all) => {
			const [columns, objects] = [new PodTable(), new ObjectTable<PodObject>()];
			for (const { value, adds } of all) {
				const { pod, file } = value;
				const key = `${pod.namespace}/${pod.name}`;
				const [a, b] = adds
					? [columns.put(key, pod, file), objects.put(key, pod, file)]
					: [columns.delete(key), objects.delete(key)];
				assert.equal(a, b);
			}
			assert.equal(columns.size, objects.size);
			assert.deepEqual([...columns.keys()].sort(), [...objects.keys()].sort());
			for (const key of ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a"]) {
				assert.deepStrictEqual(columns.get(key), objects.get(key));
				assert.equal(columns.fileOf(key), objects.fileOf(key));
				assert.equal(columns.has(key), objects.has(key));
			}
		}),
		{ numRuns: 60 },
	);
});
