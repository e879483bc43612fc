import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { nodeHash } from "../../src/cluster/node_hash.js";
import { PeerIds } from "../../src/cluster/peer_ids.js";

/** "a=0 b=1" */
function shown(ids: ReadonlyMap<string, number>): string {
	return [...ids]
		.map(([name, id]) => `${name}=${id}`)
		.sort()
		.join(" ");
}

t.test("node hash is FNV-1a of 64 bits", async (t) => {
	// Published test vectors of the function.
	t.equal(nodeHash(""), 0xcbf29ce484222325n);
	t.equal(nodeHash("a"), 0xaf63dc4c8601ec8cn);
	t.equal(nodeHash("foobar"), 0x85944171f73967e8n);
});

t.test("the lowest free id, which the Node keeps", async (t) => {
	const ids = new PeerIds();
	t.equal(shown(ids.assign(["a", "b", "c"])), "a=0 b=1 c=2");
	t.equal(shown(ids.assign(["c", "a"])), "a=0 c=2");
	t.equal(shown(ids.assign(["d", "c", "a"])), "a=0 c=2 d=1");
});

t.test("an id is not reassigned in the call that frees it", async (t) => {
	const ids = new PeerIds();
	ids.assign(["a", "b"]);
	t.equal(shown(ids.assign(["b", "new"])), "b=1 new=2");
	t.equal(shown(ids.assign(["b", "new", "newer"])), "b=1 new=2 newer=0");
});

t.test("Nodes get back their ids from an earlier agent", async (t) => {
	const adopted = ["a", "b", "gone"].map((name, i) => ({ id: i * 5, nodeHash: nodeHash(name) }));
	const ids = new PeerIds(adopted);
	t.equal(shown(ids.assign(["x", "b", "a"])), "a=0 b=5 x=1");
	t.equal(shown(ids.assign(["x", "b", "a", "y", "z"])), "a=0 b=5 x=1 y=2 z=3");
});

t.test("a Node that is read late keeps its id unless all others are in use", async (t) => {
	const adopted = [
		{ id: 0, nodeHash: nodeHash("late") },
		{ id: 2, nodeHash: nodeHash("gone") },
	];
	const ids = new PeerIds(adopted, 4);
	t.equal(shown(ids.assign([])), "");
	t.equal(shown(ids.assign(["a"])), "a=1");
	t.equal(shown(ids.assign(["a", "late"])), "a=1 late=0");
	t.equal(shown(ids.assign(["a", "late", "b", "c", "d"])), "a=1 b=3 c=2 late=0");
});

t.test("adopted ids may be invalid", async (t) => {
	const hash = nodeHash("a");
	const ids = new PeerIds(
		[
			{ id: 2, nodeHash: hash },
			{ id: 1, nodeHash: hash },
			{ id: 99, nodeHash: nodeHash("b") },
		],
		3,
	);
	t.equal(shown(ids.assign(["a", "b", "c", "d"])), "a=2 b=0 c=1", "there are three ids");
});

t.test("random changes: ids are unique, stable, and never reassigned at once", async () => {
	const names = fc.uniqueArray(
		fc.nat(15).map((i) => `n${i}`),
		{ maxLength: 10 },
	);
	fc.assert(
		fc.property(fc.array(names, { maxLength: 10 }), (rounds) => {
			const ids = new PeerIds();
			let before: ReadonlyMap<string, number> = new Map();
			for (const round of rounds) {
				const now = ids.assign(round);
				assert.deepEqual([...now.keys()].sort(), [...round].sort());
				assert.equal(new Set(now.values()).size, now.size);
				for (const [name, id] of now) {
					const owner = [...before].find(([, other]) => other === id)?.[0];
					assert.ok(owner === undefined || owner === name);
					if (before.has(name)) assert.equal(id, before.get(name));
				}
				before = now;
			}
		}),
	);
});
