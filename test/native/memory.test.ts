/** Nothing is lost over many calls: neither memory nor descriptors. */
import t from "tap";
import { BpfMap, BpfObject, trimMemory } from "#native";
import {
	bpfDescriptors,
	collectGarbage,
	frame,
	loadObject,
	MAP_TYPE,
	objectPath,
	u32,
	u64,
} from "./fixture.js";

/**
 * The bytes by which the process grows with `rounds` runs. A leak grows every time, the heap of
 * V8 and malloc only now and then: the least of several growths counts.
 */
async function growth(rounds: number, run: (round: number) => void): Promise<number> {
	let least = Number.POSITIVE_INFINITY;
	let before = 0;
	for (let sweep = 0; sweep < 4; sweep++) {
		for (let round = 0; round < rounds; round++) run(round);
		await collectGarbage();
		const now = process.memoryUsage.rss();
		if (sweep > 0) least = Math.min(least, now - before);
		before = now;
	}
	return least;
}

// Of 25,000 rounds a leak of one smallest piece that malloc gives (32 bytes) each is 800,000.
const TOLERATED = 500_000;

t.test("100,000 look-ups and updates", async (t) => {
	const object = loadObject();
	const map = object.map("a_hash");
	const key = u32(1);
	const grown = await growth(25_000, (round) => {
		map.update(key, u64(round));
		map.lookup(key);
		map.nextKey(null);
	});
	t.ok(grown < TOLERATED, `grew by ${grown} bytes`);
	object.close();
});

// Here and below the smallest thing that can be lost is larger: a packet, an object.
t.test("entries, test runs and refusals", async (t) => {
	const object = loadObject();
	const map = object.map("an_array");
	const program = object.program("answer_knob");
	const data = frame(1500);
	const grown = await growth(2_500, () => {
		map.entries();
		program.testRun({ data });
		try {
			map.delete(u32(0));
		} catch {
			// Arrays refuse it: here for the error's own memory.
		}
	});
	t.ok(grown < TOLERATED, `grew by ${grown} bytes`);
	object.close();
});

t.test("objects opened and closed", async (t) => {
	const path = objectPath();
	const grown = await growth(500, () => BpfObject.open(path).close());
	t.ok(grown < TOLERATED, `grew by ${grown} bytes`);
});

t.test("unclosed handles are released by garbage collection", async (t) => {
	await collectGarbage();
	const before = bpfDescriptors().length;
	const options = { type: MAP_TYPE.ARRAY, name: "x", keySize: 4, valueSize: 4, maxEntries: 1 };
	for (let made = 0; made < 100; made++) BpfMap.create(options);
	loadObject().map("a_hash");
	t.ok(bpfDescriptors().length > before);
	await collectGarbage();
	t.equal(bpfDescriptors().length, before);
});

t.test("free pages between chunks in use are given back", async (t) => {
	let all: Buffer[] = Array.from({ length: 32_000 }, () => Buffer.allocUnsafeSlow(2000).fill(1));
	const kept = all.filter((_, i) => i % 16 === 0);
	all = [];
	await collectGarbage();
	const before = process.memoryUsage.rss();
	t.equal(trimMemory(), true);
	const freed = before - process.memoryUsage.rss();
	t.ok(freed > 20_000_000, `${freed} bytes of 64,000,000`);
	t.ok(kept.every((one) => one[1999] === 1));
	t.equal(typeof trimMemory(), "boolean", "again");
});
