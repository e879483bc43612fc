/** Messages of the agent's socket: the state of the agent. */
import type { TrafficEncapMode, TunnelType, XdpMode } from "../../config/config.js";
import type { PathKind } from "../../tables/paths.js";
import type { PoliciesSummary } from "./policies.js";
import type { ServicesSummary } from "./services.js";

/** `GET /status` */
export interface Status {
	node: string;
	/** True once everything that packets need has been written. */
	ready: boolean;
	/** Why it is not ready, as a sentence. */
	waitingFor?: string;
	mode: TrafficEncapMode;
	tunnelType: TunnelType;
	/** How from_wire sees packets first; "off": at tc ingress only. */
	xdp: XdpMode;
	podCIDRs: string[];
	transport: { interface: string; addresses: string[]; mtu: number };
	/** MTU of a Pod's interface. */
	podMTU: number;
	/** The source addresses of Pod traffic to the outside, unless noSNAT. */
	snatAddresses: string[];
	version: string;
	kernel: string;
	libbpf: string;
	pid: number;
	uptimeSeconds: number;
	/** Other Nodes, and how many paths of each kind lead to them (a dual-stack Node has two). */
	peers: { nodes: number; paths: Partial<Record<PathKind, number>> };
	/** Probes on all current paths; `late`: answered after they had been given up. */
	probes: { sent: number; answered: number; late: number; changes: number };
	endpoints: number;
	flows: { used: number; max: number };
	services: ServicesSummary;
	policies: PoliciesSummary;
	/**
	 * Bytes that the BPF maps take, computed: all of them, those that are taken for each possible CPU,
	 * and by map.
	 */
	mapMemory: { total: number; perCpu: number; maps: Record<string, number> };
	/** Packets by reason, without zeros. */
	drops: Record<string, number>;
	/** Counted events that are not drops, without zeros. */
	events: Record<string, number>;
	/** Counts of what happened to packets in the slow path since the agent started, without zeros. */
	slowPath: Record<string, number>;
	/** How late the event loop ran what was due, since the last status, one minute at most. */
	eventLoop: { p50Ms: number; p99Ms: number; p999Ms: number; maxMs: number; seconds: number };
	/**
	 * What the cluster is read from, by kind of object. `synced`: all of them were seen since the agent's
	 * start. `stale`: what is in force is the last known, not what the source says now. `ageSeconds`: since
	 * the last list, event or bookmark; null: there was none yet.
	 */
	sources: SourceStatus[];
	/** Writes that the kernel refused and that are tried again. */
	pending: number;
	/** Current problems, one sentence each. */
	problems: string[];
	/** What cannot work under this configuration, one sentence each. */
	limitations: string[];
}

export interface SourceStatus {
	kind: string;
	synced: boolean;
	stale: boolean;
	/** The API server does not serve it. */
	absent: boolean;
	ageSeconds: number | null;
	/** Watches that were lost and begun again. */
	reconnects: number;
	/** Why not all of them are known, where there is a reason of its own. */
	missing?: string;
}
