/**
 * Runs the real programs through BPF_PROG_TEST_RUN: with the same tables and a packet as input, and
 * verdict, packet, flows and slow path record as output.
 */
import { fileURLToPath } from "node:url";
import {
	type AttachType,
	BpfLink,
	type BpfMap,
	BpfObject,
	type BpfProgram,
	RingBuffer,
} from "#native";
import {
	isTranslated,
	liveGeneration,
	originalKey,
	replyKey,
	rulesOfFlow,
} from "../../src/forwarder/flow.js";
import { findByHash, homeOf, ownerOf } from "../../src/forwarder/flow_place.js";
import type { PacketContext } from "../../src/forwarder/forwarder.js";
import { hasConntrack, kernelFeatures } from "../../src/reconcile/programs/object_file.js";
import { u8, u64 } from "../../src/tables/codec.js";
import {
	Affinity,
	AffinityKey,
	Backend,
	Endpoint,
	Flow,
	FlowCount,
	FlowFlag,
	FlowKey,
	FlowPair,
	FlowRef,
	FlowRules,
	Fragment,
	FragmentKey,
	Frontend,
	Hook,
	knobs,
	Limit,
	maps,
	NextHop,
	NodeConfig,
	PathProof,
	Peer,
	PeerActivity,
	PeerCounter,
	Policy,
	PolicyVerdict,
	PortSet,
	ProbeEvent,
	ProbeRecord,
	Route,
	RouteKey,
	RuleCounter,
	Service,
	SlowPathBucket,
	SlowPathHeader,
	TokenBucket,
	Verdict,
} from "../../src/tables/generated.js";
import type { MemoryTables } from "./memory_tables.js";
import { RULES } from "./random_policies.js";

const OBJECT = fileURLToPath(new URL("../../build/bpf/fairway.bpf.o", import.meta.url));

/** Offsets in struct __sk_buff and struct xdp_md of linux/bpf.h. */
const SK_BUFF = {
	...{ size: 192, mark: 8, ingressIfindex: 36, ifindex: 40, gsoSegments: 164, gsoSize: 176 },
};
const XDP_MD = { size: 24, dataEnd: 4, ingressIfindex: 12 };

/** Above every index of a peer in world.ts. */
export const PEER_INDEXES = 16;

/** Above every index of an endpoint in world.ts. */
const ENDPOINT_INDEXES = 16;

const PROGRAMS: Record<number, string> = {
	[Hook.FROM_POD]: "from_pod",
	[Hook.FROM_WIRE]: "from_wire",
	[Hook.FROM_WIRE_XDP]: "from_wire_xdp",
	[Hook.TO_POD]: "to_pod",
	[Hook.FROM_HOST]: "from_host",
	[Hook.FROM_LINK]: "from_link",
	[Hook.TO_WIRE]: "to_wire",
	[Hook.FROM_LOOPBACK]: "from_loopback",
};

export interface SlowPathRecord {
	header: SlowPathHeader;
	packet: Buffer;
}

export interface Outcome {
	verdict: Verdict;
	/** TC_ACT_* or XDP_*. */
	returnValue: number;
	packet: Buffer;
	/** skb->mark, which is 0 on input; undefined at XDP. */
	mark: number | undefined;
}

export interface DataPathKnobs {
	flowSlots: number;
	vethWire?: boolean;
	/** False: behave as on a kernel before 6.3. */
	hasDecapL3?: boolean;
	/** False: as on a kernel before 6.7. */
	hasFibSource?: boolean;
	/** False: as on a kernel without connection tracking. */
	conntrack?: boolean;
	/** False: as on a kernel before 6.2, which cannot tell whether netfilter tracks. */
	kernelContext?: boolean;
	/** As on a CPU that may reorder reads and writes. */
	weakMemoryOrder?: boolean;
	/** Turns of a loop between what a look-up finds in a hash and what is read of that. */
	slowReads?: number;
	/** Likewise while a CPU has a slot locked. */
	slowWrites?: number;
	/** False: somebody else reads the slow path's ring. */
	readRing?: boolean;
}

/** The places in flow_hints and the entries of flow_index that lead to a flow. */
export function entriesOf(flow: Flow): number {
	if (flow.flags & FlowFlag.AT_HOME) return isTranslated(flow) ? 1 : 0;
	return FlowKey.encode(originalKey(flow)).equals(FlowKey.encode(replyKey(flow))) ? 1 : 2;
}

/** The linked object, loaded with maps of its own. */
export class DataPath {
	readonly #object: BpfObject;
	readonly #ring: RingBuffer | undefined;
	readonly #maps = new Map<string, BpfMap>();
	readonly #programs = new Map<number, BpfProgram>();
	readonly #records: SlowPathRecord[] = [];
	readonly #probeRing: RingBuffer;
	readonly #probeRecords: ProbeRecord[] = [];
	readonly #traffic: number[] = [];
	/** By array: the places that the last tables filled. */
	readonly #filled = new Map<string, Set<number>>();
	readonly flowSlots: number;
	readonly vethWire: boolean;

	constructor({
		flowSlots,
		vethWire = false,
		hasDecapL3 = true,
		hasFibSource = true,
		conntrack = hasConntrack(),
		kernelContext = kernelFeatures().hasKernelContext,
		weakMemoryOrder = false,
		slowReads = 0,
		slowWrites = 0,
		readRing = true,
	}: DataPathKnobs) {
		this.flowSlots = flowSlots;
		this.vethWire = vethWire;
		this.#object = BpfObject.open(OBJECT);
		this.#object.setMaxEntries(maps.flows.name, flowSlots);
		this.#object.setMaxEntries(maps.flowHints.name, Math.ceil(flowSlots / 2));
		const tuples = flowSlots * 2 + Limit.FLOW_INDEX_SPARE;
		this.#object.setMaxEntries(maps.flowIndex.name, tuples);
		const values = {
			trace_verdicts: knobs.traceVerdicts.encode(1),
			veth_wire: knobs.vethWire.encode(vethWire ? 1 : 0),
			has_decap_l3: knobs.hasDecapL3.encode(hasDecapL3 ? 1 : 0),
			has_fib_source: knobs.hasFibSource.encode(hasFibSource ? 1 : 0),
			has_conntrack: knobs.hasConntrack.encode(conntrack ? 1 : 0),
			has_kernel_context: knobs.hasKernelContext.encode(kernelContext ? 1 : 0),
			weak_memory_order: knobs.weakMemoryOrder.encode(weakMemoryOrder ? 1 : 0),
			slow_reads: knobs.slowReads.encode(slowReads),
			slow_writes: knobs.slowWrites.encode(slowWrites),
			flow_slots: knobs.flowSlots.encode(flowSlots),
		};
		for (const [name, value] of Object.entries(values)) {
			const variable = this.#object.readOnlyVariables[name];
			if (!variable) throw new Error(`Cannot set the knob ${name}: the object has none`);
			this.#object.setReadOnlyData(variable.offset, value);
		}
		this.#object.load();
		this.#probeRing = new RingBuffer(this.#map("probe_events"), (record) => {
			const read = ProbeRecord.decode(record);
			if (read.event === ProbeEvent.TRAFFIC) this.#traffic.push(read.index);
			else this.#probeRecords.push(read);
		});
		if (!readRing) return;
		this.#ring = new RingBuffer(this.slowPathRing, (record) => {
			const header = SlowPathHeader.decode(record);
			const packet = record.subarray(SlowPathHeader.size, SlowPathHeader.size + header.length);
			this.#records.push({ header, packet });
		});
	}

	close(): void {
		this.#ring?.close();
		this.#probeRing.close();
		this.#object.close();
	}

	get slowPathRing(): BpfMap {
		return this.#map("slow_path");
	}

	#map(name: string): BpfMap {
		// Each has a file descriptor, which only garbage collection would close.
		const map = this.#maps.get(name) ?? this.#object.map(name);
		this.#maps.set(name, map);
		return map;
	}

	/** For tests that write tables through src/reconcile, like the agent. */
	readonly map = (name: string): BpfMap => this.#map(name);

	/** Writes the tables that the agent owns, and who is proven to send what. Core's other maps stay. */
	write(tables: MemoryTables): void {
		this.writeConfig(tables.config);
		for (const [index, peer] of tables.peers) {
			this.#map("peers").update(u32(index), Peer.encode(peer));
		}
		for (const [index, path] of tables.peerPaths) {
			this.#map("peer_paths").update(u32(index), Peer.encode(path));
		}
		this.writeProvenSenders(tables);
		this.#replace("peer_gateways", tables.peerGateways, maps.peerGateways.key, { encode: u32 });
		this.#replace("peer_addresses", tables.peerAddresses, maps.peerAddresses.key, {
			encode: u32,
		});
		this.#replace("routes", tables.routes, RouteKey, Route);
		this.#replace("endpoints", tables.endpoints, maps.endpoints.key, Endpoint);
		this.writeServices(tables);
		this.writePolicies(tables);
	}

	/** The agent's tables of network policy, as they are now, but for the endpoints' own. */
	writePolicies(tables: MemoryTables): void {
		this.#replace("port_sets", tables.portSets, maps.portSets.key, PortSet);
		const { policyVerdicts } = maps;
		this.#replace("policy_verdicts", tables.policyVerdicts, policyVerdicts.key, PolicyVerdict);
		this.#fill("policies", tables.policies, Policy);
		this.#map("class_limit").update(u32(0), u32(tables.limit));
		this.#replace("identities", tables.identities, maps.identities.key, { encode: u32 });
		this.#replace("blocks", tables.blocks, maps.blocks.key, { encode: u32 });
	}

	/** The agent's tables of Services, as they are now. */
	writeServices(tables: MemoryTables): void {
		this.#fill("backends", tables.backends, Backend);
		this.#fill("backend_states", tables.backendStates, u64);
		this.#fill("service_slots", tables.serviceSlots, { encode: u32, size: 4 });
		this.#fill("services", tables.services, Service);
		this.#replace("service_ranges", tables.serviceRanges, maps.serviceRanges.key, u8);
		this.#replace("frontends", tables.frontends, maps.frontends.key, Frontend);
	}

	writeProvenSenders({ provenSenders }: MemoryTables): void {
		for (const [index, sourceMac] of provenSenders) {
			const proof = { ...this.pathProof(index), sourceMac };
			this.#map("path_proofs").update(u32(index), PathProof.encode(proof));
		}
	}

	writeConfig(config: NodeConfig): void {
		this.#map("node_config").update(u32(0), NodeConfig.encode(config));
	}

	#replace<K, V>(
		name: string,
		entries: Map<K, V>,
		key: { encode(key: K): Buffer },
		value: { encode(value: V): Buffer },
	): void {
		const map = this.#map(name);
		clear(map);
		for (const [text, entry] of entries) map.update(key.encode(text), value.encode(entry));
	}

	/** Fills an array; what it had before and has no more becomes zero. */
	#fill<V>(
		name: string,
		entries: Map<number, V>,
		value: { encode(value: V): Buffer; size: number },
	): void {
		const map = this.#map(name);
		const before = this.#filled.get(name) ?? new Set();
		for (const index of before)
			if (!entries.has(index)) map.update(u32(index), Buffer.alloc(value.size));
		for (const [index, entry] of entries) map.update(u32(index), value.encode(entry));
		this.#filled.set(name, new Set(entries.keys()));
	}

	/** Clears the core's maps and the ring. */
	async forget(): Promise<void> {
		// The ring calls back within a turn of the event loop or two.
		await this.#settle();
		this.#records.length = 0;
		this.#probeRecords.length = 0;
		this.#traffic.length = 0;
		for (const name of ["flow_index", "fragments", "fragment_places", "service_affinity"])
			clear(this.#map(name));
		const slots = Buffer.alloc(4 * this.flowSlots);
		for (let slot = 0; slot < this.flowSlots; slot++) slots.writeUInt32LE(slot, slot * 4);
		this.#map("flows").updateBatch(slots, Buffer.alloc(Flow.size * this.flowSlots));
		zero(this.#map("flow_hints"), Math.ceil(this.flowSlots / 2));
		this.#map("flow_rules").updateBatch(slots, Buffer.alloc(FlowRules.size * this.flowSlots));
		zero(this.#map("rule_counters"), RULES);
		zero(this.#map("flow_counts"), ENDPOINT_INDEXES);
		for (const name of ["next_hops", "peer_counters", "peer_activity"]) {
			zero(this.#map(name), PEER_INDEXES);
		}
		zero(this.#map("path_proofs"), PEER_INDEXES * 2);
		for (const name of ["events", "drops", "next_hop_settle", "slow_path_buckets"]) {
			zero(this.#map(name), this.#map(name).info.maxEntries);
		}
	}

	async #settle(): Promise<void> {
		for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
	}

	#program(hook: number): BpfProgram {
		const program = this.#programs.get(hook) ?? this.#object.program(PROGRAMS[hook] ?? "");
		this.#programs.set(hook, program);
		return program;
	}

	/** For another thread to run: what it is given as context is context(ifindex). */
	pin(hook: number, path: string): void {
		this.#program(hook).pin(path);
	}

	context(ifindex: number): Buffer {
		return skb({ ifindex, now: 0n });
	}

	/** On a real device, until it is closed. */
	attach(hook: number, ifindex: number, type: AttachType): BpfLink {
		return BpfLink.attach(this.#program(hook), ifindex, type);
	}

	/** The verdict on the last packet. */
	verdict(): Verdict {
		return Verdict.decode(this.#map("verdicts").lookup(u32(0))!);
	}

	run(hook: number, packet: Buffer, context: PacketContext): Outcome {
		const result = this.#program(hook).testRun({
			data: packet,
			context: hook === Hook.FROM_WIRE_XDP ? xdp(packet, context) : skb(context),
		});
		return {
			verdict: this.verdict(),
			returnValue: result.returnValue,
			packet: result.data,
			mark: hook === Hook.FROM_WIRE_XDP ? undefined : result.context?.readUInt32LE(SK_BUFF.mark),
		};
	}

	/** A flow by a packet's tuple; undefined if its slot has a new flow. */
	flow(key: FlowKey): { slot: number; direction: number; flow: Flow } | undefined {
		const found = this.#map("flow_index").lookup(FlowKey.encode(key));
		const at = (slot: number) => Flow.decode(this.#map("flows").lookup(u32(slot))!);
		const pair = (index: number) => this.pair(index);
		if (!found) return findByHash(key, this.config, { slots: this.flowSlots, at, pair });
		const { slot, generation, direction } = FlowRef.decode(found);
		const flow = at(slot);
		return liveGeneration(flow.claim) === generation ? { slot, direction, flow } : undefined;
	}

	get config(): NodeConfig {
		return NodeConfig.decode(this.#map("node_config").lookup(u32(0))!);
	}

	/** What there is of the tuples with this home, and of their neighbours. */
	pairOf(key: FlowKey): { pair: number; entry: FlowPair } {
		const pair = homeOf(key, this.config, this.flowSlots) >> 1;
		return { pair, entry: this.pair(pair) };
	}

	/** What the place of this tuple has while it is that of a flow in this slot. */
	ownerOf(slot: number, direction: number, key: FlowKey): number {
		return ownerOf(slot, direction, key, this.config);
	}

	pair(index: number): FlowPair {
		return FlowPair.decode(this.#map("flow_hints").lookup(u32(index))!);
	}

	/** Every flow that is in use. */
	flows(): Flow[] {
		const { values } = this.#map("flows").entries();
		const all: Flow[] = [];
		for (let offset = 0; offset < values.length; offset += Flow.size) {
			if (values.readUInt32LE(offset + 8) & 1) all.push(Flow.decode(values, offset));
		}
		return all;
	}

	/** Those that have a place in flow_hints or an entry in flow_index. */
	tuples(): number {
		const { values } = this.#map("flow_hints").entries();
		let owned = 0;
		for (let offset = 0; offset < values.length; offset += FlowPair.size)
			owned += FlowPair.decode(values, offset).owner.filter((owner) => owner !== 0).length;
		return owned + this.#map("flow_index").entries().keys.length / FlowKey.size;
	}

	/** Those that the flows should have: none of a tuple that is found where its hash says. */
	expectedTuples(): number {
		return this.flows().reduce((sum, flow) => sum + entriesOf(flow), 0);
	}

	/** Overwrites a flow in its slot. */
	writeFlow(key: FlowKey, change: Partial<Flow>): void {
		const found = this.flow(key);
		if (!found) throw new Error("Cannot change a flow: its tuple is in no slot");
		this.#map("flows").update(u32(found.slot), Flow.encode({ ...found.flow, ...change }));
	}

	/** Puts a flow into a slot, with entries of both its tuples. */
	putFlow(slot: number, flow: Flow): void {
		const generation = liveGeneration(flow.claim) ?? 0;
		this.#map("flows").update(u32(slot), Flow.encode(flow));
		for (const [direction, key] of [originalKey(flow), replyKey(flow)].entries()) {
			this.#map("flow_index").update(
				FlowKey.encode(key),
				FlowRef.encode({ slot, generation, direction }),
			);
			const { pair, entry } = this.pairOf(key);
			const counted = FlowPair.encode({ ...entry, indexed: entry.indexed + 1 });
			this.#map("flow_hints").update(u32(pair), counted);
		}
	}

	flowRules(slot: number): FlowRules {
		const flow = Flow.decode(this.#map("flows").lookup(u32(slot))!);
		return rulesOfFlow(flow, FlowRules.decode(this.#map("flow_rules").lookup(u32(slot))!));
	}

	ruleCounter(rule: number): RuleCounter {
		return RuleCounter.decode(this.#map("rule_counters").lookup(u32(rule))!);
	}

	flowCount(endpoint: number): FlowCount {
		return FlowCount.decode(this.#map("flow_counts").lookup(u32(endpoint))!);
	}

	fragment(key: FragmentKey): Fragment | undefined {
		const found = this.#map("fragments").lookup(FragmentKey.encode(key));
		return found && Fragment.decode(found);
	}

	affinity(client: string, service: number): Affinity | undefined {
		const found = this.#map("service_affinity").lookup(AffinityKey.encode({ client, service }));
		return found && Affinity.decode(found);
	}

	writeAffinity(client: string, service: number, affinity: Affinity): void {
		const key = AffinityKey.encode({ client, service });
		this.#map("service_affinity").update(key, Affinity.encode(affinity));
	}

	nextHop(index: number): NextHop {
		return NextHop.decode(this.#map("next_hops").lookup(u32(index))!);
	}

	writeNextHop(index: number, hop: NextHop): void {
		this.#map("next_hops").update(u32(index), NextHop.encode(hop));
	}

	counter(index: number): PeerCounter {
		return PeerCounter.decode(this.#map("peer_counters").lookup(u32(index))!);
	}

	event(counter: number): bigint {
		return this.#map("events").lookup(u32(counter))!.readBigUInt64LE();
	}

	drops(reason: number): bigint {
		return this.#map("drops").lookup(u32(reason))!.readBigUInt64LE();
	}

	/** The slow path record of a packet. */
	slowPathRecord(): Promise<SlowPathRecord> {
		return next(this.#records, "the slow path's ring");
	}

	/** The next record for the agent's prober, except those of traffic. */
	probeRecord(): Promise<ProbeRecord> {
		return next(this.#probeRecords, "the ring probe_events");
	}

	/** The records not read yet. */
	async probeRecords(): Promise<ProbeRecord[]> {
		await this.#settle();
		return this.#probeRecords.splice(0);
	}

	/** Indexes of the peers to which traffic has begun. */
	async traffic(): Promise<number[]> {
		await this.#settle();
		return this.#traffic.splice(0);
	}

	/** @param index index of a peer * 2 + enum probe_way */
	pathProof(index: number): PathProof {
		return PathProof.decode(this.#map("path_proofs").lookup(u32(index))!);
	}

	writeActivity(index: number, activity: PeerActivity): void {
		this.#map("peer_activity").update(u32(index), PeerActivity.encode(activity));
	}

	/** Gives the Pods of the test network their whole shares of the slow path. */
	fillShares(): void {
		for (const index of [1, 2, 3]) this.writeSlowPathBucket(SlowPathBucket.COMMON + index, 0n);
	}

	/** @param bucket enum slow_path_bucket; `spent` in ns */
	writeSlowPathBucket(bucket: number, spent: bigint): void {
		this.#map("slow_path_buckets").update(u32(bucket), TokenBucket.encode({ spent }));
	}

	peerActivity(index: number): PeerActivity {
		return PeerActivity.decode(this.#map("peer_activity").lookup(u32(index))!);
	}
}

async function next<R>(records: R[], ring: string): Promise<R> {
	for (let turn = 0; turn < 1000; turn++) {
		const record = records.shift();
		if (record) return record;
		await new Promise((resolve) => setImmediate(resolve));
	}
	throw new Error(`Cannot read from ${ring}: expected a record, got none`);
}

function u32(value: number): Buffer {
	const buffer = Buffer.alloc(4);
	buffer.writeUInt32LE(value);
	return buffer;
}

function clear(map: BpfMap): void {
	const { keys } = map.entries();
	const { keySize } = map.info;
	for (let offset = 0; offset < keys.length; offset += keySize) {
		map.delete(keys.subarray(offset, offset + keySize));
	}
}

function zero(map: BpfMap, entries: number): void {
	const value = Buffer.alloc(map.lookup(u32(0))!.length);
	for (let index = 0; index < entries; index++) map.update(u32(index), value);
}

function skb({ ifindex, ingressIfindex = 0, gsoSize = 0, gsoSegments = 0 }: PacketContext): Buffer {
	const context = Buffer.alloc(SK_BUFF.size);
	context.writeUInt32LE(ingressIfindex, SK_BUFF.ingressIfindex);
	context.writeUInt32LE(ifindex, SK_BUFF.ifindex);
	context.writeUInt32LE(gsoSegments, SK_BUFF.gsoSegments);
	context.writeUInt32LE(gsoSize, SK_BUFF.gsoSize);
	return context;
}

function xdp(packet: Buffer, { ifindex }: PacketContext): Buffer {
	const context = Buffer.alloc(XDP_MD.size);
	context.writeUInt32LE(packet.length, XDP_MD.dataEnd);
	context.writeUInt32LE(ifindex, XDP_MD.ingressIfindex);
	return context;
}
