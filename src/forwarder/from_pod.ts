/**
 * from_pod: what a Pod sends (ARCHITECTURE, from_pod; the numbers are those there).
 */
import { readMac } from "../tables/address.js";
import {
	DropReason,
	type Endpoint,
	type FlowKey,
	Limit,
	NodeFlag,
	type Route,
	RouteFlag,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import {
	checkTtl,
	fit,
	fragmentAboveMtu,
	tooBig,
	type Way,
	wayOutside,
	wayToPeer,
	wayToPod,
} from "./emit.js";
import { answersStack, lookUp } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import {
	checkNeighbourDiscovery,
	isGroupReport,
	isNeighbourDiscovery,
	isOwnArp,
} from "./neighbour.js";
import { Ethertype, ethertype, isIp, type Packet } from "./packet.js";
import { decrementTtl } from "./rewrite.js";
import {
	isAddressLost,
	isLinkLocal,
	isLinkMulticast,
	isMulticast,
	routeOfRemote,
	snatAddress,
} from "./route.js";
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
		return draft.drop(DropReason.SPOOFED_NEIGHBOUR, "ARP about what is not the Pod's");
	}
	if (!isIp(type)) return draft.drop(DropReason.UNSUPPORTED_ETHERTYPE, "neither IP nor ARP");
	const packet = draft.parse();
	if (packet === undefined) return draft.drop(DropReason.MALFORMED, "headers are inconsistent");
	if (isNeighbourDiscovery(packet)) {
		const reason = checkNeighbourDiscovery(draft, packet);
		if (reason === DropReason.NONE) return draft.pass("neighbour discovery of the Pod's own");
		return draft.drop(reason, "neighbour discovery about what is not the Pod's");
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

	// 5. Flow
	resolvePorts(packet, tables, draft.decision, tables.endpoint(key.source)?.index ?? 0);
	const found = lookUp(packet, tables, node, draft.now);
	const known = found && isAddressLost(found.flow, node, tables) ? undefined : found;
	draft.note("flow", flowText(packet, known));

	// 6. Route
	const remembered = packet.icmpError ? undefined : known?.flow;
	// The stack may have translated what this answers.
	const isForStack = answersStack(known);
	const to = packetTarget(packet, known);
	const route = isForStack
		? { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER }
		: routeOfRemote(remembered, to.destination, node, tables);
	const needsSnat =
		route.kind === RouteKind.OUTSIDE &&
		(node.flags & NodeFlag.SNAT) !== 0 &&
		(route.flags & RouteFlag.NO_SNAT) === 0;
	const way = wayTo(draft, packet, to, route, {
		known: packet.icmpError ? undefined : known,
		wantsSource: needsSnat && known === undefined,
	});
	if (way !== undefined && "action" in way) return way;
	if (way === undefined) {
		track(draft, packet, known, isForStack ? undefined : route);
		return draft.pass(
			isForStack
				? "an answer to what came through the Node's own stack"
				: route.kind === RouteKind.STACK
					? `${key.destination} is an address of Services, which are the Node's own stack's`
					: `${key.destination} is an address of this Node`,
		);
	}

	// 7. TTL
	const ended = checkTtl(draft, packet);
	if (ended) return ended;

	// 8. Size
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);

	// 9 and 10. SNAT and flow
	let flow: FlowEntry | undefined;
	if (known === undefined && needsSnat) {
		if (packet.icmpError) {
			return draft.drop(DropReason.ICMP_UNRELATED, "an ICMP error about no flow of this Pod");
		}
		if (packet.portsUnknown) {
			const why = "the first fragment, which has the ports, was not seen yet";
			return draft.handUp(SlowPathKind.HOLD, packet, way.mtu, why);
		}
		const address = way.source || snatAddress(node, packet.family);
		const begun = trackTranslated(draft, packet, address, route, way);
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

/** Checks the source; undefined: it is the Pod's own. */
function checkSource(draft: Draft, packet: Packet): Decision | undefined {
	const { key, frame } = packet;
	if (isLinkLocal(packet, "source") || key.source === "") {
		return packet.family === 6 && isGroupReport(packet)
			? draft.pass("a report of multicast groups")
			: draft.drop(DropReason.SPOOFED_ADDRESS, "a link-local source is for reports of groups");
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
		default: {
			const way = wayOutside(draft, packet, known, { from: packet.key, to }, wantsSource);
			if ("action" in way || (route.flags & RouteFlag.PEER_NODE) === 0) return way;
			const why = `${to.destination} is a peer, who would take it for its own`;
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
