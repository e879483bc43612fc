/** Messages of the agent's socket: what becomes of a packet, and why. */
import type { ExplainPath } from "./paths.js";
import type { FrontendStatus } from "./services.js";

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
