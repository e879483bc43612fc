/**
 * to_wire: packets that leave the Node (ARCHITECTURE, to_wire). Where the Node's own stack serves Services, a local
 * Pod's packets that the stack forwards to the outside are translated as from_pod would. Where the Node itself is a
 * Service's backend, its answers to outside clients get the Service's address.
 */
import {
	DropReason,
	FlowDirection,
	FlowFlag,
	FragmentOwner,
	NodeFlag,
	RouteFlag,
	RouteKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { isTranslated, lookUp, showsClient } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import { outsideQuery } from "./next_hop.js";
import type { Packet } from "./packet.js";
import { routeAnew, routeOf, snatAddress } from "./route.js";
import type { FlowEntry } from "./table_reader.js";
import { flowText, track, trackTranslated, translated } from "./track.js";
import { isForged } from "./tunnel.js";

export function toWire(draft: Draft): Decision {
	const { tables, node, now, decision } = draft;
	const packet = draft.parse();
	if (packet === undefined) return draft.pass("not IP, or malformed");
	const { key } = packet;
	const isSnat = (node.flags & NodeFlag.STACK_SNAT) !== 0;
	const sender = isSnat ? tables.endpoint(key.source) : undefined;
	if (sender === undefined) return answer(draft, packet);
	resolvePorts(packet, tables, decision, sender.index);
	const known = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, known));
	let flow: FlowEntry | undefined = known;
	if (known === undefined) {
		const route = routeOf(key.destination, tables);
		const isTranslatedRoute =
			route.kind === RouteKind.OUTSIDE &&
			(route.flags & RouteFlag.NO_SNAT) === 0 &&
			(node.flags & NodeFlag.SNAT) !== 0;
		if (!isTranslatedRoute) return draft.pass("it keeps its address");
		if (packet.icmpError) return draft.drop(DropReason.ICMP_UNRELATED, "about no flow of this Pod");
		if (packet.portsUnknown) {
			return draft.drop(DropReason.FRAGMENT_UNKNOWN, "its first fragment was not seen");
		}
		const answer = tables.fib({
			...outsideQuery(draft, packet, { from: key, to: key }, true),
			isOutput: true,
		});
		const source = answer.kind === "forward" ? answer.source : "";
		const address = source || snatAddress(node, packet.family);
		const begun = trackTranslated(draft, packet, { address, flags: FlowFlag.STACK });
		if ("action" in begun) return begun;
		flow = begun;
	}
	if (flow?.direction !== FlowDirection.ORIGINAL || !isTranslated(flow.flow)) {
		return draft.pass("it keeps its address");
	}
	const isToPeer =
		(routeAnew(undefined, key.destination, tables).flags & RouteFlag.PEER_NODE) !== 0;
	if (isToPeer && isForged(packet, key.destinationPort, node)) {
		const why = `${key.destination} is a peer, who would take it for this Node's tunnel`;
		return draft.drop(DropReason.TUNNEL_FROM_POD, why);
	}
	if (known !== undefined) track(draft, packet, known);
	decision.packet = translated(draft, packet, flow).frame;
	return draft.pass("translated");
}

/** A packet of the Node itself: an answer to a Service's client, or an ICMP error about a client's packet. */
function answer(draft: Draft, packet: Packet): Decision {
	const { tables, node, now, decision } = draft;
	if (!(node.flags & NodeFlag.STACK_ANSWERS)) return draft.pass("no Pod's");
	resolvePorts(packet, tables, decision, FragmentOwner.HOST);
	const known = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, known));
	const isAnswer =
		known?.direction === FlowDirection.REPLY && isTranslated(known.flow) && showsClient(known.flow);
	if (!isAnswer) return draft.pass("it keeps its address");
	track(draft, packet, known);
	decision.packet = translated(draft, packet, known).frame;
	return draft.pass("an answer to a Service's client");
}
