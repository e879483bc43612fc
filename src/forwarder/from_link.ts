/**
 * from_link: packets that come in by a link that does not lead to other Nodes (ARCHITECTURE, from_link). Answers of
 * translated flows are translated back. Packets to a Service go to from_host, which serves them. All others pass to the Node's own stack.
 */
import { MAC_SIZE, writeMac } from "../tables/address.js";
import {
	Action,
	FlowDirection,
	FlowFlag,
	FragmentOwner,
	NodeFlag,
	RouteKind,
	SlowPathKind,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { checkTtl, wayToPod } from "./emit.js";
import { isTranslated, lookUp } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import type { Packet } from "./packet.js";
import { admit } from "./policy.js";
import { decrementTtl } from "./rewrite.js";
import { routeOf } from "./route.js";
import { backendIdOf, findFrontend, mayServe, serves } from "./service.js";
import { flowText, packetTarget, track, translated } from "./track.js";

export function fromLink(draft: Draft): Decision {
	const { tables, node, now, decision } = draft;
	const packet = draft.parse();
	if (packet === undefined) return draft.pass("not IP, or malformed");
	const route = routeOf(packet.key.destination, tables);
	const isOutside = routeOf(packet.key.source, tables).kind === RouteKind.OUTSIDE;
	if (route.kind === RouteKind.SERVICE && serves(draft, "wire") && isOutside)
		return toFromHost(draft, packet);
	if (route.kind !== RouteKind.HOST) {
		return draft.pass(`${packet.key.destination} is no address of this Node`);
	}
	resolvePorts(packet, tables, decision, FragmentOwner.WIRE);
	const known = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, known));
	const mayBeService = mayServe(route) && serves(draft, "wire");
	if (packet.portsUnknown && ((node.flags & NodeFlag.SNAT) !== 0 || mayBeService)) {
		draft.copyUp(SlowPathKind.HOLD, packet, 0);
	}
	const beginsService =
		known === undefined &&
		mayBeService &&
		!packet.icmpError &&
		!packet.portsUnknown &&
		findFrontend(packet, route, tables) !== undefined &&
		isOutside;
	if (beginsService) return toFromHost(draft, packet);
	if (known === undefined || !isTranslated(known.flow)) {
		return draft.pass("for the Node itself");
	}
	const endpoint = tables.endpoint(packetTarget(packet, known).destination);
	const isOriginal = known.direction === FlowDirection.ORIGINAL;
	if (backendIdOf(known.flow) !== 0 && (endpoint === undefined || isOriginal))
		return toFromHost(draft, packet);
	if (known.flow.flags & FlowFlag.STACK) {
		track(draft, packet, known);
		decision.packet = translated(draft, packet, known).frame;
		return draft.pass("an answer to a packet that came through the Node's own stack");
	}
	if (endpoint === undefined) return draft.pass("for the Node itself");
	const admitted = admit(draft, packet, known);
	if (admitted !== undefined && "action" in admitted) return admitted;
	const ended = checkTtl(draft, packet);
	if (ended) return ended;
	track(draft, packet, admitted);
	const rewritten = translated(draft, packet, admitted);
	decrementTtl(rewritten);
	return wayToPod(draft, endpoint).emit(rewritten);
}

/** As if the Node had sent it: from_host has the code for every destination. */
function toFromHost(draft: Draft, { frame }: Packet): Decision {
	const { node, decision } = draft;
	writeMac(frame, 0, node.gatewayMac);
	writeMac(frame, MAC_SIZE, node.gatewayMac);
	decision.packet = frame;
	decision.ifindex = node.hostIfindex;
	decision.action = Action.WIRE;
	draft.note("emit", "out of fairway0, to a Service");
	return decision;
}
