/**
 * from_loopback: packets of the Node's own processes to the Node's own addresses (ARCHITECTURE,
 * from_loopback). Those to a Service there go out of fairway0, where from_host serves them.
 */
import { Action, FlowDirection, NodeFlag, RouteKind } from "../tables/generated.js";
import type { Decision } from "./decision.js";
import type { Draft } from "./draft.js";
import { lookUp } from "./flow.js";
import { type Packet, Protocol, TcpFlag } from "./packet.js";
import { routeOf } from "./route.js";
import { backendIdOf, findFrontend } from "./service.js";
import { flowText } from "./track.js";

export function fromLoopback(draft: Draft): Decision {
	const { tables, node, now } = draft;
	if ((node.flags & NodeFlag.SERVES_ALL) === 0) return draft.pass("Services are not for the Node");
	const packet = draft.parse();
	if (packet === undefined) return draft.pass("not IP, or malformed");
	const { destination } = packet.key;
	if (destination.startsWith("127.") || destination === "::1")
		return draft.pass(`${destination} is for the loopback alone`);
	if (packet.icmpError || packet.isLaterFragment) return draft.pass("no packet with ports");
	const known = lookUp(packet, tables, node, now);
	draft.note("flow", flowText(packet, known));
	const isServices =
		known === undefined
			? mayBegin(packet) && isFrontend(draft, packet)
			: known.direction === FlowDirection.ORIGINAL && backendIdOf(known.flow) !== 0;
	if (!isServices) return draft.pass(`${destination} is the Node itself`);
	draft.note("verdict", "goes out of fairway0, where it gets a backend");
	draft.decision.action = Action.WIRE;
	draft.decision.ifindex = node.hostIfindex;
	return draft.decision;
}

/** A segment that opens no connection and has no flow does not belong to a connection to a Service. */
function mayBegin({ key, l4Type }: Packet): boolean {
	if (key.protocol === Protocol.TCP) return (l4Type & (TcpFlag.SYN | TcpFlag.ACK)) === TcpFlag.SYN;
	return key.protocol === Protocol.UDP || key.protocol === Protocol.SCTP;
}

function isFrontend({ tables }: Draft, packet: Packet): boolean {
	const route = routeOf(packet.key.destination, tables);
	return route.kind === RouteKind.HOST && findFrontend(packet, route, tables) !== undefined;
}
