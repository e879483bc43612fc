/** Fingerprints of a map's entries against a plain map of what was written. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { Fingerprints } from "../../src/reconcile/maps/fingerprints.js";

const bytes = (...numbers: number[]) => {
	const buffer = Buffer.alloc(numbers.length * 4);
	for (const [i, number] of numbers.entries()) buffer.writeUInt32LE(number, i * 4);
	return buffer;
};
const keyOf = (key: number) => bytes(key, 7);

t.test("they tell what was changed, added and lost, whatever was written before", async (t) => {
	const write = fc.record({ key: fc.nat(200), value: fc.option(fc.nat(3)) });
	fc.assert(
		fc.property(
			fc.array(write, { maxLength: 400 }),
			fc.array(write, { maxLength: 30 }),
			(own, others) => {
				const prints = new Fingerprints(8, 4);
				const written = new Map<number, number>();
				for (const { key, value } of own)
					if (value === null) {
						written.delete(key);
						prints.delete(keyOf(key), 0);
					} else {
						written.set(key, value);
						prints.set(keyOf(key), 0, bytes(value), 0);
					}
				assert.equal(prints.size, written.size);
				const held = new Map(written);
				for (const { key, value } of others)
					if (value === null) held.delete(key);
					else held.set(key, value);
				prints.begin();
				for (const [key, value] of held)
					assert.equal(
						prints.see(keyOf(key), 0, bytes(value), 0),
						written.get(key) === value,
						`${key}`,
					);
				const lost = [...written.keys()].filter((key) => !held.has(key));
				assert.equal(prints.unseen, lost.length);
			},
		),
	);
	t.end();
});

t.test("entries come and go without end in the room of those that there are", async (t) => {
	const prints = new Fingerprints(8, 4);
	for (let key = 0; key < 50_000; key++) {
		prints.set(keyOf(key), 0, bytes(1), 0);
		if (key >= 100) prints.delete(keyOf(key - 100), 0);
	}
	t.equal(prints.size, 100);
	prints.begin();
	t.ok(prints.see(keyOf(49_999), 0, bytes(1), 0));
	t.notOk(prints.see(keyOf(49_000), 0, bytes(1), 0));
	t.equal(prints.unseen, 99);
	prints.set(keyOf(60_000), 0, bytes(1), 0);
	t.equal(prints.unseen, 99, "what is written during a look counts as seen");
});
