/** ICMP errors: their format, and the packets that get none. */
import t from "tap";
import { complement, sumWords } from "../../src/forwarder/checksum.js";
import { icmpError, mayAnswer } from "../../src/forwarder/icmp.js";
import { type Packet, parse } from "../../src/forwarder/packet.js";
import * as build from "../packet/builder.js";

const MACS = { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" };
const POD = { 4: "10.244.1.2", 6: "fd00:10:244:1::2" };
const OTHER = { 4: "198.51.100.7", 6: "2001:db8::7" };
const GATEWAY = { 4: "10.244.1.1", 6: "fd00:10:244:1::1" };

function parsed(packet: Buffer): Packet {
	const read = parse(build.frame(MACS, packet));
	if (!read) throw new Error("Cannot read the packet of the test");
	return read;
}

for (const family of [4, 6] as const) {
	const from = (segment: build.Segment, how: Partial<build.IpOptions> = {}) =>
		parsed(build.ip({ source: POD[family], destination: OTHER[family], ...how }, segment));

	t.test(`IPv${family}: form`, async (t) => {
		for (const length of [0, 1, 700, 3000]) {
			const packet = from(build.udp(1, 2, Buffer.alloc(length, 0x61)));
			const error = icmpError(packet, GATEWAY[family], { kind: "too big", mtu: 1400 });
			const read = parsed(error);
			t.equal(read.key.source, GATEWAY[family]);
			t.equal(read.key.destination, POD[family]);
			t.ok(read.icmpError);
			t.ok(error.length <= (family === 4 ? 576 : 1280));
			const quoted = error.subarray(family === 4 ? 28 : 48);
			t.same(quoted, packet.frame.subarray(14, 14 + quoted.length));
			const message = error.subarray(family === 4 ? 20 : 40);
			const pseudo = family === 4 ? 0 : sumWords(error.subarray(8, 40)) + message.length + 58;
			t.equal(complement(pseudo + sumWords(message)), 0, `checksum, ${length} bytes`);
			if (family === 4) t.equal(complement(sumWords(error.subarray(0, 20))), 0);
		}
	});

	t.test(`IPv${family}: types and codes`, async (t) => {
		const said = {
			"time exceeded": { 4: [11, 0], 6: [3, 0] },
			unreachable: { 4: [3, 1], 6: [1, 0] },
			prohibited: { 4: [3, 13], 6: [1, 1] },
			"no host": { 4: [3, 1], 6: [1, 3] },
		} as const;
		for (const kind of Object.keys(said) as (keyof typeof said)[]) {
			const error = icmpError(from(build.udp(1, 2)), GATEWAY[family], { kind });
			const message = error.subarray(family === 4 ? 20 : 40);
			t.same([...message.subarray(0, 2)], said[kind][family], kind);
		}
	});

	t.test(`IPv${family}: about what there is one`, async (t) => {
		t.ok(mayAnswer(from(build.udp(1, 2))));
		t.ok(mayAnswer(from(build.echo("request", 1))));
		t.notOk(mayAnswer(from(build.unreachable(Buffer.alloc(48)))), "an error");
		const multicast = family === 4 ? "239.1.1.1" : "ff05::1";
		t.notOk(mayAnswer(from(build.udp(1, 2), { destination: multicast })), "to multicast");
		t.notOk(mayAnswer(from(build.udp(1, 2), { source: multicast })), "from multicast");
		const [, later] = build.fragmented(
			build.ip(
				{ source: POD[family], destination: OTHER[family] },
				build.udp(1, 2, Buffer.alloc(64)),
			),
			32,
			1,
		);
		t.notOk(mayAnswer(parsed(later!)), "a later fragment");
		const loopback = family === 4 ? "127.0.0.1" : "::1";
		t.notOk(mayAnswer(from(build.udp(1, 2), { source: loopback })), "from the loopback");
		if (family === 4) t.notOk(mayAnswer(from(build.udp(1, 2), { source: "0.0.0.0" })));
	});
}
