/**
 * Random traffic of the Node in world.ts: conversations of every kind of pair, in both directions,
 * so that packets meet flows that earlier ones made; with fragments, ICMP errors, tunnels, options,
 * segments to be, and a share that is mutated.
 */
import type { Decision } from "../../src/forwarder/forwarder.js";
import { ETHERNET_HEADER, parse } from "../../src/forwarder/packet.js";
import { Action, Hook, Limit } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { mutated } from "./mutate.js";
import type { Random } from "./random.js";
import * as world from "./world.js";

type Family = 4 | 6;
type Place = "pod" | "peer" | "outside" | "node";

interface Party {
	place: Place;
	address: string;
	pod?: world.Pod;
	peer?: world.PeerFacts;
}

interface Conversation {
	family: Family;
	/** Who began it, and whom with. */
	parties: [Party, Party];
	protocol: number;
	ports: [number, number];
	/** The last packet of each party as the other one received it, from its IP header on. */
	received: [Buffer | undefined, Buffer | undefined];
}

const PROTOCOLS = [6, 6, 6, 17, 17, 17, 1, 1, 132, 132, 47, 50, 2, 4, 58];
const CONVERSATIONS_MAX = 24;

export class Traffic {
	readonly #random: Random;
	readonly #conversations: Conversation[] = [];
	/** Packets that belong together, the next one first. */
	readonly #pending: { input: Input; conversation: Conversation; sender: 0 | 1 }[] = [];
	#last: { conversation: Conversation; sender: 0 | 1 } | undefined;

	constructor(random: Random) {
		this.#random = random;
	}

	next(): Input {
		const ready = this.#pending.shift();
		if (ready) {
			this.#last = ready;
			return ready.input;
		}
		const random = this.#random;
		if (this.#conversations.length < 3 || random.chance(0.15)) this.#begin();
		const conversation = random.pick(this.#conversations);
		const sender = random.chance(conversation.received[1] ? 0.5 : 0.1) ? 1 : 0;
		const packets = this.#packets(conversation, sender);
		const inputs = packets.map((packet) => this.#input(conversation, sender, packet));
		this.#pending.push(...inputs.map((input) => ({ input, conversation, sender }) as const));
		return this.next();
	}

	/** Remembers what the other side got, for its answers and errors. */
	observe(decision: Decision): void {
		if (!this.#last) return;
		const { conversation, sender } = this.#last;
		const packet = delivered(decision, conversation.family);
		if (packet) conversation.received[sender === 0 ? 1 : 0] = packet;
	}

	#begin(): void {
		const random = this.#random;
		const family = random.pick([4, 6] as const);
		const protocol = random.pick(PROTOCOLS);
		const [from, to] = this.#pair(family);
		const port = () =>
			random.pick([
				53,
				80,
				443,
				5000,
				49152,
				60000,
				random.between(1, 65535),
				random.between(1, 9),
			]);
		this.#conversations.push({
			family,
			parties: [from, to],
			protocol: family === 6 && protocol === 1 ? 58 : protocol,
			ports: [port(), port()],
			received: [undefined, undefined],
		});
		if (this.#conversations.length > CONVERSATIONS_MAX) {
			this.#conversations.splice(random.below(this.#conversations.length), 1);
		}
	}

	#pair(family: Family): [Party, Party] {
		const random = this.#random;
		const parties: Record<Place, () => Party> = {
			pod: () => {
				const pod = random.pick([world.podA, world.podB]);
				return { place: "pod", address: pod[family], pod };
			},
			peer: () => {
				const peer = random.pick(world.peers);
				return { place: "peer", address: peer.pod[family], peer };
			},
			outside: () => ({ place: "outside", address: this.#outsider(family) }),
			node: () => ({
				place: "node",
				address: random.pick([world.gateway[family], world.nodeAddress[family]]),
			}),
		};
		const kinds: [Place, Place][] = [
			["pod", "outside"],
			["pod", "outside"],
			["pod", "outside"],
			["pod", "peer"],
			["pod", "peer"],
			["pod", "pod"],
			["pod", "node"],
			["peer", "pod"],
			["peer", "pod"],
			["peer", "node"],
			["outside", "pod"],
			["outside", "node"],
			["node", "pod"],
			["node", "peer"],
			["node", "peer"],
		];
		const [from, to] = random.pick(kinds);
		return [parties[from](), parties[to]()];
	}

	#outsider(family: Family): string {
		const { outside, excluded, silent, unreachableHost, direct } = world;
		const others = [outside, outside, excluded, silent, unreachableHost, direct.transport];
		return this.#random.pick(others)[family];
	}

	/** The IP packets that a party sends next: one, or the fragments of one. */
	#packets(conversation: Conversation, sender: 0 | 1): Buffer[] {
		const random = this.#random;
		const { parties, received, family } = conversation;
		const [me, other] = sender === 0 ? parties : [parties[1], parties[0]];
		const heard = received[sender];
		// Who was translated is answered as he appeared.
		const peerSeen = heard && addresses(heard, family);
		const source = random.chance(0.03)
			? this.#anyAddress(family)
			: (peerSeen?.destination ?? me.address);
		const destination = random.chance(0.05)
			? this.#anyAddress(family)
			: (peerSeen?.source ?? other.address);
		const how = this.#ipOptions(source, destination, family);
		if (heard && random.chance(0.12)) return [build.ip(how, this.#error(heard))];
		if (me.place === "pod" && random.chance(0.03)) return [build.ip(...this.#forged(how, family))];
		const packet = build.ip(how, this.#segment(conversation, sender, heard));
		if (random.chance(0.12)) {
			const size = random.pick([8, 16, 64, 576, 1200]);
			return this.#fragments(packet, size);
		}
		return [packet];
	}

	/** What a Pod would send to pass for a peer's tunnel. */
	#forged(how: build.IpOptions, family: Family): [build.IpOptions, build.Segment] {
		const random = this.#random;
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

	#fragments(packet: Buffer, size: number): Buffer[] {
		const random = this.#random;
		const fragments = build.fragmented(packet, size, random.between(0, 0xffff));
		const some =
			fragments.length > 6 ? [...fragments.slice(0, 3), ...fragments.slice(-3)] : fragments;
		return random.chance(0.5) ? some : random.shuffled(some);
	}

	#ipOptions(source: string, destination: string, family: Family): build.IpOptions {
		const random = this.#random;
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

	#segment(
		{ protocol, ports }: Conversation,
		sender: 0 | 1,
		heard: Buffer | undefined,
	): build.Segment {
		const random = this.#random;
		const seen = heard && transportPorts(heard);
		const source = seen?.destination ?? ports[sender];
		const destination = seen?.source ?? ports[sender === 0 ? 1 : 0];
		const payload = random.bytes(
			random.pick([0, 1, 8, 40, 100, random.below(600), random.below(1600)]),
		);
		switch (protocol) {
			case 6:
				return build.tcp(source, destination, this.#tcp(payload));
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
				return build.sctp(source, destination, random.pick([1, 2, 0, 0, 3, 6, 14]));
			default:
				return build.protocol(protocol, payload);
		}
	}

	#tcp(payload: Buffer): build.TcpOptions {
		const random = this.#random;
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

	/** An ICMP error about a packet that its sender was given. */
	#error(heard: Buffer): build.Segment {
		const random = this.#random;
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

	#anyAddress(family: Family): string {
		const random = this.#random;
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

	/** The packet where it comes into the Node. */
	#input({ family, parties }: Conversation, sender: 0 | 1, packet: Buffer): Input {
		const random = this.#random;
		const [me, other] = sender === 0 ? parties : [parties[1], parties[0]];
		const { hook, ifindex, frame: whole } = this.#enter(me, other, packet, family);
		const frame = runnable(hook, random.chance(0.2) ? mutated(whole, random) : whole);
		const context: Input["context"] = { ifindex };
		const mayBeSegments: number[] = [Hook.FROM_POD, Hook.FROM_HOST, Hook.TO_POD];
		if (mayBeSegments.includes(hook) && random.chance(0.06)) {
			context.gsoSize = random.between(100, 1500);
			context.gsoSegments = random.below(12);
		}
		return { hook, packet: frame, context };
	}

	#enter(me: Party, other: Party, packet: Buffer, family: Family) {
		const random = this.#random;
		const { GATEWAY_MAC, NODE_MAC, ROUTER_MAC, indexOf } = world;
		if (me.place === "pod") {
			const pod = me.pod ?? world.podA;
			const macs = { source: pod.mac, destination: GATEWAY_MAC };
			return {
				hook: Hook.FROM_POD as number,
				ifindex: indexOf(pod.interface),
				frame: build.frame(macs, packet),
			};
		}
		if (me.place === "node") {
			const hook: number = other.place === "pod" ? Hook.TO_POD : Hook.FROM_HOST;
			const macs = { source: GATEWAY_MAC, destination: other.pod?.mac ?? GATEWAY_MAC };
			const device = other.pod?.interface ?? "fairway0";
			return { hook, ifindex: indexOf(device), frame: build.frame(macs, packet) };
		}
		const hook: number = random.pick([Hook.FROM_WIRE, Hook.FROM_WIRE_XDP]);
		const macs = { source: me.peer?.mac ?? ROUTER_MAC, destination: NODE_MAC };
		const frame =
			me.peer && random.chance(0.7)
				? build.frame(macs, this.#tunnelled(me.peer, packet, family))
				: build.frame(macs, packet);
		return { hook, ifindex: indexOf("wire0"), frame };
	}

	#tunnelled(peer: world.PeerFacts, packet: Buffer, family: Family): Buffer {
		const random = this.#random;
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
				destination: random.chance(0.97) ? world.nodeAddress[outer] : world.podA[outer],
				trafficClass: random.pick([0, 0, 1, 2, 3]),
			},
			build.udp(random.between(49152, 65535), port, payload, random.chance(0.3)),
		);
	}
}

/** BPF_PROG_TEST_RUN takes a page, and for TC no IP packet without a whole IP header. */
function runnable(hook: number, frame: Buffer): Buffer {
	const type = frame.readUInt16BE(12);
	const header = type === 0x0800 ? 20 : type === 0x86dd ? 40 : 1;
	const missing = hook === Hook.FROM_WIRE_XDP ? 0 : ETHERNET_HEADER + header - frame.length;
	return Buffer.concat([frame, Buffer.alloc(Math.max(0, missing))]).subarray(0, 3000);
}

/** What the next party receives of a packet, without the tunnel; undefined: nothing. */
function delivered(decision: Decision, family: Family): Buffer | undefined {
	const sent: number[] = [
		Action.ENDPOINT,
		Action.WIRE,
		Action.WIRE_NEIGHBOUR,
		Action.HOST,
		Action.PASS,
	];
	if (!sent.includes(decision.action)) return undefined;
	let { packet } = decision;
	if (decision.sent?.tunnel) {
		const outer = packet.readUInt16BE(12) === 0x0800 ? 20 : 40;
		packet = packet.subarray(ETHERNET_HEADER + outer + 16);
	}
	const parsed = parse(packet);
	return parsed?.family === family ? packet.subarray(ETHERNET_HEADER) : undefined;
}

function parsed(packet: Buffer) {
	return parse(packet, 0, packet[0]! >> 4 === 6 ? 0x86dd : 0x0800);
}

function addresses(packet: Buffer, family: Family) {
	const found = parsed(packet);
	if (!found) return undefined;
	const unspecified = family === 4 ? "0.0.0.0" : "::";
	return {
		source: found.key.source || unspecified,
		destination: found.key.destination || unspecified,
	};
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
