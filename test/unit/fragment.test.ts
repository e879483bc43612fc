/** IPv4 fragmentation: a receiver reassembles exactly what was sent. */
import fc from "fast-check";
import t from "tap";
import { complement, sumWords } from "../../src/forwarder/checksum.js";
import { fragmentIpv4 } from "../../src/forwarder/fragment.js";
import * as build from "../packet/builder.js";

const HOW = { source: "10.244.1.2", destination: "10.244.2.2", dontFragment: false };

function packet(length: number, options?: Buffer): Buffer {
	const payload = Buffer.from(Array.from({ length }, (_, i) => i & 0xff));
	return build.ip({ ...HOW, ...(options && { options }) }, build.protocol(253, payload));
}

function fields(fragment: Buffer) {
	const header = (fragment[0]! & 0x0f) * 4;
	const field = fragment.readUInt16BE(6);
	return {
		header: fragment.subarray(0, header),
		payload: fragment.subarray(header),
		length: fragment.readUInt16BE(2),
		identification: fragment.readUInt16BE(4),
		offset: (field & 0x1fff) * 8,
		more: (field & 0x2000) !== 0,
	};
}

t.test("any packet, any MTU", async () => {
	fc.assert(
		fc.property(
			fc.integer({ min: 0, max: 9000 }),
			fc.integer({ min: 68, max: 9000 }),
			fc.constantFrom("", "01010100", "94040000", "070704000000000000000000"),
			(length, mtu, options) => {
				const whole = packet(length, Buffer.from(options, "hex"));
				const fragments = fragmentIpv4(whole, mtu, 4242)!.map(fields);
				let expected = 0;
				for (const [i, fragment] of fragments.entries()) {
					const isLast = i === fragments.length - 1;
					if (fragment.offset !== expected) return false;
					if (fragment.more === isLast) return false;
					if (fragment.length > mtu || fragment.identification !== 4242) return false;
					if (fragment.length !== fragment.header.length + fragment.payload.length) return false;
					if (complement(sumWords(fragment.header)) !== 0) return false;
					if (!isLast && fragment.payload.length % 8 !== 0) return false;
					expected += fragment.payload.length;
				}
				const again = Buffer.concat(fragments.map(({ payload }) => payload));
				return again.equals(whole.subarray((whole[0]! & 0x0f) * 4));
			},
		),
	);
});

t.test("options: all in the first fragment, the copied ones in the others", async (t) => {
	// No-operation, loose source route (copied), record route (not copied).
	const options = Buffer.from("01830704c0a80101070704000000000000000000".slice(0, 32), "hex");
	const fragments = fragmentIpv4(packet(1000, options), 500, 1)!.map(fields);
	t.same(fragments[0]?.header.subarray(20), options);
	for (const { header } of fragments.slice(1)) {
		t.equal(header.subarray(20).toString("hex"), "830704c0a8010100");
	}
});

t.test("fragments of a fragment keep its offset and that more follow", async (t) => {
	const [first, second] = build.fragmented(packet(1600), 800, 7);
	const [a, b] = fragmentIpv4(first!, 500, 7)!.map(fields);
	t.same([a?.offset, a?.more, b?.offset, b?.more], [0, true, 480, true]);
	const [c, d] = fragmentIpv4(second!, 500, 7)!.map(fields);
	t.same([c?.offset, c?.more, d?.offset, d?.more], [800, true, 1280, false]);
});

t.test("an MTU without room for 8 bytes", async (t) => {
	t.equal(fragmentIpv4(packet(100), 27, 1), undefined);
	t.equal(fragmentIpv4(packet(100), 28, 1)?.length, 13);
});
