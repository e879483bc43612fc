/**
 * The inputs of the forwarder: the tables declared in `bpf/lib/tables.h`, and the facts that the eBPF programs get from
 * the kernel. Look-ups are synchronous and change nothing; a packet's changes are in its Decision.
 *
 * Addresses are canonical text, as formatted by the generated codecs.
 */
import type {
	Affinity,
	Backend,
	Endpoint,
	Flow,
	FlowCount,
	FlowKey,
	FlowRules,
	Fragment,
	FragmentKey,
	Frontend,
	NextHop,
	NodeConfig,
	Peer,
	PeerActivity,
	Policy,
	PolicyVerdict,
	PortSet,
	Route,
	Service,
} from "../tables/generated.js";

/** A flow found by a packet's tuple. */
export interface FlowEntry {
	/** Index in `flows`. */
	slot: number;
	/** FlowDirection of the looked-up tuple. */
	direction: number;
	flow: Flow;
}

/** A slot for a new flow. */
export interface FlowSlot {
	slot: number;
	/** The flow that has to make room; absent where the slot is free or expired. */
	evicted?: Flow;
	/** The flow that was there: evicted or expired. */
	left?: Flow;
}

/** The query for bpf_fib_lookup. */
export interface FibQuery {
	/** "": any. */
	source: string;
	destination: string;
	/** 0: any. */
	protocol: number;
	/** 0: none, or many. */
	sourcePort: number;
	destinationPort: number;
	tos: number;
	/** The input interface; absent: the packet is the Node's own. */
	ifindex?: number;
	/** The packet is to leave by that interface instead. */
	isOutput?: boolean;
	/** The answer is to contain the source address that the kernel would use. */
	wantsSource: boolean;
}

export type FibAnswer =
	| {
			kind: "forward";
			ifindex: number;
			/** The neighbour to send to: the gateway, or the destination if it is on the link. */
			nextHop: string;
			/** "aa:bb:cc:dd:ee:ff" */
			sourceMac: string;
			/** Absent: the kernel has not resolved the neighbour yet. */
			destinationMac?: string;
			/** The largest IP packet that the route and its device take. */
			mtu: number;
			/** If requested, the source address that the kernel uses: the route's preferred source, else an
			 * address of the device. "": none. */
			source: string;
	  }
	/** Not a unicast route: an address of the Node, or no match (the kernel does not say which). */
	| { kind: "notForwarded" }
	/** A route of this type. */
	| { kind: "noRoute"; type: "blackhole" | "unreachable" | "prohibit" };

/** Packets sent directly to a peer and received directly from it, summed over all CPUs, modulo 2^32. */
export interface PeerCounts {
	sentPackets: number;
	sentLarge: number;
	receivedPackets: number;
	receivedLarge: number;
}

/** The tables of network policy. */
export interface PolicyReader {
	/** The class of an address that has one of its own; undefined: the class of its longest prefix applies. */
	identity(address: string): number | undefined;
	/** The class of the longest prefix in `blocks`; undefined: none matches. */
	block(address: string): number | undefined;
	/** The tables have verdicts for all classes below this number. */
	classLimit(): number;
	/** By index; undefined: none, or an entry that was never written (its `hairpin` is 0). */
	policy(index: number): Policy | undefined;
	/** Undefined: the verdict in `policies` applies. */
	policyVerdict(policy: number, classNumber: number): PolicyVerdict | undefined;
	/** A part of a port set. */
	portSet(id: number): PortSet | undefined;
}

export interface TableReader extends PolicyReader {
	/** Undefined: the agent has not written it, or NODE_CONFIGURED is not set. */
	nodeConfig(): NodeConfig | undefined;
	/** Index: peer id * 2 + (1 for IPv6). */
	peer(index: number): Peer | undefined;
	/** Outer source address of a tunnel packet → peer id. */
	peerAddress(address: string): number | undefined;
	/** Every possible path; index: that of `peer` * 2 + enum probe_way. */
	peerPath(index: number): Peer | undefined;
	/** Gateway address of a peer → peer id. */
	peerGateway(address: string): number | undefined;
	/** Index as in `peer`. */
	peerCounts(index: number): PeerCounts;
	/** Index as in `peer`. */
	peerActivity(index: number): PeerActivity | undefined;
	/** The MAC that a peer is proven to send with, as in NextHop; index as in `peerPath`. 0n: none. */
	provenSender(index: number): bigint;
	/** Longest prefix match; undefined: none matches. */
	route(address: string): Route | undefined;
	endpoint(address: string): Endpoint | undefined;
	/** The flow of a packet's tuple, expired or not; undefined if its slot has a new owner. */
	flow(key: FlowKey): FlowEntry | undefined;
	/** The rules that decided on the flow in a slot. */
	flowRules(slot: number): FlowRules;
	/**
	 * The slot that a flow of this key, which counts for a Pod by its index, would take `now`, see findSlot; undefined:
	 * the table is full.
	 */
	flowSlot(key: FlowKey, endpoint: number, now: bigint): FlowSlot | undefined;
	/** The flows that count for a Pod, by its index. */
	flowCount(endpoint: number): FlowCount;
	fragment(key: FragmentKey): Fragment | undefined;
	/** The next hop cached for a peer; index as in `peer`. */
	nextHop(index: number): NextHop | undefined;
	/** No next hop is cached until this time; nanoseconds, CLOCK_MONOTONIC. */
	nextHopSettle(): bigint;
	fib(query: FibQuery): FibAnswer;
	/** MTU of a device; undefined: unknown. Used only at XDP. */
	deviceMtu(ifindex: number): number | undefined;
	/** True if a socket of the Node would receive a packet of this tuple (TCP, UDP). */
	socket(key: FlowKey): boolean;
	/** True if the Node has a TCP connection that such a packet would belong to; listening sockets do not count. */
	connection(key: FlowKey): boolean;
	/** True when the kernel's connection tracking translates packets of this tuple (TCP, UDP). */
	conntrack(key: FlowKey): boolean;
	/** The Service at an address, protocol and port. An entry with protocol and port 0 says that the whole address is
	 * a Service's. */
	frontend(address: string, protocol: number, port: number): Frontend | undefined;
	/** A port of a Service in one family, by its index in `services`. */
	service(index: number): Service | undefined;
	/** The backend in an entry of `service_slots`; 0: none. */
	serviceSlot(place: number): number;
	/** An endpoint of a Service by its id, also after it is gone, until its id is given again. */
	backend(id: number): Backend | undefined;
	/** enum backend_state, bits. */
	backendState(id: number): number;
	/** True if an address is in the source ranges of a Service's load balancer IPs. */
	isInSourceRanges(service: number, address: string): boolean;
	/** A client's last backend of a Service, even if the entry has expired. */
	affinity(client: string, service: number): Affinity | undefined;
}

/** The state of a backend (enum backend_state) from its word in `backend_states`, which has the states of eight. */
export function backendStateIn(word: bigint, id: number): number {
	return Number((word >> BigInt((id % 8) * 8)) & 0xffn);
}
