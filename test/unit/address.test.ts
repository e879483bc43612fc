import fc from "fast-check";
import { Address4, Address6 } from "ip-address";
import t from "tap";
import {
	addressFromNumber,
	addressToNumber,
	canonicalAddress,
	familyOf,
	formatAddress,
	parseAddress,
	readAddress,
	readMac,
	writeAddress,
	writeMac,
} from "../../src/tables/address.js";

const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 });
/** Zero groups are the difficult part of IPv6 text. */
const sparse = fc
	.array(fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff })), {
		minLength: 8,
		maxLength: 8,
	})
	.map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])));

t.test("16 bytes of any value are written as text and read again", async (t) => {
	fc.assert(
		fc.property(fc.oneof(bytes16, sparse), (bytes) => {
			const text = formatAddress(bytes);
			return Buffer.from(bytes).equals(parseAddress(text) ?? Buffer.alloc(0));
		}),
		{ numRuns: 2000 },
	);
	t.pass();
});

t.test("IPv6 text matches another implementation of RFC 5952", async (t) => {
	fc.assert(
		fc.property(fc.oneof(bytes16, sparse), (bytes) => {
			const text = formatAddress(bytes);
			fc.pre(familyOf(text) === 6);
			const other = Address6.fromUnsignedByteArray([...bytes]);
			return (
				other.correctForm() === text &&
				canonicalAddress(other.canonicalForm()) === text &&
				canonicalAddress(other.correctForm().toUpperCase()) === text
			);
		}),
		{ numRuns: 2000 },
	);
	t.pass();
});

t.test("IPv4 text becomes the 16 mapped bytes", async (t) => {
	t.equal(parseAddress("10.1.2.3")?.toString("hex"), "00000000000000000000ffff0a010203");
	fc.assert(
		fc.property(fc.ipV4(), (text) => {
			const number = addressToNumber(parseAddress(text) ?? Buffer.alloc(0));
			return number === new Address4(text).bigInt() && canonicalAddress(text) === text;
		}),
	);
});

t.test("text that is not an address is refused", async (t) => {
	for (const text of [
		"",
		" ",
		"10.0.0",
		"10.0.0.256",
		"010.0.0.1",
		"10.0.0.1 ",
		"10.0.0.1/32",
		"0x0a000001",
		"fe80::1%eth0",
		"::ffff:10.0.0.1",
		"::FFFF:a00:1",
		"1::2::3",
		"1:2:3:4:5:6:7",
		"12345::",
		"[::1]",
		"node-1",
	])
		t.equal(parseAddress(text), undefined, JSON.stringify(text));
});

t.test("canonical text", async (t) => {
	const rows: [string, string][] = [
		["::", "::"],
		["::1", "::1"],
		["FD00:0:0:1::0:1", "fd00:0:0:1::1"],
		["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
		["1:0:0:2:3:0:0:4", "1::2:3:0:0:4"],
		["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
		["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
		["::1.2.3.4", "::102:304"],
		["2001:db8::", "2001:db8::"],
	];
	for (const [text, wanted] of rows) t.equal(canonicalAddress(text), wanted, text);
});

t.test("numbers", async (t) => {
	fc.assert(
		fc.property(fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }), (number) => {
			const bytes = addressFromNumber(number, 4);
			return familyOf(formatAddress(bytes)) === 4 && addressToNumber(bytes) === number;
		}),
	);
	fc.assert(
		fc.property(fc.bigInt({ min: 1n << 48n, max: (1n << 128n) - 1n }), (number) => {
			return addressToNumber(addressFromNumber(number, 6)) === number;
		}),
	);
	t.throws(() => addressFromNumber(1n << 32n, 4), /Cannot make an IPv4 address: expected 32 bits/);
	t.throws(() => addressFromNumber(-1n, 6), /expected 128 bits/);
});

t.test("inside a buffer: empty text is sixteen zeros, adjacent bytes stay", async (t) => {
	const buffer = Buffer.alloc(20, 0xee);
	writeAddress(buffer, 2, "fd00::7");
	t.equal(readAddress(buffer, 2), "fd00::7");
	writeAddress(buffer, 2, "");
	t.equal(readAddress(buffer, 2), "");
	t.equal(buffer.toString("hex"), `eeee${"00".repeat(16)}eeee`);
	t.throws(() => writeAddress(buffer, 2, "10.0.0.1/8"), {
		message: 'Cannot encode address: expected IPv4 or IPv6, got "10.0.0.1/8"',
	});
});

t.test("MACs", async (t) => {
	const buffer = Buffer.alloc(8, 0xee);
	writeMac(buffer, 1, "02:FA:1c:00:00:01");
	t.equal(readMac(buffer, 1), "02:fa:1c:00:00:01");
	t.equal(buffer.toString("hex"), "ee02fa1c000001ee");
	for (const text of ["", "02:fa:1c:00:00", "02-fa-1c-00-00-01", "02:fa:1c:00:00:0g"])
		t.throws(() => writeMac(buffer, 1, text), /expected aa:bb:cc:dd:ee:ff/, JSON.stringify(text));
});
