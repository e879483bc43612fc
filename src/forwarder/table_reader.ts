/**
 * What the forwarder knows: the tables as `bpf/lib/tables.h` declares them, and the facts that
 * the eBPF programs ask the kernel for. Look-ups are synchronous and change nothing; what a
 * packet changes is in its Decision.
 *
 * Addresses are canonical text, as the generated codecs print them.
 */
import type {
	Endpoint,
	Flow,
	FlowKey,
	Fragment,
	FragmentKey,
	NextHop,
	NodeConfig,
	Peer,
	PeerActivity,
	Route,
} from "../tables/generated.js";

/** A flow that a packet's tuple leads to. */
export interface FlowEntry {
	/** Index in `flows`. */
	slot: number;
	/** FlowDirection of the tuple that was looked up. */
	direction: number;
	flow: Flow;
}

/** A slot that a new flow may take. */
export interface FlowSlot {
	slot: number;
	/** The unanswered flow that has to make room; absent where the slot is free or expired. */
	evicted?: Flow;
}

/** What bpf_fib_lookup is asked. */
export interface FibQuery {
	destination: string;
	/** The interface that the packet counts as having come in by. */
	ifindex: number;
}

export type FibAnswer =
	| {
			kind: "forward";
			ifindex: number;
			/** The neighbour to send to: the gateway, or the destination where it is on the link. */
			nextHop: string;
			/** "aa:bb:cc:dd:ee:ff" */
			sourceMac: string;
			/** Absent: the kernel does not know the neighbour yet. */
			destinationMac?: string;
	  }
	/** Not a unicast route: an address of the Node, or nothing matches (the kernel says no more). */
	| { kind: "notForwarded" }
	/** A blackhole, unreachable or prohibit route. */
	| { kind: "noRoute" };

/** What went directly to a peer and came directly from it, on all CPUs, modulo 2^32. */
export interface PeerCounts {
	sentPackets: number;
	sentLarge: number;
	receivedPackets: number;
	receivedLarge: number;
}

export interface TableReader {
	/** Undefined: the agent has not written it, or NODE_CONFIGURED is not set. */
	nodeConfig(): NodeConfig | undefined;
	/** Index: peer id * 2 + (1 for IPv6). */
	peer(index: number): Peer | undefined;
	/** Outer source address of a tunnel packet → peer id. */
	peerAddress(address: string): number | undefined;
	/** Every path that there could be; index: that of `peer` * 2 + enum probe_way. */
	peerPath(index: number): Peer | undefined;
	/** Gateway address of a peer → peer id. */
	peerGateway(address: string): number | undefined;
	/** Index as in `peer`. */
	peerCounts(index: number): PeerCounts;
	/** Index as in `peer`. */
	peerActivity(index: number): PeerActivity | undefined;
	/** Longest prefix match; undefined: none matches. */
	route(address: string): Route | undefined;
	endpoint(address: string): Endpoint | undefined;
	/** The flow of a tuple as a packet carries it, expired or not; undefined when its slot has a
	 * new owner. */
	flow(key: FlowKey): FlowEntry | undefined;
	/** The slot that a flow of this key would take `now`, see findSlot; undefined: the table is full. */
	flowSlot(key: FlowKey, now: bigint): FlowSlot | undefined;
	fragment(key: FragmentKey): Fragment | undefined;
	/** The next hop cached for a peer; index as in `peer`. */
	nextHop(index: number): NextHop | undefined;
	/** Nanoseconds, CLOCK_MONOTONIC: no next hop is cached until then. */
	nextHopSettle(): bigint;
	fib(query: FibQuery): FibAnswer;
	/** Largest IP packet that a device takes; undefined: not known. Asked at XDP only. */
	deviceMtu(ifindex: number): number | undefined;
	/** True when a socket of the Node would receive a packet of this tuple (TCP, UDP). */
	socket(key: FlowKey): boolean;
}
