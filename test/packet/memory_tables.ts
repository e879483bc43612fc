/**
 * The tables in memory: filled by a test, read by the forwarder, changed by its decisions. Flow slots are
 * claimed as described in ARCHITECTURE, Flows.
 */
import { originalKey, replyKey } from "../../src/forwarder/flow.js";
import { findSlot } from "../../src/forwarder/flow_place.js";
import { isSpare } from "../../src/forwarder/flow_state.js";
import type {
	Decision,
	FibAnswer,
	FibQuery,
	FlowEntry,
	FlowSlot,
	PeerCounts,
	TableReader,
} from "../../src/forwarder/forwarder.js";
import { backendStateIn } from "../../src/forwarder/table_reader.js";
import { parseAddress } from "../../src/tables/address.js";
import {
	type Affinity,
	type Backend,
	type Endpoint,
	type Flow,
	type FlowCount,
	FlowDirection,
	FlowKey,
	type FlowRules,
	type Fragment,
	FragmentKey,
	type Frontend,
	type NextHop,
	type NodeConfig,
	NodeFlag,
	type Peer,
	type PeerActivity,
	type Policy,
	type PolicyVerdict,
	type PortSet,
	RangeKey,
	type Route,
	RouteKey,
	type Service,
} from "../../src/tables/generated.js";

const NO_NEXT_HOP: NextHop = {
	checked: 0n,
	destinationMac: 0n,
	sourceMac: 0n,
	ifindex: 0,
	epoch: 0,
};

const NO_FLOWS: FlowCount = { flows: 0, spare: 0 };

const NO_COUNTS: PeerCounts = {
	sentPackets: 0,
	sentLarge: 0,
	receivedPackets: 0,
	receivedLarge: 0,
};

interface Reference {
	slot: number;
	direction: number;
}

export class MemoryTables implements TableReader {
	config: NodeConfig;
	readonly peers = new Map<number, Peer>();
	readonly peerAddresses = new Map<string, number>();
	/** By index of `peers` * 2 + enum probe_way. */
	readonly peerPaths = new Map<number, Peer>();
	readonly peerGateways = new Map<string, number>();
	readonly peerCounters = new Map<number, PeerCounts>();
	readonly activities = new Map<number, PeerActivity>();
	/** By index as in peerPaths. */
	readonly provenSenders = new Map<number, bigint>();
	readonly routes = new Map<string, Route>();
	readonly endpoints = new Map<string, Endpoint>();
	/** "ADDRESS PROTOCOL PORT" */
	readonly frontends = new Map<string, Frontend>();
	readonly services = new Map<number, Service>();
	/** Place → id of a backend. */
	readonly serviceSlots = new Map<number, number>();
	readonly backends = new Map<number, Backend>();
	/** The states of eight backends, by id / 8. */
	readonly backendStates = new Map<number, bigint>();
	/** "SERVICE PREFIX" → 1 */
	readonly serviceRanges = new Map<string, number>();
	/** "CLIENT SERVICE" */
	readonly affinities = new Map<string, Affinity>();
	/** Address → class. */
	readonly identities = new Map<string, number>();
	/** Prefix → class. */
	readonly blocks = new Map<string, number>();
	limit = 0;
	readonly policies = new Map<number, Policy>();
	/** By policy * 2^32 + class. */
	readonly policyVerdicts = new Map<number, PolicyVerdict>();
	readonly portSets = new Map<number, PortSet>();
	/** By slot. */
	readonly rules = new Map<number, FlowRules>();
	readonly slots: (Flow | undefined)[];
	readonly nextHops = new Map<number, NextHop>();
	readonly deviceMtus = new Map<number, number>();
	settledUntil = 0n;
	/** Local sockets: "protocol address port". */
	readonly sockets = new Set<string>();
	/** TCP connections of the Node: "client port address port". */
	readonly connections = new Set<string>();
	/** What netfilter translates, as packets come in: "protocol address port". */
	readonly translations = new Set<string>();
	readonly #index = new Map<string, Reference>();
	readonly #fragments = new Map<string, Fragment>();
	#fib: (query: FibQuery) => FibAnswer = () => ({
		kind: "noRoute",
		type: "unreachable",
	});

	constructor(flowSlots: number, config: NodeConfig) {
		this.config = config;
		this.slots = new Array(flowSlots).fill(undefined);
	}

	onFib(answer: (query: FibQuery) => FibAnswer): void {
		this.#fib = answer;
	}

	nodeConfig(): NodeConfig | undefined {
		return this.config.flags & NodeFlag.CONFIGURED ? this.config : undefined;
	}

	peer(index: number): Peer | undefined {
		return this.peers.get(index);
	}

	peerAddress(address: string): number | undefined {
		return this.peerAddresses.get(address);
	}

	peerPath(index: number): Peer | undefined {
		return this.peerPaths.get(index);
	}

	peerGateway(address: string): number | undefined {
		return this.peerGateways.get(address);
	}

	peerCounts(index: number): PeerCounts {
		return this.peerCounters.get(index) ?? NO_COUNTS;
	}

	peerActivity(index: number): PeerActivity | undefined {
		return this.activities.get(index);
	}

	provenSender(index: number): bigint {
		return this.provenSenders.get(index) ?? 0n;
	}

	route(address: string): Route | undefined {
		return longestMatch(this.routes, address);
	}

	endpoint(address: string): Endpoint | undefined {
		return this.endpoints.get(address);
	}

	flow(key: FlowKey): FlowEntry | undefined {
		const reference = this.#index.get(keyText(key));
		const flow = reference && this.slots[reference.slot];
		return flow && { ...reference, flow };
	}

	flowSlot(key: FlowKey, endpoint: number, now: bigint): FlowSlot | undefined {
		const { config, slots } = this;
		const counted = new Map<number, FlowCount>();
		for (const flow of slots) {
			if (flow === undefined) continue;
			const { flows, spare } = counted.get(flow.endpoint) ?? NO_FLOWS;
			counted.set(flow.endpoint, { flows: flows + 1, spare: spare + (isSpare(flow) ? 1 : 0) });
		}
		const counts = (index: number) => counted.get(index) ?? NO_FLOWS;
		return findSlot(key, endpoint, config, now, slots.length, (slot) => slots[slot], counts);
	}

	flowCount(endpoint: number): FlowCount {
		const flows = this.slots.filter((flow) => flow?.endpoint === endpoint);
		return { flows: flows.length, spare: flows.filter((flow) => flow && isSpare(flow)).length };
	}

	fragment(key: FragmentKey): Fragment | undefined {
		return this.#fragments.get(FragmentKey.encode(key).toString("hex"));
	}

	nextHop(index: number): NextHop | undefined {
		return this.nextHops.get(index) ?? NO_NEXT_HOP;
	}

	nextHopSettle(): bigint {
		return this.settledUntil;
	}

	fib(query: FibQuery): FibAnswer {
		return this.#fib(query);
	}

	deviceMtu(ifindex: number): number | undefined {
		return this.deviceMtus.get(ifindex);
	}

	socket({ protocol, destination, destinationPort }: FlowKey): boolean {
		return this.sockets.has(`${protocol} ${destination} ${destinationPort}`);
	}

	connection({ source, sourcePort, destination, destinationPort }: FlowKey): boolean {
		return this.connections.has(`${source} ${sourcePort} ${destination} ${destinationPort}`);
	}

	conntrack({ protocol, destination, destinationPort }: FlowKey): boolean {
		return this.translations.has(`${protocol} ${destination} ${destinationPort}`);
	}

	frontend(address: string, protocol: number, port: number): Frontend | undefined {
		return this.frontends.get(`${address} ${protocol} ${port}`);
	}

	service(index: number): Service | undefined {
		return this.services.get(index);
	}

	serviceSlot(place: number): number {
		return this.serviceSlots.get(place) ?? 0;
	}

	backend(id: number): Backend | undefined {
		return this.backends.get(id);
	}

	backendState(id: number): number {
		return backendStateIn(this.backendStates.get(Math.floor(id / 8)) ?? 0n, id);
	}

	setBackendState(id: number, state: number): void {
		const word = Math.floor(id / 8);
		const shift = BigInt((id % 8) * 8);
		const others = (this.backendStates.get(word) ?? 0n) & ~(0xffn << shift);
		this.backendStates.set(word, others | (BigInt(state) << shift));
	}

	isInSourceRanges(service: number, address: string): boolean {
		const bytes = parseAddress(address) ?? Buffer.alloc(16);
		return [...this.serviceRanges.keys()].some((range) => {
			const key = RangeKey.encode(range);
			const length = key.readUInt32LE(0) - 32;
			return key.readUInt32LE(4) === service && sharesPrefix(bytes, key.subarray(8), length);
		});
	}

	affinity(client: string, service: number): Affinity | undefined {
		return this.affinities.get(`${client} ${service}`);
	}

	identity(address: string): number | undefined {
		return this.identities.get(address);
	}

	block(address: string): number | undefined {
		return longestMatch(this.blocks, address);
	}

	classLimit(): number {
		return this.limit;
	}

	policy(index: number): Policy | undefined {
		return this.policies.get(index);
	}

	policyVerdict(policy: number, classNumber: number): PolicyVerdict | undefined {
		return this.policyVerdicts.get(policy * 2 ** 32 + classNumber);
	}

	portSet(id: number): PortSet | undefined {
		return this.portSets.get(id);
	}

	flowRules(slot: number): FlowRules {
		return this.rules.get(slot) ?? { egress: 0, ingress: 0 };
	}

	/** Applies a decision's changes. `unsent`: the packet has not left. */
	apply(decision: Decision, unsent = false): void {
		const { flow, fragment, nextHop, activity, provenSender, sent, received, stripped } = decision;
		const { affinity, ended, rules } = decision;
		if (provenSender) this.provenSenders.set(provenSender.index, provenSender.mac);
		if (activity) this.activities.set(activity.index, activity.activity);
		if (sent && !sent.tunnel && !unsent) {
			this.#count(sent.index, { sentPackets: sent.packets, sentLarge: sent.large });
		}
		for (const [one, sign] of [
			[received, 1],
			[stripped, -1],
		] as const) {
			if (!one) continue;
			const { index, packets, large } = one;
			this.#count(index, { receivedPackets: sign * packets, receivedLarge: sign * large });
		}
		if (fragment) {
			this.#fragments.set(FragmentKey.encode(fragment.key).toString("hex"), fragment.ports);
		}
		if (nextHop) this.nextHops.set(nextHop.index, nextHop.nextHop);
		if (affinity) this.affinities.set(`${affinity.client} ${affinity.service}`, affinity.affinity);
		for (const slot of ended) this.#end(slot);
		if (flow?.kind === "update") this.slots[flow.slot] = flow.flow;
		if (flow?.kind === "create") this.putFlow(flow.slot, flow.flow);
		if (rules) this.rules.set(rules.slot, rules.rules);
	}

	#end(slot: number): void {
		const flow = this.slots[slot];
		if (flow === undefined) return;
		this.#forget(originalKey(flow), slot);
		this.#forget(replyKey(flow), slot);
		this.slots[slot] = undefined;
	}

	/** Puts a flow with both its tuples into a slot, replacing its content. */
	putFlow(slot: number, flow: Flow): void {
		const old = this.slots[slot];
		if (old !== undefined) {
			this.#forget(originalKey(old), slot);
			this.#forget(replyKey(old), slot);
		}
		// Either tuple may belong to an expired flow, which is then removed with both its tuples.
		for (const key of [originalKey(flow), replyKey(flow)]) {
			const owner = this.#index.get(keyText(key))?.slot;
			const expired = owner === undefined ? undefined : this.slots[owner];
			if (owner === undefined || expired === undefined) continue;
			this.#forget(originalKey(expired), owner);
			this.#forget(replyKey(expired), owner);
			this.slots[owner] = undefined;
		}
		this.slots[slot] = flow;
		this.#index.set(keyText(replyKey(flow)), { slot, direction: FlowDirection.REPLY });
		this.#index.set(keyText(originalKey(flow)), { slot, direction: FlowDirection.ORIGINAL });
	}

	#count(index: number, more: Partial<PeerCounts>): void {
		const counts = { ...this.peerCounts(index) };
		for (const [field, n] of Object.entries(more) as [keyof PeerCounts, number][]) {
			counts[field] = (counts[field] + n) >>> 0;
		}
		this.peerCounters.set(index, counts);
	}

	#forget(key: FlowKey, slot: number): void {
		const text = keyText(key);
		if (this.#index.get(text)?.slot === slot) this.#index.delete(text);
	}
}

function keyText(key: FlowKey): string {
	return FlowKey.encode(key).toString("hex");
}

function longestMatch<V>(entries: ReadonlyMap<string, V>, address: string): V | undefined {
	const bytes = parseAddress(address) ?? Buffer.alloc(16);
	let best: { length: number; value: V } | undefined;
	for (const [prefix, value] of entries) {
		const key = RouteKey.encode(prefix);
		const length = key.readUInt32LE(0);
		if (length < (best?.length ?? 0)) continue;
		if (sharesPrefix(bytes, key.subarray(4), length)) best = { length, value };
	}
	return best?.value;
}

function sharesPrefix(a: Buffer, b: Buffer, bits: number): boolean {
	const whole = bits >> 3;
	if (!a.subarray(0, whole).equals(b.subarray(0, whole))) return false;
	const rest = bits & 7;
	return rest === 0 || (a[whole]! ^ b[whole]!) >> (8 - rest) === 0;
}
