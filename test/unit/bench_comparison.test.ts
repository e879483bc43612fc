/** What a comparison takes as measured. */
import { deepEqual, equal } from "node:assert/strict";
import t from "tap";
import { Comparison } from "../../bench/tools/comparison.js";
import type { Run } from "../../bench/tools/pktgen.js";

const run = (received: number, elsewhere: number): Run => ({
	...{ sent: 100, received, elsewhere, cpu: 1000 },
	...{ cpuPerPacket: 1000 / received, packetsPerSecond: received * 1e6 },
});

async function delivered(runs: readonly Run[]): Promise<{ shares: number[]; count: number }> {
	let count = 0;
	const generator = {
		// The first one warms up.
		run: async () => (count++ === 0 ? run(100, 0) : (runs[count - 2] ?? runs.at(-1)!)),
	};
	const comparison = new Comparison(generator, 1, 100);
	comparison.add("way", { frame: Buffer.alloc(64), out: 1 });
	await comparison.run();
	return { shares: comparison.data()["way"]!.delivered, count };
}

t.test("a run that another CPU took part in is measured again", async (t) => {
	deepEqual((await delivered([run(30, 5), run(80, 1), run(100, 0)])).shares, [1]);
	t.pass("packets that the generator's own CPU handled");
});

t.test("packets that are lost on the generator's own CPU count", async (t) => {
	deepEqual(await delivered([run(30, 0)]), { shares: [0.3], count: 2 });
	t.pass("the first run");
});

t.test("a machine on which other CPUs always take part is measured, too", async (t) => {
	const { shares, count } = await delivered([run(30, 5)]);
	deepEqual(shares, [0.3]);
	equal(count, 7);
	t.pass("after a few repeats");
});
