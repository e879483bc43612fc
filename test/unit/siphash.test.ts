/** SipHash-2-4 by the vectors of its authors (github.com/veorq/SipHash, vectors.h). */
import t from "tap";
import { siphash } from "../../src/forwarder/siphash.js";

/** The bytes 00 to 0f. */
const KEY = [0x0706050403020100n, 0x0f0e0d0c0b0a0908n] as const;

/** Length of a message 00 01 02 ... → its hash, as bytes. */
const VECTORS: Record<number, string> = {
	0: "310e0edd47db6f72",
	1: "fd67dc93c539f874",
	2: "5a4fa9d909806c0d",
	7: "37d1018bf50002ab",
	8: "6224939a79f5f593",
	9: "b0e4a90bdf82009e",
	15: "e545be4961ca29a1",
	16: "db9bc2577fcc2a3f",
	17: "9447be2cf5e99a69",
	40: "d0a704536ba93e0e",
	63: "724506eb4c328a95",
};

for (const [length, expected] of Object.entries(VECTORS)) {
	const message = Buffer.from(Array.from({ length: Number(length) }, (_, i) => i));
	const hash = Buffer.alloc(8);
	hash.writeBigUInt64LE(siphash(KEY, message));
	t.equal(hash.toString("hex"), expected, `${length} bytes`);
}
