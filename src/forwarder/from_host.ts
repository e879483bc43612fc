/**
 * from_host: packets of the Node itself to Pods on other Nodes and to Services, and packets that the slow path
 * forwards (ARCHITECTURE, from_host).
 */
import { MAC_SIZE } from "../tables/address.js";
import {
	DropReason,
	FlowDirection,
	FlowFlag,
	type FlowKey,
	FragmentOwner,
	NodeFlag,
	type Route,
	RouteFlag,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision, ServiceChoice } from "./decision.js";
import type { Draft } from "./draft.js";
import {
	fit,
	fragmentAboveMtu,
	intoHost,
	tooBig,
	wayOutside,
	wayToPeer,
	wayToPod,
} from "./emit.js";
import { isTranslated, lookUp, reverse, tupleOf } from "./flow.js";
import { isExpired } from "./flow_state.js";
import { resolvePorts } from "./fragments.js";
import { ethertype, isIp, type Packet } from "./packet.js";
import { admit, forwardedFlag, isCurrent, isOwn } from "./policy.js";
import { askProbe, probeTo } from "./probe.js";
import {
	gatewayAddress,
	isLinkMulticast,
	routeAnew,
	routeOf,
	routeOfRemote,
	snatAddress,
} from "./route.js";
import { backendIdOf, mayServe, noteService, serve, serves, withLiveBackend } from "./service.js";
import type { FlowEntry } from "./table_reader.js";
import {
	type Beginning,
	flowText,
	packetTarget,
	track,
	trackTranslated,
	translated,
} from "./track.js";
import { FIXED_MAC } from "./tunnel.js";

export function fromHost(draft: Draft): Decision {
	const { frame, tables, node, decision } = draft;

	// Parse
	const type = ethertype(frame);
	if (type === undefined) return draft.drop(DropReason.MALFORMED, "no Ethernet header");
	if (!isIp(type)) return draft.drop(DropReason.UNSUPPORTED_ETHERTYPE, "not IP");
	const packet = draft.parse();
	if (packet === undefined) return draft.drop(DropReason.MALFORMED, "headers are inconsistent");
	const asked = probeTo(draft, packet);
	if (asked !== undefined) return askProbe(draft, packet, asked);
	if (isLinkMulticast(packet)) return draft.pass("multicast on the link");

	// Flow
	resolvePorts(packet, tables, decision, FragmentOwner.HOST);
	const found = lookUp(packet, tables, node, draft.now);
	const known = withLiveBackend(draft, packet, found);
	draft.note("flow", flowText(packet, known));
	noteService(draft, known);

	// Service
	const { key } = packet;
	const isFinished = isFromSlowPath(frame);
	const served = known || isFinished ? undefined : toService(draft, packet);
	if (served !== undefined && "action" in served) return served;

	// Route
	// A flow that began in to_pod remembers the Node's stack as its remote side; this packet comes from there.
	const toPeer = known?.flow.routeKind === RouteKind.PEER ? known.flow : undefined;
	const to = served?.target ?? packetTarget(packet, known);
	const route = packet.icmpError
		? routeAnew(toPeer, to.destination, tables)
		: routeOfRemote(toPeer, to.destination, node, tables);
	if (route.kind === RouteKind.OUTSIDE && isFinished) return finish(draft, packet);
	if (route.kind !== RouteKind.PEER) {
		const isServices =
			served !== undefined || (known !== undefined && backendIdOf(known.flow) !== 0);
		if (isServices) return serveOther(draft, packet, { known, served, to, route });
		return draft.drop(DropReason.NO_ROUTE, `${to.destination} is in no peer's pod CIDR`);
	}

	// Source: a peer accepts tunnel packets only from this Node's Pods and gateway addresses. The answer
	// to a packet that came directly from a Pod's address goes back directly.
	const own = isOwnSource(draft, packet) || showsItself(draft, packet, served);
	const native = !own && known?.direction === FlowDirection.REPLY;
	const way = wayToPeer(draft, packet, route.peer, native);
	if ("action" in way) return way;

	// Size
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);
	if (fits === "in fragments") return fragmentAboveMtu(draft, packet, way.mtu);

	// Flow, with SNAT to the gateway address if the source needs it
	let flow: FlowEntry | undefined;
	if (known !== undefined || (own && served === undefined)) {
		const isOfNow = known?.flow.routeEpoch === node.routeEpoch;
		// The stack forwards a packet whose destination it has translated to a Service's backend.
		const isForwarded = routeOf(key.source, tables).kind === RouteKind.LOCAL_PODS;
		const flags = isForwarded ? FlowFlag.STACK : 0;
		// A Pod's own flow is judged and renewed by from_pod; the slow path only sends parts of it.
		const keepsRoute = isOfNow || (known !== undefined && isForwarded);
		flow = track(draft, packet, known, keepsRoute ? undefined : route, undefined, flags);
	} else {
		const address = own ? undefined : gatewayAddress(node, packet.family);
		const begun = start(draft, packet, { address, choice: served, route });
		if ("action" in begun) return begun;
		flow = begun;
	}

	return way.emit(translated(draft, packet, flow));
}

/** The backend of a packet without a flow; undefined: it goes to no Service. */
function toService(draft: Draft, packet: Packet): ServiceChoice | Decision | undefined {
	const route = routeOf(packet.key.destination, draft.tables);
	if (!mayServe(route) || !serves(draft, "host")) return undefined;
	// The Node forwards packets that come in by links without from_wire.
	const source = routeOf(packet.key.source, draft.tables).kind;
	const isForwarded = source === RouteKind.OUTSIDE || source === RouteKind.PEER;
	return withoutTuple(draft, packet) ?? serve(draft, packet, route, isForwarded ? "wire" : "host");
}

/** Starts a flow that is translated. */
function start(draft: Draft, packet: Packet, beginning: Beginning): FlowEntry | Decision {
	return withoutTuple(draft, packet) ?? trackTranslated(draft, packet, beginning);
}

/** Undefined: the packet may start a flow. */
function withoutTuple(draft: Draft, packet: Packet): Decision | undefined {
	if (packet.icmpError) {
		return draft.drop(DropReason.ICMP_UNRELATED, "an ICMP error about no flow of this Node");
	}
	if (!packet.portsUnknown) return undefined;
	return draft.drop(DropReason.FRAGMENT_UNKNOWN, "its first fragment was not seen");
}

/** A packet of the slow path to the outside is complete: translated, fragmented, its TTL decremented. */
function finish(draft: Draft, packet: Packet): Decision {
	const { node, tables } = draft;
	const { key } = packet;
	// By the flow's own next hop: routing rules may select by the Pod's address.
	const answered = tables.flow(reverse(key));
	const isOurs =
		answered !== undefined &&
		isTranslated(answered.flow) &&
		!isExpired(answered.flow, node, draft.now);
	const direction = (answered?.direction ?? 0) ^ 1;
	const flow = isOurs ? { ...answered, direction } : undefined;
	const from = flow ? tupleOf(flow.flow, direction) : key;
	const way = wayOutside(draft, packet, flow, { from, to: key });
	if (!("action" in way)) return way.emit({ ...packet, frame: Buffer.from(packet.frame) });
	return draft.drop(DropReason.NO_ROUTE, `no way to ${key.destination}`);
}

interface ServiceWay {
	known: FlowEntry | undefined;
	served: ServiceChoice | undefined;
	to: FlowKey;
	route: Route;
}

/** A Service's flow whose packets go to no peer: to a Pod of this Node, the Node itself, or the outside. */
function serveOther(draft: Draft, packet: Packet, service: ServiceWay): Decision {
	const { known, served: choice, to, route } = service;
	const { tables, node } = draft;
	switch (route.kind) {
		case RouteKind.OUTSIDE:
			return serveOutside(draft, packet, service);
		case RouteKind.SERVICE: {
			const why = `${to.destination} is another Service's address, not an endpoint's`;
			return draft.drop(DropReason.SERVICE_UNKNOWN_ADDRESS, why);
		}
		case RouteKind.LOCAL_PODS: {
			const endpoint = tables.endpoint(to.destination);
			if (endpoint === undefined) {
				const why = `no Pod of this Node has ${to.destination}`;
				return draft.handUp(SlowPathKind.NO_HOST, packet, 0, why);
			}
			// Packets that the Node forwards are judged, above all those of a client on another link.
			const isExempt = known === undefined && isOwn(draft);
			const admitted = isExempt ? undefined : admit(draft, packet, known, to);
			if (admitted !== undefined && "action" in admitted) return admitted;
			// The end that is not a Pod: the Node, or a client whose packets the Node forwards.
			const client = routeOfRemote(undefined, packet.key.source, node, tables);
			const flags = forwardedFlag(draft);
			const beginning = { address: undefined, choice, route: client, flags };
			const isStale = known?.direction === FlowDirection.ORIGINAL && !isCurrent(known.flow, draft);
			const flow = admitted
				? track(draft, packet, admitted, isStale ? client : undefined)
				: start(draft, packet, beginning);
			if (flow !== undefined && "action" in flow) return flow;
			return wayToPod(draft, endpoint).emit(translated(draft, packet, flow));
		}
		default: {
			const keeps =
				(node.flags & NodeFlag.STACK_ANSWERS) !== 0 &&
				!isOwn(draft) &&
				routeOf(packet.key.source, tables).kind === RouteKind.OUTSIDE;
			// Where to_wire does not turn the answer back, it has to come by fairway0.
			const address = packet.family === 4 ? node.returnAddress4 : node.returnAddress6;
			const beginning = { address: keeps ? undefined : address, choice, route, isToNode: keeps };
			const flow = known ? track(draft, packet, known) : start(draft, packet, beginning);
			if (flow !== undefined && "action" in flow) return flow;
			return intoHost(draft, translated(draft, packet, flow));
		}
	}
}

function serveOutside(
	draft: Draft,
	packet: Packet,
	{ known, served: choice, to, route }: ServiceWay,
): Decision {
	const isOriginal = known?.direction === FlowDirection.ORIGINAL && !packet.icmpError;
	// An answer leaves from the Service's address, by which the kernel's rules may select.
	const from = known ? to : packet.key;
	const flowOfWay = isOriginal ? known : undefined;
	const way = wayOutside(draft, packet, flowOfWay, { from, to }, known === undefined);
	if ("action" in way) return draft.drop(DropReason.NO_ROUTE, `no way to ${to.destination}`);
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);
	if (fits === "in fragments") return fragmentAboveMtu(draft, packet, way.mtu);
	const { gateway } = way;
	const address = way.source || snatAddress(draft.node, packet.family);
	const flow = known
		? track(draft, packet, known, undefined, isOriginal ? gateway : undefined)
		: start(draft, packet, { address, choice, route, gateway });
	if (flow !== undefined && "action" in flow) return flow;
	return way.emit(translated(draft, packet, flow));
}

/** The slow path's frames have this source; the kernel writes the addresses of its own devices. */
function isFromSlowPath(frame: Buffer): boolean {
	return frame.subarray(MAC_SIZE, 2 * MAC_SIZE).equals(FIXED_MAC);
}

/**
 * True where the Node itself is the client of a NodePort or load balancer address whose external traffic policy is
 * Local: that policy keeps the client's address, so the backend sees the Node's own.
 */
function showsItself(draft: Draft, { key }: Packet, served: ServiceChoice | undefined): boolean {
	const { kind, flags } = routeOf(key.source, draft.tables);
	const isKnown = kind === RouteKind.HOST && (flags & RouteFlag.PEERS_KNOW) !== 0;
	return served?.isExternalLocal === true && isOwn(draft) && isKnown;
}

function isOwnSource({ node, tables }: Draft, { key, family }: Packet): boolean {
	return (
		key.source === gatewayAddress(node, family) ||
		routeOf(key.source, tables).kind === RouteKind.LOCAL_PODS
	);
}
