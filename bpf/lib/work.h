/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The working data of one program run. It is not on the stack, whose 512 bytes are for the whole chain of calls.
 */
#ifndef FAIRWAY_WORK_H
#define FAIRWAY_WORK_H

#include "headers.h"
#include "next_hop.h"
#include "packet.h"
#include "rewrite.h"

/* Where a packet that leaves the Node goes; see remote.h. */
struct remote {
	__u32 index; /* of the peer in peers, peer_counters, next_hops */
	__u32 mtu;
	__u8 to_peer; /* else to the outside */
	__u8 tunnel;
	__u8 translated; /* to work.target */
	__u8 decrement;	 /* of the TTL */
	__u8 native;	 /* past the tunnel, whatever the peer's path is */
	__u8 pad[3];
	struct way way;
};

/* A look-up in the kernel's FIB; see fib.h. */
struct fib_question {
	struct address source; /* all zero: any */
	struct address destination;
	__be16 source_port; /* 0: none, or many */
	__be16 destination_port;
	__u8 protocol; /* 0: any */
	__u8 family;
	__u8 tos;
	__u8 wants_source; /* the address that the kernel would send from */
	__u8 output;	   /* it leaves by ctx->ifindex, else it came in by that */
	__u8 pad[3];
};

/* The kernel's struct bpf_ct_opts as all kernels take it: 12 bytes. */
struct bpf_ct_opts {
	__s32 netns_id; /* BPF_F_CURRENT_NETNS */
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

/* The kernel's look-ups of a port; see port.bpf.c. */
struct port_question {
	struct bpf_sock_tuple tuple;
	struct bpf_ct_opts options;
};

/* A probe from its UDP header on. */
struct probe_datagram {
	struct udp_header udp;
	struct probe probe;
};

/* Values that the stages of from_wire pass to later ones. */
struct arrival {
	__u64 source_mac; /* as in struct next_hop */
	__u64 now;
	struct endpoint receiver; /* ifindex 0: no Pod of this Node */
	struct route source;	  /* where it comes from */
	struct route way;	  /* where it goes to, or what its translation leads to */
	__u32 epoch;
	__u8 tunnelled; /* in a tunnel, which has come off */
	__u8 to_host;	/* or to a Service */
	__u8 forward;	/* its flow leads on to the wire */
	__u8 judged;	/* network policy has judged its flow by the present tables */
	__u8 meets; /* it begins a connection to the Node itself whose answers would be those of a Service's flow */
	__u8 pad[7];
};

/* Values that the stages of from_pod pass to later ones. */
struct departure {
	__u64 now;
	struct route route;
	struct endpoint sender;	  /* ifindex 0: not looked up, its flow proves the source */
	struct endpoint receiver; /* ifindex 0: no Pod of this Node */
	__u32 epoch;
	struct mac mac; /* the frame's source */
	__u8 wants_snat;
	__u8 to_stack;
	__u8 fit;     /* enum fit */
	__u8 unknown; /* the fast path has looked for a flow of this tuple, in vain */
	__u8 routed;  /* `route` is that of work.target */
	__u8 hairpin; /* to the Pod itself, by a Service */
	__u8 judged;  /* network policy has judged its flow by the present tables */
	__u8 pad[7];
};

/* A packet of a known flow from the wire to the wire; see established_forward.h. */
struct crossing {
	struct headers headers;
	__u32 slot;
	__u32 claim;
	__u8 direction; /* enum flow_direction */
	__u8 family;
	__u8 tunnelled; /* in a tunnel of the same family */
	__u8 pad[5];
};

/* The backend that a new flow is given; see service.h. */
struct choice {
	__u32 service; /* index in services; 0: the packet is no Service's */
	__u32 backend;
	__u32 affinity;	     /* seconds that the client stays with it; 0: it does not */
	__u8 external_local; /* the external traffic policy is Local: the client's address is kept */
	__u8 to_node;	     /* the Node itself is the backend, and sees the client's address */
	__u8 pad[2];
};

/* Input and result of network policy; see policy.h. */
struct policing {
	struct flow_key tuple;	/* from the client to the backend: after DNAT, before SNAT */
	struct route_key other; /* the end that is not the Pod whose policy it is */
	struct policy_verdict_key pair;
	struct judgement judgement; /* of the last direction */
	/* Of a known flow, by the direction that their packets travel in; ifindex 0: no Pod of this Node. */
	struct endpoint ends[2];
	__u32 port_set; /* which decides, where it is not 0 */
	struct flow_rules rules;
	__u8 hairpin; /* both ends are the same Pod */
	__u8 pad[3];
};

/* Whose tuples are free to a new flow, apart from those that have expired. */
enum yielding {
	YIELDS_OVER = 1,  /* of the same Pod, over or silent */
	YIELDS_HEAVY = 2, /* of a Pod that has many more flows */
};

/* For a slot; see flow_create.h. */
struct slot_search {
	__u64 now;
	__u64 victim_seen;
	__u32 home; /* of the tuple that begins the flow */
	__u32 step;
	__u32 found; /* slot, or NO_PEER */
	__u32 taken; /* its claim */
	__u32 victim;
	__u32 victim_claim;
	__u32 victim_count;
	__u32 own_flows;
	__u32 own_spare;
	__u16 endpoint;
	__u8 eviction; /* enum eviction */
	__u8 met;      /* a slot was found, but a tuple was another flow's */
	__u8 yields;   /* enum yielding: whose tuples are free, too */
	__u8 pad[3];
	__u32 hash; /* of the tuple that begins the flow */
};

/* The flow of the packet, which work.flow is a copy of; see track.h. */
struct track {
	__u32 claim; /* when it was found, without the lock */
	__u32 slot;
	__u8 known;	 /* there is a flow */
	__u8 direction;	 /* enum flow_direction of the packet */
	__u8 remembered; /* route, Pods or next hop of work.flow are new */
	__u8 translated; /* work.target differs from the packet's tuple */
	__u8 related;	 /* the packet is an ICMP error about the flow */
	__u8 meetings;	 /* how often another CPU has begun the flow before this one */
	__u8 pad[2];
};

struct work {
	struct packet packet;
	struct packet inner; /* in a tunnel, or quoted by an ICMP error */
	struct remote remote;
	struct flow_key target; /* the packet's tuple where it leaves; see translation.h */
	struct verdict verdict;
	struct track track;
	struct flow flow; /* as it was found, or as it is to begin; see track.h */
	union {
		struct slot_search search;
		struct crossing crossing; /* the fast path's, which looks for no slot */
	};
	struct flow_key reply;	 /* of a flow in the making */
	struct flow_key removed; /* of a flow that goes */
	struct flow_key tuple;	 /* that is looked up */
	struct probe_datagram probe;
	struct fib_question question;
	struct bpf_fib_lookup fib;
	struct port_question port;
	struct arrival arrival;
	struct departure departure;
	struct choice choice;
	struct policing policing;
};

_Static_assert(sizeof(struct work) <= sizeof(struct scratch), "scratch is too small");

static __always_inline struct work *work_space(void)
{
	__u32 zero = 0;

	return (void *)bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline struct work *work_start(void)
{
	struct work *work = work_space();

	if (work) {
		__builtin_memset(&work->packet, 0, sizeof(work->packet));
		__builtin_memset(&work->inner, 0, sizeof(work->inner));
		__builtin_memset(&work->track, 0, sizeof(work->track));
		__builtin_memset(&work->remote, 0, sizeof(work->remote));
		__builtin_memset(&work->departure, 0, sizeof(work->departure));
		__builtin_memset(&work->arrival, 0, sizeof(work->arrival));
		__builtin_memset(&work->choice, 0, sizeof(work->choice));
		__builtin_memset(&work->policing, 0, sizeof(work->policing));
		__builtin_memset(&work->verdict, 0, sizeof(work->verdict));
		work->verdict.peer = NO_PEER;
	}
	return work;
}

#endif
