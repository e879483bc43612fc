/**
 * Configuration, cluster, kernel network and local Pods → the tables that the kernel shall hold.
 * Pure: no I/O, no clock.
 */
import type { Snapshot } from "../cluster/snapshot.js";
import type { Config } from "../config/config.js";
import type { Tables } from "../tables/tables.js";
import type { Network } from "./network.js";

/** Of a local Pod: what the tables need (an `Endpoint` of src/cni is one). */
export interface LocalPod {
	addresses: readonly string[];
	mac: string;
	hostInterface: string;
}

export interface CompileInput {
	config: Config;
	snapshot: Snapshot;
	network: Network;
	nodeName: string;
	/** Node name → peer id, from `PeerIds.assign`. */
	peerIds: ReadonlyMap<string, number>;
	endpoints: Iterable<LocalPod>;
}

export type PathName = "direct" | "routed" | "geneve" | "vxlan" | "down";

/** A peer in one family of Pod packets, as `fairway peers` shows it. */
export interface PeerView {
	id: number;
	node: string;
	family: 4 | 6;
	/** Of this family. */
	podCIDRs: string[];
	/** Where packets are sent to: outer destination, or whose MAC or next hop is asked for; "" for none. */
	transportAddress: string;
	path: PathName;
	/** One plain sentence. */
	reason: string;
	/** Largest IP packet of a Pod on this path; 0 when it is down. */
	mtu: number;
}

/** This Node, for status and CNI. Addresses without prefix length. */
export interface SelfView {
	node: string;
	podCIDRs: string[];
	transport: { interface: string; addresses: string[]; mtu: number };
	/** The first address of each pod CIDR, in the order of podCIDRs. */
	gateways: string[];
	gatewayMac: string;
	/** MTU for Pod interfaces. */
	podMTU: number;
	/** What Pod packets to the outside get as source; "" for none (of that family). */
	snat: { address4: string; address6: string };
}

/** `ready: false`: this Node cannot be compiled (yet); what is in force stays. */
export type CompileResult =
	| { ready: true; tables: Tables; peers: PeerView[]; self: SelfView; problems: string[] }
	| { ready: false; reason: string; problems: string[] };
