/**
 * to_pod: packets of the Node's own stack to its Pods, also from a Service's backend on the Node. They are tracked, so
 * that answers are recognised. Packets that the Node forwards are judged; its own are not.
 */
import {
	DropReason,
	EndpointPolicy,
	FlowDirection,
	FlowFlag,
	FragmentOwner,
	Limit,
	type Route,
	RouteKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { lookUp, replyKey, reverse, takesAddress } from "./flow.js";
import { isExpired } from "./flow_state.js";
import { resolvePorts } from "./fragments.js";
import { destinationOf, type Packet } from "./packet.js";
import { admit, admitFragment, admitNew, forwardedFlag, isCurrent, isOwn } from "./policy.js";
import { isLinkLocal, isMulticast, routeOf } from "./route.js";
import { backendIdOf, noteService } from "./service.js";
import type { FlowEntry } from "./table_reader.js";
import { flowText, track, translated } from "./track.js";

const HOST: Route = { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER };
const WHY = "the Node's own packets reach its Pods";

export function toPod(draft: Draft): Decision {
	const { tables, node, now, decision } = draft;
	const packet = draft.parse();
	if (packet === undefined) return unread(draft);
	if (isMulticast(packet) || isLinkLocal(packet, "source") || packet.key.source === "")
		return draft.pass(WHY);
	resolvePorts(packet, tables, decision, FragmentOwner.HOST);
	const receiver = tables.endpoint(packet.key.destination);
	const lost = isOwn(draft)
		? undefined
		: admitFragment(draft, packet, receiver?.ingressPolicy, false);
	if (lost) return lost;
	if (packet.portsUnknown) return draft.pass(WHY);
	const found = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, found));
	noteService(draft, found);
	if (found === undefined) {
		if (isFromHost(draft, packet)) return draft.pass("judged by from_host");
		const refused = isOwn(draft) ? undefined : admitNew(draft, packet);
		if (refused) return refused;
		if (packet.icmpError) return draft.pass(WHY);
		const flags = FlowFlag.STACK | forwardedFlag(draft);
		track(draft, packet, found, HOST, undefined, flags);
		return draft.pass(WHY);
	}
	const known = admit(draft, packet, found)!;
	if ("action" in known) return known;
	track(draft, packet, known, isCurrent(found.flow, draft) ? undefined : routeOfNode(draft, found));
	// The Node's answer to a packet that from_pod gave it as a backend gets the Service's address.
	const isOurs = backendIdOf(known.flow) !== 0 || !takesAddress(known.flow);
	if (known.direction === FlowDirection.REPLY && isOurs)
		decision.packet = translated(draft, packet, known).frame;
	return draft.pass(WHY);
}

/** The kernel would forward this packet, but it cannot be judged, since it cannot be parsed. */
function unread(draft: Draft): Decision {
	const destination = destinationOf(draft.frame, { big: draft.isBig });
	const receiver = destination === undefined ? undefined : draft.tables.endpoint(destination);
	if (isOwn(draft) || receiver === undefined) return draft.pass(WHY);
	if (receiver.ingressPolicy === EndpointPolicy.OPEN) return draft.pass(WHY);
	return receiver.ingressPolicy === EndpointPolicy.NOT_READY
		? draft.drop(DropReason.POLICY_NOT_READY, "the Pod's policies are not known yet")
		: draft.drop(DropReason.MALFORMED, "headers are inconsistent, or too many");
}

/** The route of a flow whose other end is this Node; undefined: the flow has another end. */
function routeOfNode({ tables }: Draft, { flow }: FlowEntry): Route | undefined {
	if (flow.flags & FlowFlag.STACK) return flow.routeKind === RouteKind.HOST ? HOST : undefined;
	const route = routeOf(replyKey(flow).source, tables);
	return route.kind === RouteKind.HOST || route.kind === RouteKind.STACK ? route : undefined;
}

/** A packet that from_host sent to a backend on this Node leaves by this device with a tuple of no flow; the tuple of
 * its answers is the flow's. */
function isFromHost({ tables, node, now }: Draft, { key }: Packet): boolean {
	const answered = tables.flow(reverse(key));
	if (answered === undefined || isExpired(answered.flow, node, now)) return false;
	return answered.direction === FlowDirection.REPLY && backendIdOf(answered.flow) !== 0;
}
