/** The hash of flows: what somebody who does not know its key can make collide. */
import t from "tap";
import { hash } from "../../src/forwarder/flow_place.js";
import type { FlowKey } from "../../src/tables/generated.js";

const KEYS = [
	{ word: [0x5eed, 0x1b873593, 0xcc9e2d51, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f] },
	{ word: [1, 2, 3, 4, 5, 6] },
	{ word: [0xfffffff1, 0x80000001, 0x7fffffff, 0xdeadbeef, 0x12345678, 0x9e3779b9] },
];

const key = (source: string, sourcePort: number): FlowKey => ({
	source,
	destination: "fd00:10:244:1::2",
	sourcePort,
	destinationPort: 53,
	protocol: 17,
});

/** Hashes of these, with each key: how many are different, of how many. */
function spread(t: import("tap").Test, keys: FlowKey[]): void {
	for (const secret of KEYS) {
		const hashes = new Set(keys.map((one) => hash(one, secret)));
		t.ok(hashes.size > keys.length - 3, `${hashes.size} hashes of ${keys.length} tuples`);
	}
}

t.test("ports that make up for what an address changes do not collide", async (t) => {
	const keys = Array.from({ length: 2000 }, (_, n) => {
		const port = 1 + n * 7;
		return key(`fd00:ec:0:1:${(port ^ 0x1234).toString(16)}::1`, port);
	});
	spread(t, keys);
});

t.test("highest bits that cancel each other do not collide", async (t) => {
	const keys = Array.from({ length: 256 }, (_, n) => {
		const byte = n.toString(16).padStart(2, "0");
		return key(`fd00:ec:0:${byte}:0:0:0:${byte}`, 1000);
	});
	spread(t, keys);
});

t.test("what one port gains and the other loses does not collide", async (t) => {
	const keys = Array.from({ length: 2000 }, (_, n) => ({
		...key("fd00:10:244:1::3", 20_000 + n),
		destinationPort: 20_000 - n,
	}));
	spread(t, keys);
});

t.test("both directions of a flow have one hash", async (t) => {
	const there = key("fd00:ec::1", 4000);
	const here = {
		...there,
		source: there.destination,
		destination: there.source,
		sourcePort: there.destinationPort,
		destinationPort: there.sourcePort,
	};
	for (const secret of KEYS) t.equal(hash(there, secret), hash(here, secret));
});
