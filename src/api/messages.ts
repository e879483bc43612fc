/**
 * The messages of the agent's socket. All are JSON; addresses are canonical text, sizes are bytes, counters are
 * numbers (exact up to 2^53).
 */
import type { HybridDirect, TrafficEncapMode, TunnelType, XdpMode } from "../config/config.js";
import type { FoundCause, Suspicion } from "../probe/causes.js";
import type { Findings, PathSurvey } from "../probe/survey/survey.js";
import type { Mode, ModeSummary, Verdict } from "../probe/verdict.js";
import type { PathKind } from "../tables/paths.js";

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

export interface ServicesSummary {
	/** Who serves the Services of this Node: sentences. */
	servedBy: string[];
	/** Services that Fairway serves. */
	count: number;
	/** Their endpoints by state; one counts for each port and family. */
	endpoints: { ready: number; serving: number; terminating: number; unready: number };
	/** Entries of the tables: ports by family, addresses with ports, endpoints, places in sets. */
	ports: number;
	frontends: number;
	backends: number;
	slots: number;
	sourceRanges: number;
}

/** Network policy on this Node. */
export interface PoliciesSummary {
	/** False: not all objects were seen yet; what an earlier agent left is in force, and new Pods wait. */
	synced: boolean;
	/** Policies that select a Pod of this Node. */
	enforced: number;
	/** Those among them that are only counted (annotation fairway.dev/audit). */
	staged: number;
	/** Those among them that cannot be used: their Pods are closed. */
	unusable: number;
	/** Pods of this Node: nothing isolates them and no rule names them; policies decide; closed until policies are known. */
	pods: { open: number; ruled: number; notReady: number };
	/** Entries of the tables. */
	identities: number;
	blocks: number;
	policies: number;
	policyVerdicts: number;
	portSets: number;
	rules: number;
	/** Sentences of `problems` that are about policies: limits that are reached, and what cannot be written. */
	problems: number;
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

/** `GET /peers`: an entry for each peer and family. */
export interface PeerStatus {
	node: string;
	family: 4 | 6;
	podCIDRs: string[];
	transportAddress: string;
	path: PathKind;
	/** One plain sentence. */
	reason: string;
	mtu: number;
	/** Packets sent to the peer, as on the wire: a GSO packet counts its segments. */
	packets: { direct: number; tunnel: number };
	/** Bytes of the inner IP packets. */
	bytes: { direct: number; tunnel: number };
	/** Packets received from the peer. */
	received: { direct: number; tunnel: number };
	/** When the path last changed, or was first chosen (ISO 8601). */
	since: string;
	/** Number of path changes, without the first path. */
	changes: number;
	/** Round trip of the path in use; null: not measured. */
	roundTripMs: number | null;
	/** Share of unanswered recent probes on the path in use, 0 to 1; null: none was sent. */
	loss: number | null;
	/** Over all paths to the peer. `late`: answered after the time-out. */
	probes: { sent: number; answered: number; late: number };
}

/** `GET /events`: the last path changes, oldest first. */
export interface PathEvent {
	/** ISO 8601 */
	time: string;
	node: string;
	family: 4 | 6;
	/** null: its first path. */
	from: PathKind | null;
	to: PathKind;
	mtu: number;
	/** One plain sentence. */
	reason: string;
}

/** `POST /check` */
export interface CheckRequest {
	/** Names of Nodes; default: all of them. */
	peer?: string | string[];
}

/** HTTP status of the answer to a check of an unknown Node. */
export const NO_SUCH_PEER = 422;

export interface CheckAnswer {
	/** Where the check was made. */
	node: string;
	/** The active mode. */
	mode: Mode;
	hybridDirect: HybridDirect;
	/** An entry for each peer and family. */
	peers: CheckedPeer[];
	/** encap, hybrid, noEncap */
	modes: ModeSummary[];
	/** Only causes that were found. */
	causes: FoundCause[];
	/** What other CNIs and kube-proxy have left on this Node; an entry for each of them. */
	leftovers: Leftovers[];
}

export interface Leftovers {
	/** "flannel", "kube-proxy" */
	cni: string;
	interfaces: string[];
	/** Number of routes that lead out of the first of them. */
	routes: number;
	/** Chains of iptables, both families. */
	chains: string[];
	/** Tables of nftables: "ip kube-proxy". */
	tables: string[];
	/** Entries of the kernel's connection tracking whose destination it has translated. */
	connections: number;
	/** Network configurations of the container runtime. */
	files: string[];
	/** What to do: sentences, and commands that begin with "$ ". */
	advice: string[];
}

/** `GET /check`: paths of the checks that are under way, or were last. */
export interface CheckProgress {
	done: number;
	total: number;
}

export interface CheckedPeer extends PathSurvey {
	/** True: hybrid may use the direct path. */
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

/** `GET /services`: an entry for each port of each Service that Fairway serves, of both families. */
export interface ServiceStatus {
	namespace: string;
	name: string;
	port: number;
	/** "": it has none. */
	portName: string;
	/** "TCP", "UDP", "SCTP" */
	protocol: string;
	/** "ClusterIP", "NodePort", "LoadBalancer" */
	type: string;
	frontends: FrontendStatus[];
	/** Every endpoint that serves, in use here or not. */
	backends: BackendStatus[];
	/** Which endpoints are in use here and why: a sentence, or one for each family. */
	why: string[];
	/** An earlier agent left it, and no object that has been read says so; it has no name then. */
	isFormer: boolean;
}

export interface FrontendStatus {
	/** For a NodePort: 0.0.0.0 or ::, which stands for every address of the Node that serves NodePorts. */
	address: string;
	port: number;
	kind: "clusterIP" | "nodePort" | "loadBalancer" | "externalIP";
}

export type BackendState = "ready" | "serving" | "terminating";

export interface BackendStatus {
	address: string;
	port: number;
	/** "": unknown, or outside the cluster. */
	node: string;
	/** Terminating wins over serving. */
	state: BackendState;
	/** `host`: a Node's own address. */
	path: ExplainPath;
}

/** `POST /services`: those of one Service. */
export interface ServicesRequest {
	namespace: string;
	name: string;
}

/** `GET /policies`: an entry for each policy that selects a Pod of this Node. */
export interface PolicyStatus {
	kind: "NetworkPolicy" | "ClusterNetworkPolicy";
	/** null: a ClusterNetworkPolicy has none. */
	namespace: string | null;
	name: string;
	/** null: a NetworkPolicy has none. */
	tier: "Admin" | "Baseline" | null;
	priority: number | null;
	/** Pods of this Node that it isolates or has rules for, by direction. */
	pods: { ingress: number; egress: number };
	/** Their number. */
	rules: number;
	/** Flows that its rules have allowed, since the agent's start. */
	allowed: { flows: number };
	/** Packets that its rules, or its isolation, have denied. */
	denied: { packets: number };
	/** Flows that would be denied, or allowed, if it were enforced. */
	staged: { flows: number };
	/** It is not enforced, only counted (annotation fairway.dev/audit). */
	isStaged: boolean;
	/** Why it cannot be used; its Pods are closed then. null: it can. */
	unusable: string | null;
	/** It is in force as an earlier agent left it: since its start the agent has not read all objects yet. */
	isFormer: boolean;
}

/** `GET /denials`: connections that network policy has denied here lately, the last one first. */
export interface DenialStatus {
	/** As it was judged: after a Service's translation, before SNAT. */
	source: string;
	/** "namespace/name" of the Pod that has the address now; null: it is no Pod's that is known here. */
	sourcePod: string | null;
	destination: string;
	destinationPod: string | null;
	/** "tcp", "udp", "sctp", "icmp", or a number. */
	protocol: string;
	/** null: the protocol has none. */
	port: number | null;
	direction: "egress" | "ingress";
	/** "namespace/name", or a ClusterNetworkPolicy's name. */
	policy: string;
	/** The index of the rule; null: isolation. */
	rule: number | null;
	/** ISO 8601. */
	first: string;
	last: string;
	/** A few packets of each rule are noted, all are counted. */
	noted: number;
}

/** `POST /policies`: one of them. */
export interface PoliciesRequest {
	/** Absent: a ClusterNetworkPolicy's. */
	namespace?: string;
	name: string;
}

/** `POST /policy-diff` */
export interface PolicyDiffRequest {
	/** API objects; those that are no policies are left alone. */
	objects: unknown[];
	/** Policies that would go: "namespace/name", or the name of a ClusterNetworkPolicy. */
	deleted?: string[];
}

/** HTTP status of the answer where one of the policies cannot be used. */
export const UNUSABLE_POLICY = 422;

export interface PolicyDiffAnswer {
	opened: PolicyDiffEntry[];
	closed: PolicyDiffEntry[];
	/** There are more entries than these. */
	isCut: boolean;
	/** Flows of this Node, in entries or not. */
	liveFlows: { opened: number; closed: number };
	/** Names of the policies that are staged, so change nothing. */
	staged: string[];
	/** "local": this Node knows its own Pods alone, so nothing is said of other pairs. */
	pods: "all" | "local";
}

export interface PolicyDiffEntry {
	/** "namespace/name" of a Pod, or an address. */
	from: string;
	to: string;
	/** A port, "FIRST-LAST", or null: every one of the protocol. */
	port: number | string | null;
	/** "tcp", "udp", "sctp", "other" */
	protocol: string;
	/** That live on this Node now. */
	flows: number;
}

export type ExplainProtocol = "tcp" | "udp" | "icmp";

/** `POST /explain` */
export interface ExplainRequest {
	/** An address in any spelling, or `namespace/name` of a Pod. */
	source: string;
	/**
	 * The same, or `namespace/name` of a Service. Where both have the name it is the Service;
	 * `pod/namespace/name` and `service/namespace/name` are one of them.
	 */
	destination: string;
	/** Default: tcp, or udp where the Service has the port only there. */
	protocol?: ExplainProtocol;
	/**
	 * tcp and udp; default 80 and 53, or the Service's first port of the protocol. A text is the name of
	 * a Service's port.
	 */
	destinationPort?: number | string;
	/** tcp and udp; default 40000. */
	sourcePort?: number;
}

/** Where a packet goes next: a path to a peer, or a place on this Node, or outside the cluster. */
export type ExplainPath = PathKind | "local" | "host" | "outside";

/** The Service that a packet goes to. */
export interface ExplainService {
	namespace: string;
	name: string;
	/** The Service's, whatever port the packet goes to. */
	port: number;
	portName: string;
	type: string;
	/** Where the packet goes; `kind` null: the address is no longer the Service's, the flow is. */
	frontend: { address: string; port: number; kind: FrontendStatus["kind"] | null };
	/** The endpoints that a new flow may get: how many of all there are, and why; null: the flow has one. */
	set: { name: "cluster" | "local"; used: number; of: number; why: string } | null;
	/** Why this endpoint: the flow has it, the client has it (session affinity), or it is the only one. */
	by: "flow" | "affinity" | "choice" | null;
}

export interface ExplainBackend {
	address: string;
	port: number;
	/** "": unknown, or outside the cluster. */
	node: string;
	path: ExplainPath;
	/** As in ExplainAnswer; where it is one of several, and what would become of the packet is known. */
	fate?: Pick<ExplainAnswer, "drop" | "snat" | "mtu" | "device">;
}

/** What the policies of one end say of a flow. */
export interface ExplainPolicySide {
	/** `none`: nothing isolates the Pod and no rule names the flow, or nothing is judged. null: it depends on the backend. */
	verdict: "allow" | "deny" | "none" | null;
	/** Which policy decided: "namespace/name", or a ClusterNetworkPolicy's name. */
	policy: string | null;
	/** The index of its rule; null: isolation itself denied, or none decided. */
	rule: number | null;
	/**
	 * Where the verdict comes from: this Node's live maps; the objects, which the Pod's own Node compiles;
	 * `nobody` judges (no Pod's end, or a Pod's own Node that speaks to it); `unknown`: the Pod is not known here.
	 */
	by: "maps" | "objects" | "nobody" | "unknown";
	/** The Node that judges. */
	node: string | null;
	/** The Pod that is judged. */
	pod: string | null;
	/** One sentence or two. */
	why: string;
	/** Admin, NetworkPolicy, Baseline, as the objects say it; none where nothing is judged. */
	tiers: ExplainTier[];
	/** The class of the other end's address: its number in the live maps, and what holds for it. null: not looked up. */
	class: { number: number; atoms: string[] } | null;
	/** What would become of it if staged policies were enforced; null: the same. */
	staged: {
		verdict: "allow" | "deny" | "none";
		policy: string | null;
		rule: number | null;
		why: string;
	} | null;
}

export interface ExplainTier {
	tier: "Admin" | "NetworkPolicy" | "Baseline";
	/** Those that select the Pod and have something to say in this direction. */
	policies: string[];
	/** See TierReading in src/policy/tiers.ts. */
	outcome:
		| "none"
		| "noMatch"
		| "allow"
		| "deny"
		| "pass"
		| "isolated"
		| "unusable"
		| "itself"
		| "notAsked";
	policy: string | null;
	rule: number | null;
	/** What that rule says: "to Pods with app=web of namespace default, TCP 80". */
	says: string | null;
}

export interface ExplainPolicy {
	/** The source Pod's side, judged on its Node. */
	egress: ExplainPolicySide;
	/** The destination Pod's side, judged on its Node. */
	ingress: ExplainPolicySide;
}

export interface ExplainAnswer {
	source: string;
	destination: string;
	protocol: ExplainProtocol;
	sourcePort?: number;
	destinationPort?: number;
	/** The first hook of the packet: "from_pod", "from_wire" or "from_host". */
	hook: string;
	/** null: dropped before the path is known. */
	path: ExplainPath | null;
	/** The peer Node, or null. */
	peer: string | null;
	/** One plain sentence: why this path, or why it is dropped. */
	reason: string;
	/** The drop reason in `status`; null: not dropped. */
	drop: string | null;
	/** The translated source; null: unchanged. */
	snat: { address: string; port?: number } | null;
	/** The MTU of the path; null: no limit on this Node. */
	mtu: number | null;
	/** The egress interface; null: none. */
	device: string | null;
	/** null: it goes to no Service that Fairway serves. */
	service: ExplainService | null;
	/** The endpoint that it goes to; null: none, or one of several. */
	backend: ExplainBackend | null;
	/** Those that a new flow may get. Fields above are null where they differ between them. */
	backends: ExplainBackend[];
	/** The fields above that do. */
	differing: ("path" | "peer" | "drop" | "snat" | "mtu" | "device")[];
	policy: ExplainPolicy;
	/** Every decision, in order. */
	steps: { stage: string; text: string }[];
}
