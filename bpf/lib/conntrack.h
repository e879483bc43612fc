/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's connection tracking, where there is any. A connection that netfilter translates to an
 * address of the Node (a container's masquerade, a NodePort) uses a port there without a socket.
 */
#ifndef FAIRWAY_CONNTRACK_H
#define FAIRWAY_CONNTRACK_H

#include "work.h"

/*
 * These are global functions: the verifier reads them once, and the linker of libbpf 1.1 takes a kernel
 * function in one object only. One after the other, each needs less of the stack than both together.
 */

/* 1 where netfilter tracks connections of this family in the packet's namespace, else 0. Tracking needs reassembly, and
 * the kernel counts the users of that by namespace and family. Where the count cannot be read, tracking is assumed. */
int netfilter_tracks(struct __sk_buff *ctx, __u8 family);

/* 1 where a socket of the Node would receive packets with the tuple of work->reply, else 0. */
int port_has_socket(struct __sk_buff *ctx);

/* 1 where the Node itself has a TCP connection whose packets come in with the reverse of work->reply, else 0. Such a
 * connection to the Node has no flow. */
int connection_exists(struct __sk_buff *ctx);

enum port_knowledge {
	PORT_UNKNOWN,
	PORT_ENTERED,	 /* by Fairway, or no entry can be made */
	PORT_TRANSLATED, /* netfilter translates a connection to it */
};

/* State of that tuple in conntrack: enum port_knowledge. */
int port_known(struct __sk_buff *ctx);

/* Enters the connection of that tuple: 0, or 1 where another entry was first. */
int port_enter(struct __sk_buff *ctx);

/* Claims the port of work->reply's destination towards its source; false: it is in use. */
static __always_inline bool port_claim(struct __sk_buff *ctx)
{
	int known;

	if (port_has_socket(ctx))
		return false;
	known = port_known(ctx);
	return known == PORT_ENTERED || (known == PORT_UNKNOWN && !port_enter(ctx));
}

/*
 * Renews the entry that port_claim made for a translated flow, that of work->track, when the Pod has sent a
 * packet of it. 1: there is no entry, because netfilter began to track after the flow did, or had no room.
 */
int port_keep(struct __sk_buff *ctx);

static __always_inline void port_renew(struct __sk_buff *ctx)
{
	if (port_keep(ctx))
		port_enter(ctx);
}

/*
 * Whether port_keep is due, which costs half as much as the full path: at a beginning or an end, for
 * a packet after a silence, else in one of sixteen time slices, which differ by flow. `tcp`: the packet's flags.
 */
static __always_inline bool port_keep_due(const struct flow *flow, __u32 slot, __u8 tcp, __u64 now)
{
	__u32 turn = now >> 28;

	return tcp & (TCP_SYN | TCP_FIN | TCP_RST) || now > flow->last_seen + NS_PER_SECOND ||
	       !((turn ^ slot) & 15);
}

#endif
