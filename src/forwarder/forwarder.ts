/**
 * The model of the data path: a packet and the tables → a Decision. As simple as possible, in the order
 * of ARCHITECTURE "The data path". The differential test compares the eBPF programs with it byte by byte.
 *
 * One file for each hook, and one noun per file for what they share: packet (parse), flow, snat, route,
 * mtu, tunnel, next_hop, rewrite, checksum.
 */
import { Hook } from "../tables/generated.js";
import { decideForAll } from "./candidates.js";
import type { Decision, PacketContext } from "./decision.js";
import { Draft, notConfigured } from "./draft.js";
import { fromHost } from "./from_host.js";
import { fromLink } from "./from_link.js";
import { fromLoopback } from "./from_loopback.js";
import { fromPod } from "./from_pod.js";
import { fromWire } from "./from_wire.js";
import type { TableReader } from "./table_reader.js";
import { toPod } from "./to_pod.js";
import { toWire } from "./to_wire.js";

export type {
	Candidate,
	Decision,
	FlowChange,
	Judgement,
	PacketContext,
	PolicyDecision,
	ServiceDecision,
	Step,
} from "./decision.js";
export type {
	FibAnswer,
	FibQuery,
	FlowEntry,
	FlowSlot,
	PeerCounts,
	PolicyReader,
	TableReader,
} from "./table_reader.js";

/**
 * Decides one packet.
 *
 * @param hook enum hook
 * @param frame a whole Ethernet frame, which is not changed
 */
export function forward(
	hook: number,
	frame: Buffer,
	context: PacketContext,
	tables: TableReader,
): Decision {
	if (context.choose !== undefined) return decide(hook, frame, context, tables);
	return decideForAll((choose) => decide(hook, frame, { ...context, choose }, tables));
}

function decide(
	hook: number,
	frame: Buffer,
	context: PacketContext,
	tables: TableReader,
): Decision {
	const node = tables.nodeConfig();
	if (node === undefined) return notConfigured(hook, frame);
	const draft = new Draft(hook, frame, context, tables, node);
	switch (hook) {
		case Hook.FROM_POD:
			return fromPod(draft);
		case Hook.FROM_WIRE:
			return fromWire(draft, false);
		case Hook.FROM_WIRE_XDP:
			return fromWire(draft, true);
		case Hook.TO_POD:
			return toPod(draft);
		case Hook.FROM_HOST:
			return fromHost(draft);
		case Hook.FROM_LINK:
			return fromLink(draft);
		case Hook.FROM_LOOPBACK:
			return fromLoopback(draft);
		case Hook.TO_WIRE:
			return toWire(draft);
		default:
			throw new Error(`Cannot forward a packet: expected a hook of tables.h, got ${hook}`);
	}
}
