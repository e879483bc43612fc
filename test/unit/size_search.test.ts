import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import {
	type SizeSearch,
	searchAnswered,
	searchStep,
	startSearch,
} from "../../src/probe/path/size_search.js";

const TIMING = { gap: 50, timeout: 80 };

interface Found {
	works: number;
	packets: number;
	/** Times that sizes were chosen anew. */
	volleys: number;
	time: number;
	asked: number[];
}

/** In a network that lets `passes` through; answers come after `delay`, the longest first if `reversed`. */
function find(
	floor: number,
	full: number,
	passes: (length: number) => boolean,
	{ delay = 1, reversed = false } = {},
): Found {
	let search: SizeSearch = startSearch(floor, full, 0);
	const asked: number[] = [];
	let candidates: readonly number[] = [];
	let volleys = 0;
	for (let now = 0; now < 60_000; ) {
		const step = searchStep(search, now, TIMING);
		search = step.search;
		if (step.done) return { works: search.works, packets: asked.length, volleys, time: now, asked };
		if (search.candidates !== candidates) {
			candidates = search.candidates;
			volleys++;
		}
		assert.ok(search.works < search.fails);
		assert.ok(
			step.ask.every((length) => length > search.works),
			"what is known is not asked again",
		);
		asked.push(...step.ask);
		const answers = step.ask.filter(passes);
		if (reversed) answers.reverse();
		for (const length of answers) search = searchAnswered(search, length);
		now =
			answers.length > 0
				? now + Math.max(delay, search.nextAt - now)
				: Math.max(now + 1, search.nextAt);
	}
	throw new Error("the search does not end");
}

const range = fc
	.tuple(
		fc.integer({ min: 100, max: 2000 }),
		fc.nat(8000),
		fc.double({ min: 0, max: 1, noNaN: true }),
	)
	.map(([floor, more, share]) => ({
		floor,
		full: floor + more,
		limit: floor + Math.round(more * share),
	}));

t.test("without loss, it finds the exact size in a few volleys", async () => {
	fc.assert(
		fc.property(range, fc.boolean(), ({ floor, full, limit }, reversed) => {
			const found = find(floor, full, (length) => length <= limit, { reversed });
			assert.equal(found.works, limit);
			assert.ok(found.volleys <= 5, `${found.volleys} volleys`);
			assert.ok(found.packets <= 13 * 3 * 5, `${found.packets} packets`);
			assert.ok(found.time < 1000, `${found.time} ms`);
			assert.ok(found.asked.every((length) => length >= floor && length <= full));
		}),
		{ numRuns: 1000 },
	);
});

t.test("nothing passes", async () => {
	fc.assert(
		fc.property(range, ({ floor, full }) => {
			const found = find(floor, full, (length) => length < floor);
			assert.equal(found.works, 0);
			assert.ok(found.packets <= 13 * 3);
			assert.equal(found.volleys, 1);
		}),
	);
});

t.test("with loss, it finds at most the exact size", async () => {
	fc.assert(
		fc.property(
			range,
			fc.array(fc.boolean(), { minLength: 7, maxLength: 40 }),
			({ floor, full, limit }, fates) => {
				let i = 0;
				const found = find(
					floor,
					full,
					(length) => length <= limit && fates[i++ % fates.length] === true,
				);
				assert.ok(found.works === 0 || (found.works >= floor && found.works <= limit));
			},
		),
	);
});

t.test("of 1500 bytes, 1400 pass", async (t) => {
	const { works, volleys, time } = find(1280, 1500, (length) => length <= 1400);
	t.equal(works, 1400);
	t.equal(volleys, 3, "220 bytes, 20, 2");
	t.ok(time <= 3 * (2 * TIMING.gap + TIMING.timeout), `${time} ms`);
	t.same(startSearch(1280, 1280, 5).candidates, [1280], "a range of one");
	t.equal(find(1280, 1280, () => true).works, 1280);
	t.equal(find(1280, 1281, (length) => length <= 1280).works, 1280);
});

t.test("answers without news", async (t) => {
	const search = { ...startSearch(1280, 1500, 0), works: 1400, fails: 1420 };
	t.equal(searchAnswered(search, 1300), search, "smaller ones");
	t.equal(searchAnswered(search, 1450), search, "of a size that was given up: late");
	t.equal(searchAnswered(search, 1410).works, 1410);
});
