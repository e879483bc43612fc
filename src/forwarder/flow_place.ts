/**
 * Where a flow is: the slots that its tuple's hash names, which of them a new flow takes, and the look-up by hash
 * (ARCHITECTURE, Flows).
 */
import {
	type Flow,
	type FlowCount,
	FlowDirection,
	FlowFlag,
	FlowKey,
	type FlowPair,
	FlowPlace,
	type HashKey,
	Limit,
	type NodeConfig,
} from "../tables/generated.js";
import { liveGeneration, tupleOf } from "./flow.js";
import { isExpired, isSpare } from "./flow_state.js";
import type { FlowEntry, FlowSlot } from "./table_reader.js";

/** How well a flow is suited to be evicted: the higher, the better (enum eviction). */
const Eviction = { NOT: 0, SPARE: 1, HEAVY: 2, SPARE_HEAVY: 3 } as const;

/** More than twice the newcomer's, and more than a few. */
export function isHeavy(count: number, own: number): boolean {
	return count > 2 * own + Limit.FLOWS_FEW;
}

/**
 * The slot that a new flow takes. Its key gives FLOW_SLOT_TRIES candidates: the home slot, the neighbour of that, and
 * on by a stride. The first one that is free or expired is taken. If there is none, a flow is evicted, in this order
 * of preference: an unanswered or closed flow of a Pod that has many more of those than the new flow's Pod; any
 * flow of a Pod that has many more flows; any unanswered or closed flow. Among equals, one of the Pod with most, and
 * then the one with the oldest last packet. Undefined: none can be evicted.
 *
 * @param endpoint the Pod that the new flow counts for
 * @param slots number of slots
 * @param at the flow in a slot; undefined: the slot is free
 * @param counts flows of a Pod
 */
export function findSlot(
	key: FlowKey,
	endpoint: number,
	node: NodeConfig,
	now: bigint,
	slots: number,
	at: (slot: number) => Flow | undefined,
	counts: (endpoint: number) => FlowCount,
): FlowSlot | undefined {
	const home = homeOf(key, node, slots);
	const step = (hash(key, node.flowHash) & 0xffff) | 1;
	const own = counts(endpoint);
	let best = {
		slot: 0,
		eviction: Eviction.NOT as number,
		count: 0,
		evicted: undefined as Flow | undefined,
	};
	for (let i = 0; i < Limit.FLOW_SLOT_TRIES; i++) {
		const slot = i === 1 ? home ^ 1 : (home + Math.max(i - 1, 0) * step) % slots;
		if (slot >= slots) continue;
		const flow = at(slot);
		if (flow === undefined) return { slot };
		if (isExpired(flow, node, now)) return { slot, left: flow };
		const theirs = counts(flow.endpoint);
		const [count, eviction] = isSpare(flow)
			? [
					theirs.spare,
					flow.endpoint === endpoint || isHeavy(theirs.spare, own.spare)
						? Eviction.SPARE_HEAVY
						: Eviction.SPARE,
				]
			: [theirs.flows, isHeavy(theirs.flows, own.flows) ? Eviction.HEAVY : Eviction.NOT];
		if (eviction !== Eviction.NOT && eviction >= best.eviction) {
			const isBetter =
				eviction > best.eviction ||
				count > best.count ||
				(count === best.count && flow.lastSeen < best.evicted!.lastSeen);
			if (isBetter) best = { slot, eviction, count, evicted: flow };
		}
		if (best.eviction === Eviction.SPARE_HEAVY && i >= Limit.FLOW_SLOT_SAMPLE - 1) break;
	}
	return best.evicted && { slot: best.slot, evicted: best.evicted, left: best.evicted };
}

/** The first slot that a tuple's hash gives; the second is its neighbour. */
export function homeOf(key: FlowKey, node: Pick<NodeConfig, "flowHash">, slots: number): number {
	return Number((BigInt(hash(key, node.flowHash)) * BigInt(slots)) >> 32n);
}

/** The maps that a look-up by hash reads. */
export interface FlowMaps {
	slots: number;
	at(slot: number): Flow | undefined;
	/** An entry of `flow_hints`. */
	pair(index: number): FlowPair | undefined;
}

/**
 * The flow of a tuple without an entry in `flow_index`: it is in one of the slots that the hash gives, or
 * `flow_hints` names its slot.
 */
export function findByHash(
	key: FlowKey,
	node: Pick<NodeConfig, "flowHash">,
	places: FlowMaps,
): FlowEntry | undefined {
	const home = homeOf(key, node, places.slots);
	const wanted = FlowKey.encode(key);
	const inSlot = (slot: number, isHome: boolean): FlowEntry | undefined => {
		const flow = slot < places.slots ? places.at(slot) : undefined;
		if (!flow || liveGeneration(flow.claim) === undefined) return undefined;
		if (isHome && !(flow.flags & FlowFlag.AT_HOME)) return undefined;
		for (const direction of [FlowDirection.ORIGINAL, FlowDirection.REPLY])
			if (FlowKey.encode(tupleOf(flow, direction)).equals(wanted)) return { slot, direction, flow };
		return undefined;
	};
	const owner = places.pair(home >> 1)?.owner[home & 1] ?? 0;
	const fits = owner !== 0 && owner >>> FlowPlace.HASH_SHIFT === ownerTag(hash(key, node.flowHash));
	return (
		inSlot(home, true) ??
		inSlot(home ^ 1, true) ??
		(fits ? inSlot((owner & FlowPlace.SLOT) - 1, false) : undefined)
	);
}

/** The word in `flow_hints` of a tuple that leads to this slot, in this direction. */
export function ownerOf(
	slot: number,
	direction: number,
	key: FlowKey,
	{ flowHash }: Pick<NodeConfig, "flowHash">,
): number {
	const tag = ownerTag(hash(key, flowHash)) << FlowPlace.HASH_SHIFT;
	return (tag | (direction << FlowPlace.DIRECTION_SHIFT) | (slot + 1)) >>> 0;
}

function ownerTag(hashed: number): number {
	return hashed & ((1 << (32 - FlowPlace.HASH_SHIFT)) - 1);
}

const HASH_SUM = 0xd6e8feb86659fd93n;

/** One side of a tuple by the hash NH (ARCHITECTURE, Flows). `address`: 16 bytes. */
export function sideHash(address: Buffer, port: number, { word }: HashKey): bigint {
	const at = (i: number) => (address.readUInt32LE(i * 4) + word[i]!) >>> 0;
	const sum =
		BigInt(at(0)) * BigInt(at(1)) +
		BigInt(at(2)) * BigInt(at(3)) +
		BigInt((port + word[4]!) >>> 0) * BigInt(word[5]!);
	return BigInt.asUintN(64, sum);
}

/** The upper half of a sum of hashes, mixed. */
export function mixed(sum: bigint): number {
	return Number(BigInt.asUintN(64, sum * HASH_SUM) >> 32n);
}

/** Spreads flows over slots and tunnel source ports. */
export function hash(key: FlowKey, secret: HashKey, withPorts = true): number {
	const bytes = FlowKey.encode(withPorts ? key : { ...key, sourcePort: 0, destinationPort: 0 });
	const side = (address: number, port: number): bigint => {
		const sum = sideHash(bytes.subarray(address, address + 16), bytes.readUInt16LE(port), secret);
		const spread = BigInt.asUintN(64, sum * HASH_SUM);
		return spread ^ (spread >> 32n);
	};
	return mixed(side(0, 32) + side(16, 34) + BigInt(key.protocol));
}
