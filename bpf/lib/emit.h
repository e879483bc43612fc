/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The last stage: how a packet leaves a hook. Each function returns the program's result.
 */
#ifndef FAIRWAY_EMIT_H
#define FAIRWAY_EMIT_H

#include "next_hop.h"
#include "tunnel.h"
#include "verdict.h"
#include "work.h"

/* Result of a stage: the next stage goes on. Not a valid result of a TC or XDP program. */
#define UNDECIDED (-2)

/* Passes the packet to the next program of the hook, then to the Node's own stack. */
static __always_inline int pass(struct verdict *verdict)
{
	decide(verdict, ACTION_PASS);
	return HOOK_IS_XDP ? XDP_PASS : TC_ACT_UNSPEC;
}

/* Drops a packet whose verdict is set. */
static __always_inline int discard(void)
{
	return HOOK_IS_XDP ? (int)XDP_DROP : TC_ACT_SHOT;
}

static __always_inline int dropped(struct verdict *verdict, enum drop_reason reason)
{
	drop(verdict, reason);
	return discard();
}

static __always_inline int store_macs(context *ctx, const void *destination, const void *source)
{
	__u8 macs[2 * ETH_ALEN];

	__builtin_memcpy(macs, destination, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, source, ETH_ALEN);
	return store(ctx, 0, macs, sizeof(macs));
}

/* Redirects into a Pod of this Node, bypassing the Node's stack. */
static __always_inline int emit_endpoint(context *ctx, const struct endpoint *endpoint,
					 const struct node_config *node, struct verdict *verdict)
{
	__u32 ifindex = endpoint->ifindex;

	if (store_macs(ctx, &endpoint->mac, &node->gateway_mac))
		return dropped(verdict, DROP_REWRITE_FAILED);
	decide(verdict, ACTION_ENDPOINT);
	verdict->ifindex = ifindex;
#ifdef FAIRWAY_XDP
	return bpf_redirect(ifindex, 0);
#else
	return bpf_redirect_peer(ifindex, 0);
#endif
}

#ifndef FAIRWAY_XDP

/* Redirects into fairway0 as if received there, as the kernel's reverse path check expects. */
static __always_inline int emit_host(context *ctx, const struct node_config *node,
				     struct verdict *verdict)
{
	if (store_macs(ctx, &node->gateway_mac, &fairway_mac.mac))
		return dropped(verdict, DROP_REWRITE_FAILED);
	decide(verdict, ACTION_HOST);
	verdict->ifindex = node->host_ifindex;
	return bpf_redirect(node->host_ifindex, BPF_F_INGRESS);
}

/* Through the kernel's neighbour code, by the way in work.remote. Returns the program's result, or -1: refused. */
stage int emit_neighbour(struct __sk_buff *ctx)
{
	struct bpf_tunnel_key no_tunnel = {};
	struct work *work = work_space();
	struct way *way;

	if (!work)
		return -1;
	way = &work->remote.way;
	/*
	 * A packet from the Node's stack still has its route to fairway0. If it waits for its
	 * neighbour, neigh_update() would use the packet's route and so give it fairway0's
	 * neighbour. A tunnel key, which no device reads, replaces the route and has no neighbour.
	 */
	if (bpf_skb_set_tunnel_key(ctx, &no_tunnel, sizeof(no_tunnel), 0))
		return -1;
	return bpf_redirect_neigh(way->ifindex, &way->neighbour, sizeof(way->neighbour), 0);
}

/* Sends out of a NIC; `family` is that of the packet's outermost IP header. */
static __always_inline int emit_wire(context *ctx, struct way *way, __u8 family,
				     struct verdict *verdict)
{
	struct ethhdr ethernet;
	int result;

	verdict->ifindex = way->ifindex;
	decide(verdict, way->action);
	ethernet.h_proto = family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	/* Zeros for the neighbour code, which writes its own. */
	__builtin_memcpy(ethernet.h_dest, &way->destination_mac, ETH_ALEN);
	__builtin_memcpy(ethernet.h_source, &way->source_mac, ETH_ALEN);
	if (bpf_skb_store_bytes(ctx, 0, &ethernet, sizeof(ethernet), 0))
		return dropped(verdict, DROP_REWRITE_FAILED);
	if (way->action == ACTION_WIRE)
		return bpf_redirect(way->ifindex, 0);
	result = emit_neighbour(ctx);
	return result < 0 ? dropped(verdict, DROP_REWRITE_FAILED) : result;
}

#endif
#endif
