/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path on egress: from a Pod of this Node to a peer, direct or in a tunnel, to the outside,
 * or to another Pod of the Node.
 *
 *  1. headers, flow   the Pod's own flow, by its interface and its MAC
 *  2. path            the peer's current path, a trusted next hop or a renewed one, and the size fits
 *  3. send            translation, TTL, tunnel, MACs, redirect
 */
#ifndef FAIRWAY_ESTABLISHED_SEND_H
#define FAIRWAY_ESTABLISHED_SEND_H

#include "established_hop.h"
#include "established_renew.h"

/* 2. False: no next hop that is trusted. */
static __always_inline bool established_exit(const struct flow_match *match, struct exit *exit,
					     const struct node_config *node, __u64 now)
{
	const struct flow *flow = match->flow;

	return flow->route_kind == ROUTE_PEER
		       ? exit_to_peer(exit, flow->remote, node, now)
		       : exit_to_gateway(exit, flow, !match->direction, node, now);
}

/* True if the frame at `data` was received on `ifindex` with the source MAC `mac`. */
static __always_inline bool frame_of(void *data, __u32 received, __u32 ifindex, __u64 mac)
{
	__u64 source = *(__u32 *)(data + ETH_ALEN) | (__u64) * (__u16 *)(data + ETH_ALEN + 4) << 32;

	return received == ifindex && source == (mac & 0xffffffffffffULL);
}

/* Delivers to the other Pod of a flow between two Pods of this Node. */
static __always_inline int established_local(struct __sk_buff *ctx, const struct node_config *node,
					     void *data, __u8 family,
					     const struct flow_match *match, __u32 epoch, __u64 now,
					     struct headers *headers)
{
	struct verdict verdict = { .action = ACTION_ENDPOINT, .peer = NO_PEER };
	__u8 receiver = !match->direction;
	struct flow *flow = match->flow;
	struct translation translation;
	__u64 mac;

	if (flow->pods != 3)
		return NOT_ESTABLISHED;
	verdict.ifindex = flow->ifindex[receiver];
	mac = mac_to_put(&flow->mac[receiver]);
	if (!translation_find(&translation, match, family, headers) || !flow_holds(match, epoch))
		return NOT_ESTABLISHED;
	flow_touch(flow, now);
	flow_follow(match, headers);
	put_translation(data + ETH_HLEN, family, headers, &translation);
	put_hop(data + ETH_HLEN, family, headers);
	put_ethernet(data, mac, mac_to_put(&node->gateway_mac), family);
	if (put_translated_checksum(ctx, ETH_HLEN + header_size(family), &translation))
		return established_failed();
	record(&verdict);
	return bpf_redirect_peer(verdict.ifindex, 0);
}

static __always_inline int established_send_from(struct __sk_buff *ctx,
						 const struct node_config *node, __u8 family,
						 struct headers *headers)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 hash = words_hash(&headers->words, &node->flow_hash, true), epoch = route_epoch(node);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct translation translation;
	struct gso gso = gso_of(ctx);
	struct flow_match match;
	struct exit exit;
	struct flow *flow;
	bool stale, trusted;

	match = flow_running(headers, hash, true, node, now);
	flow = match.flow;
	if (!flow) {
		/* A claim is never 0. */
		if (match.claim)
			return NOT_ESTABLISHED;
		flow_fetch(hash);
		return UNKNOWN_FLOW;
	}
	if (headers->ttl <= 1 || data + ETH_HLEN + header_size(family) + 8 > end ||
	    !end_is_pod(flow, match.direction) ||
	    !frame_of(data, ctx->ifindex, flow->ifindex[match.direction & 1],
		      mac_to_put(&flow->mac[match.direction & 1])))
		return NOT_ESTABLISHED;
	/* Conntrack learns that the connection ends. */
	if (headers->tcp & TCP_FIN && flow->flags & FLOW_SNAT && match.direction == FLOW_ORIGINAL)
		return NOT_ESTABLISHED;
	stale = !flow_current(flow, epoch);
	keep_order();
	if (flow->route_kind == ROUTE_LOCAL_PODS)
		return stale ? flow_stale(&match)
			     : established_local(ctx, node, data, family, &match, epoch, now,
						 headers);
	if (flow->route_kind != ROUTE_PEER &&
	    (flow->route_kind != ROUTE_OUTSIDE || flow_may_tunnel(flow)))
		return NOT_ESTABLISHED;
	trusted = established_exit(&match, &exit, node, now);
	stale = stale || (flow->route_kind == ROUTE_PEER && !peer_judged(exit.peer, flow));
	if (!trusted && (stale || !exit_renew(ctx, &exit, &match, headers->tos)))
		return NOT_ESTABLISHED;
	if (!exit_fits(&exit, headers, &gso))
		return NOT_ESTABLISHED;
	/* Only now: a flow whose packets are dropped is judged with each packet. */
	if (stale)
		return flow_stale(&match);
	if (!translation_find(&translation, &match, family, headers) || !flow_holds(&match, epoch))
		return NOT_ESTABLISHED;

	flow_touch(flow, now);
	flow_follow(&match, headers);
	put_translation(data + ETH_HLEN, family, headers, &translation);
	put_hop(data + ETH_HLEN, family, headers);
	return exit_take(ctx, &exit, node, family, headers, hash, &gso, &translation);
}

/* Handles a packet from a Pod; NOT_ESTABLISHED, UNKNOWN_FLOW, STALE_FLOW: nothing has been changed. */
stage int established_send(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct node_config *node = node_configuration();
	struct headers headers;
	__be16 ethertype;
	__u32 room;

	if (!node || !(node->flags & NODE_CONFIGURED) || ctx->vlan_present || data + ETH_HLEN > end)
		return NOT_ESTABLISHED;
	room = ctx->len - ETH_HLEN;
	ethertype = *(__be16 *)(data + 2 * ETH_ALEN);
	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IP), room, &headers))
			return established_send_from(ctx, node, 4, &headers);
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IPV6), room, &headers))
			return established_send_from(ctx, node, 6, &headers);
	}
	return NOT_ESTABLISHED;
}

#endif
