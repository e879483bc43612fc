/**
 * from_pod: packets that a Pod sends (ARCHITECTURE, from_pod; the step numbers are the same).
 */
import { readMac } from "../tables/address.js";
import {
	DropReason,
	type Endpoint,
	FlowDirection,
	type FlowKey,
	Limit,
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
import { answersStack, isTranslated, lookUp, takesAddress } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import {
	checkNeighbourDiscovery,
	isGroupReport,
	isNeighbourDiscovery,
	isOwnArp,
} from "./neighbour.js";
import { Ethertype, ethertype, isIp, type Packet, parseQuoted } from "./packet.js";
import { admit, admitFragment } from "./policy.js";
import { decrementTtl } from "./rewrite.js";
import {
	gatewayAddress,
	isAddressLost,
	isLinkLocal,
	isLinkMulticast,
	isMulticast,
	isNobodys,
	routeAnew,
	routeOf,
	routeOfRemote,
	routeRemembered,
	snatAddress,
} from "./route.js";
import {
	backendIdOf,
	mayServe,
	noteService,
	serve,
	unlessServed,
	withLiveBackend,
} from "./service.js";
import type { FlowEntry } from "./table_reader.js";
import { flowText, packetTarget, track, trackTranslated, translated } from "./track.js";
import { isForged } from "./tunnel.js";

export function fromPod(draft: Draft): Decision {
	const { frame, tables, node } = draft;

	// 1. Ethertype
	const type = ethertype(frame);
	if (type === undefined) return draft.drop(DropReason.MALFORMED, "no Ethernet header");
	if (type === Ethertype.ARP) {
		if (isOwnArp(draft)) return draft.pass("ARP of the Pod's own");
		return draft.drop(DropReason.SPOOFED_NEIGHBOUR, "ARP about an address that is not the Pod's");
	}
	if (!isIp(type)) return draft.drop(DropReason.UNSUPPORTED_ETHERTYPE, "neither IP nor ARP");
	const packet = draft.parse();
	if (packet === undefined) return draft.drop(DropReason.MALFORMED, "headers are inconsistent");
	if (isNeighbourDiscovery(packet)) {
		const reason = checkNeighbourDiscovery(draft, packet);
		if (reason === DropReason.NONE)
			return draft.pass("neighbour discovery about the Pod's own addresses");
		return draft.drop(reason, "neighbour discovery about an address that is not the Pod's");
	}

	// 2 and 3. Source
	const refused = checkSource(draft, packet);
	if (refused) return refused;

	// 4. Multicast
	const { key } = packet;
	if (isLinkMulticast(packet)) return draft.pass("multicast on the link");
	if (isMulticast(packet)) {
		return draft.drop(DropReason.MULTICAST, `${key.destination} is multicast or broadcast`);
	}
	if (isNobodys(packet, "destination")) {
		const name = key.destination || "the unspecified address";
		return draft.drop(DropReason.MARTIAN_DESTINATION, `${name} is no host's address`);
	}

	// 5. Flow
	const sender = tables.endpoint(key.source);
	resolvePorts(packet, tables, draft.decision, sender?.index ?? 0);
	if (isOthersError(packet)) {
		return draft.drop(
			DropReason.ICMP_UNRELATED,
			"an ICMP error about a packet that was not sent to this Pod",
		);
	}
	const found = withAddress(draft, lookUp(packet, tables, node, draft.now));
	const live = withLiveBackend(draft, packet, found);
	const before = unlessServed(draft, packet, live, "pod");
	draft.note("flow", flowText(packet, before));
	noteService(draft, before);
	const held = admitFragment(draft, packet, sender?.egressPolicy, true);
	if (held) return held;

	// Service
	const served = before ? undefined : toService(draft, packet);
	if (served !== undefined && "action" in served) return served;
	const to = served?.target ?? packetTarget(packet, before);

	// Network policy
	const receiver = tables.endpoint(to.destination);
	const heldByReceiver = admitFragment(draft, packet, receiver?.ingressPolicy, true);
	if (heldByReceiver) return heldByReceiver;
	const known = admit(draft, packet, before, to);
	if (known !== undefined && "action" in known) return known;

	// 6. Route
	const remembered = packet.icmpError ? undefined : known;
	// The stack may have translated the packet that this one answers.
	const isForStack = answersStack(known);
	const route = isForStack
		? { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER }
		: packet.icmpError
			? routeAnew(known?.flow, to.destination, tables)
			: routeOfPacket(draft, to.destination, remembered);
	const isLeaving =
		route.kind === RouteKind.OUTSIDE &&
		(node.flags & NodeFlag.SNAT) !== 0 &&
		(route.flags & RouteFlag.NO_SNAT) === 0;
	const way = wayTo(draft, packet, to, route, {
		known: remembered,
		wantsSource: isLeaving && known === undefined,
	});
	if (way !== undefined && "action" in way) return way;
	if (way === undefined) {
		if (isForStack || served === undefined) {
			// A flow that the stack has sent elsewhere keeps its route.
			const keepsRoute = isForStack && known?.flow.routeKind !== RouteKind.HOST;
			const flow = track(draft, packet, known, keepsRoute ? undefined : route);
			return toNode(draft, packet, flow, route, isForStack);
		}
		const begun = trackTranslated(draft, packet, { address: undefined, choice: served, route });
		return "action" in begun ? begun : toNode(draft, packet, begun, route, false);
	}

	// 7. TTL
	const ended = checkTtl(draft, packet);
	if (ended) return ended;

	// 8. Size
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);

	// 9 and 10. SNAT and flow
	let flow: FlowEntry | undefined;
	if (known === undefined && (isLeaving || served !== undefined)) {
		if (packet.icmpError) {
			return draft.drop(DropReason.ICMP_UNRELATED, "an ICMP error about no flow of this Pod");
		}
		if (packet.portsUnknown) {
			const why = "the first fragment, which has the ports, has not arrived yet";
			return draft.handUp(SlowPathKind.HOLD, packet, way.mtu, why);
		}
		const isHairpin = served !== undefined && to.destination === key.source;
		const address = isHairpin
			? gatewayAddress(node, packet.family)
			: isLeaving
				? way.source || snatAddress(node, packet.family)
				: undefined;
		const { gateway } = way;
		const begun = trackTranslated(draft, packet, { address, choice: served, route, gateway });
		if ("action" in begun) return begun;
		flow = begun;
	} else {
		flow = track(draft, packet, known, route, way.gateway);
	}
	if (fits === "in fragments") return fragmentAboveMtu(draft, packet, way.mtu);

	// 11 and 12. Rewrite and emit
	const rewritten = translated(draft, packet, flow);
	if (way.isUnresolved) draft.tellUnresolved(packet);
	decrementTtl(rewritten);
	return way.emit(rewritten);
}

/** A Pod is no router: what it may speak about are packets to itself. */
function isOthersError(packet: Packet): boolean {
	const quoted = packet.icmpError ? parseQuoted(packet) : undefined;
	return quoted !== undefined && quoted.key.destination !== packet.key.source;
}

/** The flow, unless the Node has lost the address that its source is translated to. */
function withAddress(draft: Draft, found: FlowEntry | undefined): FlowEntry | undefined {
	if (found === undefined || !isAddressLost(found.flow, draft.node, draft.tables)) return found;
	draft.end(found.slot);
	return undefined;
}

/** The backend of a packet without a flow; undefined: it goes to no Service. */
function toService(draft: Draft, packet: Packet): ServiceChoice | Decision | undefined {
	const route = routeOf(packet.key.destination, draft.tables);
	if (packet.portsUnknown && mayServe(route)) {
		const why =
			"the first fragment, which shows whether a Service is addressed, has not arrived yet";
		if (route.kind !== RouteKind.HOST) return draft.handUp(SlowPathKind.HOLD, packet, 0, why);
		// The Node's reassembly gets the packet now, the slow path a copy.
		draft.copyUp(SlowPathKind.HOLD, packet, 0);
		return undefined;
	}
	return serve(draft, packet, route, "pod");
}

/** An answered TCP connection to an address that has become a Service's goes on by its old route. */
function routeOfPacket(
	{ node, tables }: Draft,
	destination: string,
	remembered: FlowEntry | undefined,
): Route {
	const route = routeOfRemote(remembered?.flow, destination, node, tables);
	if (route.kind !== RouteKind.SERVICE || remembered === undefined) return route;
	const isOwn = backendIdOf(remembered.flow) === 0;
	if (!isOwn || remembered.direction !== FlowDirection.ORIGINAL) return route;
	return routeRemembered(remembered.flow);
}

/** To the Node itself: a backend of a Service, or a client of one. */
function toNode(
	draft: Draft,
	packet: Packet,
	flow: FlowEntry | undefined,
	{ kind }: Route,
	isForStack: boolean,
): Decision {
	const { destination } = packet.key;
	if (
		flow !== undefined &&
		isTranslated(flow.flow) &&
		(backendIdOf(flow.flow) !== 0 || !takesAddress(flow.flow))
	) {
		const rewritten = translated(draft, packet, flow);
		// The kernel's reverse path check expects packets from a Service's address on fairway0.
		if (flow.direction === FlowDirection.REPLY) return intoHost(draft, rewritten);
		draft.decision.packet = rewritten.frame;
		return draft.pass("the Service's endpoint is this Node");
	}
	if (isForStack) return draft.pass("an answer to a packet that came through the Node's own stack");
	return draft.pass(
		kind === RouteKind.STACK
			? `${destination} is an address of Services, which the Node's own stack serves`
			: `${destination} is an address of this Node`,
	);
}

/** Checks the source; undefined: it is the Pod's own. */
function checkSource(draft: Draft, packet: Packet): Decision | undefined {
	const { key, frame } = packet;
	if (isLinkLocal(packet, "source") || key.source === "") {
		return packet.family === 6 && isGroupReport(packet)
			? draft.pass("a report of multicast groups")
			: draft.drop(
					DropReason.SPOOFED_ADDRESS,
					"a link-local source is allowed for multicast reports only",
				);
	}
	const own = draft.tables.endpoint(key.source);
	if (own === undefined || own.ifindex !== draft.context.ifindex) {
		return draft.drop(DropReason.SPOOFED_ADDRESS, `${key.source} is not this Pod's address`);
	}
	const mac = readMac(frame, 6);
	if (own.mac !== mac) return draft.drop(DropReason.SPOOFED_MAC, `${mac} is not this Pod's MAC`);
	draft.note("source", `${key.source} is the Pod behind interface ${own.ifindex}`);
	return undefined;
}

/** The next hop of a route; undefined: the Node itself; a Decision: none. */
function wayTo(
	draft: Draft,
	packet: Packet,
	to: FlowKey,
	route: Route,
	{ known, wantsSource }: { known: FlowEntry | undefined; wantsSource: boolean },
): Way | Decision | undefined {
	switch (route.kind) {
		case RouteKind.HOST:
		case RouteKind.STACK:
			return undefined;
		case RouteKind.LOCAL_PODS:
			return wayToLocalPod(draft, packet, to);
		case RouteKind.PEER:
			return wayToPeer(draft, packet, route.peer);
		case RouteKind.SERVICE: {
			const why = `${to.destination} is another Service's address, not an endpoint's`;
			return draft.drop(DropReason.SERVICE_UNKNOWN_ADDRESS, why);
		}
		default: {
			// A Service's answer leaves from the Service's address, by which the kernel's rules may select.
			const isAnswer =
				known?.direction === FlowDirection.REPLY &&
				!packet.icmpError &&
				backendIdOf(known.flow) !== 0;
			const tuples = { from: isAnswer ? to : packet.key, to };
			const way = wayOutside(draft, packet, known, tuples, wantsSource);
			if ("action" in way || (route.flags & RouteFlag.PEER_NODE) === 0) return way;
			const why = `${to.destination} is a peer, which would take the packet for its own`;
			return isForged(packet, to.destinationPort, draft.node)
				? draft.drop(DropReason.TUNNEL_FROM_POD, why)
				: way;
		}
	}
}

function wayToLocalPod(draft: Draft, packet: Packet, { destination }: FlowKey): Way | Decision {
	const endpoint: Endpoint | undefined = draft.tables.endpoint(destination);
	if (endpoint === undefined) {
		const why = `no Pod of this Node has ${destination}`;
		return draft.handUp(SlowPathKind.NO_HOST, packet, 0, why);
	}
	draft.note("route", `${destination} is a Pod of this Node`);
	return wayToPod(draft, endpoint);
}
