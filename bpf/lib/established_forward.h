/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path from the wire to the wire, at TC: a client outside that uses a Service by this Node, and the
 * backend's answers, where the backend is a peer's Pod. established_receive has found the flow and the length of
 * the tunnel to remove, and passes both in work.crossing.
 *
 *  1. exit    to the peer, or to the client's gateway; the size fits
 *  2. enter   the tunnel is removed, the packet is counted as its peer's
 *  3. leave   translation, TTL, tunnel, MACs, redirect
 */
#ifndef FAIRWAY_ESTABLISHED_FORWARD_H
#define FAIRWAY_ESTABLISHED_FORWARD_H

#include "decap.h"
#include "established_exit.h"

static __always_inline int established_forward_from(struct __sk_buff *ctx,
						    const struct node_config *node,
						    struct crossing *crossing, __u8 family)
{
	struct headers *headers = &crossing->headers;
	__u32 hash = words_hash(&headers->words, &node->flow_hash, true), index,
	      epoch = route_epoch(node), strip = header_size(family) + TUNNEL_INNER_SIZE;
	struct flow_match match = {
		.flow = flow_at(crossing->slot),
		.claim = crossing->claim,
		.slot = crossing->slot,
		.direction = crossing->direction & 1,
	};
	__u64 now = bpf_ktime_get_coarse_ns();
	bool answers = match.direction == FLOW_REPLY;
	struct translation translation;
	struct gso gso = gso_of(ctx);
	struct flow *flow = match.flow;
	struct exit exit = {};
	void *data, *end;

	/* 1 */
	if (!flow || headers->ttl <= 1)
		return NOT_ESTABLISHED;
	index = flow->ifindex[FLOW_REPLY];
	if (answers ? !exit_to_gateway(&exit, flow, FLOW_ORIGINAL, node, now)
		    : !exit_to_peer(&exit, index, node, now))
		return NOT_ESTABLISHED;
	if (!exit_fits(&exit, headers, &gso) ||
	    !translation_find(&translation, &match, family, headers) || !flow_holds(&match, epoch))
		return NOT_ESTABLISHED;

	/* 2 */
	if (crossing->tunnelled && tunnel_leave(ctx, strip, 0))
		return established_failed();
	flow_touch(flow, now);
	flow_follow(&match, headers);
	if (answers)
		count_received(index, true, crossing->tunnelled, headers->length,
			       headers->before_payload, &gso);

	/* 3 */
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN + header_size(family) + 8 > end)
		return established_failed();
	put_translation(data + ETH_HLEN, family, headers, &translation);
	put_hop(data + ETH_HLEN, family, headers);
	csum_follow(ctx, family, &translation);
	return exit_take(ctx, &exit, node, family, headers, hash, &gso, &translation);
}

/* Handles packets for which established_receive returned CROSSING; NOT_ESTABLISHED: nothing has been changed. */
stage int established_forward(struct __sk_buff *ctx)
{
	const struct node_config *node = node_configuration();
	struct work *work = work_space();

	if (!node || !work)
		return NOT_ESTABLISHED;
	return work->crossing.family == 4 ? established_forward_from(ctx, node, &work->crossing, 4)
					  : established_forward_from(ctx, node, &work->crossing, 6);
}

#endif
