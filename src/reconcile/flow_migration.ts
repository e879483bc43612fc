/**
 * Copies the flow table into one of another size or layout. A flow and its two tuples are copied together
 * or not at all: `flow_index` refers to slots of `flows` by number, so the references of moved slots change
 * as well. If there is too little room, the most recent flows are kept.
 */
import type { BpfMap } from "#native";
import { Limit } from "../tables/generated.js";
import type { StructLayout } from "../tables/layout.js";
import { type CopyPlan, convert, entriesOf, type MapCopy } from "./migration.js";

/** next_hop begins with `checked`. */
const WRITING = BigInt(Limit.NEXT_HOP_WRITING);

export interface FlowTable {
	flows: MapCopy;
	index: MapCopy;
	/** Layouts of the new `flows` and `flow_index`. */
	flowLayout: StructLayout;
	refLayout: StructLayout;
}

/** Old slot → new place of its flow. */
export type MovedFlows = Map<number, { slot: number; claim: number }>;

interface LiveFlow {
	oldSlot: number;
	claim: number;
	lastSeen: bigint;
	bytes: Buffer;
}

/**
 * Copies every flow that is in use. Called a second time with what the first returned, after the
 * programs were swapped, it brings those that began in between.
 */
export function copyFlows(table: FlowTable, moved: MovedFlows = new Map()): MovedFlows {
	const claimOffset = offsetOf(table.flowLayout, "claim");
	const capacity = table.flows.to.info.maxEntries;
	const taken = new Set<number>();
	if (moved.size > 0) for (const slot of slotsInUse(table.flows.to, claimOffset)) taken.add(slot);

	const fresh = liveFlows(table.flows.from, table.flows.value, table.flowLayout)
		.filter(({ oldSlot, claim }) => moved.get(oldSlot)?.claim !== claim)
		.sort((a, b) => (a.lastSeen < b.lastSeen ? 1 : -1))
		.slice(0, capacity - taken.size);
	const placed = place(fresh, capacity, taken);

	const key = Buffer.alloc(4);
	const added = new Set<number>();
	for (const { flow, slot } of placed) {
		key.writeUInt32LE(slot);
		table.flows.to.update(key, flow.bytes);
		moved.set(flow.oldSlot, { slot, claim: flow.claim });
		added.add(flow.oldSlot);
	}
	copyReferences(table.index, table.refLayout, moved, added);
	return moved;
}

/** Every flow keeps its slot where it can; the others take what is left. */
function place(
	flows: LiveFlow[],
	capacity: number,
	taken: Set<number>,
): { flow: LiveFlow; slot: number }[] {
	const placed: { flow: LiveFlow; slot: number }[] = [];
	const homeless: LiveFlow[] = [];
	for (const flow of flows) {
		if (flow.oldSlot < capacity && !taken.has(flow.oldSlot)) {
			taken.add(flow.oldSlot);
			placed.push({ flow, slot: flow.oldSlot });
		} else {
			homeless.push(flow);
		}
	}
	let slot = 0;
	for (const flow of homeless) {
		while (slot < capacity && taken.has(slot)) slot++;
		if (slot === capacity) break;
		placed.push({ flow, slot });
		taken.add(slot);
	}
	return placed;
}

function liveFlows(flows: BpfMap, plan: CopyPlan, layout: StructLayout): LiveFlow[] {
	const claimOffset = offsetOf(layout, "claim");
	const lastSeenOffset = offsetOf(layout, "last_seen");
	// A next hop that was being written when it was read would stay so in the new table.
	const nextHopOffset = offsetOf(layout, "next_hop");
	const live: LiveFlow[] = [];
	for (const { key, value } of entriesOf(flows)) {
		const bytes = convert(plan, value);
		const claim = bytes.readUInt32LE(claimOffset);
		if ((claim & 1) === 0) continue;
		const lastSeen = bytes.readBigUInt64LE(lastSeenOffset);
		if (bytes.readBigUInt64LE(nextHopOffset) === WRITING)
			bytes.fill(0, nextHopOffset, nextHopOffset + 8);
		live.push({ oldSlot: key.readUInt32LE(), claim, lastSeen, bytes });
	}
	return live;
}

function* slotsInUse(flows: BpfMap, claimOffset: number): Generator<number> {
	for (const { key, value } of entriesOf(flows))
		if ((value.readUInt32LE(claimOffset) & 1) === 1) yield key.readUInt32LE();
}

function copyReferences(
	{ from, to, key, value }: MapCopy,
	layout: StructLayout,
	moved: MovedFlows,
	added: ReadonlySet<number>,
): void {
	const slotOffset = offsetOf(layout, "slot");
	const generationOffset = offsetOf(layout, "generation");
	for (const entry of entriesOf(from)) {
		const bytes = convert(value, entry.value);
		const oldSlot = bytes.readUInt32LE(slotOffset);
		const target = moved.get(oldSlot);
		if (target === undefined || !added.has(oldSlot)) continue;
		if (target.claim >>> 1 !== bytes.readUInt32LE(generationOffset)) continue;
		bytes.writeUInt32LE(target.slot, slotOffset);
		to.update(convert(key, entry.key), bytes);
	}
}

function offsetOf(layout: StructLayout, name: string): number {
	const field = layout.fields.find((candidate) => candidate.name === name);
	if (field !== undefined) return field.offset;
	throw new Error(`Cannot move flows: struct ${layout.name} has no ${name}`);
}
