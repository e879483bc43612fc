/**
 * to_pod: what the Node's own stack sends to its Pods, also as a Service's backend. Tracked, so that answers
 * are recognised. What the Node forwards is judged; its own packets are not.
 */
import { FlowDirection, FlowFlag, FragmentOwner, Limit, RouteKind } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { isExpired, lookUp, reverse, takesAddress } from "./flow.js";
import { resolvePorts } from "./fragments.js";
import type { Packet } from "./packet.js";
import { admit, admitFragment, admitNew, forwardedFlag, isOwn } from "./policy.js";
import { isLinkLocal, isMulticast } from "./route.js";
import { backendIdOf, noteService } from "./service.js";
import { flowText, track, translated } from "./track.js";

const WHY = "the Node's own packets reach its Pods";

export function toPod(draft: Draft): Decision {
	const { tables, node, now, decision } = draft;
	const packet = draft.parse();
	if (
		packet === undefined ||
		isMulticast(packet) ||
		isLinkLocal(packet, "source") ||
		packet.key.source === ""
	)
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
		const host = { kind: RouteKind.HOST, flags: 0, mtu: 0, peer: Limit.NO_PEER };
		const flags = FlowFlag.STACK | forwardedFlag(draft, packet);
		track(draft, packet, found, host, undefined, flags);
		return draft.pass(WHY);
	}
	const known = admit(draft, packet, found)!;
	if ("action" in known) return known;
	track(draft, packet, known);
	// What from_pod has given this Node as a backend is answered from the Service's address.
	const isOurs = backendIdOf(known.flow) !== 0 || !takesAddress(known.flow);
	if (known.direction === FlowDirection.REPLY && isOurs)
		decision.packet = translated(draft, packet, known).frame;
	return draft.pass(WHY);
}

/** What from_host has given a backend here leaves by this device with a tuple that is no flow's; its
 * answers' is. */
function isFromHost({ tables, node, now }: Draft, { key }: Packet): boolean {
	const answered = tables.flow(reverse(key));
	if (answered === undefined || isExpired(answered.flow, node, now)) return false;
	return answered.direction === FlowDirection.REPLY && backendIdOf(answered.flow) !== 0;
}
