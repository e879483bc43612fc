import fc from "fast-check";
import t from "tap";
import { jsonPieces } from "../../src/api/json_pieces.js";

t.test("pieces of JSON make the text that JSON.stringify makes", async (t) => {
	const long = fc.array(fc.jsonValue(), { minLength: 90, maxLength: 310, size: "max" });
	const values = fc.oneof(
		fc.jsonValue(),
		long,
		fc.dictionary(fc.string(), fc.oneof(fc.jsonValue(), long, fc.constant(undefined))),
	);
	fc.assert(
		fc.property(values, (value) => {
			const text = [...jsonPieces(value)].join("");
			// A key more than once or in another place is the same object.
			t.strictSame(JSON.parse(text), JSON.parse(JSON.stringify(value)));
			return true;
		}),
		{ numRuns: 200 },
	);
	t.strictSame([...jsonPieces(undefined)], []);
	t.strictSame([...jsonPieces([])], ["[]"]);
	t.equal([...jsonPieces({ peers: Array(1000).fill({ node: "n" }), node: "n1" })].length, 10);
});
