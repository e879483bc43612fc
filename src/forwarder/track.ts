/**
 * Tracking and translation, common to all hooks: how a packet changes its flow, and how the flow changes
 * the packet.
 */
import {
	EventCounter,
	type Flow,
	FlowDirection,
	FlowFlag,
	type FlowKey,
	type Route,
} from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import type { Way } from "./emit.js";
import { advance, create, isExpired, isTranslated, reverse, targetOf, tupleOf } from "./flow.js";
import { type Packet, parseQuoted } from "./packet.js";
import { translate, translateError } from "./rewrite.js";
import { remember } from "./route.js";
import { createTranslated } from "./snat.js";
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
 * @param gateway what the flow shall remember of its next hop; absent: unchanged
 * @param flags enum flow_flag of a flow that starts
 */
export function track(
	draft: Draft,
	packet: Packet,
	known: FlowEntry | undefined,
	route?: Route,
	gateway?: Way["gateway"],
	flags = 0,
): FlowEntry | undefined {
	const { node, now } = draft;
	if (!mayStartFlow(packet)) return known;
	if (known === undefined) return route && start(draft, packet, { route, gateway, flags });
	const advanced = advance(known, packet, now);
	const routed = route ? remember(advanced, route, node) : advanced;
	const flow = rememberGateway(routed, known.direction, gateway);
	draft.keep(known.slot, flow);
	return { ...known, flow };
}

/** Starts a flow without translation. */
function start(
	draft: Draft,
	packet: Packet,
	{ route, gateway, flags }: { route: Route; gateway: Way["gateway"]; flags: number },
): FlowEntry | undefined {
	const { node, now, tables } = draft;
	const owner = tables.flow(reverse(packet.key));
	const isFree = owner === undefined || isExpired(owner.flow, node, now);
	const created = create(packet, endpointOf(packet, tables), now);
	const flow = { ...created, flags: created.flags | flags };
	const entry = isFree ? begin(draft, flow, route, gateway) : undefined;
	if (entry === undefined) draft.event(EventCounter.UNTRACKED);
	return entry;
}

/** Starts a flow whose source is translated to `address`; a Decision if that is impossible. */
export function trackTranslated(
	draft: Draft,
	packet: Packet,
	address: string,
	route: Route | undefined,
	{ gateway, flags = 0 }: { gateway?: Way["gateway"]; flags?: number } = {},
): FlowEntry | Decision {
	const { node, now, tables } = draft;
	const created = createTranslated(packet, address, endpointOf(packet, tables), tables, node, now);
	if ("reason" in created) return draft.drop(created.reason, created.text);
	const { flow } = created;
	return begin(draft, { ...flow, flags: flow.flags | flags }, route, gateway)!;
}

/** The Pod that a new flow counts for: the one that begins it, else the one that it goes to; 0: none. */
function endpointOf({ key }: Packet, tables: TableReader): number {
	return (tables.endpoint(key.source) ?? tables.endpoint(key.destination))?.index ?? 0;
}

function begin(
	draft: Draft,
	flow: Flow,
	route: Route | undefined,
	gateway: Way["gateway"],
): FlowEntry | undefined {
	const slot = draft.claimSlot(flow);
	if (slot === undefined) return undefined;
	const direction = FlowDirection.ORIGINAL;
	const routed = route ? remember(flow, route, draft.node) : flow;
	const entry = { slot, direction, flow: rememberGateway(routed, direction, gateway) };
	draft.keepNew(slot, entry.flow);
	return entry;
}

/** `direction`: that of the Pod's packets. */
function rememberGateway(flow: Flow, direction: number, gateway: Way["gateway"]): Flow {
	if (gateway === undefined) return flow;
	if (gateway === "none") return { ...flow, remote: 0 };
	const { ifindex, mac, ...rest } = gateway;
	const end = direction ^ 1;
	return {
		...flow,
		...rest,
		ifindex: flow.ifindex.with(end, ifindex),
		mac: flow.mac.with(end, mac),
	};
}

/**
 * The tuple that a packet leaves with. An ICMP error is translated with the flow that it is about where
 * it speaks for an end of it: the flow's own address becomes what the other side knows, a router's on the
 * way stays; but no Pod's own address leaves in an error about a flow whose source does not.
 */
export function packetTarget(packet: Packet, entry: FlowEntry | undefined): FlowKey {
	if (entry === undefined || !isTranslated(entry.flow)) return packet.key;
	const { flow, direction } = entry;
	const target = targetOf(flow, direction);
	if (!packet.icmpError) return target;
	const isMasked = direction === FlowDirection.ORIGINAL && (flow.flags & FlowFlag.SNAT) !== 0;
	const isOwn = packet.key.source === tupleOf(flow, direction).source;
	return {
		...packet.key,
		destination: target.destination,
		source: isMasked || isOwn ? target.source : packet.key.source,
	};
}

/** A copy of the packet, translated by its flow; for an ICMP error, including the quoted packet. */
export function translated(draft: Draft, packet: Packet, entry: FlowEntry | undefined): Packet {
	const copy = { ...packet, frame: Buffer.from(packet.frame) };
	if (entry === undefined || !isTranslated(entry.flow)) return copy;
	const to = packetTarget(packet, entry);
	for (const side of ["source", "destination"] as const) {
		const port = to[`${side}Port`];
		if (to[side] !== packet.key[side] || port !== packet.key[`${side}Port`])
			draft.note(
				side === "source" ? "snat" : "dnat",
				`the ${side} becomes ${to[side]}, port ${port}`,
			);
	}
	const quoted = packet.icmpError ? parseQuoted(copy) : undefined;
	if (quoted) translateError(copy, to, quoted, tupleOf(entry.flow, entry.direction ^ 1));
	else translate(copy, to);
	return copy;
}
