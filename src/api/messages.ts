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
	peers: { total: number; down: number };
	endpoints: number;
	flows: { used: number; max: number };
	/** Packets by reason, only those that are not zero. */
	drops: Record<string, number>;
	/** Counted events that are no drops, only those that are not zero. */
	events: Record<string, number>;
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

/** `POST /explain` */
export interface ExplainRequest {
	source: string;
	destination: string;
	protocol: "tcp" | "udp" | "icmp";
	/** Destination port; tcp and udp only. */
	port?: number;
	sourcePort?: number;
}

export interface ExplainAnswer {
	source: string;
	destination: string;
	protocol: "tcp" | "udp" | "icmp";
	port?: number;
	/** Where the packet is seen first. */
	hook: string;
	/** What happens to it: "peer", "pod", "host", "outside" or "drop". */
	verdict: string;
	/** To a peer: direct, routed, geneve, vxlan or down. Else null. */
	path: string | null;
	/** One plain sentence: why this path, or why it is dropped. */
	reason: string;
	/** The drop reason as `status` counts it; null: it is not dropped. */
	drop: string | null;
	/** The source that the packet leaves with; null: it keeps its own. */
	snat: { address: string; port?: number } | null;
	/** The largest IP packet that fits this way; null: no limit of ours. */
	mtu: number | null;
	/** The interface it leaves by; null: none. */
	device: string | null;
	/** The peer Node; null: not to a peer. */
	peer: string | null;
	/** Each decision in the order in which a packet meets them. */
	decisions: { stage: string; outcome: string; reason: string }[];
}
