/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The quick way of a packet whose flow is established: everything is decided from its headers,
 * its flow and its peer, and then written in place. Whatever is unusual about the packet, the flow
 * or the path is left to the full way, with nothing changed. Both ways do the same to the same
 * packet; the differential test holds them to it.
 *
 *  established_receive.h   from the wire to a Pod of this Node
 *  established_send.h      from a Pod of this Node to a peer or the outside
 */
#ifndef FAIRWAY_ESTABLISHED_H
#define FAIRWAY_ESTABLISHED_H

#include "emit.h"
#include "headers.h"
#include "route.h"

/* No result of a TC or XDP program: the packet is not for the quick way. */
#define NOT_ESTABLISHED (-2)

/* The flow of a packet, when the packet leaves its state as it is and all that it remembers
 * holds. */
static __always_inline struct flow_match flow_established(const struct headers *headers, __u32 hash,
							  const struct node_config *node, __u64 now)
{
	struct flow_match match = flow_find(&headers->key, hash);
	const struct flow *flow = match.flow;

	if (flow && (!flow_current(flow, node) || flow_expired(flow, node, now) ||
		     (match.direction == FLOW_REPLY && !(flow->flags & FLOW_REPLIED))))
		match.flow = NULL;
	return match;
}

static __always_inline void flow_touch(struct flow *flow, __u64 now)
{
	if (now > flow->last_seen + FLOW_TOUCH_NS)
		flow->last_seen = now;
}

/* The one's complement difference of a TTL that is one less, beside the protocol. */
#define TTL_DIFFERENCE bpf_htons(0xfeff)

static __always_inline void put_hop(void *ip, __u8 family, const struct headers *headers)
{
	if (family == 4) {
		((struct iphdr *)ip)->ttl = headers->ttl - 1;
		((struct iphdr *)ip)->check = csum_apply(headers->ip_check, TTL_DIFFERENCE);
	} else {
		((struct ipv6hdr *)ip)->hop_limit = headers->ttl - 1;
	}
}

#endif
