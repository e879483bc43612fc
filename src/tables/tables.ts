/**
 * The desired content of the kernel, as a plain value. `compile` produces it, or the changes to it
 * (changes.ts); the reconciler writes what differs.
 *
 * Addresses and prefixes are canonical text ("10.244.1.0/24", "fd00:10:244:1::/64").
 */
import type {
	Backend,
	Endpoint,
	Frontend,
	NodeConfig,
	Peer,
	Route,
	Service,
	SourceAddress,
} from "./generated.js";

/** A kernel route to `fairway0`, by which the Node's own stack reaches a peer's Pods and Services. */
export interface HostRoute {
	/** Pod CIDR of a peer, service CIDR or address of a Service, return address. */
	prefix: string;
	/** MTU of the route. */
	mtu: number;
	/** Preferred source: this Node's gateway address of the family; "": none. */
	source: string;
}

/** Where packets from the network are processed first; "off": at tc ingress only. */
export type XdpMode = "native" | "generic" | "off";
/** "auto": the agent chooses the mode. */
export type XdpSetting = XdpMode | "auto";

/** Inclusive on both ends. */
export interface PortRange {
	first: number;
	last: number;
}

export interface Tables {
	/** Without epochs, ifindexes and random numbers, which the reconciler fills in. */
	nodeConfig: Omit<
		NodeConfig,
		| "routeEpoch"
		| "nextHopEpoch"
		| "hostIfindex"
		| "flowHash"
		| "portHash"
		| "probeKey"
		| "strippedMac"
	>;
	/** Key: peer id * 2 + (1 for IPv6). */
	peers: Map<number, Peer>;
	/** Key: that of peers * 2 + ProbeWay. */
	peerPaths: Map<number, Peer>;
	/** Gateway address of a peer → peer id. */
	peerGateways: Map<string, number>;
	/** Outer source address → peer id. */
	peerAddresses: Map<string, number>;
	/** Interface index → the source of translated packets that leave by it. */
	sourceAddresses: Map<number, SourceAddress>;
	routes: Map<string, Route>;
	/** Pod address → interface (by name; the reconciler knows its ifindex) and MAC. The Pod's own index and
	 * its policies are the reconciler's to give: absent from what compile makes. */
	endpoints: Map<string, Pick<Endpoint, "mac"> & { interface: string; index?: number }>;
	hostRoutes: Map<string, HostRoute>;
	/** "ADDRESS PROTOCOL PORT" → port of a Service. */
	frontends: Map<string, Frontend>;
	/** Ports of Services, one entry for each family. */
	services: Map<number, Service>;
	/** Place → index in backends. Each set has a run of places. */
	serviceSlots: Map<number, number>;
	backends: Map<number, Backend>;
	/** Index in backends >> 3 → the states of eight, the lowest byte the first. */
	backendStates: Map<number, bigint>;
	/** "SERVICE PREFIX", with the index in services → 1. */
	serviceRanges: Map<string, number>;
	/** Addresses of fairway0, without prefix length. */
	gatewayAddresses: string[];
	gatewayMac: string;
	/** Interfaces that from_wire is attached to. */
	wireInterfaces: string[];
	/** Interfaces that from_link is attached to. */
	linkInterfaces: string[];
	/** to_wire is attached to both kinds, because the stack sends Services' packets of Pods out. */
	stackSnat: boolean;
	/** It is, because the Node itself answers Services' clients. */
	stackAnswers: boolean;
	xdp: XdpSetting;
	/** UDP port on which GRO merges tunnel packets that arrive without XDP; 0: none. */
	tunnelPort: number;
}

/** The fields of Tables that are maps. */
export const MAPS = [
	"peerPaths",
	"peers",
	"peerAddresses",
	"peerGateways",
	"sourceAddresses",
	"endpoints",
	"routes",
	"hostRoutes",
	"frontends",
	"services",
	"serviceSlots",
	"backends",
	"backendStates",
	"serviceRanges",
] as const;
export type MapName = (typeof MAPS)[number];
export type TableMaps = Pick<Tables, MapName>;

/** Those of Services. */
export const SERVICE_MAPS = [
	"frontends",
	"services",
	"serviceSlots",
	"backends",
	"backendStates",
	"serviceRanges",
] as const satisfies readonly MapName[];
export type ServiceMapName = (typeof SERVICE_MAPS)[number];
export type ServiceMaps = Pick<Tables, ServiceMapName>;

/** Those whose keys are indexes that lie close together. */
export const DENSE_MAPS = [
	"peers",
	"peerPaths",
	"services",
	"serviceSlots",
	"backends",
	"backendStates",
] as const satisfies readonly MapName[];

export function noServiceMaps(): ServiceMaps {
	return {
		frontends: new Map(),
		services: new Map(),
		serviceSlots: new Map(),
		backends: new Map(),
		backendStates: new Map(),
		serviceRanges: new Map(),
	};
}

export type HeldServiceMaps = {
	readonly [T in ServiceMapName]: ServiceMaps[T] extends Map<infer K, infer V>
		? ReadonlyMap<K, V>
		: never;
};

/** What the kernel holds of Services: what was compiled before a restart. */
export interface HeldServices extends HeldServiceMaps {
	readonly routes: ReadonlyMap<string, Route>;
}

/** The kernel's entries of peers that may still be Nodes, although no known object names them now. */
export type HeldPeers = Pick<
	Tables,
	"peers" | "peerPaths" | "peerAddresses" | "peerGateways" | "routes"
>;
