/**
 * Copies the flow table into one of another size or layout. A flow is copied with references to it for
 * both its tuples, or not at all; where a hash leads in the new table is not known here. If there is too
 * little room, the most recent flows are kept.
 */
import type { BpfMap } from "#native";
import { reverse, tuplesOf } from "../../forwarder/flow.js";
import { isSpare } from "../../forwarder/flow_state.js";
import { readAddress } from "../../tables/address.js";
import {
	ClaimBit,
	FlowAddresses,
	FlowCount,
	FlowDirection,
	FlowFlag,
	FlowKey,
	FlowPorts,
} from "../../tables/generated.js";
import type { StructLayout } from "../../tables/layout.js";
import { convert, entriesOf, type MapCopy } from "./migration.js";

export interface FlowTable {
	flows: MapCopy;
	/** The new `flow_index`. */
	index: BpfMap;
	/** Layout of the old `flows`. */
	oldLayout: StructLayout;
	/** Layouts of the new `flows` and `flow_index`. */
	flowLayout: StructLayout;
	refLayout: StructLayout;
	/** The new `flow_counts`. */
	counts: BpfMap;
}

/** Old slot → new place of its flow. */
export type MovedFlows = Map<number, { slot: number; claim: number }>;

interface LiveFlow {
	oldSlot: number;
	claim: number;
	lastSeen: bigint;
	state: number;
	flags: number;
	endpoint: number;
	bytes: Buffer;
}

/**
 * Copies every flow that is in use. A second call, with the result of the first and after the programs were swapped,
 * copies the flows that began in between.
 *
 * In the first call nothing else writes to the new table, and copied flows count for their Pods. Flows of the second
 * call do not count: by then the core keeps the counts itself, and it must not subtract these flows later.
 */
export function copyFlows(table: FlowTable, moved: MovedFlows = new Map()): MovedFlows {
	const claimOffset = offsetOf(table.flowLayout, "claim");
	const capacity = table.flows.to.info.maxEntries;
	const taken = new Set<number>();
	if (moved.size > 0) for (const slot of slotsInUse(table.flows.to, claimOffset)) taken.add(slot);

	const fresh = liveFlows(table)
		.filter(({ oldSlot, claim }) => generationOf(moved.get(oldSlot)?.claim) !== generationOf(claim))
		.sort((a, b) => (a.lastSeen < b.lastSeen ? 1 : -1))
		.slice(0, capacity - taken.size);
	const placed = place(fresh, capacity, taken);

	const isFirst = moved.size === 0;
	const key = Buffer.alloc(4);
	for (const { flow, slot } of placed) {
		key.writeUInt32LE(slot);
		table.flows.to.update(key, adopted(flow, table.flowLayout, isFirst));
		moved.set(flow.oldSlot, { slot, claim: flow.claim });
	}
	if (isFirst) writeCounts(table.counts, placed);
	writeReferences(table, placed);
	return moved;
}

/** The flow as the new programs want it: published, not locked, counted or not. */
function adopted(flow: LiveFlow, layout: StructLayout, isCounted: boolean): Buffer {
	const bytes = Buffer.from(flow.bytes);
	const claim = (flow.claim & ClaimBit.GENERATION) | ClaimBit.IN_USE | ClaimBit.PUBLISHED;
	const flags = flow.flags & ~(FlowFlag.COUNTED | FlowFlag.AT_HOME | FlowFlag.RULED);
	bytes.writeUInt32LE(claim >>> 0, offsetOf(layout, "claim"));
	bytes.writeUInt16LE(isCounted ? flags | FlowFlag.COUNTED : flags, offsetOf(layout, "flags"));
	return bytes;
}

function writeCounts(counts: BpfMap, placed: readonly { flow: LiveFlow }[]): void {
	const byEndpoint = new Map<number, FlowCount>();
	for (const { flow } of placed) {
		const count = byEndpoint.get(flow.endpoint) ?? { flows: 0, spare: 0 };
		count.flows++;
		if (isSpare(flow)) count.spare++;
		byEndpoint.set(flow.endpoint, count);
	}
	const key = Buffer.alloc(4);
	for (const [endpoint, count] of byEndpoint) {
		key.writeUInt32LE(endpoint);
		counts.update(key, FlowCount.encode(count));
	}
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

function liveFlows({ flows, flowLayout: layout, oldLayout }: FlowTable): LiveFlow[] {
	const hasTuples = oldLayout.fields.some(({ name }) => name === "addresses");
	const claimOffset = offsetOf(layout, "claim");
	const lastSeenOffset = offsetOf(layout, "last_seen");
	const live: LiveFlow[] = [];
	for (const { key, value } of entriesOf(flows.from)) {
		const bytes = convert(flows.value, value);
		if (!hasTuples) writeTuples(bytes, layout, value, oldLayout);
		const claim = bytes.readUInt32LE(claimOffset);
		// Unpublished and locked: a flow in the making.
		if (!(claim & ClaimBit.IN_USE)) continue;
		if (claim & ClaimBit.LOCKED && !(claim & ClaimBit.PUBLISHED)) continue;
		const lastSeen = bytes.readBigUInt64LE(lastSeenOffset);
		live.push({
			oldSlot: key.readUInt32LE(),
			claim,
			lastSeen,
			state: bytes.readUInt8(offsetOf(layout, "state")),
			flags: bytes.readUInt16LE(offsetOf(layout, "flags")),
			endpoint: bytes.readUInt16LE(offsetOf(layout, "endpoint")),
			bytes,
		});
	}
	return live;
}

/**
 * From a flow of the version that kept one tuple, and beside it the address and the port that its source
 * is translated to. What it remembers of its ends is found out again by its next packet.
 */
function writeTuples(
	bytes: Buffer,
	layout: StructLayout,
	old: Buffer,
	oldLayout: StructLayout,
): void {
	const at = (name: string) => offsetOf(oldLayout, name);
	const key = FlowKey.decode(old, at("key"));
	const isTranslated = old.readUInt8(at("flags")) & FlowFlag.SNAT;
	const reply = { ...reverse(key) };
	if (isTranslated) {
		reply.destination = readAddress(old, at("snat_address"));
		reply.destinationPort = old.readUInt16BE(at("snat_port"));
	}
	const { addresses, ports, protocol } = tuplesOf(key, reply);
	for (const [direction, address] of addresses.entries()) {
		FlowAddresses.encode(address).copy(
			bytes,
			offsetOf(layout, "addresses") + direction * FlowAddresses.size,
		);
		FlowPorts.encode(ports[direction]!).copy(
			bytes,
			offsetOf(layout, "ports") + direction * FlowPorts.size,
		);
	}
	bytes.writeUInt8(protocol, offsetOf(layout, "protocol"));
	bytes.writeUInt32LE(0, offsetOf(layout, "route_epoch"));
}

function* slotsInUse(flows: BpfMap, claimOffset: number): Generator<number> {
	// Locked: a flow in the making, too.
	for (const { key, value } of entriesOf(flows))
		if (value.readUInt32LE(claimOffset) & (ClaimBit.IN_USE | ClaimBit.LOCKED))
			yield key.readUInt32LE();
}

/** Writes the references of both tuples of each flow; a flow from an address and port to itself has only one. */
function writeReferences(
	{ index, flowLayout, refLayout }: FlowTable,
	placed: readonly { flow: LiveFlow; slot: number }[],
): void {
	const at = (name: string) => offsetOf(flowLayout, name);
	for (const { flow, slot } of placed)
		for (const direction of [FlowDirection.REPLY, FlowDirection.ORIGINAL]) {
			const key: FlowKey = {
				...FlowAddresses.decode(flow.bytes, at("addresses") + direction * FlowAddresses.size),
				...portsOf(FlowPorts.decode(flow.bytes, at("ports") + direction * FlowPorts.size)),
				protocol: flow.bytes.readUInt8(at("protocol")),
			};
			const ref = Buffer.alloc(refLayout.size);
			ref.writeUInt32LE(slot, offsetOf(refLayout, "slot"));
			ref.writeUInt32LE(generationOf(flow.claim) ?? 0, offsetOf(refLayout, "generation"));
			ref.writeUInt8(direction, offsetOf(refLayout, "direction"));
			index.update(FlowKey.encode(key), ref);
		}
}

function portsOf({ source, destination }: FlowPorts): {
	sourcePort: number;
	destinationPort: number;
} {
	return { sourcePort: source, destinationPort: destination };
}

function generationOf(claim: number | undefined): number | undefined {
	return claim === undefined ? undefined : (claim & ClaimBit.GENERATION) >>> 1;
}

function offsetOf(layout: StructLayout, name: string): number {
	const field = layout.fields.find((candidate) => candidate.name === name);
	if (field !== undefined) return field.offset;
	throw new Error(`Cannot move flows: struct ${layout.name} has no ${name}`);
}
