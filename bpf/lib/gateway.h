/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Next hops to the outside. Flows share few gateways, so each has one entry in next_hops, and the kernel's
 * neighbour code is asked about it once for all flows. The kernel chooses the gateway of each flow (rules,
 * multipath); it is asked again when next_hop_epoch is raised, and every second in case the agent is down.
 *
 *  1. cached    the flow's gateway, while both answers are fresh
 *  2. learn     the kernel's answer, and in the flow, the direction of the gateway
 */
#ifndef FAIRWAY_GATEWAY_H
#define FAIRWAY_GATEWAY_H

#include "next_hop.h"
#include "flow.h"

static __always_inline __u32 gateway_index(__u64 destination_mac, __u32 ifindex)
{
	return NEXT_HOP_OUTSIDE +
	       (__u32)(((destination_mac + ((__u64)ifindex << 48)) * HASH_SUM) >> 52);
}

_Static_assert(GATEWAYS_MAX == 1 << 12, "gateway_index gives 12 bits");

static __always_inline __u16 asked_at(__u64 now)
{
	return now >> FLOW_ASKED_SHIFT;
}

/* Stage 1. The entry of the flow's gateway, by the end that is no Pod; NULL: the kernel has to be asked.
 * Its place may be another gateway's by now: destination_mac and ifindex are compared with the flow's
 * after the others were read, see gateway_is. */
static __always_inline const struct next_hop *
gateway_cached(const struct flow *flow, const struct node_config *node, __u64 now)
{
	const struct next_hop *hop;
	__u32 index = flow->remote;

	if (index < NEXT_HOP_OUTSIDE || flow->remote_epoch != (__u16)node->next_hop_epoch ||
	    (__u16)(asked_at(now) - flow->asked) >= FLOW_ASKED_TRUST)
		return NULL;
	hop = bpf_map_lookup_elem(&next_hops, &index);
	return hop && next_hop_trusted(hop, node, now) ? hop : NULL;
}

static __always_inline bool gateway_is(const struct next_hop *hop, const struct flow *flow,
				       __u8 direction)
{
	keep_order();
	return read_once(hop->checked) != NEXT_HOP_WRITING &&
	       read_once(hop->destination_mac) == mac_at(&flow->mac[direction & 1]) &&
	       read_once(hop->ifindex) == flow->ifindex[direction & 1];
}

/* Stage 1, into `way`; `direction`: that in which the gateway's packets travel. */
static __always_inline bool gateway_find(const struct flow *flow, __u8 direction,
					 const struct node_config *node, __u64 now, struct way *way)
{
	const struct next_hop *hop = gateway_cached(flow, node, now);
	__u64 source_mac;

	if (!hop)
		return false;
	source_mac = read_once(hop->source_mac);
	/* Nothing of another gateway may remain in `way`. */
	if (!gateway_is(hop, flow, direction))
		return false;
	way->source_mac = source_mac;
	way->destination_mac = mac_at(&flow->mac[direction & 1]);
	way->ifindex = flow->ifindex[direction & 1];
	way->mtu = flow->mtu;
	way->action = ACTION_WIRE;
	return true;
}

/* Stage 2. A gateway that the kernel's neighbour code has just resolved need not be resolved again for
 * each flow; else this packet resolves it. */
static __always_inline void gateway_learn(const struct node_config *node, __u64 now,
					  struct way *way)
{
	__u32 index = gateway_index(way->destination_mac, way->ifindex);
	struct next_hop *hop = bpf_map_lookup_elem(&next_hops, &index);

	way->gateway = 0;
	if (!way->resolved || !hop || next_hop_unsettled(now))
		return;
	way->gateway = index;
	if (next_hop_trusted(hop, node, now) && hop->destination_mac == way->destination_mac &&
	    hop->ifindex == way->ifindex)
		way->action = ACTION_WIRE;
	else
		next_hop_keep(hop, way, node->next_hop_epoch, now);
	count_event(EVENT_NEXT_HOP_REFRESHED);
}

/* In a copy. `direction`: that in which the gateway's packets travel. */
static __always_inline void gateway_remember(struct flow *flow, __u8 direction,
					     const struct way *way, const struct node_config *node,
					     __u64 now)
{
	flow->remote = way->gateway;
	if (!way->gateway)
		return;
	flow->ifindex[direction & 1] = way->ifindex;
	__builtin_memcpy(&flow->mac[direction & 1], &way->destination_mac, ETH_ALEN);
	flow->mtu = way->mtu < HOP_MTU_MAX ? way->mtu : HOP_MTU_MAX;
	flow->asked = asked_at(now);
	flow->remote_epoch = node->next_hop_epoch;
}

#endif
