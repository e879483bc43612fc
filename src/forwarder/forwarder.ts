/**
 * The model of the data path: a packet and the tables → a Decision. Plain and obvious, one rule a
 * line, in the order of ARCHITECTURE "The way of a packet"; the eBPF programs are held to it byte
 * for byte.
 */
import type { Decision, PacketContext } from "./decision.js";
import type { TableReader } from "./table_reader.js";

export type { Decision, FlowChange, PacketContext, Step } from "./decision.js";
export type { FibAnswer, FibQuery, FlowEntry, FlowSlot, TableReader } from "./table_reader.js";

/**
 * Decides about one packet.
 *
 * @param hook enum hook
 * @param packet a whole Ethernet frame, not changed
 */
export type Forward = (
	hook: number,
	packet: Buffer,
	context: PacketContext,
	tables: TableReader,
) => Decision;
