/**
 * Services for clients from the wire, as part of from_wire at TC.
 *
 *  1. serve     a new flow gets a backend: a Pod of this Node, which sees the client's address; the Node itself, a
 *               peer's Pod or the outside, which see the Node's
 *  2. beside    a connection to the Node itself, whose client has a flow to it by a Service already
 *  3. onward    from the wire to the wire: a known flow whose packets leave the Node again
 */
import {
	DropReason,
	EventCounter,
	FlowDirection,
	type FlowKey,
	NodeFlag,
	type Route,
	RouteFlag,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision, ServiceChoice } from "./decision.js";
import type { Draft } from "./draft.js";
import {
	checkTtl,
	fit,
	fragmentAboveMtu,
	intoHost,
	tooBig,
	type Way,
	wayOutside,
	wayToPeer,
	wayToPod,
} from "./emit.js";
import { reverse, showsClient } from "./flow.js";
import { isExpired, opens } from "./flow_state.js";
import { clampMss } from "./mtu.js";
import { type Packet, Protocol } from "./packet.js";
import { admitNew } from "./policy.js";
import { decrementTtl } from "./rewrite.js";
import { gatewayAddress, peerIndex, routeOfRemote, snatAddress } from "./route.js";
import { mayServe, serves } from "./service.js";
import type { FlowEntry } from "./table_reader.js";
import { packetTarget, track, trackTranslated, translated } from "./track.js";
import { isForged } from "./tunnel.js";

/** True if an address with this route may be a Service's for clients from the wire. */
export function servesWire(draft: Draft, route: Route): boolean {
	return mayServe(route) && serves(draft, "wire");
}

/**
 * 1. The packet that begins a flow to a backend.
 *
 * @param source the client's route
 */
export function serveWire(
	draft: Draft,
	packet: Packet,
	choice: ServiceChoice,
	source: Route,
): Decision {
	const { node, tables } = draft;
	const { target: to } = choice;
	const route = routeOfRemote(undefined, to.destination, node, tables);
	const begin = (address: string | undefined, isToNode = false) =>
		trackTranslated(draft, packet, { address, choice, route: source, isToNode });

	if (route.kind === RouteKind.LOCAL_PODS) {
		const endpoint = tables.endpoint(to.destination);
		if (endpoint === undefined) {
			const why = `no Pod of this Node has ${to.destination}`;
			return draft.handUp(SlowPathKind.NO_HOST, packet, 0, why);
		}
		const refused = admitNew(draft, packet, to);
		if (refused) return refused;
		const expired = checkTtl(draft, packet);
		if (expired) return expired;
		const flow = begin(undefined);
		if ("action" in flow) return flow;
		const rewritten = translated(draft, packet, flow);
		decrementTtl(rewritten);
		clampFromPeer(draft, rewritten, source);
		return wayToPod(draft, endpoint).emit(rewritten);
	}
	if (route.kind === RouteKind.HOST) {
		const keeps = node.flags & NodeFlag.STACK_ANSWERS && source.kind === RouteKind.OUTSIDE;
		// Unless to_wire translates the answer back, it has to come by fairway0.
		const address = packet.family === 4 ? node.returnAddress4 : node.returnAddress6;
		const flow = keeps ? begin(undefined, true) : begin(address);
		return "action" in flow ? flow : toSelf(draft, packet, flow);
	}
	const way = wayFrom(draft, packet, { to, route, known: undefined });
	if ("action" in way) return way;
	const address =
		route.kind === RouteKind.PEER
			? gatewayAddress(node, packet.family)
			: way.source || snatAddress(node, packet.family);
	return leave(draft, packet, way, () => begin(address));
}

/**
 * 2. A client outside opens a connection to the Node itself, while a flow of it by a Service has the tuple of the
 * answers: the connection gets another port, so that answers can be told apart. Undefined: there is no such flow.
 *
 * @param source the client's route
 */
export function besideService(draft: Draft, packet: Packet, source: Route): Decision | undefined {
	const { node, tables, now } = draft;
	const { icmpError, portsUnknown, key } = packet;
	if ((node.flags & NodeFlag.STACK_ANSWERS) === 0 || source.kind !== RouteKind.OUTSIDE) return;
	if (key.protocol !== Protocol.TCP || icmpError || portsUnknown || !opens(packet)) return;
	const met = tables.flow(reverse(key));
	if (met?.direction !== FlowDirection.REPLY || !showsClient(met.flow)) return;
	if (isExpired(met.flow, node, now)) return;
	const flow = trackTranslated(draft, packet, {
		address: undefined,
		route: source,
		isToNode: true,
	});
	return "action" in flow ? flow : toSelf(draft, packet, flow);
}

/** To the Node itself: the packet passes unchanged to its stack if to_wire translates the answers back. */
export function toSelf(draft: Draft, packet: Packet, entry: FlowEntry): Decision {
	const rewritten = translated(draft, packet, entry);
	if (entry.direction !== FlowDirection.ORIGINAL || !showsClient(entry.flow))
		return intoHost(draft, rewritten);
	draft.decision.packet = rewritten.frame;
	return draft.pass("the Node itself is the backend, and sees the client's address");
}

/** 3. A packet of a known flow, or an error about one. */
export function onward(draft: Draft, packet: Packet, known: FlowEntry): Decision {
	const to = packetTarget(packet, known);
	const route = routeOfRemote(undefined, to.destination, draft.node, draft.tables);
	const way = wayFrom(draft, packet, { to, route, known });
	if ("action" in way) return way;
	// The gateway that a flow remembers is that of its client, whichever side began the flow.
	const gateway = known.direction === FlowDirection.REPLY ? way.gateway : undefined;
	const client = gateway === undefined ? undefined : route;
	return leave(draft, packet, way, () => track(draft, packet, known, client, gateway) ?? known);
}

function wayFrom(
	draft: Draft,
	packet: Packet,
	{ to, route, known }: { to: FlowKey; route: Route; known: FlowEntry | undefined },
): Way | Decision {
	const isReply = known?.direction === FlowDirection.REPLY;
	// An answer has the Service's address as source, which a peer does not accept in a tunnel.
	if (route.kind === RouteKind.PEER) return wayToPeer(draft, packet, route.peer, isReply);
	if (route.kind !== RouteKind.OUTSIDE) {
		const why = `${to.destination} is not an endpoint of a Service`;
		return draft.drop(DropReason.SERVICE_UNKNOWN_ADDRESS, why);
	}
	// The kernel's rules may select by the address that an answer leaves from.
	const isAnswer = isReply && !packet.icmpError;
	const tuples = { from: isAnswer ? to : packet.key, to };
	const way = wayOutside(draft, packet, isAnswer ? known : undefined, tuples, known === undefined);
	if ("action" in way) return draft.drop(DropReason.NO_ROUTE, `no way to ${to.destination}`);
	// It leaves with an address of this Node, whose tunnel packets a peer accepts.
	if (route.flags & RouteFlag.PEER_NODE && isForged(packet, to.destinationPort, draft.node)) {
		const why = `${to.destination} is a peer, which would take the packet for this Node's`;
		return draft.drop(DropReason.TUNNEL_FROM_POD, why);
	}
	return way;
}

/** @param keep begins the flow, or keeps it */
function leave(draft: Draft, packet: Packet, way: Way, keep: () => FlowEntry | Decision): Decision {
	const expired = checkTtl(draft, packet);
	if (expired) return expired;
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);
	const flow = keep();
	if ("action" in flow) return flow;
	if (fits === "in fragments") return fragmentAboveMtu(draft, packet, way.mtu);
	const rewritten = translated(draft, packet, flow);
	decrementTtl(rewritten);
	return way.emit(rewritten);
}

/** Clamps the MSS of a peer's SYN to what the path carries. */
export function clampFromPeer(draft: Draft, packet: Packet, source: Route): void {
	if (source.kind !== RouteKind.PEER) return;
	const mtu = draft.tables.peer(peerIndex(source.peer, packet.family))?.mtu ?? 0;
	if (mtu > 0 && clampMss(packet, mtu)) draft.event(EventCounter.MSS_CLAMPED);
}
