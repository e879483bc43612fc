/**
 * The answer of the forwarder: what happens to a packet, why, and what it changes. A Decision is
 * a plain value; whoever asked applies its changes, or does not (`fairway explain`).
 */
import type {
	Flow,
	FlowKey,
	Fragment,
	FragmentKey,
	NextHop,
	PeerActivity,
	ProbeRecord,
} from "../tables/generated.js";

/** What a hook knows about a packet besides its bytes. */
export interface PacketContext {
	/** Where it came in: a Pod's host side, a NIC, or for to_pod and from_host where it leaves. */
	ifindex: number;
	/** Nanoseconds, CLOCK_MONOTONIC. */
	now: bigint;
	/** Payload bytes of one segment; 0 or absent: no GSO packet. */
	gsoSize?: number;
	/** Segments that a GSO packet becomes on the wire. */
	gsoSegments?: number;
	/** XDP: the NIC is a veth, so a checksum may be unfinished (knob veth_wire). */
	vethWire?: boolean;
}

export type FlowChange =
	/** A new flow takes a slot; `evicted` and every expired owner of it lose both tuples. */
	| { kind: "create"; slot: number; flow: Flow; reply: FlowKey }
	/** A known flow as it is after this packet. */
	| { kind: "update"; slot: number; flow: Flow };

/** A step of the decision, for `fairway explain`: what was asked and what the tables said. */
export interface Step {
	/** "route", "flow", "snat", ... */
	stage: string;
	/** A plain clause: "10.244.2.3 is in 10.244.2.0/24 of peer 3". */
	text: string;
}

/** Packets as on the wire, and those of them above LARGE_PACKET. */
export interface Received {
	/** As in `peers`. */
	index: number;
	packets: number;
	large: number;
}

export interface Decision {
	/** enum action */
	action: number;
	/** enum drop_reason; NONE unless `action` is DROP. */
	dropReason: number;
	/** enum path, when sent to a peer. */
	path: number;
	/** enum slow_path_kind of `slowPathPacket`. */
	slowPathKind: number;
	/** ENDPOINT: the Pod's host side. WIRE, WIRE_NEIGHBOUR: the NIC. HOST: fairway0. Else 0. */
	ifindex: number;
	/** Peer id of the destination's route, else NO_PEER. */
	peer: number;
	/** Largest IP packet on the way that was chosen; 0: nothing limits it. */
	mtu: number;
	/** The frame as it leaves the hook; as it came where it is dropped or handed up. */
	packet: Buffer;
	/** What goes up to the slow path, to be answered, sent on, or as a copy: the packet from its IP
	 * header on, tunnel stripped. */
	slowPathPacket?: Buffer;
	flow?: FlowChange;
	fragment?: { key: FragmentKey; ports: Fragment };
	/** A next hop that was read from the kernel and may be cached, by index as in `peers`. */
	nextHop?: { index: number; nextHop: NextHop };
	/** enum event_counter, each once. */
	events: number[];
	/** What `peer_counters` gains. */
	sent?: { index: number; tunnel: boolean; packets: number; bytes: number; large: number };
	/** It has come from a peer for a Pod or a gateway address of this Node. */
	received?: Received;
	/** The tunnel of a peer has come off it. */
	stripped?: Received;
	/** What the agent's prober is told, in order. */
	records: ProbeRecord[];
	/** What `peer_activity` becomes. */
	activity?: { index: number; activity: PeerActivity };
	/** The entry of `path_proofs` that is stamped; large_answered_at, too, where `isLarge`. */
	pathProof?: { index: number; isLarge: boolean };
	/** Where the UDP header of a probe is in `packet`. */
	probeOffset?: number;
	steps: Step[];
}
