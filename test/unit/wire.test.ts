import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { wirePackets } from "../tools/wire.js";

/** A TCP segment of 10.0.0.1 to 10.0.0.2 whose right checksum is 0, sent with another. */
function frame(checksum: number): Buffer {
	const bytes = Buffer.from(
		"020000000001020000000002080045000028000000004006".concat(
			"66ce0a0000010a000002",
			// Ports, sequence and acknowledgement numbers, ACK, window; the urgent pointer makes the sum.
			"03e807d000000001000000015010006400008fb4",
		),
		"hex",
	);
	bytes.writeUInt16BE(checksum, 50);
	return bytes;
}

function pcap(frames: Buffer[]): Buffer {
	const header = Buffer.alloc(24);
	header.writeUInt32LE(0xa1b2c3d4, 0);
	header.writeUInt16LE(2, 4);
	header.writeUInt16LE(4, 6);
	header.writeUInt32LE(65_535, 16);
	header.writeUInt32LE(1, 20);
	const records = frames.flatMap((frame) => {
		const record = Buffer.alloc(16);
		record.writeUInt32LE(frame.length, 8);
		record.writeUInt32LE(frame.length, 12);
		return [record, frame];
	});
	return Buffer.concat([header, ...records]);
}

t.test("only a TCP checksum of zero may be sent as 0xffff", async (t) => {
	const directory = mkdtempSync(join(tmpdir(), "fairway-wire-"));
	t.teardown(() => rmSync(directory, { recursive: true }));
	const file = join(directory, "wire.pcap");
	writeFileSync(file, pcap([frame(0), frame(0xffff), frame(0x1234)]));
	const packets = await wirePackets(file);
	t.same(
		packets.map(({ badChecksums }) => badChecksums),
		[[], [], ["tcp"]],
	);
});
