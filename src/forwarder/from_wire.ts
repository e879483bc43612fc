/**
 * from_wire: packets that arrive from the Node network, at XDP and at TC (ARCHITECTURE, from_wire; the step numbers
 * are the same).
 */

import {
	DropReason,
	type Endpoint,
	FlowDirection,
	FlowFlag,
	FragmentOwner,
	NodeFlag,
	type Route,
	RouteFlag,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import { fold, pseudoHeaderSum } from "./checksum.js";
import type { Decision, Received } from "./decision.js";
import type { Draft } from "./draft.js";
import { checkTtl, intoHost, wayToPod } from "./emit.js";
import { answersStack, isTranslated, lookUp } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import { onWire } from "./mtu.js";
import { type Packet, Protocol } from "./packet.js";
import { admit, admitFragment } from "./policy.js";
import { probeFrom, receiveProbe } from "./probe.js";
import { decrementTtl } from "./rewrite.js";
import {
	gatewayAddress,
	isNobodys,
	peerIndex,
	routeOf,
	routeOfRemote,
	routeToPeerNode,
} from "./route.js";
import { backendIdOf, noteService, serve, unlessServed, withLiveBackend } from "./service.js";
import type { FlowEntry } from "./table_reader.js";
import { flowText, packetTarget, track, translated } from "./track.js";
import { decapsulate, innerPacket, kindOfHeader, kindOfPort, type TunnelKind } from "./tunnel.js";
import {
	isForThisNode,
	markStripped,
	refuseUntunnelled,
	sendsUntunnelled,
	wasStripped,
} from "./untunnelled.js";
import {
	besideService,
	clampFromPeer,
	onward,
	servesWire,
	serveWire,
	toSelf,
} from "./wire_service.js";

export function fromWire(draft: Draft, xdp: boolean): Decision {
	// 1. Parse
	const parsed = draft.parse();
	if (parsed === undefined) return draft.pass("not IP, or malformed");
	if (isNeighbourDiscovery(parsed)) return draft.pass("neighbour discovery");
	if (!isForThisNode(draft, xdp))
		return draft.pass("a frame for another host, or one that only TC can tell");

	// 2. Tunnel
	const packet = strip(draft, parsed, xdp);
	if ("action" in packet) return packet;
	draft.decision.packet = packet.frame;
	const tunnelled = packet !== parsed || (!xdp && wasStripped(draft));

	if (xdp && needsStack(draft, packet)) return draft.pass("TC does the rest, after GRO");

	// 3. Destination
	const { tables, node, now, decision } = draft;
	const { key } = packet;
	const endpoint = tables.endpoint(key.destination);
	if (xdp && endpoint && isLostInRedirect(draft, packet, endpoint)) {
		return draft.pass("longer than the MTU of the Pod's interface, which a redirect would drop");
	}
	const route = routeOf(key.destination, tables);
	const isPod = endpoint !== undefined || route.kind === RouteKind.LOCAL_PODS;
	if (!isPod && route.kind !== RouteKind.HOST && !servesWire(draft, route)) {
		return draft.pass(`${key.destination} is not on this Node`);
	}
	resolvePorts(packet, tables, decision, FragmentOwner.WIRE);
	const found = lookUp(packet, tables, node, now);
	const known = withLiveBackend(draft, packet, found);
	if (xdp && known !== found) {
		decision.ended = [];
		return draft.pass("TC ends its flow");
	}
	draft.note("flow", flowText(packet, known));
	noteService(draft, known);
	if (tunnelled && !packet.icmpError && isToService(known)) {
		const why = `${key.destination} is a Service's, and its packets never come in a tunnel`;
		return draft.drop(DropReason.TUNNEL_WRONG_DESTINATION, why);
	}

	// 4. To the Node, or to a Service
	if (!isPod) return toHost(draft, packet, known, { xdp, tunnelled, route });

	// An answer to a packet that the Node's stack has sent a peer's Pod on behalf of a local one goes back there.
	if (answersStack(known)) return toStack(draft, packet, known!, xdp);

	// 5. To a Pod
	const source = origin(draft, packet, known, tunnelled);
	if (isMartian(packet, source)) {
		return draft.drop(DropReason.MARTIAN_SOURCE, martianText(packet));
	}
	if (source.kind === RouteKind.PEER && !tunnelled) {
		const refused = refuseUntunnelled(draft, packet, source.peer, { known, xdp });
		if (refused) return refused;
	}
	// It counts as received even if it is dropped below.
	if (source.kind === RouteKind.PEER) decision.received = received(draft, packet, source.peer);
	if (endpoint === undefined) {
		const why = `no Pod of this Node has ${key.destination}`;
		return draft.handUp(SlowPathKind.NO_HOST, packet, 0, why);
	}
	draft.note("route", `${key.destination} is a Pod of this Node`);
	const held = admitFragment(draft, packet, endpoint.ingressPolicy, true);
	if (held) return held;
	const admitted = admit(draft, packet, known);
	if (admitted !== undefined && "action" in admitted) return admitted;
	const ended = checkTtl(draft, packet);
	if (ended) return ended;
	track(draft, packet, admitted, source);
	const rewritten = translated(draft, packet, admitted);
	decrementTtl(rewritten);
	if (!xdp) clampFromPeer(draft, rewritten, source);
	return wayToPod(draft, endpoint).emit(rewritten);
}

/**
 * The route of a packet's source. A peer that begins a flow from its Node address counts as one of its Pods, if it
 * may send like them.
 */
function origin(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	tunnelled: boolean,
): Route {
	const { node, tables } = draft;
	const { source } = packet.key;
	const flow = packet.icmpError ? undefined : known?.flow;
	const route = routeOfRemote(flow, source, node, tables);
	const peer =
		flow || !(route.flags & RouteFlag.PEER_NODE) ? undefined : tables.peerAddress(source);
	if (peer === undefined) return route;
	const maySend =
		tunnelled ||
		(!packet.icmpError && !packet.portsUnknown && sendsUntunnelled(draft, peer, packet.family));
	return maySend ? routeToPeerNode(peer) : route;
}

/**
 * True for an address of this Node, or one that no host can have: no packet from the network may have it as source.
 */
function isMartian(packet: Packet, { kind }: Route): boolean {
	return kind === RouteKind.LOCAL_PODS || kind === RouteKind.HOST || isNobodys(packet);
}

function martianText(packet: Packet): string {
	const { source } = packet.key;
	return isNobodys(packet)
		? `${source || "the unspecified address"} cannot be a host's address`
		: `${source} is an address of this Node`;
}

function isNeighbourDiscovery({ family, key, l4Type, isLaterFragment }: Packet): boolean {
	if (family === 4 || key.protocol !== Protocol.ICMPV6 || isLaterFragment) return false;
	return l4Type >= 133 && l4Type <= 137;
}

/** The packet without its tunnel; a Decision where the tunnel is refused. */
function strip(draft: Draft, outer: Packet, xdp: boolean): Packet | Decision {
	const { node, tables } = draft;
	const { key } = outer;
	if (key.protocol !== Protocol.UDP || outer.isLaterFragment) return outer;
	const end = routeOf(key.destination, tables);
	if (end.kind !== RouteKind.HOST || end.flags & RouteFlag.NO_TUNNELS) return outer;
	const sender = tables.peerAddress(key.source);
	const configured = kindOfPort(key.destinationPort, node) !== undefined;
	if (sender === undefined) {
		if (!configured) return outer;
		return draft.drop(DropReason.TUNNEL_UNKNOWN_PEER, `${key.source} is no peer's address`);
	}
	if (outer.isFragment) {
		if (!configured) return outer;
		return draft.drop(DropReason.TUNNEL_MALFORMED, "a tunnel packet in fragments");
	}
	const kind = kindOfPort(key.destinationPort, node) ?? kindOfHeader(outer, node);
	return kind === undefined ? outer : unwrap(draft, outer, kind, { sender, xdp });
}

/** Checks that the sender may send the inner packet, and that it is for this Node. */
function unwrap(
	draft: Draft,
	outer: Packet,
	kind: TunnelKind,
	{ sender, xdp }: { sender: number; xdp: boolean },
): Packet | Decision {
	const { tables } = draft;
	const found = innerPacket(outer, kind, draft);
	if ("reason" in found) return draft.drop(found.reason, found.text);
	const { key } = found.inner;
	const source = routeOf(key.source, tables);
	const destination = routeOf(key.destination, tables).kind;
	const isPeers = source.kind === RouteKind.PEER && source.peer === sender;
	// The peer may also send from its Node address.
	const isNodes =
		source.kind === RouteKind.OUTSIDE &&
		destination === RouteKind.LOCAL_PODS &&
		tables.peerAddress(key.source) === sender;
	if (!isPeers && !isNodes) {
		const why = `${key.source} is not in the pod CIDRs of peer ${sender}, and is not its own address`;
		return draft.drop(DropReason.TUNNEL_WRONG_SOURCE, why);
	}
	// For the Node's own addresses, toHost takes answers only.
	if (destination !== RouteKind.LOCAL_PODS && destination !== RouteKind.HOST) {
		const why = `${key.destination} is not on this Node`;
		return draft.drop(DropReason.TUNNEL_WRONG_DESTINATION, why);
	}
	const stripped = decapsulate(outer, found.inner);
	if (stripped === undefined) {
		return draft.drop(DropReason.TUNNEL_ECN, "congestion marked on a packet without ECN");
	}
	draft.note("tunnel", `${kind} from ${outer.key.source}, peer ${sender}`);
	if (xdp) markStripped(draft, stripped.frame);
	if (probeFrom(draft, stripped) === undefined) {
		draft.decision.stripped = received(draft, stripped, sender);
	}
	return stripped;
}

function received({ context }: Draft, packet: Packet, peer: number): Received {
	const { packets, large } = onWire(packet, context);
	return { index: peerIndex(peer, packet.family), packets, large };
}

/** True if XDP must leave the packet to the TC program, after GRO. */
function needsStack(draft: Draft, packet: Packet): boolean {
	return (
		packet.key.protocol === Protocol.TCP ||
		packet.isFragment ||
		packet.icmpError ||
		(draft.context.vethWire === true && isChecksumUnfinished(packet))
	);
}

/** Every Pod interface carries packets up to this length. */
const ALWAYS_FITS = 512;

/** True for a client's packet of a flow to the address of a Service. */
function isToService(known: FlowEntry | undefined): boolean {
	return known?.direction === FlowDirection.ORIGINAL && (known.flow.flags & FlowFlag.DNAT) !== 0;
}

/** An XDP redirect into a veth silently drops packets that are longer than its MTU. */
function isLostInRedirect({ tables }: Draft, { length }: Packet, { ifindex }: Endpoint): boolean {
	return length > ALWAYS_FITS && length > (tables.deviceMtu(ifindex) ?? Number.POSITIVE_INFINITY);
}

/** True if the field holds only the pseudo header's sum; for SCTP, nothing. */
function isChecksumUnfinished(packet: Packet): boolean {
	const { frame, key, l4 } = packet;
	if (key.protocol === Protocol.SCTP) return frame.readUInt32BE(l4 + 8) === 0;
	if (key.protocol !== Protocol.UDP) return false;
	const length = frame.readUInt16BE(l4 + 4);
	return fold(pseudoHeaderSum(packet, Protocol.UDP, length)) === frame.readUInt16BE(l4 + 6);
}

function toHost(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	{ xdp, tunnelled, route }: { xdp: boolean; tunnelled: boolean; route: Route },
): Decision {
	const { node, tables, decision } = draft;
	if (isNobodys(packet)) return draft.drop(DropReason.MARTIAN_SOURCE, martianText(packet));
	if (!xdp) {
		const asker = probeFrom(draft, packet);
		if (asker !== undefined) return receiveProbe(draft, packet, asker, tunnelled);
		const sender = routeOf(packet.key.source, tables);
		if (isMartian(packet, sender)) {
			return draft.drop(DropReason.MARTIAN_SOURCE, martianText(packet));
		}
		if (sender.kind === RouteKind.PEER && !tunnelled) {
			const refused = refuseUntunnelled(draft, packet, sender.peer, { known, xdp });
			if (refused) return refused;
		}
		// For a peer's Pods the Node's other addresses are outside destinations, so a packet to one is the peer's only
		// if it answers the Node itself.
		const isGateway = packet.key.destination === gatewayAddress(node, packet.family);
		const isAnswer = known?.direction === FlowDirection.REPLY && backendIdOf(known.flow) !== 0;
		if (sender.kind === RouteKind.PEER) {
			if (isGateway || isAnswer) decision.received = received(draft, packet, sender.peer);
			else if (tunnelled && !packet.portsUnknown) {
				const why = `${packet.key.destination} is this Node, which has no flow to the Pod`;
				return draft.drop(DropReason.TUNNEL_WRONG_DESTINATION, why);
			}
		}
	}
	if (packet.portsUnknown && ((node.flags & NodeFlag.SNAT) !== 0 || servesWire(draft, route))) {
		if (route.kind === RouteKind.SERVICE) {
			const why = "the first fragment, which has the ports, has not arrived yet";
			return draft.handUp(SlowPathKind.HOLD, packet, 0, why);
		}
		// The Node's reassembly gets the packet now, in case it is for the Node; the slow path gets a
		// copy, in case the first fragment shows that it is for a Pod.
		draft.copyUp(SlowPathKind.HOLD, packet, 0);
	}

	if (known !== undefined && isTranslated(known.flow)) {
		if (known.flow.flags & FlowFlag.STACK) {
			if (xdp) return draft.pass("TC does the rest, after GRO");
			// to_wire translated it last, so it is turned back first.
			track(draft, packet, known);
			decision.packet = translated(draft, packet, known).frame;
			return draft.pass("an answer to a packet that came through the Node's own stack");
		}
		const { destination } = packetTarget(packet, known);
		const endpoint = tables.endpoint(destination);
		if (endpoint !== undefined) {
			if (xdp && isLostInRedirect(draft, packet, endpoint)) {
				return draft.pass(
					"longer than the MTU of the Pod's interface, which a redirect would drop",
				);
			}
			const admitted = admit(draft, packet, known);
			if (admitted !== undefined && "action" in admitted) return admitted;
			const ended = checkTtl(draft, packet);
			if (ended) return ended;
			const isStale = known.flow.routeEpoch !== node.routeEpoch;
			const source = routeOfRemote(undefined, packet.key.source, node, tables);
			track(draft, packet, admitted, isStale ? source : undefined);
			const rewritten = translated(draft, packet, admitted);
			decrementTtl(rewritten);
			return wayToPod(draft, endpoint).emit(rewritten);
		}
		if (!xdp) {
			if (routeOf(destination, tables).kind === RouteKind.HOST) {
				track(draft, packet, known);
				return toSelf(draft, packet, known);
			}
			if (backendIdOf(known.flow) !== 0) return onward(draft, packet, known);
			return draft.drop(DropReason.NO_ENDPOINT, `no Pod of this Node has ${destination}`);
		}
	}
	if (xdp) return draft.pass("for the Node itself");

	const source = routeOf(packet.key.source, tables);
	const current = unlessServed(draft, packet, known, "wire");
	const served = current ? undefined : serve(draft, packet, route, "wire");
	if (served !== undefined)
		return "action" in served ? served : serveWire(draft, packet, served, source);
	if (known === undefined && route.kind === RouteKind.HOST) {
		const beside = besideService(draft, packet, source);
		if (beside !== undefined) return beside;
	}

	if (source.kind !== RouteKind.PEER || route.kind !== RouteKind.HOST)
		return draft.pass("for the Node itself");
	const isStale = current?.flow.routeEpoch !== node.routeEpoch;
	track(draft, packet, current, isStale ? source : undefined);
	return intoHost(draft, { ...packet, frame: Buffer.from(packet.frame) });
}

function toStack(draft: Draft, packet: Packet, known: FlowEntry, xdp: boolean): Decision {
	if (xdp) return draft.pass("an answer to a packet that came through the Node's own stack");
	const source = routeOf(packet.key.source, draft.tables);
	if (source.kind !== RouteKind.PEER) return draft.pass("not a peer's");
	draft.decision.received = received(draft, packet, source.peer);
	if (!packet.icmpError) track(draft, packet, known);
	return intoHost(draft, { ...packet, frame: Buffer.from(packet.frame) });
}
