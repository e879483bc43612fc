/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Renewal of a next hop whose trust has ended, for a packet on the fast path. The kernel is asked what the full path
 * would ask, and its answer is cached as there. Answers other than a resolved neighbour are left to the full path.
 *
 *  1. peer      one next hop for all its flows
 *  2. gateway   the flow's own question; with it, the claim of its SNAT port is renewed
 */
#ifndef FAIRWAY_ESTABLISHED_HOP_H
#define FAIRWAY_ESTABLISHED_HOP_H

#include "conntrack.h"
#include "established_exit.h"

/* 1. `index` as in peers. The way is in work.remote; -1: full path. */
stage int hop_renew_peer(struct __sk_buff *ctx, __u32 index)
{
	const struct node_config *node = node_configuration();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct work *work = work_space();
	const struct peer *peer;
	struct next_hop *hop;
	struct way *way;
	bool tunnel;

	peer = peer_at(index);
	hop = bpf_map_lookup_elem(&next_hops, &index);
	/* A neighbour that was not resolved, or may be about to change, is the full path's. */
	if (!work || !node || !peer || !hop || !hop->checked || peer->path == PATH_NONE ||
	    peer->path == PATH_DOWN)
		return -1;
	way = &work->remote.way;
	__builtin_memset(way, 0, sizeof(*way));
	tunnel = peer_tunnels(peer);
	peer_ask(ctx, work, peer, tunnel,
		 tunnel	     ? peer->outer_family
		 : index & 1 ? 6
			     : 4,
		 hop, node, now);
	if (way->action != ACTION_WIRE_NEIGHBOUR || !way->resolved)
		return -1;
	work->remote.mtu = peer->mtu;
	traffic_note(index, now);
	return 0;
}

/* 2. `tos`: of the packet, which belongs to the flow in `direction`. The way is in work.remote; -1: full path. */
stage int hop_renew_gateway(struct __sk_buff *ctx, __u32 slot, __u32 claim, __u8 direction,
			    __u8 tos)
{
	const struct node_config *node = node_configuration();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct work *work = work_space();
	struct flow *flow = flow_at(slot), *copy;
	bool answers_client;
	struct way *way;

	if (!work || !node || !flow)
		return -1;
	copy = &work->flow;
	way = &work->remote.way;
	direction &= 1;
	*copy = *flow;
	keep_order();
	/* Only where the flow had a resolved gateway. */
	if (claim_read(flow) != claim || copy->remote < NEXT_HOP_OUTSIDE)
		return -1;
	flow_tuple(&work->tuple, copy, direction);
	flow_target(&work->target, copy, direction);
	answers_client = direction == FLOW_REPLY && flow_backend(copy);
	__builtin_memset(way, 0, sizeof(*way));
	outside_ask(ctx, work, flow_family(copy), tos,
		    answers_client ? &work->target : &work->tuple, false, node, now);
	if (!way->gateway)
		return -1;
	work->remote.mtu = way->mtu;
	gateway_remember(copy, !direction, way, node, now);
	if (flow_lock(flow, claim)) {
		flow_remember(flow, copy);
		claim_unlock(flow, claim);
	}
	if (flow_takes_address(copy) && direction == FLOW_ORIGINAL &&
	    port_keep_due(copy, slot, 0, now)) {
		work->track.slot = slot;
		work->track.known = 1;
		port_renew(ctx);
	}
	return 0;
}

/* The exit of a packet whose flow is current. False: full path. */
static __always_inline bool exit_renew(struct __sk_buff *ctx, struct exit *exit,
				       const struct flow_match *match, __u8 tos)
{
	int failed = exit->peer ? hop_renew_peer(ctx, exit->index)
				: hop_renew_gateway(ctx, match->slot, match->claim,
						    match->direction, tos);

	return !failed && exit_by_renewed(exit);
}

#endif
