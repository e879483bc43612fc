/** Peers without objects, against a Map of objects. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { ProbedPeer } from "../../src/compile/compile.js";
import type { ProbedPath } from "../../src/compile/peer.js";
import { ProbedPeers } from "../../src/probe/peer/probed_peers.js";
import { flat } from "../../src/text/flat.js";

const path: fc.Arbitrary<ProbedPath> = fc.record({
	path: fc.constantFrom("direct", "routed", "geneve", "vxlan"),
	outerFamily: fc.constantFrom(4, 6),
	port: fc.constantFrom(0, 6081),
	local: fc.constantFrom("", "192.168.1.1"),
	remote: fc.constantFrom("192.168.1.2", "192.168.1.3", "fd00::3"),
	mtu: fc.constantFrom(1450, 1500),
});
const peer: fc.Arbitrary<ProbedPeer> = fc.record({
	index: fc.nat(40),
	node: fc.constantFrom("n1", "n2", "n3"),
	family: fc.constantFrom(4, 6),
	source: fc.constantFrom("10.0.0.1", "fd00::1"),
	destination: fc.constantFrom("10.0.1.1", "10.0.2.1"),
	direct: fc.option(path, { nil: undefined }),
	tunnel: fc.option(path, { nil: undefined }),
	lacks: fc.record({ direct: fc.constantFrom("", "none"), tunnel: fc.constant("") }),
	candidate: fc.boolean(),
});

t.test("peers in rows are what they were as objects", async () => {
	const step = fc.record({ row: fc.nat(9), peer: fc.option(peer, { nil: undefined }) });
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
			const rows = new ProbedPeers();
			const map = new Map<number, ProbedPeer>();
			for (const { row, peer } of steps) {
				if (peer === undefined) {
					rows.delete(row);
					map.delete(row);
				} else {
					rows.set(row, peer);
					map.set(row, structuredClone(peer));
				}
				for (const [row, peer] of map) assert.deepEqual(structuredClone(rows.get(row)), peer);
			}
		}),
	);
});

t.test("a text in one piece says what it did, however many there are", async () => {
	fc.assert(
		fc.property(fc.array(fc.string(), { maxLength: 600 }), (texts) => {
			for (const text of texts) assert.equal(flat(text), text);
		}),
	);
});
