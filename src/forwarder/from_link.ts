/**
 * from_link: what comes in by a link that is no way to other Nodes (ARCHITECTURE, from_link). Answers
 * to translated flows are turned back, all else is the Node's own stack's.
 */
import { FlowFlag, FragmentOwner, NodeFlag, RouteKind, SlowPathKind } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { checkTtl, wayToPod } from "./emit.js";
import { isTranslated, lookUp } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import { decrementTtl } from "./rewrite.js";
import { routeOf } from "./route.js";
import { flowText, packetTarget, track, translated } from "./track.js";

export function fromLink(draft: Draft): Decision {
	const { tables, node, now, decision } = draft;
	const packet = draft.parse();
	if (packet === undefined) return draft.pass("not IP, or nothing that can be read");
	if (routeOf(packet.key.destination, tables).kind !== RouteKind.HOST) {
		return draft.pass(`${packet.key.destination} is no address of this Node`);
	}
	resolvePorts(packet, tables, decision, FragmentOwner.WIRE);
	const known = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, known));
	if (packet.portsUnknown && (node.flags & NodeFlag.SNAT) !== 0) {
		draft.copyUp(SlowPathKind.HOLD, packet, 0);
	}
	if (known === undefined || !isTranslated(known.flow)) {
		return draft.pass("for the Node itself");
	}
	if (known.flow.flags & FlowFlag.STACK) {
		track(draft, packet, known);
		decision.packet = translated(draft, packet, known).frame;
		return draft.pass("an answer to what came through the Node's own stack");
	}
	const endpoint = tables.endpoint(packetTarget(packet, known).destination);
	if (endpoint === undefined) return draft.pass("for the Node itself");
	const ended = checkTtl(draft, packet);
	if (ended) return ended;
	track(draft, packet, known);
	const rewritten = translated(draft, packet, known);
	decrementTtl(rewritten);
	return wayToPod(draft, endpoint).emit(rewritten);
}
