import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { addressToNumber, formatAddress } from "../../src/tables/address.js";
import {
	contains,
	containsAddress,
	familyOf,
	firstAddress,
	overlap,
	type Prefix,
	PrefixTable,
	parsePrefix,
	readPrefix,
} from "../../src/tables/prefix.js";
import { addressBytes, prefix } from "../tools/arbitrary.js";

t.test("valid prefixes and their canonical form", async (t) => {
	const rows: [text: string, canonical: string][] = [
		["10.244.1.0/24", "10.244.1.0/24"],
		["0.0.0.0/0", "0.0.0.0/0"],
		["10.0.0.1/32", "10.0.0.1/32"],
		["10.244.1.128/25", "10.244.1.128/25"],
		["fd00:0010:0244:0001::/64", "fd00:10:244:1::/64"],
		["FD00::/8", "fd00::/8"],
		["::/0", "::/0"],
		["::1/128", "::1/128"],
		["fd00:0:0:0:8000::/65", "fd00::8000:0:0:0/65"],
	];
	for (const [text, canonical] of rows) t.equal(parsePrefix(text).text, canonical, text);
});

t.test("invalid prefixes and the expected form", async (t) => {
	const rows: [text: string, wanted: RegExp][] = [
		["10.0.0.1/8", /without host bits \(the network is 10\.0\.0\.0\/8\)/],
		["fd00::1/64", /without host bits \(the network is fd00::\/64\)/],
		["10.0.0.0", /a prefix length from 0 to 32/],
		["10.0.0.0/33", /a prefix length from 0 to 32/],
		["fd00::/129", /a prefix length from 0 to 128/],
		["10.0.0.0/", /a prefix length/],
		["10.0.0.0/08", /a prefix length/],
		["10.0.0.0/-1", /a prefix length/],
		["10.0.0.0/8/8", /a prefix length/],
		["10.0.0/8", /a CIDR such as/],
		["010.0.0.0/8", /a CIDR such as/],
		[" 10.0.0.0/8", /a CIDR such as/],
		["::ffff:10.0.0.0/104", /a CIDR such as/],
		["fe80::%eth0/64", /a CIDR such as/],
		["/8", /a CIDR such as/],
		["", /a CIDR such as/],
	];
	for (const [text, wanted] of rows) {
		const read = readPrefix(text);
		t.match("wanted" in read ? read.wanted : "", wanted, JSON.stringify(text));
		t.throws(() => parsePrefix(text), /Cannot read the prefix/);
	}
});

t.test("the first address", async (t) => {
	const rows: [prefix: string, first: string][] = [
		["10.244.1.0/24", "10.244.1.1"],
		["10.244.1.0/31", "10.244.1.1"],
		["10.244.1.4/32", "10.244.1.4"],
		["fd00:10::/64", "fd00:10::1"],
		["fd00:10::8/128", "fd00:10::8"],
	];
	for (const [text, first] of rows)
		t.equal(formatAddress(firstAddress(parsePrefix(text))), first, text);
});

/** The slow and obvious way: the numbers between first and last. */
function range({ family, bytes, length }: Prefix): { family: number; first: bigint; last: bigint } {
	const first = addressToNumber(bytes);
	return { family, first, last: first + (1n << BigInt((family === 4 ? 32 : 128) - length)) - 1n };
}

t.test("containment and overlap match those of the ranges", async () => {
	fc.assert(
		fc.property(prefix, prefix, addressBytes, (a, b, address) => {
			const [x, y] = [range(a), range(b)];
			const same = x.family === y.family;
			if (contains(a, b) !== (same && x.first <= y.first && y.last <= x.last)) return false;
			if (overlap(a, b) !== (same && x.first <= y.last && y.first <= x.last)) return false;
			const n = addressToNumber(address);
			const inside = familyOf(address) === a.family && x.first <= n && n <= x.last;
			return containsAddress(a, address) === inside;
		}),
	);
});

t.test("a prefix survives conversion to text", async () => {
	fc.assert(
		fc.property(prefix, (p) => {
			const again = parsePrefix(p.text);
			return again.text === p.text && again.length === p.length && again.family === p.family;
		}),
	);
});

t.test("a table answers like a linear search", async () => {
	fc.assert(
		fc.property(
			fc.array(prefix, { maxLength: 30 }),
			prefix,
			addressBytes,
			(list, asked, address) => {
				const table = new PrefixTable<string>();
				for (const entry of list) table.set(entry, entry.text);
				const longest = (matches: (entry: Prefix) => boolean) =>
					list.filter(matches).sort((a, b) => b.length - a.length)[0]?.text;
				assert.equal(
					table.lookup(address),
					longest((entry) => containsAddress(entry, address)),
				);
				assert.equal(
					table.longest(asked),
					longest((entry) => contains(entry, asked)),
				);
				assert.equal(table.get(asked), list.find(({ text }) => text === asked.text)?.text);
				const found = table.overlapping(asked);
				if (found === undefined) assert.ok(!list.some((entry) => overlap(entry, asked)));
				else assert.ok(overlap(parsePrefix(found), asked));
			},
		),
		{ numRuns: 200 },
	);
});
