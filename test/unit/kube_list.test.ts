/** Lists and watches in pieces, wherever the network cuts them. */
import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { Lines } from "../../src/kube/lines.js";
import { ListItems } from "../../src/kube/list_items.js";
import { isOlder } from "../../src/kube/resource_version.js";

/** Pieces of these bytes, of random lengths. */
function* cut(text: string, lengths: readonly number[]): Generator<Buffer> {
	const bytes = Buffer.from(text);
	let at = 0;
	for (let i = 0; at < bytes.length; i++) {
		const length = lengths[i % lengths.length]!;
		yield bytes.subarray(at, at + length);
		at += length;
	}
}

const lengths = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });

t.test("random lists: the items and what is around them are as JSON.parse has them", async () => {
	const metadata = fc.record({
		resourceVersion: fc.string({ minLength: 1 }),
		continue: fc.string(),
	});
	const item = fc.dictionary(fc.string(), fc.jsonValue());
	const before = fc.dictionary(fc.constantFrom("a", "b"), fc.jsonValue());
	const indent = fc.constantFrom(undefined, 2);
	fc.assert(
		fc.property(
			before,
			metadata,
			fc.array(item),
			lengths,
			indent,
			(more, metadata, items, lengths, indent) => {
				for (const list of [
					{ ...more, kind: "XList", metadata, items },
					{ items, ...more, metadata, kind: "XList" },
				]) {
					const found: unknown[] = [];
					const splitter = new ListItems();
					for (const piece of cut(JSON.stringify(list, undefined, indent), lengths))
						for (const text of splitter.take(piece)) found.push(JSON.parse(text));
					const { kind, resourceVersion, continue: rest } = splitter.end();
					assert.deepEqual(found, JSON.parse(JSON.stringify(items)));
					assert.deepEqual(
						{ kind, resourceVersion, rest },
						{ kind: "XList", resourceVersion: metadata.resourceVersion, rest: metadata.continue },
					);
				}
			},
		),
	);
});

t.test("an empty list may be null; what is no list is refused", async (t) => {
	const end = (text: string) => {
		const items = new ListItems();
		t.strictSame([...items.take(Buffer.from(text))], []);
		return items.end();
	};
	const head = '"kind":"XList","metadata":{"resourceVersion":"1"}';
	t.match(end(`{${head},"items":null}`), { resourceVersion: "1", continue: "" });
	const rows: [text: string, why: RegExp][] = [
		["", /not JSON/],
		["<html>", /not JSON/],
		[`{${head},"items":[{}`, /not JSON/],
		[`{${head}}`, /expected a list, got "XList"/],
		['{"kind":"Status","metadata":{"resourceVersion":"1"},"items":[]}', /got "Status"/],
		['{"kind":"XList","metadata":{},"items":[]}', /with a resourceVersion/],
		["null", /expected a list/],
	];
	for (const [text, why] of rows) {
		const items = new ListItems();
		[...items.take(Buffer.from(text))];
		t.throws(() => items.end(), { message: why }, text);
	}
});

t.test("random lines, cut anywhere", async () => {
	const line = fc
		.string({ unit: "grapheme" })
		.filter((text) => !/[\n\r]/.test(text) && text.trim() !== "");
	fc.assert(
		fc.property(fc.array(line), lengths, (expected, lengths) => {
			const lines = new Lines();
			const found: string[] = [];
			for (const piece of cut(expected.map((text) => `${text}\n`).join("\n"), lengths))
				found.push(...lines.take(piece));
			assert.deepEqual(found, expected);
		}),
	);
});

t.test("lines and items that are longer than any object are refused", async (t) => {
	const piece = Buffer.alloc(1 << 20, "x");
	const lines = new Lines();
	t.throws(() => {
		for (let i = 0; i < 10; i++) [...lines.take(piece)];
	}, /lines of at most 8388608 bytes/);
	const items = new ListItems();
	[...items.take(Buffer.from('{"items":[{"a":"'))];
	t.throws(() => {
		for (let i = 0; i < 10; i++) [...items.take(piece)];
	}, /objects of at most 8388608 bytes/);
});

t.test("versions are compared where they are numbers", async (t) => {
	t.equal(isOlder("9", "10"), true);
	t.equal(isOlder("10", "9"), false);
	t.equal(isOlder("10", "10"), false);
	t.equal(isOlder("99999999999999999998", "99999999999999999999"), true);
	t.equal(isOlder("a9", "b10"), false);
	t.equal(isOlder("", "1"), false);
});
