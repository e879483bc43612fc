/** What PacketSender sends is on the device as it was given, and takes the Node's routes only as a packet. */
import { execFileSync } from "node:child_process";
import t from "tap";
import { BpfError, PacketSender } from "#native";
import * as build from "../packet/builder.js";
import { DeviceCapture } from "../packet/device_capture.js";
import { inNamespace, ipBatch } from "../packet/namespace.js";

const MACS = { source: "02:00:00:00:00:01", destination: "02:00:00:00:00:02" };
const ADDRESSES = {
	4: { source: "203.0.113.1", destination: "10.0.0.2" },
	6: { source: "2001:db8::1", destination: "fd00::2" },
} as const;

if (inNamespace(import.meta.url)) {
	ipBatch([
		"link add name out mtu 1500 type veth peer name end",
		"link set dev end up",
		"link set dev out up addrgenmode none",
		"address add 10.0.0.1/24 dev out",
		"address add fd00::1/64 dev out nodad",
		`neighbour add 10.0.0.2 lladdr ${MACS.destination} dev out nud permanent`,
		`neighbour add fd00::2 lladdr ${MACS.destination} dev out nud permanent`,
	]);
	const sender = new PacketSender();
	let capture: DeviceCapture;
	t.before(async () => {
		capture = await DeviceCapture.start("out");
	});
	t.teardown(async () => {
		await capture.stop();
		sender.close();
	});
	/** The next frame with this payload: IPv6 speaks up by itself. */
	const left = async (payload: Buffer) => {
		for (;;) {
			const frame = await capture.next();
			if (frame.includes(payload)) return frame;
		}
	};

	for (const family of [4, 6] as const) {
		t.test(`IPv${family}`, async (t) => {
			const payload = Buffer.from(`to family ${family}, as it is`);
			const packet = build.ip(
				{ ...ADDRESSES[family], identification: 7 },
				build.udp(1000, 2000, payload),
			);
			const frame = build.frame(MACS, packet);
			sender.sendFrame(frame, indexOf("out"));
			t.same(await left(payload), frame, "a frame leaves as it is");
			sender.sendPacket(packet);
			t.same((await left(payload)).subarray(14), packet, "a packet by its route");
		});
	}

	t.test("what the kernel refuses is an error with the device or the destination", async (t) => {
		const refused = (act: () => void, message: RegExp, code: string) => {
			t.throws(act, { name: BpfError.name, message, code });
		};
		refused(
			() => sender.sendFrame(Buffer.alloc(60), 2 ** 31 - 1),
			/^Cannot send frame out of interface 2147483647: /,
			"ENXIO",
		);
		refused(
			() => sender.sendFrame(Buffer.alloc(1600, 8), indexOf("out")),
			/^Cannot send frame out of interface \d+: /,
			"EMSGSIZE",
		);
		const packet = build.ip({ source: "10.0.0.1", destination: "192.0.2.1" }, build.udp(1, 2));
		refused(
			() => sender.sendPacket(packet),
			/^Cannot send packet to 192\.0\.2\.1: /,
			"ENETUNREACH",
		);
	});
}

function indexOf(name: string): number {
	const text = execFileSync("ip", ["-j", "link", "show", "dev", name], { encoding: "utf8" });
	return (JSON.parse(text) as { ifindex: number }[])[0]!.ifindex;
}
