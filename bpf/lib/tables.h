/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every constant, structure and map shared by the BPF programs and the control plane, declared
 * once. TypeScript is generated from the BTF of the linked object (`npm run generate`), so renaming
 * a field here breaks the compilation there.
 *
 * Conventions
 *  - An address is 16 bytes in network order, IPv4 as ::ffff:a.b.c.d.
 *  - __be16/__be32 are in network order; every other integer is the host's.
 *  - Padding is explicit and zero; the generator refuses implicit holes.
 *  - Ownership: "agent" tables are written by src/reconcile only, "core" tables
 *    by the BPF programs only.
 */
#ifndef FAIRWAY_TABLES_H
#define FAIRWAY_TABLES_H

#include <linux/types.h>

struct address {
	__be32 word[4];
};

struct mac {
	__u8 byte[6];
};

/* ------------------------------------------------------------ constants */

enum limit {
	/* peers: one id per Node, two entries (IPv4, IPv6) per id */
	PEERS_MAX = 16384,
	ENDPOINTS_MAX = 4096,
	ROUTES_MAX = 65536,
	/* first fragments: in all, of one Pod, from the wire, of the Node */
	FRAGMENTS_MAX = 16384,
	FRAGMENTS_POD = 32,
	FRAGMENTS_WIRE = 4096,
	FRAGMENTS_HOST = 1024,
	FLOWS_DEFAULT = 131072,
	SLOW_PATH_BYTES = 8388608,
	/* packets a second, and at once, that each Pod may hand up, independent of the other Pods */
	SLOW_PATH_SHARE = 64,
	/* packets a second, and at once, that each Pod may send to unresolved neighbours of its choice; each takes
	 * SLOW_PATH_SHARE / NEIGHBOUR_RATE of that share */
	NEIGHBOUR_RATE = 16,
	/* the longest packet that the slow path takes, from its IP header on */
	SLOW_PATH_PACKET_MAX = 9600,
	/* ports that a new SNAT flow tries before it gives up */
	SNAT_TRIES = 128,
	/* tries after which a new connection may take the port of a closed one of the same Pod */
	SNAT_FREE_TRIES = 32,
	/* likewise that of a UDP or echo flow, whose end no packet shows, silent for this long */
	SNAT_SILENT_SECONDS = 10,
	/* slots that a new flow tries before the table counts as full */
	FLOW_SLOT_TRIES = 64,
	/* of these, the number after which a flow of a Pod over its share is evicted */
	FLOW_SLOT_SAMPLE = 16,
	/* searches for a slot, when other CPUs take the found one first */
	FLOW_SLOT_ROUNDS = 8,
	/* a Pod with no more flows than this is never over its share */
	FLOWS_FEW = 16,
	/* flow_index: entries beyond two for each slot, for tuples that are just being replaced */
	FLOW_INDEX_SPARE = 1024,
	GENEVE_PORT = 6081,
	VXLAN_PORT = 4789,
	/* replaces the remote port in the flow key of an ICMP echo */
	ECHO_PORT = 8,
	TUNNEL_TTL = 64,
	/* a cached next hop is used this long before the kernel is asked again */
	NEXT_HOP_TRUST_MS = 100,
	/* nothing is cached for this long after an ARP or neighbour message */
	NEXT_HOP_SETTLE_MS = 50,
	/* next_hops: the first of the gateways to the outside, and how many there are */
	NEXT_HOP_OUTSIDE = PEERS_MAX * 2,
	GATEWAYS_MAX = 4096,
	/* flow.asked: in units of 67 ms; for how many of them a flow uses the kernel's answer */
	FLOW_ASKED_SHIFT = 26,
	FLOW_ASKED_TRUST = 14,
	/* next_hop.checked while a CPU writes the entry: as old as the machine, so never trusted */
	NEXT_HOP_WRITING = 1,
	NO_PEER = 0xffffffff,
	/* longer IP packets count as large; every path carries shorter ones (RFC 8200, 5) */
	LARGE_PACKET = 1280,
	/* UDP source and destination port of probes between gateway addresses */
	PROBE_PORT = 6083,
	PROBE_MAGIC = 0x46570001, /* "FW", version 1 */
	/* answers to older probes are refused */
	PROBE_LIFE_MS = 5000,
	PROBE_TTL = 64,		/* of an answer */
	PROBE_ANSWER_SHIFT = 4, /* of the answering core's flags */
	/* traffic to a peer counts as beginning when there was none for this long */
	TRAFFIC_PAUSE_MS = 2000,
	/* a peer's greeting is reported at most once in this time */
	HELLO_PAUSE_MS = 500,
	PROBE_RING_BYTES = 1048576,
	PEER_GATEWAYS_MAX = 32768,
	SOURCE_ADDRESSES_MAX = 1024,
	/* MACs of NICs that XDP knows as this Node's own; frames for others go up to TC */
	WIRE_MACS_MAX = 4,
	/* limit of answers to one peer's probes: one in this time on average, and this many at once */
	PROBE_ANSWER_NS = 2000000,
	PROBE_ANSWER_BURST = 128,
	/* Services: addresses with a port, and addresses; ports of Services, by family; places in all
	 * sets; all endpoints */
	FRONTENDS_MAX = 262144,
	SERVICES_MAX = 65536,
	SERVICE_SLOTS_MAX = 524288,
	BACKENDS_MAX = 262144,
	SERVICE_RANGES_MAX = 65536,
	AFFINITIES_MAX = 65536,
	/* an id of backends rests this long before another endpoint gets it: no UDP flow lasts longer */
	BACKEND_REST_SECONDS = 600,
	/* backends that a new flow tries while the entries of the Service are being changed */
	BACKEND_TRIES = 3,
	/* network policy; see src/policy/in_force.ts for the limits of their contents */
	IDENTITIES_MAX = 262144,
	BLOCKS_MAX = 131072,
	POLICIES_MAX = 16384,
	POLICY_VERDICTS_MAX = 524288,
	PORT_SETS_MAX = 65536,
	POLICY_RULES_MAX = 65536,
	/* records of denied packets: places, and the pause after a record for each place */
	DENIALS_MAX = 4096,
	DENIAL_PAUSE_NS = 100000000,
	/* segments of a part of a port set, and parts of one */
	PORT_SET_SEGMENTS = 16,
	PORT_SET_PARTS = 64,
};

/* The hook that sees a packet. */
enum hook {
	HOOK_FROM_POD = 0,
	HOOK_FROM_WIRE = 1,
	HOOK_FROM_WIRE_XDP = 2,
	HOOK_TO_POD = 3,
	HOOK_FROM_HOST = 4,
	HOOK_FROM_LINK = 5,
	HOOK_TO_WIRE = 6,
	HOOK_FROM_LOOPBACK = 7,
};

/* Why a packet was dropped. `fairway status` shows the names in lower case without DROP_. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_MALFORMED = 1,	  /* truncated or inconsistent headers */
	DROP_SPOOFED_ADDRESS = 2, /* a Pod used an address that is not its own */
	DROP_SPOOFED_MAC = 3,	  /* a Pod used a MAC that is not its own */
	DROP_MULTICAST = 4,	  /* multicast or broadcast beyond the link */
	DROP_NO_ENDPOINT = 5,	  /* an address of this Node's pod CIDRs without a Pod */
	DROP_NO_ROUTE = 6,	  /* the kernel has no route there */
	DROP_TUNNEL_FROM_POD = 7, /* a Pod's packet that a peer would take for its Node's tunnel */
	DROP_PEER_DOWN = 8,	  /* the peer has no working path */
	DROP_NO_SNAT_ADDRESS = 9, /* SNAT without a Node address of this family */
	DROP_SNAT_PORTS_EXHAUSTED = 10,	    /* no free source port towards that destination */
	DROP_FLOW_TABLE_FULL = 11,	    /* SNAT needs a flow and no slot is free */
	DROP_TTL_EXCEEDED = 12,		    /* answered with time exceeded */
	DROP_PACKET_TOO_BIG = 13,	    /* answered with packet too big */
	DROP_SLOW_PATH_RATE = 14,	    /* above the rate limit of the slow path */
	DROP_SLOW_PATH_FULL = 15,	    /* the slow path's ring is full (is the agent down?) */
	DROP_SLOW_PATH_SIZE = 16,	    /* too long for the slow path */
	DROP_TUNNEL_UNKNOWN_PEER = 17,	    /* a tunnel packet from an unknown address */
	DROP_TUNNEL_BAD_VNI = 18,	    /* a peer's tunnel packet with another VNI */
	DROP_TUNNEL_MALFORMED = 19,	    /* invalid Geneve or VXLAN on a tunnel port */
	DROP_TUNNEL_CRITICAL_OPTION = 20,   /* Geneve: an unknown critical option */
	DROP_TUNNEL_WRONG_SOURCE = 21,	    /* inner source outside the peer's pod CIDRs */
	DROP_TUNNEL_WRONG_DESTINATION = 22, /* inner destination is not on this Node */
	DROP_TUNNEL_ECN = 23, /* congestion mark on a flow that has no ECN (RFC 6040) */
	DROP_MARTIAN_SOURCE =
		24, /* from the network, from an address of this Node or its Pods, or an invalid one */
	DROP_FRAGMENT_UNKNOWN = 25, /* a later fragment without its first one */
	DROP_ICMP_UNRELATED =
		26, /* an ICMP error about no translated flow, or a Pod's about another Pod's packet */
	DROP_REWRITE_FAILED = 27, /* the kernel refused to change the packet */
	DROP_NOT_CONFIGURED = 28, /* the agent has not yet written the node's configuration */
	DROP_UNSUPPORTED_ETHERTYPE = 29, /* neither IPv4, IPv6 nor ARP from a Pod */
	DROP_PROBE_REFUSED = 30,     /* a probe or an answer that is malformed, late or forged */
	DROP_SPOOFED_NEIGHBOUR = 31, /* ARP or neighbour discovery for another's address */
	DROP_ROUTER_DISCOVERY = 32,  /* a router solicitation, advertisement or redirect of a Pod */
	DROP_UNTUNNELLED =
		33, /* without a tunnel, from a peer that sends Pod packets in tunnels only */
	DROP_PEER_MAC_MISMATCH = 34, /* a peer's address, but sent by another host of its subnet */
	DROP_PROBE_RATE = 35,	     /* more probes of one peer than this Node answers */
	DROP_SCTP_BUNDLE = 36, /* SCTP bundle for a tunnel: the Pod's tx-sctp-segmentation is on */
	DROP_SERVICE_NO_ENDPOINTS = 37, /* a Service without endpoints: answered */
	DROP_SERVICE_NO_LOCAL_ENDPOINTS =
		38, /* traffic policy Local, and no endpoint of the Service on this Node */
	DROP_SERVICE_UNKNOWN_PORT =
		39, /* a Service's address, but no port of the Service: answered */
	DROP_SERVICE_UNKNOWN_ADDRESS = 40,     /* in a service CIDR, but no Service's address */
	DROP_SERVICE_SOURCE_RANGE = 41,	       /* outside the load balancer's source ranges */
	DROP_SERVICE_EXTERNAL_CLUSTER_IP = 42, /* a cluster IP from outside the cluster */
	DROP_POLICY_EGRESS = 43,	       /* denied by network policy of the sending Pod */
	DROP_POLICY_INGRESS = 44,	       /* denied by network policy of the receiving Pod */
	DROP_POLICY_NOT_READY = 45,	       /* a Pod whose policies are not known yet */
	DROP_POLICY_INCOMPLETE =
		46, /* the tables of network policy are inconsistent, which never happens */
	DROP_MARTIAN_DESTINATION = 47, /* from a Pod, to an unspecified or loopback address */
	DROP_NEIGHBOUR_RATE =
		48, /* from a Pod, to more silent hosts on the Node's links than it may try */
	DROP_REASON_COUNT = 49,
};

/* Counted events that are not drops. */
enum event_counter {
	EVENT_UNTRACKED =
		0, /* forwarded without a flow: the table was full, or another CPU was beginning or removing the same flow */
	EVENT_FLOW_EVICTED_EARLY = 1,	  /* a flow was evicted to make room for a new one */
	EVENT_SLOW_PATH = 2,		  /* packets handed to the slow path */
	EVENT_NEXT_HOP_REFRESHED = 3,	  /* a cached next hop was resolved again by the kernel */
	EVENT_MSS_CLAMPED = 4,		  /* a SYN's MSS was lowered to its path's */
	EVENT_PROBE_ANSWERED = 5,	  /* probes of peers that were answered */
	EVENT_SLOW_PATH_REFUSED_POD = 6,  /* a Pod's packets above its own and the common share */
	EVENT_SLOW_PATH_REFUSED_WIRE = 7, /* packets from the wire above its rate */
	EVENT_SLOW_PATH_REFUSED_HOST = 8, /* packets of the Node itself above its rate */
	EVENT_SLOW_PATH_RING_FULL = 9,	  /* packets for which the slow path's ring had no room */
	EVENT_PROBE_RING_FULL = 10,	  /* events lost for the prober: its ring was full */
	EVENT_COUNT = 11,
};

/* ---------------------------------------------- agent: the node itself */

enum flow_state {
	FLOW_NONE = 0,
	FLOW_TCP_OPENING = 1,
	FLOW_TCP_ESTABLISHED = 2,
	FLOW_TCP_CLOSING = 3, /* a FIN was seen */
	FLOW_TCP_CLOSED = 4,  /* both FINs, or a RST */
	FLOW_UDP_OPENING = 5, /* no answer yet */
	FLOW_UDP_ESTABLISHED = 6,
	FLOW_ICMP = 7,
	FLOW_SCTP_OPENING = 8,
	FLOW_SCTP_ESTABLISHED = 9,
	FLOW_SCTP_CLOSED = 10,
	FLOW_OTHER = 11,
	FLOW_STATE_COUNT = 12,
};

enum node_flag {
	NODE_CONFIGURED = 1,
	NODE_SNAT = 2,	     /* Pod traffic to the outside takes the Node's address */
	NODE_ROUTE_MTU = 4,  /* a route of the kernel's has an MTU: `routes` has it */
	NODE_STACK_SNAT = 8, /* to_wire translates Pods' packets that the Node's stack forwards */
	/* Pod packets of this Node may leave without a tunnel: its probes announce it */
	NODE_SENDS_UNTUNNELLED = 16,
	/* Services are served for the outside and for the Node's own processes, too */
	NODE_SERVES_ALL = 32,
	/* cluster IPs also for the outside */
	NODE_SERVES_CLUSTER_IPS = 64,
	/* to_wire translates the Node's own answers to a Service's outside clients */
	NODE_STACK_ANSWERS = 128,
};

/* A secret for hashes of tuples. */
struct hash_key {
	__u32 word[6];
};

/* node_config: array of one. Everything here may change while packets flow. */
struct node_config {
	__u32 flags; /* enum node_flag */
	/* Raised after any change of routes or endpoints, and when a peer id
	 * changes its Node; a route that a flow remembers is of one epoch. Never 0. */
	__u32 route_epoch;
	/* Raised when the kernel's routes, links or neighbours change. */
	__u32 next_hop_epoch;
	__u32 vni;
	/* Sources of translated packets where the device they leave by has none; all zero: none. */
	struct address snat_address4;
	struct address snat_address6;
	struct address gateway_address4; /* source of ICMP errors; all zero: none */
	struct address gateway_address6;
	/* Source of connections from the Node's own processes to a Service's endpoint on this Node itself: not
	 * the Node's address, so that the answers come by fairway0. All zero: none. */
	struct address return_address4;
	struct address return_address6;
	struct mac gateway_mac; /* host side of every Pod's veth, and of fairway0 */
	__u16 snat_port_first;	/* inclusive */
	__u16 snat_port_last;	/* inclusive */
	__be16 geneve_port;	/* the port of this Node's tunnels; 0: they are of the other type */
	__be16 vxlan_port;
	__u16 pad[3];
	__u32 host_ifindex;		       /* fairway0 */
	__u32 transport_mtu;		       /* largest IP packet on the transport interface */
	struct hash_key flow_hash;	       /* slots of flows, and tunnel source ports */
	struct hash_key port_hash;	       /* SNAT ports, which the outside sees */
	__u32 slow_path_rate;		       /* packets a second: enum slow_path_bucket */
	__u64 probe_key[2];		       /* secret of this Node: its probes' tokens */
	__u32 flow_timeouts[FLOW_STATE_COUNT]; /* seconds, by flow_state */
	/* MACs as in struct next_hop: 6 bytes as on the wire, then two zero bytes. */
	__u64 wire_macs[WIRE_MACS_MAX]; /* of the devices that from_wire is attached to; 0: none */
	/* Secret of this Node: the Ethernet source of a frame whose tunnel XDP has stripped, so that TC
	 * can tell it from one that came without. */
	__u64 stripped_mac;
};

/* ------------------------------------------------------- agent: peers */

enum path {
	PATH_NONE = 0,	 /* no such peer, or not of this family */
	PATH_DIRECT = 1, /* to the peer's own MAC */
	PATH_ROUTED = 2, /* to this Node's next hop towards the peer */
	PATH_GENEVE = 3,
	PATH_VXLAN = 4,
	PATH_DOWN = 5,
};

enum peer_flag {
	PEER_TUNNELLED_ONLY = 1, /* its Pod packets come in tunnels; others are not the peer's */
	PEER_ANNOUNCED = 2,	 /* its probes announce whether that is so */
	PEER_ENDING =
		4, /* it has announced the end of untunnelled packets: accepted, no longer invited */
};

/* peers: array, index = peer id * 2 + (1 for IPv6 Pod packets). One write
 * changes the path of every flow to that peer. */
struct peer {
	__u8 path;	       /* enum path */
	__u8 outer_family;     /* tunnels: 4 or 6 */
	__be16 port;	       /* tunnels: UDP destination port */
	__u32 vni;	       /* tunnels */
	struct address local;  /* tunnels: outer source */
	struct address remote; /* outer destination; direct: the address to resolve */
	__u32 mtu;	       /* largest IP packet of a Pod on this path */
	__u8 flags;	       /* enum peer_flag */
	__u8 pad;
	/* Raised when policies judge some address of this peer otherwise; flows with it are judged anew. */
	__u16 policy_epoch;
	__u64 node_hash; /* FNV-1a of the Node's name: the owner of this id */
};

/* peer_addresses: hash, address from which tunnel packets are accepted → peer id. */

/* The path of a probe; peer_paths has index * 2 + way, with the index of peers. */
enum probe_way {
	PROBE_DIRECT = 0,
	PROBE_TUNNEL = 1,
};

/* peer_paths: array of struct peer, every possible path to a peer, whichever is in `peers`: PATH_DIRECT
 * or PATH_ROUTED, and PATH_GENEVE or PATH_VXLAN; PATH_NONE: there is none. mtu is the device's, not
 * the measured one. */

/* peer_gateways: hash, gateway address of a peer → peer id: source and destination of probes. */

enum route_kind {
	ROUTE_OUTSIDE = 0,    /* to the kernel's FIB; also where no prefix matches */
	ROUTE_LOCAL_PODS = 1, /* this Node's pod CIDRs: needs an endpoint */
	ROUTE_HOST = 2,	      /* this Node's own addresses, gateway included */
	ROUTE_PEER = 3,	      /* a peer's pod CIDR */
	ROUTE_STACK = 4,      /* Services of another proxy: to the Node's own stack */
	ROUTE_SERVICE = 5,    /* addresses of Services: served by a frontend, or dropped */
};

enum route_flag {
	ROUTE_NO_SNAT = 1,    /* snat.excludeCIDRs */
	ROUTE_PEER_NODE = 2,  /* a peer's tunnels end here; set by the core */
	ROUTE_NODE_PORTS = 4, /* ROUTE_HOST: NodePorts are served at this address */
	/* ROUTE_HOST, ROUTE_OUTSIDE: some ports of this address belong to a Service, the others do not */
	ROUTE_SERVICE_PORTS = 8,
	/* ROUTE_HOST: peers know this address as this Node's, and accept it as a source in its tunnels */
	ROUTE_PEERS_KNOW = 16,
	/* ROUTE_HOST: no tunnel ends here. Peers do not know the address as this Node's, so none of them
	 * keeps its Pods from sending a tunnel of their own to it. */
	ROUTE_NO_TUNNELS = 32,
};

struct route_key {
	__u32 prefix_length; /* of the 128 bits: 96 + n for IPv4 */
	struct address address;
};

/* routes: LPM trie. */
struct route {
	__u8 kind;  /* enum route_kind */
	__u8 flags; /* enum route_flag */
	/* ROUTE_OUTSIDE: the MTU of the kernel's route; 0: that of its device. In the core's copy of a
	 * ROUTE_PEER: the peer's policy_epoch. */
	__u16 mtu;
	__u32 peer; /* ROUTE_PEER: peer id, else NO_PEER */
};

/* endpoints: hash, a local Pod's address → its interface. */
struct endpoint {
	__u32 ifindex;	/* host side of its veth */
	struct mac mac; /* of the Pod's side */
	/* The Pod's index in tables by Pod: 1 to ENDPOINTS_MAX, one for all its addresses, constant while the
	 * Pod exists, also over restarts; 0 in such a table means no Pod (wire, host). */
	__u16 index;
	__u16 egress_policy; /* index in policies; enum endpoint_policy */
	__u16 ingress_policy;
};

/* source_addresses: hash, interface index → the source of packets that leave by it. Used only where the
 * kernel's FIB does not return it (before Linux 6.7). */
struct source_address {
	struct address ipv4; /* all zero: none */
	struct address ipv6;
};

/* ------------------------------------------------------- agent: Services */

enum frontend_kind {
	FRONTEND_ADDRESS =
		0, /* port and protocol 0: all ports of this address belong to a Service */
	FRONTEND_CLUSTER_IP = 1,
	FRONTEND_NODE_PORT = 2,
	FRONTEND_LOAD_BALANCER = 3,
	FRONTEND_EXTERNAL_IP = 4,
};

/* frontends: hash. The address of a NodePort is ::ffff:0.0.0.0 or :: and stands for each one of this
 * Node's with ROUTE_NODE_PORTS. */
struct frontend_key {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

struct frontend {
	__u32 service; /* index in services */
	__u8 kind;     /* enum frontend_kind */
	__u8 pad[3];
};

enum service_flag {
	SERVICE_INTERNAL_LOCAL = 1, /* internalTrafficPolicy */
	SERVICE_EXTERNAL_LOCAL = 2, /* externalTrafficPolicy */
	SERVICE_RANGES = 4,	    /* its load balancer IPs have source ranges */
};

/* services: array, index 0 unused: a port of a Service, in one family. A set is its first place in
 * service_slots | the number of its backends << 32, one word, so that both are of one moment. */
struct service {
	__u64 cluster_set;
	__u64 local_set;
	__u64 name_hash; /* FNV-1a of "NAMESPACE/NAME PORTNAME PROTOCOL FAMILY": the owner of this index */
	__u32 affinity; /* seconds that a client stays with its backend; 0: it does not */
	__u32 flags;	/* enum service_flag */
};

/* service_slots: array of __u32, index in backends. Each set has a run of its own. */

/* backends: array, index 0 unused. An entry stays as it is while any flow may name it. */
struct backend {
	struct address address;
	__be16 port;
	__u8 pad[2];
	__u32 service; /* index in services */
};

/* backend_states: array of __u64, eight states each: that of backend id is byte id % 8 of word id / 8, the
 * first byte the lowest. Only the agent writes them. */
enum backend_state {
	BACKEND_SERVES = 1, /* listed and serving; else flows that can end, end */
	BACKEND_IN_CLUSTER_SET = 2,
	BACKEND_IN_LOCAL_SET = 4,
	BACKEND_RESTS = 8, /* gone; its id is not given away yet */
};

/* service_ranges: LPM trie of __u8 (1): the source ranges of a Service's load balancer IPs. */
struct range_key {
	__u32 prefix_length; /* 32 + that of the address, of 128 bits */
	__u32 service;
	struct address address;
};

/* ---------------------------------------------- agent: network policy */

/* Values of an endpoint that are not indexes in policies. */
enum endpoint_policy {
	POLICY_NOT_READY = 0, /* its policies are not known yet: everything is dropped */
	POLICY_OPEN = 1,      /* nothing isolates it and no rule names it: everything passes */
	POLICY_FIRST = 2,     /* the first index that there is in policies */
};

/* The class of an address, in identities and blocks. */
enum policy_class {
	CLASS_NONE = 0,	    /* no rule applies to it */
	CLASS_OVERFLOW = 1, /* there are too many classes: policy_incomplete */
	CLASS_FIRST = 2,
};

/* identities: hash, address → class (__u32), where that is not the class of its longest prefix in blocks.
 * blocks: LPM trie by struct route_key, prefix → class (__u32). */

/* class_limit: array of one __u32. The tables have the verdicts for all classes below. */

enum judgement_flag {
	JUDGEMENT_ALLOW = 1,
	JUDGEMENT_STAGED =
		2, /* staged policies would decide as the next flag and `staged_rule` say */
	JUDGEMENT_STAGED_ALLOW = 4,
};

/* The verdict on a new flow in one direction, and the rules that decide: indexes in rule_counters; 0: no
 * policy isolates, and no rule matches. */
struct judgement {
	__u16 rule;
	__u16 staged_rule;
	__u32 flags; /* enum judgement_flag */
};

struct policy_verdict {
	struct judgement judgement;
	__u32 port_set; /* its first part in port_sets, which decides by port; 0: `judgement` decides */
};

/* policies: array; below POLICY_FIRST unused. An entry never changes while an endpoint may name it. */
struct policy {
	struct policy_verdict verdict; /* for classes without an entry in policy_verdicts */
	__u32 hairpin;		       /* the policy for packets of a Pod to itself by a Service */
};

/* policy_verdicts: hash → struct policy_verdict. */
struct policy_verdict_key {
	__u32 policy;
	__u32 class;
};

/* Positions of ports, on one line: TCP, UDP and SCTP with 65,536 each, then one for all other protocols. */
enum port_position {
	POSITION_TCP = 0,
	POSITION_UDP = 65536,
	POSITION_SCTP = 131072,
	POSITION_NO_PORTS = 196608,
};

/* From this position up to that of the next segment. */
struct port_segment {
	__u32 from;
	struct judgement judgement;
};

/* port_sets: hash, id → a part of the line of positions. */
struct port_set {
	__u32 next_from; /* positions from here on are in part `next`; 0: there is no next part */
	__u32 next;
	__u32 count; /* segments, at least one, sorted; the first is valid from the part's beginning */
	struct port_segment segments[PORT_SET_SEGMENTS];
};

/* element_writes: array of one __u32, raised before and after each write to endpoints, identities, policy_verdicts
 * and port_sets, so it is odd during a write. While it is even and unchanged, no element of these tables is reused. */

/* -------------------------------------------------- core: network policy */

/* flow_rules: array by slot of flows: the rules that allowed the flow, or deny it now. */
struct flow_rules {
	__u16 egress; /* indexes in rule_counters; 0: none */
	__u16 ingress;
};

/* rule_counters: array by rule, changed by atomic additions. */
struct rule_counter {
	__u64 flows;   /* allowed */
	__u64 packets; /* denied */
	__u64 staged;  /* first packets of flows that staged policies would deny, or allow */
	__u64 pad;
};

/* policy_denials: array, place = rule % DENIALS_MAX: the last denied packet that was recorded there, as it was
 * judged. The CPU that has changed `at` writes the rest, which a reader may see half written. */
struct policy_denial {
	__u64 at; /* ns, CLOCK_MONOTONIC coarse; 0: none yet */
	struct address source;
	struct address destination;
	__be16 destination_port;
	__u16 rule;
	__u8 protocol;
	__u8 pad[3];
};

/* ------------------------------------------------------- core: Services */

/* service_affinity: LRU hash: the backend of a client. */
struct affinity_key {
	struct address client;
	__u32 service;
};

struct affinity {
	__u64 used; /* ns, CLOCK_MONOTONIC coarse: when its last flow began */
	__u32 backend;
	__u32 pad;
};

/* ------------------------------------------------------- core: next hops */

/* next_hops: array, index as in peers; from NEXT_HOP_OUTSIDE on, gateways to the outside, each at the
 * place that follows from its MAC and device. Two gateways may share a place: a flow that leads to one
 * compares what it finds with what it remembers. One CPU writes an entry at a time (next_hop_keep). */
struct next_hop {
	__u64 checked; /* ns, CLOCK_MONOTONIC; 0: never; NEXT_HOP_WRITING */
	/* MACs: 6 bytes as on the wire, then two zero bytes. One word, so that no reader sees parts of two
	 * answers. */
	__u64 destination_mac;
	__u64 source_mac;
	__u32 ifindex;
	__u32 epoch; /* node_config.next_hop_epoch when checked */
};

/* ------------------------------------------------------- core: flows */

struct flow_key {
	struct address source;
	struct address destination;
	__be16 source_port; /* ICMP echo: identifier or ECHO_PORT; no ports: 0 */
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

enum flow_direction {
	FLOW_ORIGINAL = 0,
	FLOW_REPLY = 1,
};

/* flow_index: hash, a tuple as in packets → the slot of its flow; only for tuples that are not at home
 * (FLOW_AT_HOME) and whose place in flow_hints is taken by another tuple. */
struct flow_ref {
	__u32 slot;
	__u32 generation; /* that of flow.claim */
	__u8 direction;	  /* enum flow_direction */
	__u8 pad[7];
};

/* flow_hints: array by pair of slots: the home slot of a tuple's hash and its neighbour. Where to find the
 * tuples of this home. */
struct flow_pair {
	/* By home slot: enum flow_place of a tuple whose flow is elsewhere, mostly of answers to translated flows,
	 * whose two tuples have two hashes. Changed by atomic exchanges only. */
	__u32 owner[2];
	__u32 indexed; /* tuples with an entry in flow_index; changed by atomic additions only */
	__u32 at_home; /* flows in these two slots with FLOW_AT_HOME; likewise */
};

/* flow_pair.owner; 0: free. The bits above are the lowest of the tuple's hash, so that hardly any other tuple's
 * flow is read. */
enum flow_place {
	PLACE_SLOT = 0xffffff, /* the slot of its flow, + 1 */
	PLACE_DIRECTION_SHIFT = 24,
	PLACE_HASH_SHIFT = 25,
};

enum flow_flag {
	FLOW_REPLIED = 1,
	FLOW_SNAT = 2, /* the source is translated: answers go elsewhere than packets come from */
	FLOW_FIN_ORIGINAL = 4,
	FLOW_FIN_REPLY = 8,
	/* It began in the Node's own stack, which may have translated it: answers go back there. */
	FLOW_STACK = 16,
	FLOW_RESET_ORIGINAL = 32,
	FLOW_RESET_REPLY = 64,
	FLOW_COUNTED = 128, /* in flow_counts */
	FLOW_DNAT =
		256, /* the destination is translated: answers come from elsewhere than packets go to */
	/* The slot is the home slot of its original tuple's hash or its neighbour. Neither that tuple, nor the
	 * answers' where nothing is translated, has a place in flow_hints or an entry in flow_index. */
	FLOW_AT_HOME = 512,
	/* Network policy has denied it after it began: never current, both directions drop. */
	FLOW_DENIED = 1024,
	/* The Node's stack forwards its packets for another sender, from an address of the Node where it masquerades:
	 * network policy applies, unlike to the Node's own packets. */
	FLOW_FORWARDED = 2048,
	/* flow_rules has the rules that network policy judged it by. Without this flag there are none, and the
	 * content of flow_rules is an earlier flow's. */
	FLOW_RULED = 4096,
	/* TCP that began with a SYN: since the answer, nothing has come from the originator. */
	FLOW_HALF_OPEN = 8192,
};

enum flow_ends {
	/* flow.pods: neither end is a Pod of this Node. A client outside uses a Service by it, whose backend is
	 * a peer's Pod: ifindex[FLOW_REPLY] is its index in peers. */
	FLOW_CROSSES = 4,
};

/* flow.claim, see ARCHITECTURE: what two CPUs may do to each other. */
enum claim_bit {
	CLAIM_IN_USE = 1,	       /* the slot has a flow, whose tuples are written */
	CLAIM_GENERATION = 0x3ffffffe, /* raised when the slot is taken for another flow */
	CLAIM_PUBLISHED = 0x40000000,  /* both tuples lead to the slot */
	CLAIM_LOCKED = 0x80000000,     /* one CPU is writing */
};

struct flow_addresses {
	struct address source;
	struct address destination;
};

struct flow_ports {
	__be16 source; /* as in struct flow_key */
	__be16 destination;
};

/*
 * flows: array of slots. A flow is two tuples, by enum flow_direction: as its initiator's packets carry
 * them where they come in, and as the answers do. Translation is their difference: the tuple that leaves
 * in one direction is the reverse of the one that comes in in the other. Both are in one slot, so neither
 * can be lost without the other. A slot is two cache lines: state, ends and ports, then the addresses.
 */
struct flow {
	__u64 last_seen; /* ns, CLOCK_MONOTONIC coarse */
	__u32 claim;	 /* enum claim_bit; changed by atomic instructions only */
	__u8 state;	 /* enum flow_state */
	__u8 protocol;	 /* of both tuples */
	__u16 flags;	 /* enum flow_flag */
	/* Epoch of the resolved ends below; they are valid while it is node_config's. 0: not resolved. */
	__u32 route_epoch;
	/*
	 * The ends, each by the direction that its packets travel in. A Pod of this Node: the host side
	 * of its veth, and its MAC. The outside: the device and the MAC of its gateway.
	 */
	__u32 ifindex[2];
	struct mac mac[2];
	__u16 endpoint; /* index of the Pod that the flow counts for; 0: the Node */
	__u16 remote;	/* index in next_hops: the peer's, or the gateway's; 0 outside: none */
	__u16 asked;	/* outside: when the kernel was asked about this flow, FLOW_ASKED_SHIFT */
	/* Outside: node_config.next_hop_epoch then, its lower half. A peer: its policy_epoch when the flow was
	 * judged. */
	__u16 remote_epoch;
	__u16 mtu;	 /* outside: the largest IP packet that the route takes (0xffff: or more) */
	__u8 route_kind; /* enum route_kind, of the end that is no Pod, or of the Pod that receives */
	__u8 route_flags; /* enum route_flag */
	__u8 pods; /* 1 << direction, for each end that is a Pod of this Node; or FLOW_CROSSES */
	__u8 backend_upper; /* the upper 8 of 24 bits of its id in backends; 0: it has none */
	__u16 backend;
	struct flow_ports ports[2];
	struct flow_addresses addresses[2];
};

/* flow_counts: array by endpoint.index. The slots that are in use for a Pod; 0: for the Node. */
struct flow_count {
	__u32 flows;
	__u32 spare; /* of them, those that are unanswered or over */
};

/* fragments: hash: the fields of a first fragment that later ones lack. Each owner has a share, in which a
 * new entry replaces the oldest. */
enum fragment_owner {
	OWNER_WIRE = 0,
	OWNER_HOST = ENDPOINTS_MAX + 1,
	OWNER_COUNT = ENDPOINTS_MAX + 2,
};

struct fragment_key {
	struct address source;
	struct address destination;
	__be32 identification;
	/* 0 for IPv6: the next header of later fragments may name an extension header of the first one
	 * (RFC 8200, 4.5). */
	__u8 protocol;
	__u8 pad;
	__u16 owner; /* endpoint.index of the sending Pod, or enum fragment_owner */
};

struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

/* fragment_places: hash, the places of an owner's share → fragment_key. fragment_turns: array of __u32 by
 * owner, how often one has been taken. */
struct fragment_place {
	__u16 owner;
	__u16 place;
};

/* ------------------------------------------------------- core: counters */

/* drops: per-CPU array of __u64 by drop_reason; events: by event_counter. */

/* peer_counters: per-CPU array, index as in peers, as long as the ids in use need. Packets as on the wire (a
 * GSO packet counts its segments), bytes of the inner IP packets. Probes are not counted. */
struct peer_counter {
	/* sent */
	__u64 direct_packets;
	__u64 direct_bytes;
	__u64 tunnel_packets;
	__u64 tunnel_bytes;
	__u64 direct_large; /* of direct_packets, longer than LARGE_PACKET */
	/* Received from the peer's pod CIDRs, for this Node's Pods and gateway addresses. Tunnel packets are
	 * counted where they are decapsulated, all packets where they arrive, because TC does not know what
	 * XDP has decapsulated. */
	__u64 received_packets;
	__u64 received_large;
	__u64 received_tunnel_packets;
	__u64 received_tunnel_large;
};

/* ------------------------------------------------------- core: probes */

enum probe_kind {
	PROBE_REQUEST = 1,
	PROBE_ANSWER = 2,
};

/* In a request, the flags of the requesting Node: its agent sets PROBE_HELLO, its core the others. An answer
 * repeats them, and has those of the answering core shifted by PROBE_ANSWER_SHIFT. A version before
 * announcements sends neither. */
enum probe_flag {
	PROBE_HELLO = 1,	     /* the sender knows of no answer of this peer yet */
	PROBE_ANNOUNCES = 2,	     /* the other two say something */
	PROBE_SENDS_UNTUNNELLED = 4, /* the sender's Pod packets may come without a tunnel */
	PROBE_TAKES_UNTUNNELLED = 8, /* the sender takes such packets of the peer */
};

/* The payload of a probe, followed by zeros up to its length. An answer is the request with swapped
 * addresses, cut to answer_length, with the received packets filled in. */
struct probe {
	__be32 magic;
	__u8 kind;	      /* enum probe_kind */
	__u8 flags;	      /* enum probe_flag */
	__u8 way_there;	      /* enum probe_way */
	__u8 way_back;	      /* enum probe_way */
	__be16 length;	      /* of the request's IP packet */
	__be16 answer_length; /* of the answer's, at most `length` */
	__be32 sequence;
	/* Only for the requesting core: the time of the request (ns, CLOCK_MONOTONIC), and a keyed hash
	 * (SipHash-2-4) of that, of the addresses and of everything above. */
	__u64 sent_at;
	__u64 token;
	/* Pod packets sent directly to the peer up to the request, modulo 2^32. */
	__be32 sent_packets;
	__be32 sent_large;
	/* Pod packets received, as reported by the answering core. */
	__be32 received_packets;
	__be32 received_large;
};

enum probe_event {
	PROBE_ANSWERED = 1,
	PROBE_GREETED =
		2, /* a request with PROBE_HELLO came, or one that announces something new */
	PROBE_TRAFFIC = 3, /* traffic to a peer begins */
};

/* probe_events: ring buffer of events for the agent's prober. */
struct probe_record {
	__u8 event; /* enum probe_event */
	__u8 way_there;
	__u8 way_back;
	__u8 announced; /* PROBE_ANSWERED: enum probe_flag, of the answering core */
	__u8 pad[4];
	__u32 index; /* as in peers */
	/* PROBE_ANSWERED: */
	__u32 sequence;
	__u32 length;	     /* of the request */
	__u32 answer_length; /* of the answer */
	__u64 sent_at;
	__u64 round_trip; /* ns */
	__u32 sent_packets;
	__u32 sent_large;
	__u32 received_packets;
	__u32 received_large;
};

/* path_proofs: array, index as in peer_paths: last answers that returned over the path of their request,
 * ns, CLOCK_MONOTONIC. A starting agent may still trust them. */
struct path_proof {
	__u64 answered_at;
	__u64 large_answered_at; /* requests longer than LARGE_PACKET */
	/* Ethernet source of the last answer without a tunnel, as in struct next_hop. */
	__u64 source_mac;
};

/* peer_activity: array, index as in peers; ns, CLOCK_MONOTONIC coarse. */
struct peer_activity {
	__u64 sent_at;	     /* when the kernel was last asked for the next hop of packets to it */
	__u64 greeted_at;    /* when PROBE_GREETED was last reported */
	__u64 answers_until; /* time up to which its share of answers is spent; see PROBE_ANSWER_NS */
};

/* ------------------------------------------------------- core: slow path */

enum slow_path_kind {
	SLOW_TTL_EXCEEDED = 0, /* answer time exceeded */
	SLOW_TOO_BIG = 1,      /* answer fragmentation needed / packet too big with mtu */
	SLOW_FRAGMENT = 2,     /* IPv4 without DF: fragment to mtu and send on */
	SLOW_HOLD = 3,	       /* a later fragment before its first: try again soon */
	SLOW_UNREACHABLE = 4,  /* answer that there is no route */
	SLOW_PROHIBITED = 5,   /* answer that the route forbids it */
	SLOW_NO_HOST = 6,      /* answer that there is no such host */
	SLOW_UNRESOLVED = 7,   /* a copy: the same answer, if the next hop cannot be resolved */
	SLOW_REFUSED = 8,      /* answer port unreachable, from the packet's destination */
};

/* slow_path: ring buffer. A record is this header and then `length` bytes of the packet from its IP
 * header on, as it arrived: not rewritten, but already decapsulated. */
struct slow_path_header {
	__u8 kind;     /* enum slow_path_kind */
	__u8 hook;     /* enum hook */
	__u16 pod;     /* endpoint.index of the sender; 0: not a Pod of this Node */
	__u32 ifindex; /* where it came in */
	__u32 mtu;
	__u32 length;
	/* SLOW_UNRESOLVED: whose MAC the kernel has yet to learn, and out of which device */
	struct address next_hop;
	__u32 next_hop_ifindex;
};

/* slow_path_buckets: array by enum slow_path_bucket. A token costs 1 s / rate, and a bucket holds those
 * of a second. One word, changed by compare-and-swap: two CPUs never take the same token, and one that
 * has read an old clock takes fewer, not more. */
struct token_bucket {
	__u64 spent; /* ns, CLOCK_MONOTONIC coarse: the time up to which tokens are spent */
};

/* The owner of each bucket. The wire and the Node each have a quarter of node_config.slow_path_rate; a
 * Pod has SLOW_PATH_SHARE of its own and then shares that rate with all other Pods. */
enum slow_path_bucket {
	BUCKET_COMMON = 0, /* plus endpoint.index: that Pod's */
	BUCKET_WIRE = ENDPOINTS_MAX + 1,
	BUCKET_HOST = ENDPOINTS_MAX + 2,
	BUCKET_COUNT = ENDPOINTS_MAX + 3,
};

/* next_hop_settle: array of one __u64: time (ns) until which no next hop is cached. */

/* scratch: per-CPU array of one, for a program's working data beyond BPF's 512 bytes of stack. Programs
 * run with softirqs off, so a CPU runs only one of them at a time. */
struct scratch {
	__u64 word[144];
};

/* ------------------------------------------------------- tests */

enum action {
	ACTION_PASS = 0, /* to the Node's own stack */
	ACTION_DROP = 1,
	ACTION_ENDPOINT = 2,	   /* into a Pod of this Node, ifindex is its host side */
	ACTION_WIRE = 3,	   /* out of a NIC with cached MACs */
	ACTION_WIRE_NEIGHBOUR = 4, /* out of a NIC, the kernel writes the MACs */
	ACTION_HOST = 5,	   /* into fairway0, as if received there */
	ACTION_SLOW_PATH = 6,
	ACTION_PROBE = 7, /* an answer to a probe of this Node: reported to the agent */
	ACTION_RESET = 8, /* a TCP reset in the packet's place, back to its sender */
};

/* verdicts: per-CPU array of one, written only when the knob trace_verdicts is set. */
struct verdict {
	__u8 action;	  /* enum action */
	__u8 drop_reason; /* enum drop_reason */
	__u8 path;	  /* enum path, when sent to a peer */
	__u8 slow_path_kind;
	__u32 ifindex;
	__u32 peer;
	__u32 mtu;
	__u32 backend; /* that a new flow was given; 0: none */
	/* The rules that network policy judged by, where it was asked; 0: none. */
	__u16 egress_rule;
	__u16 ingress_rule;
};

#endif
