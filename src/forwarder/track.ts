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
	Hook,
	type Route,
} from "../tables/generated.js";
import type { Decision, ServiceChoice } from "./decision.js";
import type { Draft } from "./draft.js";
import type { Way } from "./emit.js";
import { create, isTranslated, reverse, targetOf, tupleOf } from "./flow.js";
import { advance } from "./flow_state.js";
import { type Packet, parseQuoted } from "./packet.js";
import { beginRules } from "./policy.js";
import { translate, translateError } from "./rewrite.js";
import { remember } from "./route.js";
import { keepAffinity, withBackend } from "./service.js";
import { createTranslated, isTaken } from "./snat.js";
import type { FlowEntry, TableReader } from "./table_reader.js";

/**
 * True if a packet may start a flow. ICMP errors may not, since they belong to other flows, nor packets with unknown
 * ports.
 */
function mayStartFlow(packet: Packet): boolean {
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
 * @param gateway the next hop that the flow is to remember; absent: unchanged
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
	const { now } = draft;
	if (!mayStartFlow(packet)) return known;
	if (known === undefined) return route && start(draft, packet, { route, gateway, flags });
	const advanced = advance(known, packet, now);
	const routed = route ? remember(advanced, route, draft) : advanced;
	const flow = rememberGateway(routed, known.direction, gateway);
	draft.keep(known.slot, flow);
	return { ...known, flow };
}

/** Starts a flow without translation, except of the port where a Service's flow already has the answers' tuple. */
function start(
	draft: Draft,
	packet: Packet,
	{ route, gateway, flags }: { route: Route; gateway: Way["gateway"]; flags: number },
): FlowEntry | undefined {
	const { node, now, tables } = draft;
	const { ended } = draft.decision;
	const answer = reverse(packet.key);
	const isFree = !isTaken(answer, ended, tables, node, now);
	// The Pod already has a flow from this port to the same endpoint, through a Service.
	const meetsService =
		!isFree && draft.hook === Hook.FROM_POD && isTranslated(tables.flow(answer)!.flow);
	const { source, destination } = packet.key;
	const endpoint = endpointOf(source, destination, tables);
	const how = { target: packet.key, address: undefined, endpoint, ended };
	const created = meetsService
		? createTranslated(packet, how, tables, node, now)
		: isFree && { flow: create(packet, endpoint, now) };
	const entry =
		created && "flow" in created
			? begin(draft, { ...created.flow, flags: created.flow.flags | flags }, route, gateway)
			: undefined;
	if (entry === undefined) draft.event(EventCounter.UNTRACKED);
	return entry;
}

/** The translation of a new flow, and what the flow remembers. */
export interface Beginning {
	/** As in Translation. */
	address: string | undefined;
	/** A Service's backend; absent: the destination stays. */
	choice?: ServiceChoice | undefined;
	route?: Route | undefined;
	gateway?: Way["gateway"];
	/** enum flow_flag */
	flags?: number;
	/** As in Translation. */
	isToNode?: boolean;
}

/** Starts a translated flow; a Decision if that is impossible. */
export function trackTranslated(
	draft: Draft,
	packet: Packet,
	{ address, choice, route, gateway, flags = 0, isToNode = false }: Beginning,
): FlowEntry | Decision {
	const { node, now, tables } = draft;
	const target = choice?.target ?? packet.key;
	const endpoint = endpointOf(packet.key.source, target.destination, tables);
	const { ended } = draft.decision;
	const translation = { target, address, endpoint, ended, isToNode };
	const created = createTranslated(packet, translation, tables, node, now);
	if ("reason" in created) return draft.drop(created.reason, created.text);
	const flow = { ...created.flow, flags: created.flow.flags | flags };
	const entry = begin(draft, choice ? withBackend(flow, choice.backend) : flow, route, gateway)!;
	if (choice) keepAffinity(draft, packet, choice);
	return entry;
}

/** The Pod that a new flow counts for: the sender if it is a local Pod, else the receiver; 0: none. */
function endpointOf(source: string, destination: string, tables: TableReader): number {
	return (tables.endpoint(source) ?? tables.endpoint(destination))?.index ?? 0;
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
	const routed = route ? remember(flow, route, draft) : flow;
	const entry = { slot, direction, flow: rememberGateway(routed, direction, gateway) };
	draft.keepNew(slot, entry.flow);
	beginRules(draft, slot);
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
 * The tuple that a packet leaves with. The source of an ICMP error is translated if it is an end of the flow that the
 * error is about, so that the other side sees the address that it knows; that of a router on the way stays. If the
 * flow's source is translated, no Pod's own address leaves in an error about it.
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
