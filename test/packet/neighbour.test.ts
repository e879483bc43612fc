/** ARP and neighbour discovery of Pods: of their own addresses and MAC, and of nothing else. */
import t from "tap";
import { writeMac } from "../../src/tables/address.js";
import { Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { DataPath } from "./data_path.js";
import { inNamespace } from "./namespace.js";
import { fromPod, type PacketRow, runRows } from "./table.js";
import * as world from "./world.js";

const { podA, podB, gateway } = world;
const FORGED_MAC = "0a:00:00:00:00:99";
const NONE = "00:00:00:00:00:00";

interface Arp {
	operation?: number;
	/** Of the Ethernet header. */
	from?: string;
	senderMac?: string;
	sender?: string;
	target?: string;
}

function arp({ operation = 1, from = podA.mac, ...how }: Arp = {}): Input {
	const { senderMac = podA.mac, sender = podA[4], target = gateway[4] } = how;
	const packet = build.arpRequest({ source: from, destination: world.GATEWAY_MAC }, sender, target);
	packet.writeUInt16BE(operation, 14 + 6);
	writeMac(packet, 14 + 8, senderMac);
	return { hook: Hook.FROM_POD, packet, context: { ifindex: world.indexOf(podA.interface) } };
}

interface Message {
	type?: number;
	code?: number;
	source?: string;
	destination?: string;
	target?: string;
	option?: { type: number; mac?: string; length?: number };
	ttl?: number;
	/** Of the Ethernet header. */
	from?: string;
}

const SOURCE = 1;
const TARGET = 2;
const NONCE = 14;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;

function discovery(how: Message): Input {
	const { type = SOLICITATION, code = 0, source = podA[6], target = gateway[6] } = how;
	const { destination = "ff02::1:ff00:1", ttl = 255, from = podA.mac, option } = how;
	const body = Buffer.alloc(16 + (option ? 8 : 0));
	build.ip({ source: target, destination: target }, build.udp(1, 2)).copy(body, 0, 8, 24);
	if (option) {
		body[16] = option.type;
		body[17] = option.length ?? 1;
		writeMac(body, 18, option.mac ?? podA.mac);
	}
	const message = build.icmp({ 4: 0, 6: type }, code, 0, body);
	const packet = fromPod(podA, build.ip({ source, destination, ttl }, message));
	writeMac(packet.packet, 6, from);
	return packet;
}

type Said = [shows: string, packet: Input];

const taken = (): Said[] => [
	["a question for the gateway", arp()],
	["a question for anybody", arp({ target: podB[4] })],
	["an announcement of its own address", arp({ target: podA[4] })],
	["an answer with its own address", arp({ operation: 2 })],
	["a probe whether its own address is taken", arp({ sender: "0.0.0.0", target: podA[4] })],
	["a solicitation of the gateway", discovery({})],
	["a solicitation with its own MAC", discovery({ option: { type: SOURCE } })],
	["a solicitation to the gateway itself", discovery({ destination: gateway[6] })],
	["a probe for its own address", discovery({ source: "::", target: podA[6] })],
	[
		"a probe with a nonce",
		discovery({ source: "::", target: podA[6], option: { type: NONCE, mac: FORGED_MAC } }),
	],
	["a probe for a link-local address", discovery({ source: "::", target: "fe80::7" })],
	[
		"an advertisement of its own address and MAC",
		discovery({
			type: ADVERTISEMENT,
			target: podA[6],
			destination: "ff02::1",
			option: { type: TARGET },
		}),
	],
];

const refused = (): Said[] => [
	["ARP for another Pod's address", arp({ sender: podB[4] })],
	["ARP for the gateway's address", arp({ operation: 2, sender: gateway[4] })],
	["ARP for an address of nobody", arp({ sender: "10.244.1.77" })],
	["ARP with a MAC that is not the frame's", arp({ senderMac: FORGED_MAC })],
	["ARP with another MAC in both places", arp({ senderMac: FORGED_MAC, from: FORGED_MAC })],
	["an ARP probe for another address", arp({ sender: "0.0.0.0", target: "10.244.1.77" })],
	["an ARP answer without an address", arp({ operation: 2, sender: "0.0.0.0", target: podA[4] })],
	["an ARP operation beyond question and answer", arp({ operation: 3 })],
	["a solicitation with another Pod's source", discovery({ source: podB[6] })],
	["a solicitation from a link-local address", discovery({ source: "fe80::1" })],
	["a solicitation with another frame's MAC", discovery({ from: FORGED_MAC })],
	[
		"a solicitation that tells another MAC",
		discovery({ option: { type: SOURCE, mac: FORGED_MAC } }),
	],
	["a solicitation with another option", discovery({ option: { type: TARGET } })],
	["a solicitation with a long option", discovery({ option: { type: SOURCE, length: 2 } })],
	["a solicitation of another Pod", discovery({ target: podB[6] })],
	["a solicitation to another Node's Pod", discovery({ destination: world.direct.pod[6] })],
	["a solicitation that has passed a router", discovery({ ttl: 254 })],
	["a solicitation with a code", discovery({ code: 1 })],
	["a probe for another Pod's address", discovery({ source: "::", target: podB[6] })],
	[
		"a probe that tells a MAC",
		discovery({ source: "::", target: podA[6], option: { type: SOURCE } }),
	],
	["an advertisement of the gateway", discovery({ type: ADVERTISEMENT, target: gateway[6] })],
	["an advertisement of another Pod", discovery({ type: ADVERTISEMENT, target: podB[6] })],
	[
		"an advertisement that tells another MAC",
		discovery({ type: ADVERTISEMENT, target: podA[6], option: { type: TARGET, mac: NONE } }),
	],
];

const routers = (): Said[] => [
	["a router solicitation", discovery({ type: 133, destination: "ff02::2" })],
	["a router advertisement", discovery({ type: 134, destination: "ff02::1" })],
	["a redirect", discovery({ type: 137, destination: gateway[6] })],
];

const report = (source: string, type: number, destination: string) =>
	fromPod(
		podA,
		build.ip(
			{ source, destination, ttl: 1 },
			build.icmp({ 4: 0, 6: type }, 0, 0, Buffer.alloc(20)),
		),
	);

const groups = (): PacketRow[] => [
	{
		shows: "a report of multicast groups from a link-local address passes",
		packet: report("fe80::1", 143, "ff02::16"),
		action: "pass",
	},
	...[
		["an echo request to every Node of the link", "fe80::1", 128, "ff02::1"],
		["an echo request to a link-local address", "fe80::1", 128, "fe80::2"],
		["a report to one host", "fe80::1", 143, gateway[6]],
		["an echo request from no address", "::", 128, "ff02::1"],
	].map(
		([shows, source, type, destination]): PacketRow => ({
			shows: `${shows}, from a source that cannot be checked, does not`,
			packet: report(source as string, type as number, destination as string),
			action: "drop",
			drop: "spoofed_address",
		}),
	),
];

if (inNamespace(import.meta.url)) {
	world.makeNetwork();
	const dataPath = new DataPath({ flowSlots: 128 });
	t.teardown(() => dataPath.close());
	const rows = (said: Said[], verdict: string, row: Omit<PacketRow, "shows" | "packet">) =>
		said.map(([shows, packet]): PacketRow => ({ ...row, shows: `${shows} ${verdict}`, packet }));
	runRows(t, dataPath, [
		...rows(taken(), "passes", { action: "pass" }),
		...rows(refused(), "does not pass", { action: "drop", drop: "spoofed_neighbour" }),
		...rows(routers(), "of a Pod does not pass", { action: "drop", drop: "router_discovery" }),
		...groups(),
	]);
}
