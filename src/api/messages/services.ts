/** Messages of the agent's socket: Services. */
import type { ExplainPath } from "./paths.js";

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
