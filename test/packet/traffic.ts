/**
 * Random traffic of the Node in world.ts: conversations of every kind of pair, in both directions, so that
 * packets meet flows of earlier ones; with fragments, ICMP errors, tunnels, options, GSO packets, probes, and
 * some mutated packets.
 */
import type { Decision } from "../../src/forwarder/forwarder.js";
import { ETHERNET_HEADER, parse } from "../../src/forwarder/packet.js";
import { Action, Hook } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { mutated } from "./mutate.js";
import type { Random } from "./random.js";
import { RandomChanges } from "./random_changes.js";
import {
	anyAddress,
	errorAbout,
	forged,
	fragments,
	ipOptions,
	type Kind,
	neighbour,
	parsed,
	segment,
	tunnelled,
} from "./random_packets.js";
import type { RandomPolicies } from "./random_policies.js";
import { RandomProbes } from "./random_probes.js";
import { servicePorts, TARGET_PORT } from "./services.js";
import * as world from "./world.js";

type Family = 4 | 6;
type Place = "pod" | "peer" | "outside" | "node" | "service";
/** Past a Service, with the ports that its clients have. */
type Target = Place | "endpoint";

interface Party {
	place: Place;
	address: string;
	/** Of a Service. */
	service?: { protocol: number; port: number };
	pod?: world.Pod;
	peer?: world.PeerFacts;
}

interface Conversation extends Kind {
	family: Family;
	/** Initiator and responder. */
	parties: [Party, Party];
	/** The last packet of each party as the other one received it, from its IP header on. */
	received: [Buffer | undefined, Buffer | undefined];
}

/** A packet at a hook. */
interface Entry {
	hook: number;
	ifindex: number;
	frame: Buffer;
	ingressIfindex?: number;
}

const PROTOCOLS = [6, 6, 6, 17, 17, 17, 1, 1, 132, 132, 47, 50, 2, 4, 58];
const CONVERSATIONS_MAX = 24;
const CLIENT_PORTS = [5000, 40000, 60000];

export class Traffic {
	readonly #random: Random;
	readonly #conversations: Conversation[] = [];
	/** Packets that belong together, the next one first. */
	readonly #pending: { input: Input; conversation: Conversation; sender: 0 | 1 }[] = [];
	readonly #probes: RandomProbes;
	readonly #changes: RandomChanges;
	#last: { conversation: Conversation; sender: 0 | 1 } | undefined;

	/** @param policies absent: every Pod is open */
	constructor(random: Random, policies?: RandomPolicies) {
		this.#random = random;
		this.#probes = new RandomProbes(random);
		this.#changes = new RandomChanges(random, policies);
	}

	next(): Input {
		const ready = this.#pending.shift();
		if (ready) {
			this.#last = ready;
			return ready.input;
		}
		const random = this.#random;
		this.#last = undefined;
		if (random.chance(0.08)) return this.#enters(this.#probes.next());
		if (this.#conversations.length < 3 || random.chance(0.15)) this.#begin();
		const conversation = random.pick(this.#conversations);
		const sender = random.chance(conversation.received[1] ? 0.5 : 0.1) ? 1 : 0;
		const packets = this.#packets(conversation, sender);
		const inputs = packets.map((packet) => this.#input(conversation, sender, packet));
		this.#pending.push(...inputs.map((input) => ({ input, conversation, sender }) as const));
		const [first] = this.#pending;
		if (first && random.chance(0.05)) first.input.changes = this.#changes.next();
		return this.next();
	}

	/** Remembers what the other side received, for its answers and errors. */
	observe(decision: Decision): void {
		if (!this.#last) {
			this.#probes.observe(decision);
			return;
		}
		const { conversation, sender } = this.#last;
		const packet = delivered(decision, conversation.family);
		if (packet) conversation.received[sender === 0 ? 1 : 0] = packet;
	}

	#begin(): void {
		const random = this.#random;
		const family = random.pick([4, 6] as const);
		const [from, to] = this.#pair(family);
		const protocol = to.service?.protocol ?? random.pick(PROTOCOLS);
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
			// Few, so that one client's connections to two Services meet at a backend.
			ports: to.service ? [random.pick(CLIENT_PORTS), to.service.port] : [port(), port()],
			received: [undefined, undefined],
		});
		if (this.#conversations.length > CONVERSATIONS_MAX) {
			this.#conversations.splice(random.below(this.#conversations.length), 1);
		}
	}

	#pair(family: Family): [Party, Party] {
		const random = this.#random;
		const parties: Record<Target, () => Party> = {
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
			service: () => this.#service(family),
			endpoint: () => this.#endpoint(family),
		};
		const kinds: [Place, Target][] = [
			["pod", "endpoint"],
			["pod", "endpoint"],
			["pod", "outside"],
			["pod", "outside"],
			["pod", "outside"],
			["pod", "peer"],
			["pod", "peer"],
			["pod", "pod"],
			["pod", "node"],
			["pod", "service"],
			["pod", "service"],
			["pod", "service"],
			["pod", "service"],
			["pod", "service"],
			["peer", "pod"],
			["peer", "pod"],
			["peer", "node"],
			["outside", "pod"],
			["outside", "node"],
			["node", "pod"],
			["node", "peer"],
			["node", "peer"],
			["node", "service"],
			["node", "service"],
			["outside", "service"],
			["outside", "service"],
			["outside", "service"],
			["peer", "service"],
		];
		const [from, to] = random.pick(kinds);
		return [parties[from](), parties[to]()];
	}

	/** One of a Service's addresses, and its port as a rule. */
	#service(family: Family): Party {
		const random = this.#random;
		const one = random.pick(servicePorts().filter((port) => port.family === family));
		const { clusterIP, port, loadBalancerIP, loadBalancerPort, externalIP, nodePort } = one;
		const frontends = [
			{ address: clusterIP, port },
			{ address: clusterIP, port },
			{ address: world.nodeAddress[family], port: nodePort },
			{ address: loadBalancerIP, port: loadBalancerPort },
			{ address: externalIP, port },
			{ address: family === 4 ? "10.96.77.77" : "fd00:10:96::7777", port },
		].filter(({ address }) => address !== "");
		const frontend = random.pick(frontends);
		const protocol = random.chance(0.9) ? one.protocol : random.pick(PROTOCOLS);
		const isRight = random.chance(0.9);
		const service = { protocol, port: isRight ? frontend.port : random.between(1, 65535) };
		return { place: "service", address: frontend.address, service };
	}

	/** One of a Service's endpoints itself. */
	#endpoint(family: Family): Party {
		const random = this.#random;
		const twins = servicePorts().filter((one) => one.name === "twin" && one.family === family);
		const { backends, protocol } = random.pick(twins);
		const { address } = random.pick(backends);
		return { ...this.#holder(address, family), service: { protocol, port: TARGET_PORT } };
	}

	/** Who has this address: a Service's packets are answered by its backend. */
	#holder(address: string, family: Family): Party {
		const pod = [world.podA, world.podB].find((one) => one[family] === address);
		if (pod) return { place: "pod", address, pod };
		const peer = world.peers.find((one) => one.pod[family] === address);
		if (peer) return { place: "peer", address, peer };
		const own = [world.nodeAddress, world.gateway].some((pair) => pair[family] === address);
		return { place: own ? "node" : "outside", address };
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
		// Answers go to the translated address.
		const peerSeen = heard && addresses(heard, family);
		const source = random.chance(0.03)
			? anyAddress(this.#random, family)
			: (peerSeen?.destination ?? me.address);
		const destination = random.chance(0.05)
			? anyAddress(this.#random, family)
			: (peerSeen?.source ?? other.address);
		const how = ipOptions(this.#random, source, destination, family);
		if (heard && random.chance(0.12)) return [build.ip(how, errorAbout(this.#random, heard))];
		if (me.place === "pod" && random.chance(0.03))
			return [build.ip(...forged(this.#random, how, family))];
		const packet = build.ip(how, segment(this.#random, conversation, sender, heard));
		if (random.chance(0.12)) {
			const size = random.pick([8, 16, 64, 576, 1200]);
			return fragments(this.#random, packet, size);
		}
		return [packet];
	}

	/** The packet at its ingress hook. */
	#input({ family, parties }: Conversation, sender: 0 | 1, packet: Buffer): Input {
		const [from, other] = sender === 0 ? parties : [parties[1], parties[0]];
		const source = addresses(packet, family)?.source ?? from.address;
		const me = from.place === "service" ? this.#holder(source, family) : from;
		const { hook, ifindex, frame: whole, ingressIfindex } = this.#enter(me, other, packet, family);
		const context = { ifindex, ...(ingressIfindex && { ingressIfindex }) };
		return this.#enters({ hook, packet: whole, context });
	}

	/** Modifies an input before it runs: some are mutated, some become GSO packets. */
	#enters({ hook, packet: whole, context: from }: Input): Input {
		const random = this.#random;
		const frame = runnable(hook, random.chance(0.2) ? mutated(whole, random) : whole);
		const context: Input["context"] = { ...from };
		const mayBeSegments: number[] = [Hook.FROM_POD, Hook.FROM_HOST, Hook.TO_POD];
		if (mayBeSegments.includes(hook) && random.chance(0.06)) {
			context.gsoSize = random.between(100, 1500);
			context.gsoSegments = random.below(12);
		}
		return { hook, packet: frame, context };
	}

	#enter(me: Party, other: Party, packet: Buffer, family: Family): Entry {
		const random = this.#random;
		const { GATEWAY_MAC, NODE_MAC, ROUTER_MAC, indexOf } = world;
		// The Node's stack sends on what it has translated: to the outside, or to a peer's Pods.
		if (me.place === "pod" && random.chance(0.1)) {
			const toPeer = other.place === "peer";
			const macs = { source: GATEWAY_MAC, destination: toPeer ? GATEWAY_MAC : ROUTER_MAC };
			const device = toPeer ? "fairway0" : "wire0";
			const hook: number = toPeer ? Hook.FROM_HOST : Hook.TO_WIRE;
			return { hook, ifindex: indexOf(device), frame: build.frame(macs, packet) };
		}
		if (me.place === "pod") {
			const pod = me.pod ?? world.podA;
			const macs = { source: pod.mac, destination: GATEWAY_MAC };
			return {
				hook: Hook.FROM_POD as number,
				ifindex: indexOf(pod.interface),
				frame: random.chance(0.03) ? neighbour(random, pod, family) : build.frame(macs, packet),
			};
		}
		if (me.place === "node") {
			if (random.chance(0.2)) {
				const none = "00:00:00:00:00:00";
				const frame = build.frame({ source: none, destination: none }, packet);
				return { hook: Hook.FROM_LOOPBACK, ifindex: 1, frame };
			}
			const hook: number = other.place === "pod" ? Hook.TO_POD : Hook.FROM_HOST;
			const macs = { source: GATEWAY_MAC, destination: other.pod?.mac ?? GATEWAY_MAC };
			const device = other.pod?.interface ?? "fairway0";
			// Also what the Node forwards with its own address, masqueraded.
			const forwarded = random.chance(0.3) ? { ingressIfindex: indexOf("wire0") } : {};
			const frame = build.frame(macs, packet);
			return { hook, ifindex: indexOf(device), frame, ...forwarded };
		}
		// By another link, the Node's own stack or from_link has taken it in.
		if ((other.place === "pod" || other.place === "service") && random.chance(0.12)) {
			const isToPod = other.pod !== undefined;
			const macs = { source: GATEWAY_MAC, destination: other.pod?.mac ?? GATEWAY_MAC };
			return {
				hook: isToPod ? Hook.TO_POD : Hook.FROM_HOST,
				ifindex: indexOf(other.pod?.interface ?? "fairway0"),
				frame: build.frame(macs, packet),
				ingressIfindex: indexOf("wire0"),
			};
		}
		const hook: number = random.pick([
			Hook.FROM_WIRE,
			Hook.FROM_WIRE_XDP,
			Hook.FROM_WIRE,
			Hook.FROM_WIRE_XDP,
			Hook.FROM_LINK,
		]);
		const sender = me.peer?.mac ?? ROUTER_MAC;
		// Only tunnels of peers are stripped at XDP.
		const others = me.peer ? [ROUTER_MAC, world.STRIPPED] : [ROUTER_MAC];
		const macs = {
			source: random.chance(0.05) ? random.pick(others) : sender,
			destination: random.chance(0.02) ? ROUTER_MAC : NODE_MAC,
		};
		const frame =
			me.peer && random.chance(0.7)
				? build.frame(macs, tunnelled(this.#random, me.peer, packet, family))
				: build.frame(macs, packet);
		return { hook, ifindex: indexOf("wire0"), frame };
	}
}

/** Limits of BPF_PROG_TEST_RUN: one page and, at TC, no IP packet without a whole IP header. */
function runnable(hook: number, frame: Buffer): Buffer {
	const type = frame.readUInt16BE(12);
	const header = type === 0x0800 ? 20 : type === 0x86dd ? 40 : 1;
	const missing = hook === Hook.FROM_WIRE_XDP ? 0 : ETHERNET_HEADER + header - frame.length;
	return Buffer.concat([frame, Buffer.alloc(Math.max(0, missing))]).subarray(0, 3000);
}

/** The packet that the next party receives, decapsulated; undefined: nothing. */
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

function addresses(packet: Buffer, family: Family) {
	const found = parsed(packet);
	if (!found) return undefined;
	const unspecified = family === 4 ? "0.0.0.0" : "::";
	return {
		source: found.key.source || unspecified,
		destination: found.key.destination || unspecified,
	};
}
