/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path on egress: from a Pod of this Node to a peer, direct or in a tunnel, to the outside,
 * or to another Pod of the Node.
 *
 *  1. headers, flow   the Pod's own flow, by its interface and its MAC
 *  2. path            the peer's current path, a trusted next hop, and the size fits
 *  3. send            translation, TTL, tunnel, MACs, redirect
 */
#ifndef FAIRWAY_ESTABLISHED_SEND_H
#define FAIRWAY_ESTABLISHED_SEND_H

#include "established.h"
#include "remote.h"

/* 2. NULL: slow path. `peer` is set for a peer. */
static __always_inline const struct next_hop *
established_path(const struct flow_match *match, __u8 family, const struct node_config *node,
		 __u64 now, const struct peer **peer, __u32 *mtu)
{
	struct flow *flow = match->flow;
	const struct next_hop *hop;
	__u32 index;

	if (flow->route_kind == ROUTE_PEER) {
		index = flow->peer * 2 + (family == 6);
		*peer = bpf_map_lookup_elem(&peers, &index);
		hop = bpf_map_lookup_elem(&next_hops, &index);
		if (!*peer || (*peer)->path == PATH_NONE || (*peer)->path == PATH_DOWN ||
		    flow->flags & FLOW_SNAT || !hop || !next_hop_trusted(hop, node, now))
			return NULL;
		*mtu = (*peer)->mtu;
		return hop;
	}
	hop = &flow->next_hop;
	if (flow->route_kind != ROUTE_OUTSIDE || flow->route_flags & ROUTE_PEER_NODE ||
	    (flow->flags & FLOW_SNAT && match->direction != FLOW_ORIGINAL) ||
	    !next_hop_trusted(hop, node, now))
		return NULL;
	*mtu = next_hop_mtu(hop);
	return hop;
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
					     const struct headers *headers)
{
	struct flow *flow = match->flow;
	bool by_local = flow->local_direction == match->direction;
	struct verdict verdict = { .action = ACTION_ENDPOINT, .peer = NO_PEER };
	__u64 local = mac_to_put(&flow->local_mac), other = flow->next_hop.destination_mac;
	__u32 local_ifindex = flow->local_ifindex, other_ifindex = flow->next_hop.ifindex;

	if (flow->flags & FLOW_SNAT ||
	    !frame_of(data, ctx->ifindex, by_local ? local_ifindex : other_ifindex,
		      by_local ? local : other) ||
	    !flow_holds(match, epoch))
		return NOT_ESTABLISHED;
	flow_touch(flow, now);
	verdict.ifindex = by_local ? other_ifindex : local_ifindex;
	put_hop(data + ETH_HLEN, family, headers);
	put_ethernet(data, by_local ? other : local, mac_to_put(&node->gateway_mac), family);
	record(&verdict);
	return bpf_redirect_peer(verdict.ifindex, 0);
}

static __always_inline int established_send_from(struct __sk_buff *ctx,
						 const struct node_config *node, __u8 family,
						 struct headers *headers)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 header = family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 hash = words_hash(&headers->words, &node->flow_hash, true), mtu = 0, id, index,
	      largest, epoch = route_epoch(node);
	struct verdict verdict = { .action = ACTION_WIRE, .peer = NO_PEER };
	__u64 now = bpf_ktime_get_coarse_ns();
	const struct peer *peer = NULL;
	const struct next_hop *hop;
	struct flow_match match;
	struct gso gso = gso_of(ctx);
	__u64 destination, source;
	struct flow *flow;
	struct translation translation = {};
	bool tunnel, translated;

	match = flow_established(headers, hash, true, node, epoch, now);
	flow = match.flow;
	if (!flow || !flow->local_ifindex || headers->ttl <= 1 ||
	    data + ETH_HLEN + header + 8 > end)
		return NOT_ESTABLISHED;
	if (flow->route_kind == ROUTE_LOCAL_PODS)
		return established_local(ctx, node, data, family, &match, epoch, now, headers);
	if (flow->local_direction != match.direction ||
	    !frame_of(data, ctx->ifindex, flow->local_ifindex, mac_to_put(&flow->local_mac)))
		return NOT_ESTABLISHED;
	hop = established_path(&match, family, node, now, &peer, &mtu);
	if (!hop)
		return NOT_ESTABLISHED;
	largest = gso.size ? headers->before_payload + gso.size : headers->length;
	if (largest > mtu)
		return NOT_ESTABLISHED;

	verdict.ifindex = hop->ifindex;
	destination = hop->destination_mac;
	source = hop->source_mac;
	translated = !peer && snat_translation(flow, FLOW_ORIGINAL, &translation);
	id = flow->peer;
	if (!flow_holds(&match, epoch))
		return NOT_ESTABLISHED;

	flow_touch(flow, now);
	if (!peer) {
		if (translated)
			put_translation(data + ETH_HLEN, family, headers, &translation);
		put_hop(data + ETH_HLEN, family, headers);
		put_ethernet(data, destination, source, family);
		if (translated &&
		    put_translated_checksum(ctx, family, ETH_HLEN + header, headers, &translation))
			return established_failed();
		record(&verdict);
		return bpf_redirect(verdict.ifindex, 0);
	}
	put_hop(data + ETH_HLEN, family, headers);
	index = id * 2 + (family == 6);
	verdict.peer = id;
	verdict.path = peer->path;
	verdict.mtu = mtu;
	tunnel = peer->path == PATH_GENEVE || peer->path == PATH_VXLAN;
	if (tunnel) {
		if (tunnel_enter(ctx, peer, node, family, headers->key.protocol, headers->tos,
				 hash))
			return established_failed();
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		if (data + ETH_HLEN > end)
			return established_failed();
		family = peer->outer_family;
	}
	count_sent(index, tunnel, headers->length, headers->before_payload, &gso);
	put_ethernet(data, destination, source, family);
	record(&verdict);
	return bpf_redirect(verdict.ifindex, 0);
}

/* Handles a packet from a Pod; NOT_ESTABLISHED: nothing has been changed. */
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
