/**
 * Tracking and translation, common to all hooks: how a packet changes its flow, and how the flow changes
 * the packet.
 */
import {
	EventCounter,
	type Flow,
	FlowDirection,
	type NextHop,
	type Route,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { advance, create, isExpired, reverse } from "./flow.js";
import { type Packet, parseQuoted } from "./packet.js";
import { translate, translateError } from "./rewrite.js";
import { remember } from "./route.js";
import { createTranslated, translation } from "./snat.js";
import type { FlowEntry, TableReader } from "./table_reader.js";

/** Whether a packet may start a flow: not ICMP errors, which belong to other flows, nor without ports. */
export function mayStartFlow(packet: Packet): boolean {
	return !packet.icmpError && !packet.portsUnknown;
}

/** The relation of a packet to the flow table, for `fairway explain`. */
export function flowText(packet: Packet, known: FlowEntry | undefined): string {
	if (known !== undefined) return packet.icmpError ? "about a known flow" : "of a known flow";
	return mayStartFlow(packet) ? "starts a flow" : "of no known flow";
}

/**
 * Advances a known flow, or starts one. Undefined: the packet is forwarded untracked.
 *
 * @param route route of the flow's remote side; absent: unchanged
 * @param nextHop the flow's new cached next hop
 * @param flags enum flow_flag of a flow that starts
 */
export function track(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	route?: Route,
	nextHop?: NextHop,
	flags = 0,
): FlowEntry | undefined {
	const { node, now } = draft;
	if (!mayStartFlow(packet)) return known;
	if (known === undefined) return route && start(draft, packet, route, flags);
	const advanced = advance(known, packet, now);
	const flow = route ? remember(advanced, route, node) : advanced;
	if (nextHop !== undefined) flow.nextHop = nextHop;
	draft.keep(known.slot, flow);
	return { ...known, flow };
}

/** Starts a flow without translation. */
function start(draft: Draft, packet: Packet, route: Route, flags: number): FlowEntry | undefined {
	const { node, now, tables } = draft;
	const owner = tables.flow(reverse(packet.key));
	const isFree = owner === undefined || isExpired(owner.flow, node, now);
	const created = create(packet, endpointOf(packet, tables), now);
	const flow = { ...created, flags: created.flags | flags };
	const entry = isFree ? begin(draft, flow, route) : undefined;
	if (entry === undefined) draft.event(EventCounter.UNTRACKED);
	return entry;
}

/** Starts a flow whose source is translated to `address`; a Decision if that is impossible. */
export function trackTranslated(
	draft: Draft,
	packet: Packet,
	address: string,
	route: Route | undefined,
	flags = 0,
): FlowEntry | Decision {
	const { node, now, tables } = draft;
	const created = createTranslated(packet, address, endpointOf(packet, tables), tables, node, now);
	if ("reason" in created) return draft.drop(created.reason, created.text);
	const { flow } = created;
	return begin(draft, { ...flow, flags: flow.flags | flags }, route)!;
}

/** The Pod that a new flow counts for: the one that begins it, else the one that it goes to; 0: none. */
function endpointOf({ key }: Packet, tables: TableReader): number {
	return (tables.endpoint(key.source) ?? tables.endpoint(key.destination))?.index ?? 0;
}

function begin(draft: Draft, flow: Flow, route: Route | undefined): FlowEntry | undefined {
	const slot = draft.claimSlot(flow);
	if (slot === undefined) return undefined;
	const entry = {
		slot,
		direction: FlowDirection.ORIGINAL,
		flow: route ? remember(flow, route, draft.node) : flow,
	};
	draft.keepNew(slot, entry.flow);
	return entry;
}

/** A copy of the packet, translated by its flow; for an ICMP error, including the quoted packet. */
export function translated(draft: Draft, packet: Packet, entry: FlowEntry | undefined): Packet {
	const copy = { ...packet, frame: Buffer.from(packet.frame) };
	const change = entry && translation(entry.flow, entry.direction);
	if (change === undefined) return copy;
	draft.note("snat", `the ${change.side} becomes ${change.address}, port ${change.port}`);
	const quoted = packet.icmpError ? parseQuoted(copy) : undefined;
	if (quoted) translateError(copy, quoted, change);
	else translate(copy, change);
	return copy;
}
