/** Random packets of every kind that the data path knows, and of some unknown ones. */
import { parse } from "../../src/forwarder/packet.js";
import { Limit } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Random } from "./random.js";
import * as world from "./world.js";

type Family = 4 | 6;

/** The properties of a conversation. */
export interface Kind {
	protocol: number;
	/** Ports of the initiator and of the responder. */
	ports: [number, number];
}

export function ipOptions(
	random: Random,
	source: string,
	destination: string,
	family: Family,
): build.IpOptions {
	const how: build.IpOptions = {
		source,
		destination,
		ttl: random.pick([64, 64, 64, 64, 255, 2, 1, 0]),
		trafficClass: random.pick([0, 0, 1, 2, 3, 0xb8, random.below(256)]),
		flowLabel: random.pick([0, random.below(0x100000)]),
		dontFragment: random.chance(0.7),
		identification: random.below(0x10000),
	};
	if (family === 4 && random.chance(0.15)) {
		how.options = Buffer.from(
			random.pick([
				[1, 1, 1, 0],
				[7, 7, 4, 0, 0, 0, 0, 0],
				[0x94, 4, 0, 0],
			]),
		);
	}
	if (family === 6 && random.chance(0.2)) {
		const kinds = [build.HOP_BY_HOP, build.ROUTING, build.DESTINATION_OPTIONS];
		const count = random.pick([1, 1, 2, 3, 8, 9]);
		how.extensions = Array.from({ length: count }, () =>
			random.chance(0.2)
				? build.authentication()
				: build.extension(random.pick(kinds), random.below(3)),
		);
	}
	return how;
}

export function segment(
	random: Random,
	{ protocol, ports }: Kind,
	sender: 0 | 1,
	heard: Buffer | undefined,
): build.Segment {
	const seen = heard && transportPorts(heard);
	const source = seen?.destination ?? ports[sender];
	const destination = seen?.source ?? ports[sender === 0 ? 1 : 0];
	const payload = random.bytes(
		random.pick([0, 1, 8, 40, 100, random.below(600), random.below(1600)]),
	);
	switch (protocol) {
		case 6:
			return build.tcp(source, destination, tcpOptions(random, payload));
		case 17:
			return build.udp(source, destination, payload, random.chance(0.8));
		case 1:
		case 58: {
			if (random.chance(0.1)) {
				return build.icmp({ 4: random.below(20), 6: random.between(128, 160) }, 0, 0, payload);
			}
			const kind = random.chance(0.1) === (sender === 0) ? "reply" : "request";
			const identifier = (heard && echoIdentifier(heard)) ?? ports[0];
			return build.echo(kind, identifier, payload);
		}
		case 132:
			return build.sctp(source, destination, random.pick([1, 2, 0, 0, 3, 6, 14]), payload);
		default:
			return build.protocol(protocol, payload);
	}
}

function tcpOptions(random: Random, payload: Buffer): build.TcpOptions {
	const { SYN, ACK, FIN, RST } = build;
	const flags = random.pick([
		SYN,
		SYN,
		SYN | ACK,
		ACK,
		ACK,
		ACK,
		FIN | ACK,
		FIN,
		RST,
		RST | ACK,
		0xff,
		0,
	]);
	const mss = build.mss(random.pick([1460, 8960, 536, 1400]));
	const options = random.pick<Buffer>([
		Buffer.alloc(0),
		mss,
		mss,
		Buffer.concat([Buffer.from([1]), mss, Buffer.from([1, 3, 3])]),
		Buffer.concat([Buffer.from([8, 10]), Buffer.alloc(8), mss, Buffer.from([4, 2])]),
		Buffer.from([0, 2, 4, 5]),
		Buffer.from([2, 3, 5, 0xb4]),
		Buffer.from([3, 0, 2, 4]),
	]);
	return { flags, options, payload };
}

/** An ICMP error about a received packet. */
export function errorAbout(random: Random, heard: Buffer): build.Segment {
	const length = random.pick([heard.length, 28, 48, 56, random.between(1, heard.length)]);
	const quoted = heard.subarray(0, Math.min(length, heard.length, 1200));
	const types = [
		{ 4: 3, 6: 1 },
		{ 4: 11, 6: 3 },
		{ 4: 12, 6: 4 },
		{ 4: 3, 6: 2 },
	];
	return build.icmp(random.pick(types), random.below(5), random.pick([0, 1400]), quoted);
}

/** A Pod's packet that imitates a peer's tunnel. */
export function forged(
	random: Random,
	how: build.IpOptions,
	family: Family,
): [build.IpOptions, build.Segment] {
	const inner = build.frame(
		{ source: "0a:00:00:00:00:99", destination: "02:fa:1c:00:00:01" },
		build.ip({ source: world.podB[family], destination: world.podA[family] }, build.udp(1, 2)),
	);
	const payload = random.chance(0.5)
		? build.geneve({ vni: random.pick([world.VNI, 7]) }, inner)
		: build.vxlan(random.pick([world.VNI, 7]), inner);
	const port = random.pick([Limit.GENEVE_PORT, Limit.VXLAN_PORT, 7000, 9999]);
	const destination = random.pick(world.peers).transport[family];
	return [{ ...how, destination }, build.udp(random.between(1, 65535), port, payload)];
}

export function fragments(random: Random, packet: Buffer, size: number): Buffer[] {
	const fragments = build.fragmented(packet, size, random.between(0, 0xffff));
	const some =
		fragments.length > 6 ? [...fragments.slice(0, 3), ...fragments.slice(-3)] : fragments;
	return random.chance(0.5) ? some : random.shuffled(some);
}

export function anyAddress(random: Random, family: Family): string {
	const { podA, podB, gateway, nodeAddress, peers, outside, excluded, silent } = world;
	const own = [podA, podB, gateway, nodeAddress, outside, excluded, silent];
	const others =
		family === 4
			? [
					"10.244.1.77",
					"10.244.9.9",
					"224.0.0.5",
					"239.1.2.3",
					"255.255.255.255",
					"0.0.0.0",
					"127.0.0.1",
				]
			: ["fd00:10:244:1::77", "fd00:10:244:9::9", "ff02::1", "ff05::2", "::", "fe80::1", "::1"];
	return random.pick([
		...own.map((pair) => pair[family]),
		...peers.flatMap(({ pod, transport }) => [pod[family], transport[family]]),
		...others,
	]);
}

export function tunnelled(
	random: Random,
	peer: world.PeerFacts,
	packet: Buffer,
	family: Family,
): Buffer {
	const wrong = random.chance(0.1);
	const vni = wrong && random.chance(0.3) ? 7 : world.VNI;
	const outer = random.chance(0.8) ? peer.outerFamily : ((10 - peer.outerFamily) as Family);
	const inner = build.frame(
		{
			source: "0a:00:00:00:00:99",
			destination: wrong && random.chance(0.3) ? "01:00:5e:00:00:01" : "02:fa:1c:00:00:01",
		},
		packet,
		wrong && random.chance(0.2) ? 0x0806 : family === 4 ? 0x0800 : 0x86dd,
	);
	const options = random.chance(0.2)
		? build.geneveOption(wrong ? 0x80 : 1, random.below(4))
		: Buffer.alloc(0);
	const flags = wrong ? random.pick([0, 0x40, 0x80]) : 0;
	const geneve = random.chance(0.5);
	const payload = geneve
		? build.geneve({ vni, options, flags, version: wrong && random.chance(0.2) ? 1 : 0 }, inner)
		: build.vxlan(vni, inner, wrong ? random.pick([0x08, 0x00, 0x0c]) : 0x08);
	const port = random.chance(0.85)
		? geneve
			? Limit.GENEVE_PORT
			: Limit.VXLAN_PORT
		: random.pick([7000, Limit.GENEVE_PORT, Limit.VXLAN_PORT]);
	const sender = random.chance(0.95) ? peer : random.pick(world.peers);
	return build.ip(
		{
			source: random.chance(0.97) ? sender.transport[outer] : world.outside[outer],
			destination: (random.chance(0.97)
				? world.nodeAddress
				: random.pick([world.podA, world.unknownAddress]))[outer],
			trafficClass: random.pick([0, 0, 1, 2, 3]),
		},
		build.udp(random.between(49152, 65535), port, payload, random.chance(0.3)),
	);
}

export function parsed(packet: Buffer) {
	return parse(packet, 0, packet[0]! >> 4 === 6 ? 0x86dd : 0x0800);
}

function transportPorts(packet: Buffer) {
	const found = parsed(packet);
	return found && { source: found.key.sourcePort, destination: found.key.destinationPort };
}

function echoIdentifier(packet: Buffer): number | undefined {
	const found = parsed(packet);
	if (found?.echo === undefined) return undefined;
	return found.echo === "request" ? found.key.sourcePort : found.key.destinationPort;
}

/** ARP or neighbour discovery of a Pod, near to what it may say. */
export function neighbour(random: Random, pod: world.Pod, family: Family): Buffer {
	const macs = { source: pod.mac, destination: world.GATEWAY_MAC };
	const address = (): string => {
		const { podA, podB, gateway } = world;
		const likely = [pod[family], pod[family], pod[family], gateway[family], podA[family]];
		return random.pick([...likely, podB[family], family === 4 ? "0.0.0.0" : "::", "fe80::1"]);
	};
	const own = (): string =>
		family === 4 ? address().replace("fe80::1", "10.244.1.77") : address();
	if (family === 4) return build.arpRequest(macs, own(), own());
	const target = build.ip({ source: address(), destination: address() }, build.udp(1, 2));
	const option = Buffer.from(`0${random.pick([1, 2, 0xe])}01${pod.mac.replaceAll(":", "")}`, "hex");
	const body = Buffer.concat([
		target.subarray(8, 24),
		random.chance(0.5) ? option : Buffer.alloc(0),
	]);
	const how = {
		source: own(),
		destination: random.pick(["ff02::1:ff00:1", "ff02::1", world.gateway[6], world.direct.pod[6]]),
		ttl: random.pick([255, 255, 255, 64]),
	};
	const type = random.pick([135, 135, 136, 136, 133, 143]);
	return build.frame(macs, build.ip(how, build.icmp({ 4: 0, 6: type }, 0, 0, body)));
}
