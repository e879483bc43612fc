/**
 * What crosses the agent's socket. Everything is JSON; addresses are canonical text, sizes are
 * bytes, counters are numbers (they stay exact up to 2^53).
 */
import type { FoundCause, Suspicion } from "../probe/causes.js";
import type { Findings, PathSurvey } from "../probe/survey.js";
import type { HybridRule, Mode, ModeSummary, Verdict } from "../probe/verdict.js";

/** `GET /status` */
export interface Status {
	node: string;
	/** True once everything has been written that packets need. */
	ready: boolean;
	/** Why it is not ready, as a sentence. */
	waitingFor?: string;
	mode: "encap" | "noEncap" | "hybrid";
	tunnelType: "geneve" | "vxlan";
	/** How from_wire sees packets first; "off": at tc ingress only. */
	xdp: "native" | "generic" | "off";
	podCIDRs: string[];
	transport: { interface: string; addresses: string[]; mtu: number };
	/** MTU of a Pod's interface. */
	podMTU: number;
	/** The addresses that Pod traffic to the outside takes, unless noSNAT. */
	snatAddresses: string[];
	version: string;
	kernel: string;
	libbpf: string;
	pid: number;
	uptimeSeconds: number;
	/** Other Nodes, and how many paths of each kind lead to them (a dual-stack Node has two). */
	peers: { nodes: number; paths: Partial<Record<PeerStatus["path"], number>> };
	/** Of all paths that there are now; `late`: answered after they had been given up. */
	probes: { sent: number; answered: number; late: number; changes: number };
	endpoints: number;
	flows: { used: number; max: number };
	/**
	 * Bytes that the BPF maps take, computed: all of them, those that are taken for each possible CPU,
	 * and by map.
	 */
	mapMemory: { total: number; perCpu: number; maps: Record<string, number> };
	/** Packets by reason, only those that are not zero. */
	drops: Record<string, number>;
	/** Counted events that are no drops, only those that are not zero. */
	events: Record<string, number>;
	/** What became of packets that eBPF handed up, only what is not zero, since the agent started. */
	slowPath: Record<string, number>;
	/** Writes that the kernel refused and that are tried again. */
	pending: number;
	/** What does not work and why, a sentence each. */
	problems: string[];
}

/** `GET /peers`: an entry for each peer and family. */
export interface PeerStatus {
	node: string;
	family: 4 | 6;
	podCIDRs: string[];
	transportAddress: string;
	path: "direct" | "routed" | "geneve" | "vxlan" | "down";
	/** One plain sentence. */
	reason: string;
	mtu: number;
	/** As on the wire: a GSO packet counts its segments. Sent to the peer. */
	packets: { direct: number; tunnel: number };
	/** Of the inner IP packets. */
	bytes: { direct: number; tunnel: number };
	/** Packets that have come from the peer. */
	received: { direct: number; tunnel: number };
	/** When the path was last changed, or first chosen (ISO 8601). */
	since: string;
	/** How often the path has changed, the first one not counted. */
	changes: number;
	/** Of the path in use; null: not measured. */
	roundTripMs: number | null;
	/** Share of recent probes without answer on the path in use, 0..1; null: none was sent. */
	loss: number | null;
	/** Over all paths to the peer. `late`: answered after they had been given up. */
	probes: { sent: number; answered: number; late: number };
}

/** `GET /events`: the last changes of paths, oldest first. */
export interface PathEvent {
	/** ISO 8601 */
	time: string;
	node: string;
	family: 4 | 6;
	/** null: its first path. */
	from: PeerStatus["path"] | null;
	to: PeerStatus["path"];
	mtu: number;
	/** One plain sentence. */
	reason: string;
}

/** `POST /check` */
export interface CheckRequest {
	/** A Node's name; default: all of them. */
	peer?: string;
}

/** Status of the answer to a check of a Node that there is not, so that a client can tell. */
export const NO_SUCH_PEER = 422;

export interface CheckAnswer {
	/** Who asked. */
	node: string;
	/** The mode that is in force. */
	mode: Mode;
	hybridDirect: HybridRule["direct"];
	/** An entry for each peer and family. */
	peers: CheckedPeer[];
	/** encap, hybrid, noEncap */
	modes: ModeSummary[];
	/** Only what was found. */
	causes: FoundCause[];
}

export interface CheckedPeer extends PathSurvey {
	/** hybrid may take the direct path. */
	candidate: boolean;
	findings: Findings;
	verdicts: Record<Mode, Verdict>;
	suspicions: Suspicion[];
}

/** `GET /endpoints`: an entry for each local Pod interface. */
export interface EndpointStatus {
	containerId: string;
	ifName: string;
	netns: string;
	/** Without prefix length. */
	addresses: string[];
	mac: string;
	hostInterface: string;
	namespace?: string;
	name?: string;
}

export type ExplainProtocol = "tcp" | "udp" | "icmp";

/** `POST /explain`; addresses in any spelling. */
export interface ExplainRequest {
	source: string;
	destination: string;
	protocol: ExplainProtocol;
	/** tcp and udp; default 80 and 53. */
	destinationPort?: number;
	/** tcp and udp; default 40000. */
	sourcePort?: number;
}

/** Where a packet goes next: a path to a peer, or a place on this Node, or outside the cluster. */
export type ExplainPath = PeerStatus["path"] | "local" | "host" | "outside";

export interface ExplainAnswer {
	source: string;
	destination: string;
	protocol: ExplainProtocol;
	sourcePort?: number;
	destinationPort?: number;
	/** Where Fairway sees the packet first: "from_pod", "from_wire" or "from_host". */
	hook: string;
	/** null: it is dropped before that is known. */
	path: ExplainPath | null;
	/** The peer Node, when it goes to one; else null. */
	peer: string | null;
	/** One plain sentence: why this path, or why it is dropped. */
	reason: string;
	/** The reason that `status` counts it under; null: it is not dropped. */
	drop: string | null;
	/** The source that it leaves with; null: its own. */
	snat: { address: string; port?: number } | null;
	/** The largest IP packet that fits this way; null: nothing on this Node limits it. */
	mtu: number | null;
	/** The interface that it leaves by; null: none. */
	device: string | null;
	/** Every decision in the order in which a packet meets them. */
	steps: { stage: string; text: string }[];
}
