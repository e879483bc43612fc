/**
 * The last stages of a packet: its next hop, whether it fits, and how it leaves.
 */
import { writeMac } from "../tables/address.js";
import {
	Action,
	DropReason,
	type Endpoint,
	EventCounter,
	type FlowKey,
	Hook,
	Path,
	PathName,
	type Peer,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { clampMss, isBundle, onWire, wireLength } from "./mtu.js";
import {
	askNextHop,
	cachedWay,
	type Gateway,
	gatewayOf,
	gatewayWay,
	type NextHopWay,
	outsideQuery,
	peerQuery,
	type Refusal,
	UNKNOWN_MAC,
} from "./next_hop.js";
import type { Packet } from "./packet.js";
import { peerIndex } from "./route.js";
import type { FlowEntry } from "./table_reader.js";
import { encapsulate, FIXED_MAC } from "./tunnel.js";

/** Where a packet goes. It has not been changed yet. */
export interface Way {
	/** MTU; 0: no limit. */
	mtu: number;
	/** The gateway that the flow of a packet to the outside is to remember; "none": nothing. */
	gateway?: Gateway | "none";
	/** The kernel has yet to learn the next hop's MAC. */
	isUnresolved?: boolean;
	/** To the outside, if requested: the source address that the kernel would use; "": it gave none. */
	source?: string;
	/** Sends the rewritten packet. */
	emit(rewritten: Packet): Decision;
}

/** To a Pod of this Node. */
export function wayToPod(draft: Draft, endpoint: Endpoint): Way {
	const { decision, node } = draft;
	return {
		mtu: 0,
		emit: ({ frame }) => {
			writeMac(frame, 0, endpoint.mac);
			writeMac(frame, 6, node.gatewayMac);
			decision.packet = frame;
			decision.ifindex = endpoint.ifindex;
			decision.action = Action.ENDPOINT;
			draft.note("emit", `into the Pod behind interface ${endpoint.ifindex}`);
			return decision;
		},
	};
}

/** Into fairway0, where the kernel's reverse path check expects peers' Pods and Services. */
export function intoHost(draft: Draft, { frame }: Packet): Decision {
	const { node, decision } = draft;
	writeMac(frame, 0, node.gatewayMac);
	FIXED_MAC.copy(frame, 6);
	decision.packet = frame;
	decision.ifindex = node.hostIfindex;
	decision.action = Action.HOST;
	draft.note("emit", "into the Node, as if received on fairway0");
	return decision;
}

/** To a peer: by its path; with `native`, never encapsulated. */
export function wayToPeer(
	draft: Draft,
	packet: Packet,
	id: number,
	native = false,
): Way | Decision {
	const { decision, node, tables, context } = draft;
	const index = peerIndex(id, packet.family);
	const peer = tables.peer(index);
	decision.peer = id;
	draft.note("route", `${packet.key.destination} is a Pod of peer ${id}`);
	if (peer === undefined || peer.path === Path.NONE || peer.path === Path.DOWN) {
		return draft.drop(DropReason.PEER_DOWN, `peer ${id} has no working path`);
	}
	const path = native ? Path.ROUTED : peer.path;
	const mtu = native ? node.transportMtu : peer.mtu;
	const tunnel = !native && isTunnel(peer);
	decision.path = path;
	draft.note("path", `${PathName[path]} to ${peer.remote}, up to ${mtu} bytes`);
	const hop = tables.nextHop(index);
	const cached = cachedWay(draft, hop);
	const way = cached ?? askNextHop(draft, peerQuery(draft, peer, tunnel));
	if (typeof way === "string") {
		// An error is sent only to Pods: the Node's own packets have passed its routes already.
		const refusal = way === "local" ? "unreachable" : way;
		return refuse(draft, packet, refusal, `the kernel has no way to ${peer.remote}`);
	}
	if (hop && !cached) decision.nextHop = { index, nextHop: way.cache ?? { ...hop, checked: 0n } };
	if (way.action === Action.WIRE_NEIGHBOUR && !native) draft.traffic(index);
	return {
		mtu,
		isUnresolved: !way.isResolved,
		emit: (rewritten) => {
			if (tunnel && isBundle(context)) {
				return draft.drop(DropReason.SCTP_BUNDLE, "a tunnel carries single SCTP packets only");
			}
			decision.mtu = mtu;
			if (clampMss(rewritten, mtu)) draft.event(EventCounter.MSS_CLAMPED);
			// A packet that bypasses the tunnel has no source in a pod CIDR, so the peer does not count it.
			if (!native) decision.sent = { index, tunnel, ...onWire(packet, context) };
			const frame = tunnel ? encapsulate(rewritten, peer, node) : rewritten.frame;
			return emitToWire(draft, frame, way);
		},
	};
}

/**
 * To the outside, by the kernel's FIB.
 *
 * @param known the packet's flow, which may remember its gateway
 * @param tuples the tuple that the flow's Pod has sent, and the one that leaves
 */
export function wayOutside(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	tuples: { from: FlowKey; to: FlowKey },
	wantsSource = false,
): Way | Decision {
	const { destination } = tuples.to;
	draft.note("route", `${destination} is in no pod CIDR`);
	const cached = known && gatewayWay(draft, known.flow, known.direction);
	const way = cached ?? askNextHop(draft, outsideQuery(draft, packet, tuples, wantsSource));
	if (way === "local") return draft.pass("the kernel does not forward it");
	if (typeof way === "string") return refuse(draft, packet, way, `no way to ${destination}`);
	draft.decision.outsideMtu = way.mtu;
	const gateway = gatewayOf(draft, way);
	if (way.cache && gateway) draft.decision.nextHop = { index: gateway.remote, nextHop: way.cache };
	return {
		mtu: way.mtu,
		isUnresolved: !way.isResolved,
		source: way.source,
		...(!cached && { gateway: gateway ?? "none" }),
		emit: (rewritten) => emitToWire(draft, rewritten.frame, way),
	};
}

/** Refuses a packet as the kernel's route does; a blackhole sends no error. */
function refuse(
	draft: Draft,
	packet: Packet,
	refusal: Exclude<Refusal, "local">,
	why: string,
): Decision {
	if (refusal === "blackhole" || draft.hook !== Hook.FROM_POD)
		return draft.drop(DropReason.NO_ROUTE, why);
	const { UNREACHABLE, PROHIBITED } = SlowPathKind;
	return draft.handUp(refusal === "prohibit" ? PROHIBITED : UNREACHABLE, packet, 0, why);
}

export function isTunnel(peer: Peer): boolean {
	return peer.path === Path.GENEVE || peer.path === Path.VXLAN;
}

export function emitToWire(draft: Draft, frame: Buffer, way: NextHopWay): Decision {
	const { decision } = draft;
	writeMac(frame, 0, way.destinationMac);
	writeMac(frame, 6, way.sourceMac);
	decision.packet = frame;
	decision.ifindex = way.ifindex;
	decision.action = way.action;
	const to = !way.isResolved
		? " as soon as the next hop's MAC is resolved"
		: way.destinationMac === UNKNOWN_MAC
			? ""
			: ` to ${way.destinationMac}`;
	draft.note("emit", `out of interface ${way.ifindex}${to}`);
	return decision;
}

/** The decision if the TTL or hop limit ends at this Node. */
export function checkTtl(draft: Draft, packet: Packet): Decision | undefined {
	if (packet.ttl > 1) return undefined;
	const why = `${packet.family === 4 ? "TTL" : "hop limit"} ${packet.ttl} ends at this Node`;
	return draft.handUp(SlowPathKind.TTL_EXCEEDED, packet, 0, why);
}

export type Fit = "fits" | "in fragments" | "not";

/** Whether the packet, or the longest segment of a GSO packet, fits. */
export function fit(draft: Draft, packet: Packet, mtu: number): Fit {
	if (mtu === 0 || wireLength(packet, draft.context) <= mtu) return "fits";
	return packet.dontFragment || draft.context.gsoSize ? "not" : "in fragments";
}

export function tooBig(draft: Draft, packet: Packet, mtu: number): Decision {
	const length = wireLength(packet, draft.context);
	return draft.handUp(SlowPathKind.TOO_BIG, packet, mtu, `${length} bytes, ${mtu} fit`);
}

export function fragmentAboveMtu(draft: Draft, packet: Packet, mtu: number): Decision {
	return draft.handUp(SlowPathKind.FRAGMENT, packet, mtu, `${packet.length} bytes, ${mtu} fit`);
}
