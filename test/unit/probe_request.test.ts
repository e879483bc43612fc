import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import { type RequestPacket, requestPacket, smallLength, WAYS } from "../../src/probe/request.js";
import { Limit, Probe, ProbeFlag, ProbeKind } from "../../src/tables/generated.js";

const ADDRESSES = {
	4: ["10.244.1.1", "10.244.255.1"],
	6: ["fd00:10:244:1::1", "fd00:10:244:ff::1"],
} as const;

const request = fc
	.record({
		family: fc.constantFrom(4 as const, 6 as const),
		there: fc.constantFrom("direct" as const, "tunnel" as const),
		back: fc.constantFrom("direct" as const, "tunnel" as const),
		more: fc.nat(9000),
		less: fc.nat(9000),
		sequence: fc.nat(2 ** 32 - 1),
		hello: fc.boolean(),
	})
	.map(({ family, more, less, ...rest }) => {
		const small = smallLength(family);
		const length = small + more;
		const [source, destination] = ADDRESSES[family];
		return {
			family,
			source,
			destination,
			length,
			answerLength: Math.max(small, length - less),
			...rest,
		};
	});

t.test("a request is parsed back to its fields", async () => {
	fc.assert(
		fc.property(request, ({ family, source, destination, ...asked }) => {
			const packet = requestPacket({ source, destination, ...asked });
			assert.equal(packet.length, asked.length);
			const l4 = family === 4 ? 20 : 40;
			const probe = Probe.decode(packet.subarray(l4 + 8));
			assert.deepEqual(probe, {
				magic: Limit.PROBE_MAGIC,
				kind: ProbeKind.REQUEST,
				flags: asked.hello ? ProbeFlag.HELLO : 0,
				wayThere: WAYS[asked.there],
				wayBack: WAYS[asked.back],
				length: asked.length,
				answerLength: asked.answerLength,
				sequence: asked.sequence,
				...{ sentAt: 0n, token: 0n },
				...{ sentPackets: 0, sentLarge: 0, receivedPackets: 0, receivedLarge: 0 },
			});
			const rest = packet.subarray(l4 + 8 + Probe.size);
			assert.ok(
				rest.every((byte) => byte === 0),
				"nothing but zeros behind it",
			);
			assert.equal(packet.readUInt16BE(l4), Limit.PROBE_PORT);
			assert.equal(packet.readUInt16BE(l4 + 2), Limit.PROBE_PORT);
			assert.equal(packet.readUInt16BE(l4 + 4), asked.length - l4);
		}),
	);
});

t.test("the IP header", async (t) => {
	const asked = {
		...{ there: "direct" as const, back: "tunnel" as const },
		...{ length: 1000, answerLength: 100, sequence: 0x12340000, hello: false },
	};
	const v4 = requestPacket({ source: "10.244.1.1", destination: "10.244.2.1", ...asked });
	t.equal(v4.subarray(0, 20).toString("hex"), "450003e800014000401100000af401010af40201");
	t.notSame(v4.readUInt16BE(4), 0, "an id, or the kernel would write one");
	const v6 = requestPacket({ source: "fd00::1", destination: "fd00::2", ...asked });
	t.equal(
		v6.subarray(0, 40).toString("hex"),
		"6000000003c01140fd000000000000000000000000000001fd000000000000000000000000000002",
	);
	t.equal(smallLength(4), 28 + Probe.size);
	t.equal(smallLength(6), 48 + Probe.size);
});

t.test("invalid requests", async (t) => {
	const small = smallLength(4);
	const good: RequestPacket = {
		...{ source: "10.244.1.1", destination: "10.244.2.1" },
		...{ there: "direct" as const, back: "direct" as const },
		...{ length: 200, answerLength: 200, sequence: 1, hello: true },
	};
	const rows: [what: string, change: Partial<RequestPacket>, error: string][] = [
		[
			"a request too short",
			{ length: small - 1, answerLength: small - 1 },
			`Cannot make a request of ${small - 1} bytes with an answer of ${small - 1}: expected at least ${small}`,
		],
		["an answer too short", { answerLength: 40 }, "with an answer of 40: expected at least"],
		["a long answer", { answerLength: 201 }, "and an answer no longer than its request"],
		["no address", { source: "n2" }, 'expected an address, got "n2"'],
		["no destination", { destination: "" }, 'expected an address, got ""'],
	];
	for (const [what, change, message] of rows)
		t.throws(() => requestPacket({ ...good, ...change }), new RegExp(message), what);
	t.equal(requestPacket({ ...good, length: small, answerLength: small }).length, small);
});
