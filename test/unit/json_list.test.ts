/** Long lists in JSON, parsed in pieces. */
import t from "tap";
import { parseListInTurns } from "../../src/linux/json_list.js";

const LISTS = [
	[],
	[{}],
	[{ dst: "10.0.0.0/8", flags: [] }, {}, { metrics: [{ mtu: 1400 }, { rtt: "1,5" }], dev: 'a"b' }],
	Array.from({ length: 40 }, (_, i) => ({
		name: `\\"},{[${"]".repeat(i)}`,
		list: [[i, { i }], "\\"],
	})),
];

t.test("a list that is parsed in pieces is the list", async (t) => {
	for (const list of LISTS)
		for (const text of [JSON.stringify(list), ` ${JSON.stringify(list, null, 2)}\n`])
			for (const piece of [1, 7, 100, 100_000]) t.same(await parseListInTurns(text, piece), list);
});

t.test("the event loop has its turn after each piece", async (t) => {
	const list = Array.from({ length: 100 }, (_, i) => ({ i }));
	let turns = 0;
	const count = { due: true, pass: async () => void turns++ };
	t.same(await parseListInTurns(JSON.stringify(list), 8, count), list);
	t.ok(turns >= 50, `${turns} turns`);
});

t.test("what is not a list in JSON is refused", async (t) => {
	for (const text of [
		"",
		"[",
		"{}",
		'[{"a":1}',
		'[{"a":1},',
		'[{"a":1}] x',
		"x []",
		'[{"a":}]',
		"[{},]",
	])
		await t.rejects(parseListInTurns(text, 1), SyntaxError, text);
});
