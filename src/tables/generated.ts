// Generated from BTF by `npm run generate`. What it says is declared in bpf/lib/tables.h.
import { readAddress, readMac, writeAddress, writeMac } from "./address.js";
import {
	address,
	type Codec,
	codec,
	elements,
	frontendKey,
	policyVerdictKey,
	prefix,
	rangeKey,
	u8,
	u32,
	u64,
} from "./codec.js";

export const Limit = {
	PEERS_MAX: 16384,
	ENDPOINTS_MAX: 4096,
	ROUTES_MAX: 65536,
	FRAGMENTS_MAX: 16384,
	FRAGMENTS_POD: 32,
	FRAGMENTS_WIRE: 4096,
	FRAGMENTS_HOST: 1024,
	FLOWS_DEFAULT: 131072,
	SLOW_PATH_BYTES: 8388608,
	SLOW_PATH_SHARE: 64,
	NEIGHBOUR_RATE: 16,
	SLOW_PATH_PACKET_MAX: 9600,
	SNAT_TRIES: 128,
	SNAT_FREE_TRIES: 32,
	SNAT_SILENT_SECONDS: 10,
	FLOW_SLOT_TRIES: 64,
	FLOW_SLOT_SAMPLE: 16,
	FLOW_SLOT_ROUNDS: 8,
	FLOWS_FEW: 16,
	FLOW_INDEX_SPARE: 1024,
	GENEVE_PORT: 6081,
	VXLAN_PORT: 4789,
	ECHO_PORT: 8,
	TUNNEL_TTL: 64,
	NEXT_HOP_TRUST_MS: 100,
	NEXT_HOP_SETTLE_MS: 50,
	NEXT_HOP_OUTSIDE: 32768,
	GATEWAYS_MAX: 4096,
	FLOW_ASKED_SHIFT: 26,
	FLOW_ASKED_TRUST: 14,
	NEXT_HOP_WRITING: 1,
	NO_PEER: 4294967295,
	LARGE_PACKET: 1280,
	PROBE_PORT: 6083,
	PROBE_MAGIC: 1180106753,
	PROBE_LIFE_MS: 5000,
	PROBE_TTL: 64,
	PROBE_ANSWER_SHIFT: 4,
	TRAFFIC_PAUSE_MS: 2000,
	HELLO_PAUSE_MS: 500,
	PROBE_RING_BYTES: 1048576,
	PEER_GATEWAYS_MAX: 32768,
	SOURCE_ADDRESSES_MAX: 1024,
	WIRE_MACS_MAX: 4,
	PROBE_ANSWER_NS: 2000000,
	PROBE_ANSWER_BURST: 128,
	FRONTENDS_MAX: 262144,
	SERVICES_MAX: 65536,
	SERVICE_SLOTS_MAX: 524288,
	BACKENDS_MAX: 262144,
	SERVICE_RANGES_MAX: 65536,
	AFFINITIES_MAX: 65536,
	BACKEND_REST_SECONDS: 600,
	BACKEND_TRIES: 3,
	IDENTITIES_MAX: 262144,
	BLOCKS_MAX: 131072,
	POLICIES_MAX: 16384,
	POLICY_VERDICTS_MAX: 524288,
	PORT_SETS_MAX: 65536,
	POLICY_RULES_MAX: 65536,
	DENIALS_MAX: 4096,
	DENIAL_PAUSE_NS: 100000000,
	PORT_SET_SEGMENTS: 16,
	PORT_SET_PARTS: 64,
} as const;
export type Limit = (typeof Limit)[keyof typeof Limit];

export const Hook = {
	FROM_POD: 0,
	FROM_WIRE: 1,
	FROM_WIRE_XDP: 2,
	TO_POD: 3,
	FROM_HOST: 4,
	FROM_LINK: 5,
	TO_WIRE: 6,
	FROM_LOOPBACK: 7,
} as const;
export type Hook = (typeof Hook)[keyof typeof Hook];
export const HookName: Readonly<Record<number, string>> = {
	0: "from_pod",
	1: "from_wire",
	2: "from_wire_xdp",
	3: "to_pod",
	4: "from_host",
	5: "from_link",
	6: "to_wire",
	7: "from_loopback",
};

export const DropReason = {
	NONE: 0,
	MALFORMED: 1,
	SPOOFED_ADDRESS: 2,
	SPOOFED_MAC: 3,
	MULTICAST: 4,
	NO_ENDPOINT: 5,
	NO_ROUTE: 6,
	TUNNEL_FROM_POD: 7,
	PEER_DOWN: 8,
	NO_SNAT_ADDRESS: 9,
	SNAT_PORTS_EXHAUSTED: 10,
	FLOW_TABLE_FULL: 11,
	TTL_EXCEEDED: 12,
	PACKET_TOO_BIG: 13,
	SLOW_PATH_RATE: 14,
	SLOW_PATH_FULL: 15,
	SLOW_PATH_SIZE: 16,
	TUNNEL_UNKNOWN_PEER: 17,
	TUNNEL_BAD_VNI: 18,
	TUNNEL_MALFORMED: 19,
	TUNNEL_CRITICAL_OPTION: 20,
	TUNNEL_WRONG_SOURCE: 21,
	TUNNEL_WRONG_DESTINATION: 22,
	TUNNEL_ECN: 23,
	MARTIAN_SOURCE: 24,
	FRAGMENT_UNKNOWN: 25,
	ICMP_UNRELATED: 26,
	REWRITE_FAILED: 27,
	NOT_CONFIGURED: 28,
	UNSUPPORTED_ETHERTYPE: 29,
	PROBE_REFUSED: 30,
	SPOOFED_NEIGHBOUR: 31,
	ROUTER_DISCOVERY: 32,
	UNTUNNELLED: 33,
	PEER_MAC_MISMATCH: 34,
	PROBE_RATE: 35,
	SCTP_BUNDLE: 36,
	SERVICE_NO_ENDPOINTS: 37,
	SERVICE_NO_LOCAL_ENDPOINTS: 38,
	SERVICE_UNKNOWN_PORT: 39,
	SERVICE_UNKNOWN_ADDRESS: 40,
	SERVICE_SOURCE_RANGE: 41,
	SERVICE_EXTERNAL_CLUSTER_IP: 42,
	POLICY_EGRESS: 43,
	POLICY_INGRESS: 44,
	POLICY_NOT_READY: 45,
	POLICY_INCOMPLETE: 46,
	MARTIAN_DESTINATION: 47,
	NEIGHBOUR_RATE: 48,
	REASON_COUNT: 49,
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];
export const DropReasonName: Readonly<Record<number, string>> = {
	0: "none",
	1: "malformed",
	2: "spoofed_address",
	3: "spoofed_mac",
	4: "multicast",
	5: "no_endpoint",
	6: "no_route",
	7: "tunnel_from_pod",
	8: "peer_down",
	9: "no_snat_address",
	10: "snat_ports_exhausted",
	11: "flow_table_full",
	12: "ttl_exceeded",
	13: "packet_too_big",
	14: "slow_path_rate",
	15: "slow_path_full",
	16: "slow_path_size",
	17: "tunnel_unknown_peer",
	18: "tunnel_bad_vni",
	19: "tunnel_malformed",
	20: "tunnel_critical_option",
	21: "tunnel_wrong_source",
	22: "tunnel_wrong_destination",
	23: "tunnel_ecn",
	24: "martian_source",
	25: "fragment_unknown",
	26: "icmp_unrelated",
	27: "rewrite_failed",
	28: "not_configured",
	29: "unsupported_ethertype",
	30: "probe_refused",
	31: "spoofed_neighbour",
	32: "router_discovery",
	33: "untunnelled",
	34: "peer_mac_mismatch",
	35: "probe_rate",
	36: "sctp_bundle",
	37: "service_no_endpoints",
	38: "service_no_local_endpoints",
	39: "service_unknown_port",
	40: "service_unknown_address",
	41: "service_source_range",
	42: "service_external_cluster_ip",
	43: "policy_egress",
	44: "policy_ingress",
	45: "policy_not_ready",
	46: "policy_incomplete",
	47: "martian_destination",
	48: "neighbour_rate",
};

export const EventCounter = {
	UNTRACKED: 0,
	FLOW_EVICTED_EARLY: 1,
	SLOW_PATH: 2,
	NEXT_HOP_REFRESHED: 3,
	MSS_CLAMPED: 4,
	PROBE_ANSWERED: 5,
	SLOW_PATH_REFUSED_POD: 6,
	SLOW_PATH_REFUSED_WIRE: 7,
	SLOW_PATH_REFUSED_HOST: 8,
	SLOW_PATH_RING_FULL: 9,
	PROBE_RING_FULL: 10,
	COUNT: 11,
} as const;
export type EventCounter = (typeof EventCounter)[keyof typeof EventCounter];
export const EventCounterName: Readonly<Record<number, string>> = {
	0: "untracked",
	1: "flow_evicted_early",
	2: "slow_path",
	3: "next_hop_refreshed",
	4: "mss_clamped",
	5: "probe_answered",
	6: "slow_path_refused_pod",
	7: "slow_path_refused_wire",
	8: "slow_path_refused_host",
	9: "slow_path_ring_full",
	10: "probe_ring_full",
};

export const FlowState = {
	NONE: 0,
	TCP_OPENING: 1,
	TCP_ESTABLISHED: 2,
	TCP_CLOSING: 3,
	TCP_CLOSED: 4,
	UDP_OPENING: 5,
	UDP_ESTABLISHED: 6,
	ICMP: 7,
	SCTP_OPENING: 8,
	SCTP_ESTABLISHED: 9,
	SCTP_CLOSED: 10,
	OTHER: 11,
	STATE_COUNT: 12,
} as const;
export type FlowState = (typeof FlowState)[keyof typeof FlowState];
export const FlowStateName: Readonly<Record<number, string>> = {
	0: "none",
	1: "tcp_opening",
	2: "tcp_established",
	3: "tcp_closing",
	4: "tcp_closed",
	5: "udp_opening",
	6: "udp_established",
	7: "icmp",
	8: "sctp_opening",
	9: "sctp_established",
	10: "sctp_closed",
	11: "other",
};

export const NodeFlag = {
	CONFIGURED: 1,
	SNAT: 2,
	ROUTE_MTU: 4,
	STACK_SNAT: 8,
	SENDS_UNTUNNELLED: 16,
	SERVES_ALL: 32,
	SERVES_CLUSTER_IPS: 64,
	STACK_ANSWERS: 128,
} as const;
export type NodeFlag = (typeof NodeFlag)[keyof typeof NodeFlag];
export const NodeFlagName: Readonly<Record<number, string>> = {
	1: "configured",
	2: "snat",
	4: "route_mtu",
	8: "stack_snat",
	16: "sends_untunnelled",
	32: "serves_all",
	64: "serves_cluster_ips",
	128: "stack_answers",
};

export const PeerFlag = {
	TUNNELLED_ONLY: 1,
	ANNOUNCED: 2,
	ENDING: 4,
} as const;
export type PeerFlag = (typeof PeerFlag)[keyof typeof PeerFlag];
export const PeerFlagName: Readonly<Record<number, string>> = {
	1: "tunnelled_only",
	2: "announced",
	4: "ending",
};

export const Path = {
	NONE: 0,
	DIRECT: 1,
	ROUTED: 2,
	GENEVE: 3,
	VXLAN: 4,
	DOWN: 5,
} as const;
export type Path = (typeof Path)[keyof typeof Path];
export const PathName: Readonly<Record<number, string>> = {
	0: "none",
	1: "direct",
	2: "routed",
	3: "geneve",
	4: "vxlan",
	5: "down",
};

export const RouteKind = {
	OUTSIDE: 0,
	LOCAL_PODS: 1,
	HOST: 2,
	PEER: 3,
	STACK: 4,
	SERVICE: 5,
} as const;
export type RouteKind = (typeof RouteKind)[keyof typeof RouteKind];
export const RouteKindName: Readonly<Record<number, string>> = {
	0: "outside",
	1: "local_pods",
	2: "host",
	3: "peer",
	4: "stack",
	5: "service",
};

export const RouteFlag = {
	NO_SNAT: 1,
	PEER_NODE: 2,
	NODE_PORTS: 4,
	SERVICE_PORTS: 8,
	PEERS_KNOW: 16,
	NO_TUNNELS: 32,
} as const;
export type RouteFlag = (typeof RouteFlag)[keyof typeof RouteFlag];
export const RouteFlagName: Readonly<Record<number, string>> = {
	1: "no_snat",
	2: "peer_node",
	4: "node_ports",
	8: "service_ports",
	16: "peers_know",
	32: "no_tunnels",
};

export const FrontendKind = {
	ADDRESS: 0,
	CLUSTER_IP: 1,
	NODE_PORT: 2,
	LOAD_BALANCER: 3,
	EXTERNAL_IP: 4,
} as const;
export type FrontendKind = (typeof FrontendKind)[keyof typeof FrontendKind];
export const FrontendKindName: Readonly<Record<number, string>> = {
	0: "address",
	1: "cluster_ip",
	2: "node_port",
	3: "load_balancer",
	4: "external_ip",
};

export const ServiceFlag = {
	INTERNAL_LOCAL: 1,
	EXTERNAL_LOCAL: 2,
	RANGES: 4,
} as const;
export type ServiceFlag = (typeof ServiceFlag)[keyof typeof ServiceFlag];
export const ServiceFlagName: Readonly<Record<number, string>> = {
	1: "internal_local",
	2: "external_local",
	4: "ranges",
};

export const BackendState = {
	SERVES: 1,
	IN_CLUSTER_SET: 2,
	IN_LOCAL_SET: 4,
	RESTS: 8,
} as const;
export type BackendState = (typeof BackendState)[keyof typeof BackendState];
export const BackendStateName: Readonly<Record<number, string>> = {
	1: "serves",
	2: "in_cluster_set",
	4: "in_local_set",
	8: "rests",
};

export const EndpointPolicy = {
	NOT_READY: 0,
	OPEN: 1,
	FIRST: 2,
} as const;
export type EndpointPolicy = (typeof EndpointPolicy)[keyof typeof EndpointPolicy];
export const EndpointPolicyName: Readonly<Record<number, string>> = {
	0: "not_ready",
	1: "open",
	2: "first",
};

export const PolicyClass = {
	NONE: 0,
	OVERFLOW: 1,
	FIRST: 2,
} as const;
export type PolicyClass = (typeof PolicyClass)[keyof typeof PolicyClass];
export const PolicyClassName: Readonly<Record<number, string>> = {
	0: "none",
	1: "overflow",
	2: "first",
};

export const JudgementFlag = {
	ALLOW: 1,
	STAGED: 2,
	STAGED_ALLOW: 4,
} as const;
export type JudgementFlag = (typeof JudgementFlag)[keyof typeof JudgementFlag];
export const JudgementFlagName: Readonly<Record<number, string>> = {
	1: "allow",
	2: "staged",
	4: "staged_allow",
};

export const PortPosition = {
	TCP: 0,
	UDP: 65536,
	SCTP: 131072,
	NO_PORTS: 196608,
} as const;
export type PortPosition = (typeof PortPosition)[keyof typeof PortPosition];
export const PortPositionName: Readonly<Record<number, string>> = {
	0: "tcp",
	65536: "udp",
	131072: "sctp",
	196608: "no_ports",
};

export const FlowDirection = {
	ORIGINAL: 0,
	REPLY: 1,
} as const;
export type FlowDirection = (typeof FlowDirection)[keyof typeof FlowDirection];
export const FlowDirectionName: Readonly<Record<number, string>> = {
	0: "original",
	1: "reply",
};

export const FlowFlag = {
	REPLIED: 1,
	SNAT: 2,
	FIN_ORIGINAL: 4,
	FIN_REPLY: 8,
	STACK: 16,
	RESET_ORIGINAL: 32,
	RESET_REPLY: 64,
	COUNTED: 128,
	DNAT: 256,
	AT_HOME: 512,
	DENIED: 1024,
	FORWARDED: 2048,
	RULED: 4096,
	HALF_OPEN: 8192,
} as const;
export type FlowFlag = (typeof FlowFlag)[keyof typeof FlowFlag];
export const FlowFlagName: Readonly<Record<number, string>> = {
	1: "replied",
	2: "snat",
	4: "fin_original",
	8: "fin_reply",
	16: "stack",
	32: "reset_original",
	64: "reset_reply",
	128: "counted",
	256: "dnat",
	512: "at_home",
	1024: "denied",
	2048: "forwarded",
	4096: "ruled",
	8192: "half_open",
};

export const FlowPlace = {
	SLOT: 16777215,
	DIRECTION_SHIFT: 24,
	HASH_SHIFT: 25,
} as const;
export type FlowPlace = (typeof FlowPlace)[keyof typeof FlowPlace];
export const FlowPlaceName: Readonly<Record<number, string>> = {
	16777215: "slot",
	24: "direction_shift",
	25: "hash_shift",
};

export const ClaimBit = {
	IN_USE: 1,
	GENERATION: 1073741822,
	PUBLISHED: 1073741824,
	LOCKED: 2147483648,
} as const;
export type ClaimBit = (typeof ClaimBit)[keyof typeof ClaimBit];
export const ClaimBitName: Readonly<Record<number, string>> = {
	1: "in_use",
	1073741822: "generation",
	1073741824: "published",
	2147483648: "locked",
};

export const SlowPathKind = {
	TTL_EXCEEDED: 0,
	TOO_BIG: 1,
	FRAGMENT: 2,
	HOLD: 3,
	UNREACHABLE: 4,
	PROHIBITED: 5,
	NO_HOST: 6,
	UNRESOLVED: 7,
	REFUSED: 8,
} as const;
export type SlowPathKind = (typeof SlowPathKind)[keyof typeof SlowPathKind];
export const SlowPathKindName: Readonly<Record<number, string>> = {
	0: "ttl_exceeded",
	1: "too_big",
	2: "fragment",
	3: "hold",
	4: "unreachable",
	5: "prohibited",
	6: "no_host",
	7: "unresolved",
	8: "refused",
};

export const SlowPathBucket = {
	COMMON: 0,
	WIRE: 4097,
	HOST: 4098,
	COUNT: 4099,
} as const;
export type SlowPathBucket = (typeof SlowPathBucket)[keyof typeof SlowPathBucket];
export const SlowPathBucketName: Readonly<Record<number, string>> = {
	0: "common",
	4097: "wire",
	4098: "host",
};

export const FragmentOwner = {
	WIRE: 0,
	HOST: 4097,
	COUNT: 4098,
} as const;
export type FragmentOwner = (typeof FragmentOwner)[keyof typeof FragmentOwner];
export const FragmentOwnerName: Readonly<Record<number, string>> = {
	0: "wire",
	4097: "host",
};

export const ProbeWay = {
	DIRECT: 0,
	TUNNEL: 1,
} as const;
export type ProbeWay = (typeof ProbeWay)[keyof typeof ProbeWay];
export const ProbeWayName: Readonly<Record<number, string>> = {
	0: "direct",
	1: "tunnel",
};

export const ProbeKind = {
	REQUEST: 1,
	ANSWER: 2,
} as const;
export type ProbeKind = (typeof ProbeKind)[keyof typeof ProbeKind];
export const ProbeKindName: Readonly<Record<number, string>> = {
	1: "request",
	2: "answer",
};

export const ProbeFlag = {
	HELLO: 1,
	ANNOUNCES: 2,
	SENDS_UNTUNNELLED: 4,
	TAKES_UNTUNNELLED: 8,
} as const;
export type ProbeFlag = (typeof ProbeFlag)[keyof typeof ProbeFlag];
export const ProbeFlagName: Readonly<Record<number, string>> = {
	1: "hello",
	2: "announces",
	4: "sends_untunnelled",
	8: "takes_untunnelled",
};

export const ProbeEvent = {
	ANSWERED: 1,
	GREETED: 2,
	TRAFFIC: 3,
} as const;
export type ProbeEvent = (typeof ProbeEvent)[keyof typeof ProbeEvent];
export const ProbeEventName: Readonly<Record<number, string>> = {
	1: "answered",
	2: "greeted",
	3: "traffic",
};

export const Action = {
	PASS: 0,
	DROP: 1,
	ENDPOINT: 2,
	WIRE: 3,
	WIRE_NEIGHBOUR: 4,
	HOST: 5,
	SLOW_PATH: 6,
	PROBE: 7,
	RESET: 8,
} as const;
export type Action = (typeof Action)[keyof typeof Action];
export const ActionName: Readonly<Record<number, string>> = {
	0: "pass",
	1: "drop",
	2: "endpoint",
	3: "wire",
	4: "wire_neighbour",
	5: "host",
	6: "slow_path",
	7: "probe",
	8: "reset",
};

export interface Backend {
	address: string;
	port: number;
	service: number;
}
export const Backend: Codec<Backend> = codec<Backend>(
	24,
	(b, o, v) => {
		writeAddress(b, o, v.address);
		b.writeUInt16BE(v.port, o + 16);
		b.writeUInt32LE(v.service, o + 20);
	},
	(b, o) => ({
		address: readAddress(b, o),
		port: b.readUInt16BE(o + 16),
		service: b.readUInt32LE(o + 20),
	}),
);

/** A prefix as text: "10.0.0.0/8". */
export type RouteKey = string;
export const RouteKey = prefix;

export interface Endpoint {
	ifindex: number;
	mac: string;
	index: number;
	egressPolicy: number;
	ingressPolicy: number;
}
export const Endpoint: Codec<Endpoint> = codec<Endpoint>(
	16,
	(b, o, v) => {
		b.writeUInt32LE(v.ifindex, o);
		writeMac(b, o + 4, v.mac);
		b.writeUInt16LE(v.index, o + 10);
		b.writeUInt16LE(v.egressPolicy, o + 12);
		b.writeUInt16LE(v.ingressPolicy, o + 14);
	},
	(b, o) => ({
		ifindex: b.readUInt32LE(o),
		mac: readMac(b, o + 4),
		index: b.readUInt16LE(o + 10),
		egressPolicy: b.readUInt16LE(o + 12),
		ingressPolicy: b.readUInt16LE(o + 14),
	}),
);

export interface FlowCount {
	flows: number;
	spare: number;
}
export const FlowCount: Codec<FlowCount> = codec<FlowCount>(
	8,
	(b, o, v) => {
		b.writeUInt32LE(v.flows, o);
		b.writeUInt32LE(v.spare, o + 4);
	},
	(b, o) => ({
		flows: b.readUInt32LE(o),
		spare: b.readUInt32LE(o + 4),
	}),
);

export interface FlowPair {
	owner: number[];
	indexed: number;
	atHome: number;
}
export const FlowPair: Codec<FlowPair> = codec<FlowPair>(
	16,
	(b, o, v) => {
		elements(v.owner, 2, "flow_pair.owner").forEach((e, i) => {
			b.writeUInt32LE(e, o + i * 4);
		});
		b.writeUInt32LE(v.indexed, o + 8);
		b.writeUInt32LE(v.atHome, o + 12);
	},
	(b, o) => ({
		owner: Array.from({ length: 2 }, (_, i) => b.readUInt32LE(o + i * 4)),
		indexed: b.readUInt32LE(o + 8),
		atHome: b.readUInt32LE(o + 12),
	}),
);

export interface FlowKey {
	source: string;
	destination: string;
	sourcePort: number;
	destinationPort: number;
	protocol: number;
}
export const FlowKey: Codec<FlowKey> = codec<FlowKey>(
	40,
	(b, o, v) => {
		writeAddress(b, o, v.source);
		writeAddress(b, o + 16, v.destination);
		b.writeUInt16BE(v.sourcePort, o + 32);
		b.writeUInt16BE(v.destinationPort, o + 34);
		b.writeUInt8(v.protocol, o + 36);
	},
	(b, o) => ({
		source: readAddress(b, o),
		destination: readAddress(b, o + 16),
		sourcePort: b.readUInt16BE(o + 32),
		destinationPort: b.readUInt16BE(o + 34),
		protocol: b.readUInt8(o + 36),
	}),
);

export interface FlowRef {
	slot: number;
	generation: number;
	direction: number;
}
export const FlowRef: Codec<FlowRef> = codec<FlowRef>(
	16,
	(b, o, v) => {
		b.writeUInt32LE(v.slot, o);
		b.writeUInt32LE(v.generation, o + 4);
		b.writeUInt8(v.direction, o + 8);
	},
	(b, o) => ({
		slot: b.readUInt32LE(o),
		generation: b.readUInt32LE(o + 4),
		direction: b.readUInt8(o + 8),
	}),
);

export interface FlowRules {
	egress: number;
	ingress: number;
}
export const FlowRules: Codec<FlowRules> = codec<FlowRules>(
	4,
	(b, o, v) => {
		b.writeUInt16LE(v.egress, o);
		b.writeUInt16LE(v.ingress, o + 2);
	},
	(b, o) => ({
		egress: b.readUInt16LE(o),
		ingress: b.readUInt16LE(o + 2),
	}),
);

/** Bytes from the start of a FlowPorts to each field. */
export const FlowPortsOffset = { source: 0, destination: 2 } as const;
export interface FlowPorts {
	source: number;
	destination: number;
}
export const FlowPorts: Codec<FlowPorts> = codec<FlowPorts>(
	4,
	(b, o, v) => {
		b.writeUInt16BE(v.source, o);
		b.writeUInt16BE(v.destination, o + 2);
	},
	(b, o) => ({
		source: b.readUInt16BE(o),
		destination: b.readUInt16BE(o + 2),
	}),
);

/** Bytes from the start of a FlowAddresses to each field. */
export const FlowAddressesOffset = { source: 0, destination: 16 } as const;
export interface FlowAddresses {
	source: string;
	destination: string;
}
export const FlowAddresses: Codec<FlowAddresses> = codec<FlowAddresses>(
	32,
	(b, o, v) => {
		writeAddress(b, o, v.source);
		writeAddress(b, o + 16, v.destination);
	},
	(b, o) => ({
		source: readAddress(b, o),
		destination: readAddress(b, o + 16),
	}),
);

/** Bytes from the start of a Flow to each field. */
export const FlowOffset = {
	lastSeen: 0,
	claim: 8,
	state: 12,
	protocol: 13,
	flags: 14,
	routeEpoch: 16,
	ifindex: 20,
	mac: 28,
	endpoint: 40,
	remote: 42,
	asked: 44,
	remoteEpoch: 46,
	mtu: 48,
	routeKind: 50,
	routeFlags: 51,
	pods: 52,
	backendUpper: 53,
	backend: 54,
	ports: 56,
	addresses: 64,
} as const;
export interface Flow {
	lastSeen: bigint;
	claim: number;
	state: number;
	protocol: number;
	flags: number;
	routeEpoch: number;
	ifindex: number[];
	mac: string[];
	endpoint: number;
	remote: number;
	asked: number;
	remoteEpoch: number;
	mtu: number;
	routeKind: number;
	routeFlags: number;
	pods: number;
	backendUpper: number;
	backend: number;
	ports: FlowPorts[];
	addresses: FlowAddresses[];
}
export const Flow: Codec<Flow> = codec<Flow>(
	128,
	(b, o, v) => {
		b.writeBigUInt64LE(v.lastSeen, o);
		b.writeUInt32LE(v.claim, o + 8);
		b.writeUInt8(v.state, o + 12);
		b.writeUInt8(v.protocol, o + 13);
		b.writeUInt16LE(v.flags, o + 14);
		b.writeUInt32LE(v.routeEpoch, o + 16);
		elements(v.ifindex, 2, "flow.ifindex").forEach((e, i) => {
			b.writeUInt32LE(e, o + 20 + i * 4);
		});
		elements(v.mac, 2, "flow.mac").forEach((e, i) => {
			writeMac(b, o + 28 + i * 6, e);
		});
		b.writeUInt16LE(v.endpoint, o + 40);
		b.writeUInt16LE(v.remote, o + 42);
		b.writeUInt16LE(v.asked, o + 44);
		b.writeUInt16LE(v.remoteEpoch, o + 46);
		b.writeUInt16LE(v.mtu, o + 48);
		b.writeUInt8(v.routeKind, o + 50);
		b.writeUInt8(v.routeFlags, o + 51);
		b.writeUInt8(v.pods, o + 52);
		b.writeUInt8(v.backendUpper, o + 53);
		b.writeUInt16LE(v.backend, o + 54);
		elements(v.ports, 2, "flow.ports").forEach((e, i) => {
			FlowPorts.write(b, o + 56 + i * 4, e);
		});
		elements(v.addresses, 2, "flow.addresses").forEach((e, i) => {
			FlowAddresses.write(b, o + 64 + i * 32, e);
		});
	},
	(b, o) => ({
		lastSeen: b.readBigUInt64LE(o),
		claim: b.readUInt32LE(o + 8),
		state: b.readUInt8(o + 12),
		protocol: b.readUInt8(o + 13),
		flags: b.readUInt16LE(o + 14),
		routeEpoch: b.readUInt32LE(o + 16),
		ifindex: Array.from({ length: 2 }, (_, i) => b.readUInt32LE(o + 20 + i * 4)),
		mac: Array.from({ length: 2 }, (_, i) => readMac(b, o + 28 + i * 6)),
		endpoint: b.readUInt16LE(o + 40),
		remote: b.readUInt16LE(o + 42),
		asked: b.readUInt16LE(o + 44),
		remoteEpoch: b.readUInt16LE(o + 46),
		mtu: b.readUInt16LE(o + 48),
		routeKind: b.readUInt8(o + 50),
		routeFlags: b.readUInt8(o + 51),
		pods: b.readUInt8(o + 52),
		backendUpper: b.readUInt8(o + 53),
		backend: b.readUInt16LE(o + 54),
		ports: Array.from({ length: 2 }, (_, i) => FlowPorts.decode(b, o + 56 + i * 4)),
		addresses: Array.from({ length: 2 }, (_, i) => FlowAddresses.decode(b, o + 64 + i * 32)),
	}),
);

export interface FragmentPlace {
	owner: number;
	place: number;
}
export const FragmentPlace: Codec<FragmentPlace> = codec<FragmentPlace>(
	4,
	(b, o, v) => {
		b.writeUInt16LE(v.owner, o);
		b.writeUInt16LE(v.place, o + 2);
	},
	(b, o) => ({
		owner: b.readUInt16LE(o),
		place: b.readUInt16LE(o + 2),
	}),
);

export interface FragmentKey {
	source: string;
	destination: string;
	identification: number;
	protocol: number;
	owner: number;
}
export const FragmentKey: Codec<FragmentKey> = codec<FragmentKey>(
	40,
	(b, o, v) => {
		writeAddress(b, o, v.source);
		writeAddress(b, o + 16, v.destination);
		b.writeUInt32BE(v.identification, o + 32);
		b.writeUInt8(v.protocol, o + 36);
		b.writeUInt16LE(v.owner, o + 38);
	},
	(b, o) => ({
		source: readAddress(b, o),
		destination: readAddress(b, o + 16),
		identification: b.readUInt32BE(o + 32),
		protocol: b.readUInt8(o + 36),
		owner: b.readUInt16LE(o + 38),
	}),
);

export interface Fragment {
	sourcePort: number;
	destinationPort: number;
	protocol: number;
}
export const Fragment: Codec<Fragment> = codec<Fragment>(
	8,
	(b, o, v) => {
		b.writeUInt16BE(v.sourcePort, o);
		b.writeUInt16BE(v.destinationPort, o + 2);
		b.writeUInt8(v.protocol, o + 4);
	},
	(b, o) => ({
		sourcePort: b.readUInt16BE(o),
		destinationPort: b.readUInt16BE(o + 2),
		protocol: b.readUInt8(o + 4),
	}),
);

/** As text: "ADDRESS PROTOCOL PORT". */
export type FrontendKey = string;
export const FrontendKey = frontendKey;

export interface Frontend {
	service: number;
	kind: number;
}
export const Frontend: Codec<Frontend> = codec<Frontend>(
	8,
	(b, o, v) => {
		b.writeUInt32LE(v.service, o);
		b.writeUInt8(v.kind, o + 4);
	},
	(b, o) => ({
		service: b.readUInt32LE(o),
		kind: b.readUInt8(o + 4),
	}),
);

export interface NextHop {
	checked: bigint;
	destinationMac: bigint;
	sourceMac: bigint;
	ifindex: number;
	epoch: number;
}
export const NextHop: Codec<NextHop> = codec<NextHop>(
	32,
	(b, o, v) => {
		b.writeBigUInt64LE(v.checked, o);
		b.writeBigUInt64LE(v.destinationMac, o + 8);
		b.writeBigUInt64LE(v.sourceMac, o + 16);
		b.writeUInt32LE(v.ifindex, o + 24);
		b.writeUInt32LE(v.epoch, o + 28);
	},
	(b, o) => ({
		checked: b.readBigUInt64LE(o),
		destinationMac: b.readBigUInt64LE(o + 8),
		sourceMac: b.readBigUInt64LE(o + 16),
		ifindex: b.readUInt32LE(o + 24),
		epoch: b.readUInt32LE(o + 28),
	}),
);

export interface HashKey {
	word: number[];
}
export const HashKey: Codec<HashKey> = codec<HashKey>(
	24,
	(b, o, v) => {
		elements(v.word, 6, "hash_key.word").forEach((e, i) => {
			b.writeUInt32LE(e, o + i * 4);
		});
	},
	(b, o) => ({
		word: Array.from({ length: 6 }, (_, i) => b.readUInt32LE(o + i * 4)),
	}),
);

export interface NodeConfig {
	flags: number;
	routeEpoch: number;
	nextHopEpoch: number;
	vni: number;
	snatAddress4: string;
	snatAddress6: string;
	gatewayAddress4: string;
	gatewayAddress6: string;
	returnAddress4: string;
	returnAddress6: string;
	gatewayMac: string;
	snatPortFirst: number;
	snatPortLast: number;
	genevePort: number;
	vxlanPort: number;
	hostIfindex: number;
	transportMtu: number;
	flowHash: HashKey;
	portHash: HashKey;
	slowPathRate: number;
	probeKey: bigint[];
	flowTimeouts: number[];
	wireMacs: bigint[];
	strippedMac: bigint;
}
export const NodeConfig: Codec<NodeConfig> = codec<NodeConfig>(
	296,
	(b, o, v) => {
		b.writeUInt32LE(v.flags, o);
		b.writeUInt32LE(v.routeEpoch, o + 4);
		b.writeUInt32LE(v.nextHopEpoch, o + 8);
		b.writeUInt32LE(v.vni, o + 12);
		writeAddress(b, o + 16, v.snatAddress4);
		writeAddress(b, o + 32, v.snatAddress6);
		writeAddress(b, o + 48, v.gatewayAddress4);
		writeAddress(b, o + 64, v.gatewayAddress6);
		writeAddress(b, o + 80, v.returnAddress4);
		writeAddress(b, o + 96, v.returnAddress6);
		writeMac(b, o + 112, v.gatewayMac);
		b.writeUInt16LE(v.snatPortFirst, o + 118);
		b.writeUInt16LE(v.snatPortLast, o + 120);
		b.writeUInt16BE(v.genevePort, o + 122);
		b.writeUInt16BE(v.vxlanPort, o + 124);
		b.writeUInt32LE(v.hostIfindex, o + 132);
		b.writeUInt32LE(v.transportMtu, o + 136);
		HashKey.write(b, o + 140, v.flowHash);
		HashKey.write(b, o + 164, v.portHash);
		b.writeUInt32LE(v.slowPathRate, o + 188);
		elements(v.probeKey, 2, "node_config.probe_key").forEach((e, i) => {
			b.writeBigUInt64LE(e, o + 192 + i * 8);
		});
		elements(v.flowTimeouts, 12, "node_config.flow_timeouts").forEach((e, i) => {
			b.writeUInt32LE(e, o + 208 + i * 4);
		});
		elements(v.wireMacs, 4, "node_config.wire_macs").forEach((e, i) => {
			b.writeBigUInt64LE(e, o + 256 + i * 8);
		});
		b.writeBigUInt64LE(v.strippedMac, o + 288);
	},
	(b, o) => ({
		flags: b.readUInt32LE(o),
		routeEpoch: b.readUInt32LE(o + 4),
		nextHopEpoch: b.readUInt32LE(o + 8),
		vni: b.readUInt32LE(o + 12),
		snatAddress4: readAddress(b, o + 16),
		snatAddress6: readAddress(b, o + 32),
		gatewayAddress4: readAddress(b, o + 48),
		gatewayAddress6: readAddress(b, o + 64),
		returnAddress4: readAddress(b, o + 80),
		returnAddress6: readAddress(b, o + 96),
		gatewayMac: readMac(b, o + 112),
		snatPortFirst: b.readUInt16LE(o + 118),
		snatPortLast: b.readUInt16LE(o + 120),
		genevePort: b.readUInt16BE(o + 122),
		vxlanPort: b.readUInt16BE(o + 124),
		hostIfindex: b.readUInt32LE(o + 132),
		transportMtu: b.readUInt32LE(o + 136),
		flowHash: HashKey.decode(b, o + 140),
		portHash: HashKey.decode(b, o + 164),
		slowPathRate: b.readUInt32LE(o + 188),
		probeKey: Array.from({ length: 2 }, (_, i) => b.readBigUInt64LE(o + 192 + i * 8)),
		flowTimeouts: Array.from({ length: 12 }, (_, i) => b.readUInt32LE(o + 208 + i * 4)),
		wireMacs: Array.from({ length: 4 }, (_, i) => b.readBigUInt64LE(o + 256 + i * 8)),
		strippedMac: b.readBigUInt64LE(o + 288),
	}),
);

export interface PathProof {
	answeredAt: bigint;
	largeAnsweredAt: bigint;
	sourceMac: bigint;
}
export const PathProof: Codec<PathProof> = codec<PathProof>(
	24,
	(b, o, v) => {
		b.writeBigUInt64LE(v.answeredAt, o);
		b.writeBigUInt64LE(v.largeAnsweredAt, o + 8);
		b.writeBigUInt64LE(v.sourceMac, o + 16);
	},
	(b, o) => ({
		answeredAt: b.readBigUInt64LE(o),
		largeAnsweredAt: b.readBigUInt64LE(o + 8),
		sourceMac: b.readBigUInt64LE(o + 16),
	}),
);

export interface PeerActivity {
	sentAt: bigint;
	greetedAt: bigint;
	answersUntil: bigint;
}
export const PeerActivity: Codec<PeerActivity> = codec<PeerActivity>(
	24,
	(b, o, v) => {
		b.writeBigUInt64LE(v.sentAt, o);
		b.writeBigUInt64LE(v.greetedAt, o + 8);
		b.writeBigUInt64LE(v.answersUntil, o + 16);
	},
	(b, o) => ({
		sentAt: b.readBigUInt64LE(o),
		greetedAt: b.readBigUInt64LE(o + 8),
		answersUntil: b.readBigUInt64LE(o + 16),
	}),
);

export interface PeerCounter {
	directPackets: bigint;
	directBytes: bigint;
	tunnelPackets: bigint;
	tunnelBytes: bigint;
	directLarge: bigint;
	receivedPackets: bigint;
	receivedLarge: bigint;
	receivedTunnelPackets: bigint;
	receivedTunnelLarge: bigint;
}
export const PeerCounter: Codec<PeerCounter> = codec<PeerCounter>(
	72,
	(b, o, v) => {
		b.writeBigUInt64LE(v.directPackets, o);
		b.writeBigUInt64LE(v.directBytes, o + 8);
		b.writeBigUInt64LE(v.tunnelPackets, o + 16);
		b.writeBigUInt64LE(v.tunnelBytes, o + 24);
		b.writeBigUInt64LE(v.directLarge, o + 32);
		b.writeBigUInt64LE(v.receivedPackets, o + 40);
		b.writeBigUInt64LE(v.receivedLarge, o + 48);
		b.writeBigUInt64LE(v.receivedTunnelPackets, o + 56);
		b.writeBigUInt64LE(v.receivedTunnelLarge, o + 64);
	},
	(b, o) => ({
		directPackets: b.readBigUInt64LE(o),
		directBytes: b.readBigUInt64LE(o + 8),
		tunnelPackets: b.readBigUInt64LE(o + 16),
		tunnelBytes: b.readBigUInt64LE(o + 24),
		directLarge: b.readBigUInt64LE(o + 32),
		receivedPackets: b.readBigUInt64LE(o + 40),
		receivedLarge: b.readBigUInt64LE(o + 48),
		receivedTunnelPackets: b.readBigUInt64LE(o + 56),
		receivedTunnelLarge: b.readBigUInt64LE(o + 64),
	}),
);

export interface Peer {
	path: number;
	outerFamily: number;
	port: number;
	vni: number;
	local: string;
	remote: string;
	mtu: number;
	flags: number;
	policyEpoch: number;
	nodeHash: bigint;
}
export const Peer: Codec<Peer> = codec<Peer>(
	56,
	(b, o, v) => {
		b.writeUInt8(v.path, o);
		b.writeUInt8(v.outerFamily, o + 1);
		b.writeUInt16BE(v.port, o + 2);
		b.writeUInt32LE(v.vni, o + 4);
		writeAddress(b, o + 8, v.local);
		writeAddress(b, o + 24, v.remote);
		b.writeUInt32LE(v.mtu, o + 40);
		b.writeUInt8(v.flags, o + 44);
		b.writeUInt16LE(v.policyEpoch, o + 46);
		b.writeBigUInt64LE(v.nodeHash, o + 48);
	},
	(b, o) => ({
		path: b.readUInt8(o),
		outerFamily: b.readUInt8(o + 1),
		port: b.readUInt16BE(o + 2),
		vni: b.readUInt32LE(o + 4),
		local: readAddress(b, o + 8),
		remote: readAddress(b, o + 24),
		mtu: b.readUInt32LE(o + 40),
		flags: b.readUInt8(o + 44),
		policyEpoch: b.readUInt16LE(o + 46),
		nodeHash: b.readBigUInt64LE(o + 48),
	}),
);

export interface Judgement {
	rule: number;
	stagedRule: number;
	flags: number;
}
export const Judgement: Codec<Judgement> = codec<Judgement>(
	8,
	(b, o, v) => {
		b.writeUInt16LE(v.rule, o);
		b.writeUInt16LE(v.stagedRule, o + 2);
		b.writeUInt32LE(v.flags, o + 4);
	},
	(b, o) => ({
		rule: b.readUInt16LE(o),
		stagedRule: b.readUInt16LE(o + 2),
		flags: b.readUInt32LE(o + 4),
	}),
);

export interface PolicyVerdict {
	judgement: Judgement;
	portSet: number;
}
export const PolicyVerdict: Codec<PolicyVerdict> = codec<PolicyVerdict>(
	12,
	(b, o, v) => {
		Judgement.write(b, o, v.judgement);
		b.writeUInt32LE(v.portSet, o + 8);
	},
	(b, o) => ({
		judgement: Judgement.decode(b, o),
		portSet: b.readUInt32LE(o + 8),
	}),
);

export interface Policy {
	verdict: PolicyVerdict;
	hairpin: number;
}
export const Policy: Codec<Policy> = codec<Policy>(
	16,
	(b, o, v) => {
		PolicyVerdict.write(b, o, v.verdict);
		b.writeUInt32LE(v.hairpin, o + 12);
	},
	(b, o) => ({
		verdict: PolicyVerdict.decode(b, o),
		hairpin: b.readUInt32LE(o + 12),
	}),
);

export interface PolicyDenial {
	at: bigint;
	source: string;
	destination: string;
	destinationPort: number;
	rule: number;
	protocol: number;
}
export const PolicyDenial: Codec<PolicyDenial> = codec<PolicyDenial>(
	48,
	(b, o, v) => {
		b.writeBigUInt64LE(v.at, o);
		writeAddress(b, o + 8, v.source);
		writeAddress(b, o + 24, v.destination);
		b.writeUInt16BE(v.destinationPort, o + 40);
		b.writeUInt16LE(v.rule, o + 42);
		b.writeUInt8(v.protocol, o + 44);
	},
	(b, o) => ({
		at: b.readBigUInt64LE(o),
		source: readAddress(b, o + 8),
		destination: readAddress(b, o + 24),
		destinationPort: b.readUInt16BE(o + 40),
		rule: b.readUInt16LE(o + 42),
		protocol: b.readUInt8(o + 44),
	}),
);

/** As one number: policy * 2^32 + class. */
export type PolicyVerdictKey = number;
export const PolicyVerdictKey = policyVerdictKey;

export interface PortSegment {
	from: number;
	judgement: Judgement;
}
export const PortSegment: Codec<PortSegment> = codec<PortSegment>(
	12,
	(b, o, v) => {
		b.writeUInt32LE(v.from, o);
		Judgement.write(b, o + 4, v.judgement);
	},
	(b, o) => ({
		from: b.readUInt32LE(o),
		judgement: Judgement.decode(b, o + 4),
	}),
);

export interface PortSet {
	nextFrom: number;
	next: number;
	count: number;
	segments: PortSegment[];
}
export const PortSet: Codec<PortSet> = codec<PortSet>(
	204,
	(b, o, v) => {
		b.writeUInt32LE(v.nextFrom, o);
		b.writeUInt32LE(v.next, o + 4);
		b.writeUInt32LE(v.count, o + 8);
		elements(v.segments, 16, "port_set.segments").forEach((e, i) => {
			PortSegment.write(b, o + 12 + i * 12, e);
		});
	},
	(b, o) => ({
		nextFrom: b.readUInt32LE(o),
		next: b.readUInt32LE(o + 4),
		count: b.readUInt32LE(o + 8),
		segments: Array.from({ length: 16 }, (_, i) => PortSegment.decode(b, o + 12 + i * 12)),
	}),
);

export interface Route {
	kind: number;
	flags: number;
	mtu: number;
	peer: number;
}
export const Route: Codec<Route> = codec<Route>(
	8,
	(b, o, v) => {
		b.writeUInt8(v.kind, o);
		b.writeUInt8(v.flags, o + 1);
		b.writeUInt16LE(v.mtu, o + 2);
		b.writeUInt32LE(v.peer, o + 4);
	},
	(b, o) => ({
		kind: b.readUInt8(o),
		flags: b.readUInt8(o + 1),
		mtu: b.readUInt16LE(o + 2),
		peer: b.readUInt32LE(o + 4),
	}),
);

export interface RuleCounter {
	flows: bigint;
	packets: bigint;
	staged: bigint;
}
export const RuleCounter: Codec<RuleCounter> = codec<RuleCounter>(
	32,
	(b, o, v) => {
		b.writeBigUInt64LE(v.flows, o);
		b.writeBigUInt64LE(v.packets, o + 8);
		b.writeBigUInt64LE(v.staged, o + 16);
	},
	(b, o) => ({
		flows: b.readBigUInt64LE(o),
		packets: b.readBigUInt64LE(o + 8),
		staged: b.readBigUInt64LE(o + 16),
	}),
);

export interface Scratch {
	word: bigint[];
}
export const Scratch: Codec<Scratch> = codec<Scratch>(
	1152,
	(b, o, v) => {
		elements(v.word, 144, "scratch.word").forEach((e, i) => {
			b.writeBigUInt64LE(e, o + i * 8);
		});
	},
	(b, o) => ({
		word: Array.from({ length: 144 }, (_, i) => b.readBigUInt64LE(o + i * 8)),
	}),
);

export interface AffinityKey {
	client: string;
	service: number;
}
export const AffinityKey: Codec<AffinityKey> = codec<AffinityKey>(
	20,
	(b, o, v) => {
		writeAddress(b, o, v.client);
		b.writeUInt32LE(v.service, o + 16);
	},
	(b, o) => ({
		client: readAddress(b, o),
		service: b.readUInt32LE(o + 16),
	}),
);

export interface Affinity {
	used: bigint;
	backend: number;
}
export const Affinity: Codec<Affinity> = codec<Affinity>(
	16,
	(b, o, v) => {
		b.writeBigUInt64LE(v.used, o);
		b.writeUInt32LE(v.backend, o + 8);
	},
	(b, o) => ({
		used: b.readBigUInt64LE(o),
		backend: b.readUInt32LE(o + 8),
	}),
);

/** As text: "SERVICE PREFIX". */
export type RangeKey = string;
export const RangeKey = rangeKey;

export interface Service {
	clusterSet: bigint;
	localSet: bigint;
	nameHash: bigint;
	affinity: number;
	flags: number;
}
export const Service: Codec<Service> = codec<Service>(
	32,
	(b, o, v) => {
		b.writeBigUInt64LE(v.clusterSet, o);
		b.writeBigUInt64LE(v.localSet, o + 8);
		b.writeBigUInt64LE(v.nameHash, o + 16);
		b.writeUInt32LE(v.affinity, o + 24);
		b.writeUInt32LE(v.flags, o + 28);
	},
	(b, o) => ({
		clusterSet: b.readBigUInt64LE(o),
		localSet: b.readBigUInt64LE(o + 8),
		nameHash: b.readBigUInt64LE(o + 16),
		affinity: b.readUInt32LE(o + 24),
		flags: b.readUInt32LE(o + 28),
	}),
);

export interface TokenBucket {
	spent: bigint;
}
export const TokenBucket: Codec<TokenBucket> = codec<TokenBucket>(
	8,
	(b, o, v) => {
		b.writeBigUInt64LE(v.spent, o);
	},
	(b, o) => ({
		spent: b.readBigUInt64LE(o),
	}),
);

export interface SourceAddress {
	ipv4: string;
	ipv6: string;
}
export const SourceAddress: Codec<SourceAddress> = codec<SourceAddress>(
	32,
	(b, o, v) => {
		writeAddress(b, o, v.ipv4);
		writeAddress(b, o + 16, v.ipv6);
	},
	(b, o) => ({
		ipv4: readAddress(b, o),
		ipv6: readAddress(b, o + 16),
	}),
);

export interface Verdict {
	action: number;
	dropReason: number;
	path: number;
	slowPathKind: number;
	ifindex: number;
	peer: number;
	mtu: number;
	backend: number;
	egressRule: number;
	ingressRule: number;
}
export const Verdict: Codec<Verdict> = codec<Verdict>(
	24,
	(b, o, v) => {
		b.writeUInt8(v.action, o);
		b.writeUInt8(v.dropReason, o + 1);
		b.writeUInt8(v.path, o + 2);
		b.writeUInt8(v.slowPathKind, o + 3);
		b.writeUInt32LE(v.ifindex, o + 4);
		b.writeUInt32LE(v.peer, o + 8);
		b.writeUInt32LE(v.mtu, o + 12);
		b.writeUInt32LE(v.backend, o + 16);
		b.writeUInt16LE(v.egressRule, o + 20);
		b.writeUInt16LE(v.ingressRule, o + 22);
	},
	(b, o) => ({
		action: b.readUInt8(o),
		dropReason: b.readUInt8(o + 1),
		path: b.readUInt8(o + 2),
		slowPathKind: b.readUInt8(o + 3),
		ifindex: b.readUInt32LE(o + 4),
		peer: b.readUInt32LE(o + 8),
		mtu: b.readUInt32LE(o + 12),
		backend: b.readUInt32LE(o + 16),
		egressRule: b.readUInt16LE(o + 20),
		ingressRule: b.readUInt16LE(o + 22),
	}),
);

export interface SlowPathHeader {
	kind: number;
	hook: number;
	pod: number;
	ifindex: number;
	mtu: number;
	length: number;
	nextHop: string;
	nextHopIfindex: number;
}
export const SlowPathHeader: Codec<SlowPathHeader> = codec<SlowPathHeader>(
	36,
	(b, o, v) => {
		b.writeUInt8(v.kind, o);
		b.writeUInt8(v.hook, o + 1);
		b.writeUInt16LE(v.pod, o + 2);
		b.writeUInt32LE(v.ifindex, o + 4);
		b.writeUInt32LE(v.mtu, o + 8);
		b.writeUInt32LE(v.length, o + 12);
		writeAddress(b, o + 16, v.nextHop);
		b.writeUInt32LE(v.nextHopIfindex, o + 32);
	},
	(b, o) => ({
		kind: b.readUInt8(o),
		hook: b.readUInt8(o + 1),
		pod: b.readUInt16LE(o + 2),
		ifindex: b.readUInt32LE(o + 4),
		mtu: b.readUInt32LE(o + 8),
		length: b.readUInt32LE(o + 12),
		nextHop: readAddress(b, o + 16),
		nextHopIfindex: b.readUInt32LE(o + 32),
	}),
);

export interface Probe {
	magic: number;
	kind: number;
	flags: number;
	wayThere: number;
	wayBack: number;
	length: number;
	answerLength: number;
	sequence: number;
	sentAt: bigint;
	token: bigint;
	sentPackets: number;
	sentLarge: number;
	receivedPackets: number;
	receivedLarge: number;
}
export const Probe: Codec<Probe> = codec<Probe>(
	48,
	(b, o, v) => {
		b.writeUInt32BE(v.magic, o);
		b.writeUInt8(v.kind, o + 4);
		b.writeUInt8(v.flags, o + 5);
		b.writeUInt8(v.wayThere, o + 6);
		b.writeUInt8(v.wayBack, o + 7);
		b.writeUInt16BE(v.length, o + 8);
		b.writeUInt16BE(v.answerLength, o + 10);
		b.writeUInt32BE(v.sequence, o + 12);
		b.writeBigUInt64LE(v.sentAt, o + 16);
		b.writeBigUInt64LE(v.token, o + 24);
		b.writeUInt32BE(v.sentPackets, o + 32);
		b.writeUInt32BE(v.sentLarge, o + 36);
		b.writeUInt32BE(v.receivedPackets, o + 40);
		b.writeUInt32BE(v.receivedLarge, o + 44);
	},
	(b, o) => ({
		magic: b.readUInt32BE(o),
		kind: b.readUInt8(o + 4),
		flags: b.readUInt8(o + 5),
		wayThere: b.readUInt8(o + 6),
		wayBack: b.readUInt8(o + 7),
		length: b.readUInt16BE(o + 8),
		answerLength: b.readUInt16BE(o + 10),
		sequence: b.readUInt32BE(o + 12),
		sentAt: b.readBigUInt64LE(o + 16),
		token: b.readBigUInt64LE(o + 24),
		sentPackets: b.readUInt32BE(o + 32),
		sentLarge: b.readUInt32BE(o + 36),
		receivedPackets: b.readUInt32BE(o + 40),
		receivedLarge: b.readUInt32BE(o + 44),
	}),
);

export interface ProbeRecord {
	event: number;
	wayThere: number;
	wayBack: number;
	announced: number;
	index: number;
	sequence: number;
	length: number;
	answerLength: number;
	sentAt: bigint;
	roundTrip: bigint;
	sentPackets: number;
	sentLarge: number;
	receivedPackets: number;
	receivedLarge: number;
}
export const ProbeRecord: Codec<ProbeRecord> = codec<ProbeRecord>(
	56,
	(b, o, v) => {
		b.writeUInt8(v.event, o);
		b.writeUInt8(v.wayThere, o + 1);
		b.writeUInt8(v.wayBack, o + 2);
		b.writeUInt8(v.announced, o + 3);
		b.writeUInt32LE(v.index, o + 8);
		b.writeUInt32LE(v.sequence, o + 12);
		b.writeUInt32LE(v.length, o + 16);
		b.writeUInt32LE(v.answerLength, o + 20);
		b.writeBigUInt64LE(v.sentAt, o + 24);
		b.writeBigUInt64LE(v.roundTrip, o + 32);
		b.writeUInt32LE(v.sentPackets, o + 40);
		b.writeUInt32LE(v.sentLarge, o + 44);
		b.writeUInt32LE(v.receivedPackets, o + 48);
		b.writeUInt32LE(v.receivedLarge, o + 52);
	},
	(b, o) => ({
		event: b.readUInt8(o),
		wayThere: b.readUInt8(o + 1),
		wayBack: b.readUInt8(o + 2),
		announced: b.readUInt8(o + 3),
		index: b.readUInt32LE(o + 8),
		sequence: b.readUInt32LE(o + 12),
		length: b.readUInt32LE(o + 16),
		answerLength: b.readUInt32LE(o + 20),
		sentAt: b.readBigUInt64LE(o + 24),
		roundTrip: b.readBigUInt64LE(o + 32),
		sentPackets: b.readUInt32LE(o + 40),
		sentLarge: b.readUInt32LE(o + 44),
		receivedPackets: b.readUInt32LE(o + 48),
		receivedLarge: b.readUInt32LE(o + 52),
	}),
);

/** Every map of the object, by its name in camel case. */
export const maps = {
	backendStates: {
		name: "backend_states",
		type: 2,
		maxEntries: 32768,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: u64,
	},
	backends: {
		name: "backends",
		type: 2,
		maxEntries: 262144,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 24,
		key: u32,
		value: Backend,
	},
	blocks: {
		name: "blocks",
		type: 11,
		maxEntries: 131072,
		flags: 1,
		perCpu: false,
		keySize: 20,
		valueSize: 4,
		key: RouteKey,
		value: u32,
	},
	classLimit: {
		name: "class_limit",
		type: 2,
		maxEntries: 1,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 4,
		key: u32,
		value: u32,
	},
	drops: {
		name: "drops",
		type: 6,
		maxEntries: 49,
		flags: 0,
		perCpu: true,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: u64,
	},
	elementWrites: {
		name: "element_writes",
		type: 2,
		maxEntries: 1,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 4,
		key: u32,
		value: u32,
	},
	endpoints: {
		name: "endpoints",
		type: 1,
		maxEntries: 4096,
		flags: 0,
		perCpu: false,
		keySize: 16,
		valueSize: 16,
		key: address,
		value: Endpoint,
	},
	events: {
		name: "events",
		type: 6,
		maxEntries: 11,
		flags: 0,
		perCpu: true,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: u64,
	},
	flowCounts: {
		name: "flow_counts",
		type: 2,
		maxEntries: 4097,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: FlowCount,
	},
	flowHints: {
		name: "flow_hints",
		type: 2,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 16,
		key: u32,
		value: FlowPair,
	},
	flowIndex: {
		name: "flow_index",
		type: 1,
		maxEntries: 263168,
		flags: 0,
		perCpu: false,
		keySize: 40,
		valueSize: 16,
		key: FlowKey,
		value: FlowRef,
	},
	flowRules: {
		name: "flow_rules",
		type: 2,
		maxEntries: 131072,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 4,
		key: u32,
		value: FlowRules,
	},
	flows: {
		name: "flows",
		type: 2,
		maxEntries: 131072,
		flags: 1024,
		perCpu: false,
		keySize: 4,
		valueSize: 128,
		key: u32,
		value: Flow,
	},
	fragmentPlaces: {
		name: "fragment_places",
		type: 1,
		maxEntries: 16384,
		flags: 1,
		perCpu: false,
		keySize: 4,
		valueSize: 40,
		key: FragmentPlace,
		value: FragmentKey,
	},
	fragmentTurns: {
		name: "fragment_turns",
		type: 2,
		maxEntries: 4098,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 4,
		key: u32,
		value: u32,
	},
	fragments: {
		name: "fragments",
		type: 1,
		maxEntries: 16384,
		flags: 1,
		perCpu: false,
		keySize: 40,
		valueSize: 8,
		key: FragmentKey,
		value: Fragment,
	},
	frontends: {
		name: "frontends",
		type: 1,
		maxEntries: 262144,
		flags: 1,
		perCpu: false,
		keySize: 20,
		valueSize: 8,
		key: FrontendKey,
		value: Frontend,
	},
	identities: {
		name: "identities",
		type: 1,
		maxEntries: 262144,
		flags: 1,
		perCpu: false,
		keySize: 16,
		valueSize: 4,
		key: address,
		value: u32,
	},
	nextHopSettle: {
		name: "next_hop_settle",
		type: 2,
		maxEntries: 1,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: u64,
	},
	nextHops: {
		name: "next_hops",
		type: 2,
		maxEntries: 36864,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 32,
		key: u32,
		value: NextHop,
	},
	nodeConfig: {
		name: "node_config",
		type: 2,
		maxEntries: 1,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 296,
		key: u32,
		value: NodeConfig,
	},
	pathProofs: {
		name: "path_proofs",
		type: 2,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 24,
		key: u32,
		value: PathProof,
	},
	peerActivity: {
		name: "peer_activity",
		type: 2,
		maxEntries: 32768,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 24,
		key: u32,
		value: PeerActivity,
	},
	peerAddresses: {
		name: "peer_addresses",
		type: 1,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 16,
		valueSize: 4,
		key: address,
		value: u32,
	},
	peerCounters: {
		name: "peer_counters",
		type: 6,
		maxEntries: 32768,
		flags: 0,
		perCpu: true,
		keySize: 4,
		valueSize: 72,
		key: u32,
		value: PeerCounter,
	},
	peerGateways: {
		name: "peer_gateways",
		type: 1,
		maxEntries: 32768,
		flags: 1,
		perCpu: false,
		keySize: 16,
		valueSize: 4,
		key: address,
		value: u32,
	},
	peerPaths: {
		name: "peer_paths",
		type: 2,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 56,
		key: u32,
		value: Peer,
	},
	peers: {
		name: "peers",
		type: 2,
		maxEntries: 32768,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 56,
		key: u32,
		value: Peer,
	},
	policies: {
		name: "policies",
		type: 2,
		maxEntries: 16384,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 16,
		key: u32,
		value: Policy,
	},
	policyDenials: {
		name: "policy_denials",
		type: 2,
		maxEntries: 4096,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 48,
		key: u32,
		value: PolicyDenial,
	},
	policyVerdicts: {
		name: "policy_verdicts",
		type: 1,
		maxEntries: 524288,
		flags: 1,
		perCpu: false,
		keySize: 8,
		valueSize: 12,
		key: PolicyVerdictKey,
		value: PolicyVerdict,
	},
	portSets: {
		name: "port_sets",
		type: 1,
		maxEntries: 65536,
		flags: 1,
		perCpu: false,
		keySize: 4,
		valueSize: 204,
		key: u32,
		value: PortSet,
	},
	probeEvents: {
		name: "probe_events",
		type: 27,
		maxEntries: 1048576,
		flags: 0,
		perCpu: false,
		keySize: 0,
		valueSize: 0,
	},
	routes: {
		name: "routes",
		type: 11,
		maxEntries: 65536,
		flags: 1,
		perCpu: false,
		keySize: 20,
		valueSize: 8,
		key: RouteKey,
		value: Route,
	},
	ruleCounters: {
		name: "rule_counters",
		type: 2,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 32,
		key: u32,
		value: RuleCounter,
	},
	scratch: {
		name: "scratch",
		type: 6,
		maxEntries: 1,
		flags: 0,
		perCpu: true,
		keySize: 4,
		valueSize: 1152,
		key: u32,
		value: Scratch,
	},
	serviceAffinity: {
		name: "service_affinity",
		type: 9,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 20,
		valueSize: 16,
		key: AffinityKey,
		value: Affinity,
	},
	serviceRanges: {
		name: "service_ranges",
		type: 11,
		maxEntries: 65536,
		flags: 1,
		perCpu: false,
		keySize: 24,
		valueSize: 1,
		key: RangeKey,
		value: u8,
	},
	serviceSlots: {
		name: "service_slots",
		type: 2,
		maxEntries: 524288,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 4,
		key: u32,
		value: u32,
	},
	services: {
		name: "services",
		type: 2,
		maxEntries: 65536,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 32,
		key: u32,
		value: Service,
	},
	slowPath: {
		name: "slow_path",
		type: 27,
		maxEntries: 8388608,
		flags: 0,
		perCpu: false,
		keySize: 0,
		valueSize: 0,
	},
	slowPathBuckets: {
		name: "slow_path_buckets",
		type: 2,
		maxEntries: 4099,
		flags: 0,
		perCpu: false,
		keySize: 4,
		valueSize: 8,
		key: u32,
		value: TokenBucket,
	},
	sourceAddresses: {
		name: "source_addresses",
		type: 1,
		maxEntries: 1024,
		flags: 1,
		perCpu: false,
		keySize: 4,
		valueSize: 32,
		key: u32,
		value: SourceAddress,
	},
	verdicts: {
		name: "verdicts",
		type: 6,
		maxEntries: 1,
		flags: 0,
		perCpu: true,
		keySize: 4,
		valueSize: 24,
		key: u32,
		value: Verdict,
	},
} as const;

/** Bytes of .rodata that are written before the load. */
export const knobs = {
	traceVerdicts: { offset: 0, ...u8 },
	slowReads: { offset: 4, ...u32 },
	slowWrites: { offset: 8, ...u32 },
	vethWire: { offset: 12, ...u8 },
	xdpGeneric: { offset: 13, ...u8 },
	hasDecapL3: { offset: 14, ...u8 },
	hasFibSource: { offset: 15, ...u8 },
	hasFibMark: { offset: 16, ...u8 },
	hasConntrack: { offset: 17, ...u8 },
	hasKernelContext: { offset: 18, ...u8 },
	weakMemoryOrder: { offset: 19, ...u8 },
	flowSlots: { offset: 20, ...u32 },
} as const;
