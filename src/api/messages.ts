/**
 * What crosses the agent's socket. Everything is JSON; addresses are canonical text, sizes are
 * bytes, counters are numbers (they stay exact up to 2^53).
 */

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
	endpoints: number;
	flows: { used: number; max: number };
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
