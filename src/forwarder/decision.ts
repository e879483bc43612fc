/**
 * The result of the forwarder: what happens to a packet, why, and what it changes. A Decision is a plain
 * value; the caller applies its changes, or does not (`fairway explain`).
 */
import type {
	Affinity,
	Flow,
	FlowKey,
	FlowRules,
	Fragment,
	FragmentKey,
	NextHop,
	PeerActivity,
	ProbeRecord,
} from "../tables/generated.js";

/** What a hook knows about a packet besides its bytes. */
export interface PacketContext {
	/** The device of the hook: a Pod's host side or a NIC; for to_pod and from_host, the egress device. */
	ifindex: number;
	/** Nanoseconds, CLOCK_MONOTONIC. */
	now: bigint;
	/** Payload bytes per segment; 0 or absent: not a GSO packet. */
	gsoSize?: number;
	/** Number of segments of a GSO packet. */
	gsoSegments?: number;
	/** XDP: the NIC is a veth, so a checksum may be unfinished (knob veth_wire). */
	vethWire?: boolean;
	/** to_pod, from_host: the interface that the packet came in by; 0 or absent: the Node itself has made it. */
	ingressIfindex?: number;
	/** TC: the frame is for another host of the link (PACKET_OTHERHOST). */
	otherHost?: boolean;
	/** Chooses the backend of a new flow. Absent: none is chosen, and the Decision has every candidate, and
	 * beside them only what holds for all. */
	choose?: (candidates: readonly Candidate[]) => Candidate;
}

/** A backend of a Service that a flow may get. */
export interface Candidate {
	/** In `backends`. */
	id: number;
	address: string;
	port: number;
}

/** Where a Service's client is: a Pod of this Node, beyond the wire, or the Node itself. */
export type Client = "pod" | "wire" | "host";

/** The Service that a packet goes to, or that its flow began with. */
export interface ServiceDecision {
	/** In `services`. */
	index: number;
	/** The address that the client used; `kind`: enum frontend_kind, undefined if the frontend no longer exists. */
	frontend: { address: string; port: number; kind: number | undefined };
	/** For a new flow: the set of backends by traffic policy. */
	set?: "cluster" | "local";
	/** For a new flow: the backends of the set; if empty, the flow is refused. */
	candidates?: readonly Candidate[];
	/** The backend of the flow; undefined: the flow is refused, or gets one of `candidates`. */
	backend?: Candidate;
	/** Why this backend: the flow has it, session affinity, or the choice. */
	by?: "flow" | "affinity" | "choice";
}

/** The translation of a new flow's destination. */
export interface ServiceChoice {
	/** In `services`. */
	service: number;
	backend: Candidate;
	hasAffinity: boolean;
	/** The external traffic policy is Local: the client's address is kept. */
	isExternalLocal: boolean;
	/** The packet's tuple towards the backend. */
	target: FlowKey;
}

/** The verdict on a flow in one direction, and its reason. */
export interface Judgement {
	allow: boolean;
	/** Id of the rule that decided; 0: nothing isolates the Pod, and no rule named the flow. */
	rule: number;
	/** The verdict if staged policies were enforced; absent: the same. */
	staged?: { allow: boolean; rule: number };
}

/** The judgement of one Pod of this Node. */
export interface PolicyDecision {
	/** The policy that applied: an index in `policies` (also for hairpins), or enum endpoint_policy. */
	policy: number;
	/** Class of the other end's address; absent: it was not looked up. */
	class?: number;
	/** Absent: the tables have no verdict, and the packet is dropped. */
	judgement?: Judgement;
	/** enum drop_reason if there is no judgement, otherwise NONE. */
	dropReason: number;
}

/** An increment of `rule_counters`. */
export interface RuleCount {
	rule: number;
	what: "flows" | "packets" | "staged";
}

export type FlowChange =
	/** A new flow takes a slot; `evicted` and every expired owner of the slot lose both tuples. */
	| { kind: "create"; slot: number; flow: Flow; reply: FlowKey }
	/** A known flow after this packet. */
	| { kind: "update"; slot: number; flow: Flow };

/** A step of the decision, for `fairway explain`: the stage and its result. */
export interface Step {
	/** "route", "flow", "snat", ... */
	stage: string;
	/** A plain clause: "10.244.2.3 is in 10.244.2.0/24 of peer 3". */
	text: string;
}

/** The number of packets on the wire, and how many of them are longer than LARGE_PACKET. */
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
	/** enum path, if sent to a peer. */
	path: number;
	/** enum slow_path_kind of `slowPathPacket`. */
	slowPathKind: number;
	/** ENDPOINT: the Pod's host side. WIRE, WIRE_NEIGHBOUR: the NIC. HOST: fairway0. Otherwise 0. */
	ifindex: number;
	/** Peer id of the destination's route, otherwise NO_PEER. */
	peer: number;
	/** MTU of the chosen path; 0: no limit. */
	mtu: number;
	/** The frame as it leaves the hook; unchanged if it is dropped or handed up. */
	packet: Buffer;
	/** The packet handed to the slow path, from its IP header on and decapsulated: to be answered, to be
	 * forwarded, or as a copy. */
	slowPathPacket?: Buffer;
	/** The largest IP packet that the route to the outside takes. */
	outsideMtu?: number;
	flow?: FlowChange;
	/** Verdicts for Pods of this Node, the sender and the receiver. Absent: the flow's verdict
	 * still holds, or no policy applies. After an egress that is not allowed there is no ingress. */
	policy?: { egress?: PolicyDecision; ingress?: PolicyDecision };
	/** The entry of `flow_rules` of a flow that was judged. */
	rules?: { slot: number; rules: FlowRules };
	ruleCounts: RuleCount[];
	/** Slots of flows that end. */
	ended: number[];
	/** The new entry of `service_affinity`. */
	affinity?: { client: string; service: number; affinity: Affinity };
	service?: ServiceDecision;
	/** Where several backends may be chosen: each, and what becomes of the packet then. */
	backends?: { backend: Candidate; decision: Decision }[];
	fragment?: { key: FragmentKey; ports: Fragment };
	/** A next hop that was resolved by the kernel and may be cached, by index as in `peers`. */
	nextHop?: { index: number; nextHop: NextHop };
	/** enum event_counter, each once. */
	events: number[];
	/** The increments of `peer_counters`. */
	sent?: { index: number; tunnel: boolean; packets: number; bytes: number; large: number };
	/** Set if the packet came from a peer for a Pod or a gateway address of this Node. */
	received?: Received;
	/** Set if the packet was decapsulated from a peer's tunnel. */
	stripped?: Received;
	/** Records for the agent's prober, in order. */
	records: ProbeRecord[];
	/** The new value of `peer_activity`. */
	activity?: { index: number; activity: PeerActivity };
	/** The entry of `path_proofs` to stamp; with `isLarge`, large_answered_at as well. */
	pathProof?: { index: number; isLarge: boolean };
	/** The MAC that the peer sends with, from the entry of `path_proofs` with this index. */
	provenSender?: { index: number; mac: bigint };
	/** Where the UDP header of a probe is in `packet`. */
	probeOffset?: number;
	steps: Step[];
}
