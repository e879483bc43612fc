/**
 * Probes on real devices, in the kernel's own skbs: a packet that a veth delivers in a tunnel is still marked as
 * tunnelled after decapsulation, and its answer goes into another tunnel, of either family.
 *
 *   raw socket → fairway0 (from_host of A) → wire0 ─ wire0-end (from_wire of B) → wire0
 */
import t from "tap";
import { PacketSender } from "#native";
import type { Packet } from "../../src/forwarder/packet.js";
import {
	Action,
	EventCounter,
	Hook,
	Path,
	PathName,
	ProbeWay,
	ProbeWayName,
} from "../../src/tables/generated.js";
import { check } from "./check.js";
import { DataPath } from "./data_path.js";
import { DeviceCapture } from "./device_capture.js";
import { inNamespace, ipBatch } from "./namespace.js";
import {
	type Family,
	isWellFormed,
	PROBE_PORT,
	pair,
	probeOf,
	request,
	unwrapped,
} from "./probes.js";
import { fromWire } from "./table.js";
import * as world from "./world.js";

const { geneve4, gateway } = world;
const FLOW_SLOTS = 128;
const FAMILIES: readonly Family[] = [4, 6];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	// Jumbo frames, most of which is cut off.
	ipBatch(["wire0", "wire0-end", "fairway0"].map((device) => `link set ${device} mtu 9000`));
	// B takes frames for its own MAC only.
	ipBatch([`link set wire0-end address ${geneve4.mac}`]);
	ipBatch(
		FAMILIES.flatMap((family) => [
			`route add ${geneve4.gateway[family]} dev fairway0`,
			// A veth instead of a device without ARP.
			`neighbour add ${geneve4.gateway[family]} lladdr ${world.HOST_MAC} dev fairway0 nud permanent`,
		]),
	);
	const asking = new DataPath({ flowSlots: FLOW_SLOTS });
	const answering = new DataPath({ flowSlots: FLOW_SLOTS });
	const links = [
		asking.attach(Hook.FROM_HOST, world.indexOf("fairway0"), "tcx_egress"),
		answering.attach(Hook.FROM_WIRE, world.indexOf("wire0-end"), "tcx_ingress"),
	];
	const sender = new PacketSender();
	let capture: DeviceCapture;
	t.before(async () => {
		capture = await DeviceCapture.start("wire0");
	});
	t.teardown(async () => {
		await capture.stop();
		sender.close();
		for (const link of links) link.close();
		asking.close();
		answering.close();
	});

	/** The next probe that leaves, with its frame; IPv6 also sends packets of its own. */
	const left = async (): Promise<{ frame: Buffer; probe: Packet }> => {
		for (;;) {
			const frame = await capture.next();
			const probe = unwrapped(frame);
			if (probe?.key.destinationPort === PROBE_PORT) return { frame, probe };
		}
	};

	for (const family of FAMILIES) {
		for (const path of [Path.GENEVE, Path.VXLAN]) {
			for (const a of FAMILIES) {
				for (const b of FAMILIES) {
					for (const wayBack of [ProbeWay.TUNNEL, ProbeWay.DIRECT]) {
						const name = `IPv${family} in ${PathName[path]} over IPv${a}`;
						const back = wayBack === ProbeWay.DIRECT ? ProbeWayName[wayBack] : `over IPv${b}`;
						t.test(`${name}, back ${back}`, async (t) => {
							const tables = pair(FLOW_SLOTS, { a, b }, path);
							for (const core of [asking, answering]) await core.forget();
							asking.write(tables.a);
							answering.write(tables.b);
							const side = { source: gateway[family], destination: geneve4.gateway[family] };
							const ways = { wayThere: ProbeWay.TUNNEL, wayBack };
							const length = wayBack === ProbeWay.DIRECT ? 8800 : 1300;
							sender.sendPacket(request(side, length, { ...ways, answerLength: 900 }));
							const asked = await left();
							t.equal(asked.frame.readUInt16BE(12), a === 4 ? 0x0800 : 0x86dd);
							isWellFormed(t, asked.probe);
							const answer = await left();
							t.equal(answering.event(EventCounter.PROBE_ANSWERED), 1n);
							t.equal(answering.verdict().action, Action.PASS, "the answer itself is not B's");
							const outer = wayBack === ProbeWay.DIRECT ? family : b;
							t.equal(answer.frame.readUInt16BE(12), outer === 4 ? 0x0800 : 0x86dd);
							isWellFormed(t, answer.probe);
							t.equal(answer.probe.length, 900);
							t.equal(probeOf(answer.probe).token, probeOf(asked.probe).token);
							const taken = await check(asking, tables.a, fromWire(answer.frame.subarray(14)));
							t.same(taken.differences, []);
							t.equal(taken.outcome.verdict.action, Action.PROBE);
						});
					}
				}
			}
		}
	}
}
