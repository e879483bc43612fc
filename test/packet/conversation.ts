/**
 * The packets of a UDP conversation that a Pod of this Node began: as they come in to the Node, and
 * as they should leave it.
 */
import { ok } from "node:assert/strict";
import { Hook, Limit, Path } from "../../src/tables/generated.js";
import * as build from "./builder.js";
import type { Input } from "./check.js";
import { type Expected, type Family, type PeerWay, WAYS } from "./fast_path.js";
import { fromPod, fromWire, onWire, tunnelled } from "./table.js";
import * as world from "./world.js";

/** In the range of SNAT: a flow that is alone keeps it. */
const PORT = 50001;

export interface Talk {
	pod?: world.Pod;
	/** Where the Pod's packets come from in the other side's eyes; default: from the Pod. */
	seen?: { address: string; port?: number };
	ports?: readonly [own: number, far: number];
	/** Of every packet. */
	how?: Partial<build.IpOptions>;
	data?: Buffer;
}

/** What is not as usual in a tunnel's headers. */
export interface TunnelHeader {
	vni?: number;
	port?: number;
	gatewayMac?: string;
}

export class Conversation {
	readonly family: Family;
	readonly #far: string;
	readonly #talk: Talk;

	/** @param far an address of each family */
	constructor(family: Family, far: { 4: string; 6: string }, talk: Talk = {}) {
		this.family = family;
		this.#far = far[family];
		this.#talk = talk;
	}

	/** The same conversation, otherwise. */
	with(talk: Talk): Conversation {
		const far = { 4: this.#far, 6: this.#far };
		return new Conversation(this.family, far, { ...this.#talk, ...talk });
	}

	get #pod(): world.Pod {
		return this.#talk.pod ?? world.podA;
	}

	#packet(toFar: boolean, pod: string, port: number, ttl: number): Buffer {
		const { ports = [PORT, 2000], how, data = Buffer.from("straight through") } = this.#talk;
		const [source, destination] = toFar ? [pod, this.#far] : [this.#far, pod];
		const [from, to] = toFar ? [port, ports[1]] : [ports[1], port];
		return build.ip({ ...how, ttl, source, destination }, build.udp(from, to, data));
	}

	get #own(): readonly [string, number] {
		return [this.#pod[this.family], this.#talk.ports?.[0] ?? PORT];
	}

	get #seen(): readonly [string, number] {
		const [address, port] = this.#own;
		return [this.#talk.seen?.address ?? address, this.#talk.seen?.port ?? port];
	}

	/** The Pod's packet as it sends it. */
	get question(): Buffer {
		return this.#packet(true, ...this.#own, this.#ttl);
	}

	/** @param pod whose interface and MAC it comes with */
	out(pod = this.#pod): Input {
		return fromPod(pod, this.question);
	}

	/** The Pod's packet when it leaves the Node, without a tunnel. */
	get left(): Buffer {
		return this.#packet(true, ...this.#seen, this.#ttl - 1);
	}

	/** The answer on its way to the Node, without a tunnel. */
	get answer(): Buffer {
		return this.#packet(false, ...this.#seen, this.#ttl);
	}

	get #ttl(): number {
		return this.#talk.how?.ttl ?? 64;
	}

	/** The Pod's packet by one of the ways to a peer. */
	sent(way: PeerWay, peer: world.PeerFacts, header: TunnelHeader = {}): Expected {
		return sentBy(way, peer, this.left, header);
	}

	/** The answer, from a peer. */
	from(way: PeerWay, peer: world.PeerFacts, hook: number, vni = world.VNI): Input {
		return receivedBy(way, peer, this.answer, hook, vni);
	}

	/** The answer without a tunnel, from whoever is on the link. */
	back(hook: number): Input {
		return { ...fromWire(this.answer), hook };
	}

	/** The answer as the Pod gets it. */
	get received(): Buffer {
		return this.#packet(false, ...this.#own, this.#ttl - 1);
	}

	delivered(pod = this.#pod, gatewayMac = world.GATEWAY_MAC): Expected {
		return intoPod(this.received, pod, gatewayMac);
	}
}

export function intoPod(
	packet: Buffer,
	{ mac, interface: device } = world.podA,
	gatewayMac = world.GATEWAY_MAC,
): Expected {
	return { frame: build.frame({ source: gatewayMac, destination: mac }, packet), device };
}

/** A packet that leaves by one of the ways to a peer, its last hop counted. */
function sentBy(
	way: PeerWay,
	peer: world.PeerFacts,
	packet: Buffer,
	header: TunnelHeader = {},
): Expected {
	if (way.path === Path.DOWN) return { drop: "peer_down" };
	if (way.path === Path.DIRECT) return { frame: onWire(peer.mac, packet) };
	const { vni = world.VNI, gatewayMac = world.GATEWAY_MAC } = header;
	const geneve = way.path === Path.GENEVE;
	const { port = geneve ? Limit.GENEVE_PORT : Limit.VXLAN_PORT } = header;
	const macs = { source: gatewayMac, destination: "02:fa:1c:00:00:01" };
	const inner = build.frame(macs, packet);
	const family = way.outerFamily;
	return {
		// The source port and the flow label are the hash of the flow: any will do.
		frame: ({ key, frame, l3 }) => {
			ok(key.sourcePort >= 49152, `the outer source port is ${key.sourcePort}`);
			const payload = geneve ? build.geneve({ vni }, inner) : build.vxlan(vni, inner);
			const outer = build.ip(
				{
					source: world.nodeAddress[family],
					destination: peer.transport[family],
					trafficClass: trafficClass(packet),
					...(family === 6 && { flowLabel: frame.readUInt32BE(l3) & 0xfffff }),
				},
				build.udp(key.sourcePort, port, payload, false),
			);
			return onWire(peer.mac, outer);
		},
	};
}

function receivedBy(
	way: PeerWay,
	peer: world.PeerFacts,
	packet: Buffer,
	hook: number,
	vni?: number,
): Input {
	const sender = { ...peer, outerFamily: way.outerFamily };
	const kind = way.path === Path.VXLAN ? "vxlan" : "geneve";
	const outer = { trafficClass: trafficClass(packet) };
	const wire =
		way.path === Path.DIRECT
			? packet
			: tunnelled(sender, packet, { kind, outer, ...(vni !== undefined && { vni }) });
	return { ...fromWire(wire, peer.mac), hook };
}

/** DSCP and ECN of an IP packet. */
function trafficClass(packet: Buffer): number {
	const isIpv4 = packet.readUInt8(0) >> 4 === 4;
	return isIpv4 ? packet.readUInt8(1) : (packet.readUInt16BE(0) >> 4) & 0xff;
}

/** Where packets come in from the Node network. */
export const HOOKS = [Hook.FROM_WIRE, Hook.FROM_WIRE_XDP] as const;

export function hookText(hook: number): string {
	return hook === Hook.FROM_WIRE_XDP ? "XDP" : "TC";
}

/** Pod A with a host world.outside, which sees the Node. */
export function outwards(family: Family): Conversation {
	return new Conversation(family, world.outside, { seen: { address: world.nodeAddress[family] } });
}

/** Whom Pod A talks with, and how IP packets travel between this Node and there. */
export interface Side {
	name: string;
	talk: Conversation;
	/** A packet that has left the Node. */
	sent: (packet: Buffer) => Expected;
	/** A packet that comes to the Node. */
	received: (packet: Buffer, hook: number) => Input;
	/** Of the outermost header on the wire. */
	outerFamily: Family;
	/** It sees the Node. */
	translated?: true;
}

/** Peers of every kind, and the outside. */
export function sides(family: Family): Side[] {
	const [bare, geneve, vxlan, geneve6] = WAYS as [PeerWay, PeerWay, PeerWay, PeerWay];
	const peers = [
		[bare, world.direct],
		[geneve, world.geneve4],
		[vxlan, world.vxlan4],
		[geneve6, world.geneve6],
	] as const;
	const toPeers = peers.map(
		([way, peer]): Side => ({
			name: `a ${way.name} peer`,
			talk: new Conversation(family, peer.pod),
			sent: (packet) => sentBy(way, peer, packet),
			received: (packet, hook) => receivedBy(way, peer, packet, hook),
			outerFamily: way.path === Path.DIRECT ? family : way.outerFamily,
		}),
	);
	const outside: Side = {
		name: "the outside",
		talk: outwards(family),
		sent: (packet) => ({ frame: onWire(world.ROUTER_MAC, packet) }),
		received: (packet, hook) => ({ ...fromWire(packet), hook }),
		outerFamily: family,
		translated: true,
	};
	return [...toPeers, outside];
}
