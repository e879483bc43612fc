/**
 * to_pod: what the Node's own stack sends to its Pods. Tracked, so that answers are recognised, and never
 * dropped.
 */
import { FlowFlag, Limit, RouteKind } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { lookUp } from "./flow.js";
import { isLinkLocal, isMulticast } from "./route.js";
import { flowText, track } from "./track.js";

export function toPod(draft: Draft): Decision {
	const packet = draft.parse();
	if (
		packet !== undefined &&
		!packet.icmpError &&
		!packet.isLaterFragment &&
		!isMulticast(packet) &&
		!isLinkLocal(packet, "source") &&
		packet.key.source !== ""
	) {
		const known = lookUp(packet, draft.tables, draft.node, draft.now);
		draft.note("flow", flowText(packet, known));
		const host = { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER };
		track(draft, packet, known, known ? undefined : host, undefined, FlowFlag.STACK);
	}
	return draft.pass("the Node's own packets reach its Pods");
}
