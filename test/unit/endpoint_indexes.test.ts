/** The dense indexes of Pods. */
import fc from "fast-check";
import t from "tap";
import { endpointIndexes } from "../../src/reconcile/maps/endpoint_indexes.js";
import { Limit } from "../../src/tables/generated.js";

type Entry = { interface: string; index?: number };

const entries = (...of: [string, number][]): Entry[] =>
	of.map(([name, index]) => ({ interface: name, index }));

t.test("a Pod keeps its index until it is gone", async (t) => {
	t.same(
		[...endpointIndexes(["a", "a", "b"], [])],
		[
			["a", 1],
			["b", 2],
		],
		"one for all addresses",
	);
	t.same([...endpointIndexes(["b"], entries(["a", 1], ["b", 2]))], [["b", 2]], "kept");
	t.same(
		[...endpointIndexes(["b", "c"], entries(["a", 1], ["b", 2]))],
		[
			["b", 2],
			["c", 3],
		],
		"not reused while the kernel has an entry of the one before",
	);
	t.same(
		[...endpointIndexes(["b", "c"], entries(["b", 2]))],
		[
			["b", 2],
			["c", 1],
		],
		"free after it was removed",
	);
	t.same([...endpointIndexes(["c"], entries(["", 1]))], [["c", 2]], "a device that is gone");
});

t.test("leftovers of an older version or a fault are replaced", async (t) => {
	t.same([...endpointIndexes(["a"], entries(["a", 0]))], [["a", 1]], "none yet");
	t.same(
		[...endpointIndexes(["a", "b"], entries(["a", 1], ["b", 1]))],
		[
			["a", 1],
			["b", 2],
		],
		"two Pods with the same",
	);
	t.same([...endpointIndexes(["a"], entries(["a", Limit.ENDPOINTS_MAX + 1]))], [["a", 1]]);
});

t.test("no index is assigned twice while Pods come and go", async () => {
	const names = fc.uniqueArray(fc.integer({ min: 1, max: 12 }).map(String));
	fc.assert(
		fc.property(fc.array(fc.tuple(names, fc.boolean())), (passes) => {
			let actual = new Map<string, number>();
			for (const [wanted, removes] of passes) {
				const given = endpointIndexes(wanted, entries(...actual));
				const before = actual;
				if (given.size !== wanted.length || new Set(given.values()).size !== given.size)
					return false;
				for (const [name, index] of before) {
					if (given.has(name) && given.get(name) !== index) return false;
					if (!given.has(name) && [...given.values()].includes(index)) return false;
				}
				// A failed removal leaves the entry in place.
				actual = removes ? given : new Map([...before, ...given]);
			}
			return true;
		}),
	);
});
