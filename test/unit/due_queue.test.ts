import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { DueQueue } from "../../src/probe/due_queue.js";

/** The same with an array: obvious but slow. */
class DueArray {
	#entries: { at: number; key: number }[] = [];

	set(key: number, at: number): void {
		this.delete(key);
		if (at !== Number.POSITIVE_INFINITY) this.#entries.push({ at, key });
	}
	delete(key: number): void {
		this.#entries = this.#entries.filter((entry) => entry.key !== key);
	}
	get first(): number | undefined {
		return this.#entries.length === 0 ? undefined : Math.min(...this.#entries.map(({ at }) => at));
	}
	/** The possible first entries, due at the same time. */
	firsts(until: number): number[] {
		const { first } = this;
		if (first === undefined || first > until) return [];
		return this.#entries.filter(({ at }) => at === first).map(({ key }) => key);
	}
}

type Act =
	| { act: "set"; key: number; at: number }
	| { act: "delete"; key: number }
	| { act: "take"; until: number };

const time = fc.oneof(
	fc.nat(30),
	fc.constant(Number.POSITIVE_INFINITY),
	// No -0, which is due when 0 is.
	fc.double({ min: -5, max: 40, noNaN: true }).map((at) => at + 0),
);
const act: fc.Arbitrary<Act> = fc.oneof(
	{
		weight: 4,
		arbitrary: fc.record({ act: fc.constant("set" as const), key: fc.nat(20), at: time }),
	},
	{ weight: 1, arbitrary: fc.record({ act: fc.constant("delete" as const), key: fc.nat(20) }) },
	{ weight: 3, arbitrary: fc.record({ act: fc.constant("take" as const), until: time }) },
);

t.test("behaves like an array", async () => {
	fc.assert(
		fc.property(fc.array(act, { maxLength: 200 }), (acts) => {
			const [queue, array] = [new DueQueue(), new DueArray()];
			const take = (until: number) => {
				const wanted = array.firsts(until);
				const taken = queue.take(until);
				if (wanted.length === 0) assert.equal(taken, undefined);
				else
					assert.ok(taken !== undefined && taken.at === array.first && wanted.includes(taken.key));
				if (taken !== undefined) array.delete(taken.key);
				return taken;
			};
			for (const one of acts) {
				if (one.act === "set") {
					queue.set(one.key, one.at);
					array.set(one.key, one.at);
				} else if (one.act === "delete") {
					queue.delete(one.key);
					array.delete(one.key);
				} else take(one.until);
				assert.equal(queue.first, array.first);
			}
			while (take(1e9) !== undefined);
			assert.equal(queue.first, undefined);
		}),
		{ numRuns: 500 },
	);
});

t.test("putting a key again replaces its time", async (t) => {
	const queue = new DueQueue();
	queue.set(1, 10);
	queue.set(1, 30);
	queue.set(2, 20);
	t.equal(queue.first, 20);
	t.equal(queue.take(19), undefined, "not yet");
	t.same(queue.take(20), { key: 2, at: 20 });
	queue.set(1, 10);
	t.same(queue.take(100), { key: 1, at: 10 });
	t.equal(queue.take(100), undefined, "once");
});
