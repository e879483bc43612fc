/** Differences that are kept at the cost of what has changed. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { atOnce, inTurns } from "../../src/loop/turns.js";
import { Delta } from "../../src/tables/delta.js";
import { diffMap } from "../../src/tables/diff.js";

const value = fc.integer({ min: 0, max: 2 }).map((kind) => ({ kind }));
const key = fc.integer({ min: 0, max: 5 });
const content = fc.array(fc.tuple(key, value)).map((entries) => new Map(entries));
const event = fc.oneof(
	fc.record({ want: content }),
	fc.record({ keep: fc.array(key) }),
	fc.record({ hold: key, value }),
	fc.record({ drop: key }),
	fc.record({ set: key, value }),
);

t.test("what is pending is the difference, whatever was wanted, held and lost before", async () => {
	fc.assert(
		fc.property(content, fc.array(event), (held, events) => {
			let wanted = new Map<number, { kind: number }>();
			const actual = new Map(held);
			const delta = new Delta(new Map(held));
			atOnce(delta.want(wanted));
			for (const event of events) {
				if ("want" in event) {
					wanted = new Map(event.want);
					atOnce(delta.want(wanted));
				} else if ("keep" in event) {
					// Another map with the same objects, but for some.
					wanted = new Map([...wanted].filter(([key]) => !event.keep.includes(key)));
					atOnce(delta.want(wanted));
				} else if ("hold" in event) {
					actual.set(event.hold, event.value);
					delta.hold(event.hold, event.value);
				} else if ("drop" in event) {
					assert.equal(delta.drop(event.drop), actual.delete(event.drop));
				} else {
					wanted.set(event.set, event.value);
					delta.check(event.set);
				}
				const [{ put, remove }, whole] = [delta.difference(), diffMap(actual, wanted)];
				assert.deepEqual(new Map(put), new Map(whole.put));
				assert.deepEqual(new Set(remove), new Set(whole.remove));
				assert.deepEqual(delta.actual, actual);
				for (const [key] of put) assert.ok(delta.lacks(key));
			}
		}),
		{ numRuns: 1000 },
	);
});

t.test("the same objects in another map are not compared", async (t) => {
	let compared = 0;
	const entry = () => ({
		get kind() {
			compared++;
			return 1;
		},
	});
	const entries = Array.from({ length: 1000 }, (_, key) => [key, entry()] as const);
	const delta = new Delta(new Map(entries.map(([key]) => [key, entry()])));
	atOnce(delta.want(new Map(entries)));
	t.ok(compared >= 1000, "once");
	compared = 0;
	atOnce(delta.want(new Map([...entries, [1000, entry()]])));
	t.equal(compared, 0);
	t.same(
		delta.difference().put.map(([key]) => key),
		[1000],
	);
});

t.test("others have their turn within a long comparison", async (t) => {
	const delta = new Delta<number, number>();
	const large = new Map(Array.from({ length: 5000 }, (_, key) => [key, key]));
	let turns = 0;
	const always = { due: true, pass: async () => void turns++ };
	await inTurns(delta.want(large), always);
	await inTurns(delta.want(new Map()), always);
	t.ok(turns >= 10, `${turns} turns`);
});

t.test("what is held as it is wanted is one object with it", async (t) => {
	const [read, wanted] = [{ kind: 1 }, { kind: 1 }];
	const delta = new Delta(new Map([[1, read]]));
	atOnce(delta.want(new Map([[1, wanted]])));
	t.equal(delta.actual.get(1), wanted);
	t.same(delta.difference(), { put: [], remove: [] });
});
