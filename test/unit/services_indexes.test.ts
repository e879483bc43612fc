/** Indexes, places and members of Services' tables, against the obvious. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { PortSpec } from "../../src/compile/services/claims.js";
import { Indexes } from "../../src/compile/services/indexes.js";
import { arrange } from "../../src/compile/services/members.js";
import { noServiceChanges, Ports } from "../../src/compile/services/ports.js";
import { Runs, runSize } from "../../src/compile/services/runs.js";
import { atOnce } from "../../src/loop/turns.js";
import { DenseMap } from "../../src/tables/dense_map.js";
import { BackendState, Limit } from "../../src/tables/generated.js";

t.test("runs never overlap, and room that is given back is there again", async () => {
	const order = fc.oneof(
		fc.record({ take: fc.constantFrom(1, 2, 4, 8, 16) }),
		fc.record({ at: fc.nat(31), size: fc.constantFrom(1, 2, 4, 8) }),
		fc.record({ release: fc.nat(20) }),
	);
	fc.assert(
		fc.property(fc.array(order, { maxLength: 60 }), (orders) => {
			const runs = new Runs(32);
			const taken: { first: number; size: number }[] = [];
			const isFree = (first: number, size: number) =>
				taken.every((run) => first + size <= run.first || run.first + run.size <= first);
			for (const one of orders) {
				if ("take" in one) {
					const first = runs.take(one.take);
					const room = Array.from({ length: 32 / one.take }, (_, n) => n * one.take);
					const hasRoom = room.some((start) => isFree(start, one.take));
					assert.equal(first !== undefined, hasRoom);
					if (first === undefined) continue;
					assert.ok(first % one.take === 0 && isFree(first, one.take));
					taken.push({ first, size: one.take });
				} else if ("at" in one) {
					const { at: first, size } = one;
					const fits = first % size === 0 && isFree(first, size);
					assert.equal(runs.takeAt(first, size), fits);
					if (fits) taken.push({ first, size });
				} else {
					const [run] = taken.splice(one.release, 1);
					if (run !== undefined) runs.release(run.first, run.size);
				}
			}
			for (const { first, size } of taken) runs.release(first, size);
			assert.equal(runs.take(32), 0, "all of it is one run again");
		}),
		{ numRuns: 1000 },
	);
	assert.deepEqual([0, 1, 2, 3, 4, 5, 10, 16, 17].map(runSize), [1, 1, 2, 4, 4, 8, 16, 16, 32]);
});

t.test("members stay where they are, and as few places as possible change", async () => {
	const ids = fc.uniqueArray(fc.nat(12), { maxLength: 10 });
	fc.assert(
		fc.property(ids, ids, (before, wanted) => {
			const after = arrange(before, new Set(wanted));
			assert.deepEqual([...after].sort(), [...wanted].sort(), "these and no others");
			const stay = before.filter((id) => wanted.includes(id)).length;
			const moved = after.filter((id, at) => before[at] !== id).length;
			const gone = before.length - stay;
			const fresh = wanted.length - stay;
			assert.ok(moved <= Math.max(fresh, gone), `${moved} places for ${fresh} new, ${gone} gone`);
		}),
		{ numRuns: 1000 },
	);
});

t.test("the lowest free index first", async (t) => {
	const taken = new Uint8Array(4);
	const indexes = new Indexes(taken, 1);
	const take = () => {
		const index = indexes.lowest();
		if (index !== undefined) taken[index] = 1;
		return index;
	};
	t.same([take(), take(), take(), take()], [1, 2, 3, undefined]);
	for (const index of [3, 2]) {
		taken[index] = 0;
		indexes.freed(index);
	}
	t.same([take(), take(), take()], [2, 3, undefined]);
});

t.test("a dense map is a Map in the order of its keys", async () => {
	const change = fc.tuple(fc.constantFrom(0, 1, 2, 1023, 1024, 5000), fc.option(fc.nat(3)));
	fc.assert(
		fc.property(fc.array(change), (changes) => {
			const [dense, plain] = [new DenseMap<number>(), new Map<number, number>()];
			for (const [key, value] of changes)
				if (value === null) assert.equal(dense.delete(key), plain.delete(key));
				else assert.equal(dense.set(key, value), dense) ?? plain.set(key, value);
			const sorted = [...plain].sort(([a], [b]) => a - b);
			assert.deepEqual([...dense], sorted);
			assert.deepEqual(
				[...dense.keys()],
				sorted.map(([key]) => key),
			);
			assert.deepEqual(
				[...dense.values()],
				sorted.map(([, value]) => value),
			);
			assert.equal(dense.size, plain.size);
			for (const key of [0, 1, 2, 3, 1023, 1024, 9999]) {
				assert.equal(dense.get(key), plain.get(key));
				assert.equal(dense.has(key), plain.has(key));
			}
			dense.clear();
			assert.deepEqual([dense.size, ...dense], [0]);
		}),
	);
});

const specOf = (n: number): PortSpec => ({
	...{ id: `default/s${n}  6 4`, name: "", family: 4, protocol: 6, port: 80, nodePort: 0 },
	...{ affinity: 0, flags: 0, ranges: [] },
});

t.test("a full table is said by name, and who is served stays so", async (t) => {
	const ports = new Ports();
	const changes = noServiceChanges();
	const options = { keeps: false, now: 0, changes };
	const first = ports.add(specOf(0))!;
	const wanted = (count: number, from = 0) =>
		Array.from({ length: count }, (_, n) => ({
			address: `10.${(n + from) >> 16}.${((n + from) >> 8) & 255}.${(n + from) & 255}`,
			port: 80,
			state: BackendState.SERVES | BackendState.IN_CLUSTER_SET,
		}));
	t.same(ports.update(first, wanted(2), options), []);
	const second = ports.add(specOf(1))!;
	t.same(ports.update(second, wanted(Limit.BACKENDS_MAX), options), ["backends"]);
	t.same(first.cluster.members.length, 2, "the other one has what it had");
	t.equal(second.backends.length, Limit.BACKENDS_MAX - 3, "and all that there is room for");
	t.same(ports.update(second, wanted(5), options), [], "what is gone makes room");
	t.ok(ports.takeHasRoom());
	let added = 2;
	while (ports.add(specOf(added)) !== undefined) added++;
	t.equal(added, Limit.SERVICES_MAX - 1);
	t.equal(ports.add(specOf(Limit.SERVICES_MAX)), undefined);
	ports.remove(second, changes, 0);
	t.equal(ports.add(specOf(Limit.SERVICES_MAX)), undefined, "the kernel may still lead there");
	ports.applied();
	t.equal(ports.add(specOf(Limit.SERVICES_MAX))?.index, second.index);
	atOnce(ports.settle(changes, 0));
});
