/**
 * from_host: what the Node itself sends to Pods on other Nodes, and what the slow path forwards
 * (ARCHITECTURE, from_host).
 */
import { MAC_SIZE } from "../tables/address.js";
import {
	DropReason,
	FlowDirection,
	FlowFlag,
	FragmentOwner,
	RouteKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { fit, fragmentAboveMtu, tooBig, wayOutside, wayToPeer } from "./emit.js";
import { isExpired, isTranslated, lookUp, reverse, tupleOf } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import { ethertype, isIp, type Packet } from "./packet.js";
import { askProbe, probeTo } from "./probe.js";
import { gatewayAddress, isLinkMulticast, routeOf, routeOfRemote } from "./route.js";
import type { FlowEntry } from "./table_reader.js";
import { flowText, packetTarget, track, trackTranslated, translated } from "./track.js";
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

	// Flow and route
	resolvePorts(packet, tables, decision, FragmentOwner.HOST);
	const known = lookUp(packet, tables, node, draft.now);
	draft.note("flow", flowText(packet, known));
	const { key } = packet;
	// A flow that began in to_pod remembers the Node's stack as its remote side; this packet comes from there.
	const isToPeer = !packet.icmpError && known?.flow.routeKind === RouteKind.PEER;
	const remembered = isToPeer ? known.flow : undefined;
	const { destination } = packetTarget(packet, known);
	const route = routeOfRemote(remembered, destination, node, tables);
	if (route.kind === RouteKind.OUTSIDE && isFromSlowPath(frame)) {
		// It is finished: translated, cut, its TTL taken.
		// By the flow's own way: rules may go by the Pod's address.
		const answered = tables.flow(reverse(key));
		const isOurs =
			answered !== undefined &&
			isTranslated(answered.flow) &&
			!isExpired(answered.flow, node, draft.now);
		const direction = (answered?.direction ?? 0) ^ 1;
		const flow = isOurs ? { ...answered, direction } : undefined;
		const from = flow ? tupleOf(flow.flow, direction) : key;
		const way = wayOutside(draft, packet, flow, { from, to: key });
		if (!("action" in way)) return way.emit({ ...packet, frame: Buffer.from(frame) });
		return draft.drop(DropReason.NO_ROUTE, `no way to ${key.destination}`);
	}
	if (route.kind !== RouteKind.PEER) {
		return draft.drop(DropReason.NO_ROUTE, `${key.destination} is in no peer's pod CIDR`);
	}

	// Source: a peer accepts tunnel packets only from this Node's Pods and gateway addresses. The answer
	// to a packet that came directly from a Pod's address goes back directly.
	const own = isOwnSource(draft, packet);
	const native = !own && known?.direction === FlowDirection.REPLY;
	const way = wayToPeer(draft, packet, route.peer, native);
	if ("action" in way) return way;

	// Size
	const fits = fit(draft, packet, way.mtu);
	if (fits === "not") return tooBig(draft, packet, way.mtu);
	if (fits === "in fragments") return fragmentAboveMtu(draft, packet, way.mtu);

	// Flow, with SNAT to the gateway address if the source needs it
	let flow: FlowEntry | undefined;
	if (own || known !== undefined) {
		const isCurrent = known?.flow.routeEpoch === node.routeEpoch;
		// The stack forwards what it has translated: a Service's backend.
		const isForwarded = routeOf(key.source, tables).kind === RouteKind.LOCAL_PODS;
		const flags = isForwarded ? FlowFlag.STACK : 0;
		flow = track(draft, packet, known, isCurrent ? undefined : route, undefined, flags);
	} else {
		if (packet.icmpError) {
			return draft.drop(DropReason.ICMP_UNRELATED, "an ICMP error about no flow of this Node");
		}
		if (packet.portsUnknown) {
			return draft.drop(DropReason.FRAGMENT_UNKNOWN, "its first fragment was not seen");
		}
		const begun = trackTranslated(draft, packet, {
			address: gatewayAddress(node, packet.family),
			route,
		});
		if ("action" in begun) return begun;
		flow = begun;
	}

	return way.emit(translated(draft, packet, flow));
}

/** Its frames have this source; the kernel writes its own devices' addresses. */
function isFromSlowPath(frame: Buffer): boolean {
	return frame.subarray(MAC_SIZE, 2 * MAC_SIZE).equals(FIXED_MAC);
}

function isOwnSource({ node, tables }: Draft, { key, family }: Packet): boolean {
	return (
		key.source === gatewayAddress(node, family) ||
		routeOf(key.source, tables).kind === RouteKind.LOCAL_PODS
	);
}
