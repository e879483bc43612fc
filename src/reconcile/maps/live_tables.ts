/**
 * The forwarder's view of the live maps and of the kernel, for `fairway explain` and the slow path. Writes
 * nothing.
 */
import type { BpfMap } from "#native";
import { liveGeneration, rulesOfFlow } from "../../forwarder/flow.js";
import { findByHash, findSlot } from "../../forwarder/flow_place.js";
import type {
	FibAnswer,
	FibQuery,
	FlowEntry,
	FlowSlot,
	PeerCounts,
	TableReader,
} from "../../forwarder/table_reader.js";
import { backendStateIn } from "../../forwarder/table_reader.js";
import { NodeSockets } from "../../linux/sockets.js";
import { type Codec, u32, u64 } from "../../tables/codec.js";
import {
	type Affinity,
	type Backend,
	ClaimBit,
	type Endpoint,
	type Flow,
	type FlowCount,
	type FlowKey,
	type FlowRules,
	type Fragment,
	type FragmentKey,
	type Frontend,
	maps,
	type NextHop,
	type NodeConfig,
	NodeFlag,
	type Peer,
	type PeerActivity,
	type Policy,
	type PolicyVerdict,
	type PortSet,
	type Route,
	type Service,
} from "../../tables/generated.js";
import { readPeerCounter } from "./counters.js";
import { Fib } from "./fib.js";

export class LiveTables implements TableReader {
	readonly #map: (name: string) => BpfMap;
	readonly #fib = new Fib();
	readonly #sockets = new NodeSockets();

	constructor(map: (name: string) => BpfMap) {
		this.#map = map;
	}

	nodeConfig(): NodeConfig | undefined {
		const config = this.#look(maps.nodeConfig, 0);
		return config !== undefined && (config.flags & NodeFlag.CONFIGURED) !== 0 ? config : undefined;
	}

	peer(index: number): Peer | undefined {
		return this.#look(maps.peers, index);
	}

	peerAddress(address: string): number | undefined {
		return this.#look(maps.peerAddresses, address);
	}

	peerPath(index: number): Peer | undefined {
		return this.#look(maps.peerPaths, index);
	}

	peerGateway(address: string): number | undefined {
		return this.#look(maps.peerGateways, address);
	}

	peerCounts(index: number): PeerCounts {
		const sum = readPeerCounter(this.#map(maps.peerCounters.name), index);
		const low = (count: bigint) => Number(BigInt.asUintN(32, count));
		return {
			sentPackets: low(sum.directPackets),
			sentLarge: low(sum.directLarge),
			receivedPackets: low(sum.receivedPackets - sum.receivedTunnelPackets),
			receivedLarge: low(sum.receivedLarge - sum.receivedTunnelLarge),
		};
	}

	peerActivity(index: number): PeerActivity | undefined {
		return this.#look(maps.peerActivity, index);
	}

	provenSender(index: number): bigint {
		return this.#look(maps.pathProofs, index)?.sourceMac ?? 0n;
	}

	/** A look-up in a trie is by a full-length prefix; the kernel answers with the longest match. */
	route(address: string): Route | undefined {
		return this.#look(maps.routes, `${address}/${address.includes(":") ? 128 : 32}`);
	}

	endpoint(address: string): Endpoint | undefined {
		return this.#look(maps.endpoints, address);
	}

	flow(key: FlowKey): FlowEntry | undefined {
		const ref = this.#look(maps.flowIndex, key);
		const flow = ref && this.#look(maps.flows, ref.slot);
		if (flow && liveGeneration(flow.claim) === ref.generation)
			return { slot: ref.slot, direction: ref.direction, flow };
		const node = this.#look(maps.nodeConfig, 0);
		const slots = this.#map(maps.flows.name).info.maxEntries;
		const pair = (index: number) => this.#look(maps.flowHints, index);
		return node && findByHash(key, node, { slots, at: (slot) => this.#flowAt(slot), pair });
	}

	flowCount(endpoint: number): FlowCount {
		return this.#look(maps.flowCounts, endpoint) ?? { flows: 0, spare: 0 };
	}

	flowSlot(key: FlowKey, endpoint: number, now: bigint): FlowSlot | undefined {
		const node = this.#look(maps.nodeConfig, 0);
		const slots = this.#map(maps.flows.name).info.maxEntries;
		const counts = (index: number) => this.flowCount(index);
		return node && findSlot(key, endpoint, node, now, slots, (slot) => this.#flowAt(slot), counts);
	}

	flowRules(slot: number): FlowRules {
		return rulesOfFlow(this.#flowAt(slot), this.#look(maps.flowRules, slot));
	}

	fragment(key: FragmentKey): Fragment | undefined {
		return this.#look(maps.fragments, key);
	}

	nextHop(index: number): NextHop | undefined {
		return this.#look(maps.nextHops, index);
	}

	nextHopSettle(): bigint {
		const value = this.#map(maps.nextHopSettle.name).lookup(u32.encode(0));
		return value === undefined ? 0n : u64.decode(value);
	}

	fib(query: FibQuery): FibAnswer {
		return this.#fib.look(query);
	}

	/** Neither `explain` nor the slow path handles packets at XDP. */
	deviceMtu(): undefined {
		return undefined;
	}

	socket(key: FlowKey): boolean {
		return this.#sockets.has(key);
	}

	connection(key: FlowKey): boolean {
		return this.#sockets.isConnected(key);
	}

	/** User space reads the kernel's whole table for one entry, which takes too long: an explanation may
	 * name the port of a connection that netfilter translates, which the programs then do not take. */
	conntrack(): boolean {
		return false;
	}

	frontend(address: string, protocol: number, port: number): Frontend | undefined {
		return this.#look(maps.frontends, `${address} ${protocol} ${port}`);
	}

	service(index: number): Service | undefined {
		return this.#look(maps.services, index);
	}

	serviceSlot(place: number): number {
		return this.#look(maps.serviceSlots, place) ?? 0;
	}

	backend(id: number): Backend | undefined {
		return this.#look(maps.backends, id);
	}

	backendState(id: number): number {
		return backendStateIn(this.#look(maps.backendStates, Math.floor(id / 8)) ?? 0n, id);
	}

	isInSourceRanges(service: number, address: string): boolean {
		const host = `${address}/${address.includes(":") ? 128 : 32}`;
		return this.#look(maps.serviceRanges, `${service} ${host}`) !== undefined;
	}

	affinity(client: string, service: number): Affinity | undefined {
		return this.#look(maps.serviceAffinity, { client, service });
	}

	identity(address: string): number | undefined {
		return this.#look(maps.identities, address);
	}

	block(address: string): number | undefined {
		return this.#look(maps.blocks, `${address}/${address.includes(":") ? 128 : 32}`);
	}

	classLimit(): number {
		return this.#look(maps.classLimit, 0) ?? 0;
	}

	/** The map is an array: what was never written is all zero. */
	policy(index: number): Policy | undefined {
		const policy = this.#look(maps.policies, index);
		return policy?.hairpin === 0 ? undefined : policy;
	}

	policyVerdict(policy: number, classNumber: number): PolicyVerdict | undefined {
		return this.#look(maps.policyVerdicts, policy * 2 ** 32 + classNumber);
	}

	portSet(id: number): PortSet | undefined {
		return this.#look(maps.portSets, id);
	}

	/** Call when a route, link or neighbour of the kernel has changed. */
	forgetNextHops(): void {
		this.#fib.forget();
	}

	/** The flow in a slot; undefined: the slot is free. */
	#flowAt(slot: number): Flow | undefined {
		const flow = this.#look(maps.flows, slot);
		return flow !== undefined && (flow.claim & ClaimBit.IN_USE) !== 0 ? flow : undefined;
	}

	#look<K, V>(
		{ name, key: keyCodec, value: valueCodec }: { name: string; key: Codec<K>; value: Codec<V> },
		key: K,
	): V | undefined {
		const value = this.#map(name).lookup(keyCodec.encode(key));
		return value === undefined ? undefined : valueCodec.decode(value);
	}
}
