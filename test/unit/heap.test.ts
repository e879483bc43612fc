import t from "tap";
import { sizeFlag } from "../../src/agent/heap.js";

t.test("only a small heap is collected after 2 MB, at the price of longer pauses", (t) => {
	const [kept, stopped] = ["--no-optimize-for-size", "--optimize-for-size"];
	for (const [megabytes, flag] of [
		[12, stopped],
		[31, stopped],
		[32, kept],
		[150, kept],
	] as const)
		t.equal(sizeFlag(megabytes * 2 ** 20), flag, `${megabytes} MB`);
	t.end();
});
