/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path on ingress, for TC and XDP: tunnelled or direct packets to a Pod of this Node, and
 * packets to the Node that a flow translates to such a Pod.
 *
 *  1. outer         the headers as received
 *  2. tunnel        of the simplest form: its inner headers
 *  3. flow          and whether the tunnel is that of the flow's peer
 *  4. deliver       TTL, decap, MACs, redirect; XDP only decapsulates TCP, for GRO
 *     cross         from the wire to the wire: established_forward.h
 */
#ifndef FAIRWAY_ESTABLISHED_RECEIVE_H
#define FAIRWAY_ESTABLISHED_RECEIVE_H

#include "decap.h"
#include "established.h"
#include "untunnelled.h"
#ifdef FAIRWAY_XDP
#include "xdp.h"
#endif

/* Bytes from the outer UDP header to the inner Ethernet header. */
#define TUNNEL_ETHERNET (TUNNEL_INNER_SIZE - ETH_HLEN)

/* No stack has checked the outer header before. IPv4 without options, at `ip`. */
static __always_inline bool outer_header_whole(const __u32 *ip)
{
	__u64 sum = (__u64)ip[0] + ip[1] + ip[2] + ip[3] + ip[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	return !csum_fold((sum & 0xffff) + (sum >> 16));
}

/* 2. The inner frame's ethertype; 0: not a tunnel packet of the simplest form with this Node's VNI.
 * `l4` is the offset of the outer UDP header. */
static __always_inline __be16 tunnel_plain(void *data, void *end, __u32 l4, __be16 port,
					   const struct node_config *node)
{
	__be32 *header = data + l4 + sizeof(struct udp_header);
	__u8 *frame = data + l4 + TUNNEL_ETHERNET;

	if (data + l4 + TUNNEL_INNER_SIZE > end ||
	    header[0] != (port == node->geneve_port ? GENEVE_PLAIN : VXLAN_PLAIN) ||
	    header[1] != bpf_htonl(node->vni << 8) || frame[0] & 1)
		return 0;
	return *(__be16 *)(frame + 2 * ETH_ALEN);
}

/* 3. True if these are the addresses of that peer's tunnel. */
static __always_inline bool tunnel_of_peer(const struct peer *peer, const struct headers *outer)
{
	return peer && peer_tunnels(peer) && words_equal(&peer->remote, outer->words.source) &&
	       words_equal(&peer->local, outer->words.destination);
}

/* 3. The inner packet leaves this tunnel as it is (RFC 6040). */
static __always_inline bool ecn_stays(const struct headers *outer, const struct headers *inner)
{
	return ecn_decapsulate(outer->tos, inner->tos) == (inner->tos & ECN_MASK);
}

/* 3. This peer may have sent the untunnelled packet. */
static __always_inline bool untunnelled_of_peer(const void *ethernet, const struct peer *peer,
						const struct node_config *node)
{
	return (!HOOK_IS_XDP && was_stripped(ethernet, node)) || sends_untunnelled(peer);
}

#ifdef FAIRWAY_XDP

/* Removes the tunnel of the peer at `index` and leaves the rest to GRO and TC. */
static __always_inline int established_strip(context *ctx, __u32 strip, __u8 family, __u32 index,
					     const struct headers *headers,
					     const struct node_config *node)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct verdict verdict = { .action = ACTION_PASS, .peer = NO_PEER };
	struct gso gso = { .segments = 1 };
	__u64 destination;

	if (data + ETH_HLEN > end)
		return NOT_ESTABLISHED;
	destination = *(__u64 *)data;
	if (bpf_xdp_adjust_head(ctx, strip))
		return NOT_ESTABLISHED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN > end)
		return established_failed();
	put_ethernet(data, destination, node->stripped_mac, family);
	count_received(index, false, true, headers->length, headers->before_payload, &gso);
	record(&verdict);
	return XDP_PASS;
}

static __always_inline bool must_go_up(context *ctx, void *l4, __u8 family,
				       const struct headers *headers, __u32 ifindex)
{
	const struct udp_header *udp = l4;

	return too_long_for_redirect(ctx, headers->length, ifindex) ||
	       (veth_wire && udp->check &&
		udp_checksum_unfinished(&headers->key, family, udp->length, udp->check));
}

#endif

/* 3. A flow from the wire to the wire: at TC, established_forward goes on. XDP does not forward it, because not
 * every device accepts redirected frames; it only decapsulates answers. */
static __always_inline int established_cross(context *ctx, const struct node_config *node, __u32 l3,
					     __u8 family, const struct headers *headers,
					     const struct headers *outer,
					     const struct flow_match *match)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 index = match->flow->ifindex[FLOW_REPLY];
#ifdef FAIRWAY_XDP
	struct verdict verdict = { .action = ACTION_PASS, .peer = NO_PEER };
#else
	struct work *work = work_space();
#endif

	if (data + ETH_HLEN > end)
		return NOT_ESTABLISHED;
	/* Only answers come in a tunnel, and they come from the backend's peer. */
	if (match->direction == FLOW_ORIGINAL) {
		if (outer || (!HOOK_IS_XDP && was_stripped(data, node)))
			return NOT_ESTABLISHED;
	} else if (outer ? !tunnel_of_peer(peer_at(index), outer) || !ecn_stays(outer, headers)
			 : !untunnelled_of_peer(data, peer_at(index), node)) {
		return NOT_ESTABLISHED;
	}
#ifdef FAIRWAY_XDP
	if (outer)
		return established_strip(ctx, l3 - ETH_HLEN, family, index, headers, node);
	record(&verdict);
	return XDP_PASS;
#else
	if (!work || !(node->flags & NODE_SERVES_ALL))
		return NOT_ESTABLISHED;
	work->crossing.headers = *headers;
	work->crossing.slot = match->slot;
	work->crossing.claim = match->claim;
	work->crossing.direction = match->direction;
	work->crossing.family = family;
	work->crossing.tunnelled = outer != NULL;
	return CROSSING;
#endif
}

/* 3 and 4. `l3` is the offset of the packet itself; `outer` its outer headers, or NULL. */
static __always_inline int established_deliver(context *ctx, const struct node_config *node,
					       __u32 l3, __u8 family, struct headers *headers,
					       const struct headers *outer)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct verdict verdict = { .action = ACTION_ENDPOINT, .peer = NO_PEER };
	__u32 header = header_size(family);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct translation translation;
	bool own, from_peer;
	__u8 receiver;
	struct gso gso = gso_of(ctx);
	const struct peer *peer = NULL;
	struct flow_match match;
	struct flow *flow;
	__u32 hash, index, epoch = route_epoch(node);
	__u64 mac;

	hash = words_hash(&headers->words, &node->flow_hash, true);
	/* A packet to the Node itself can concern a Pod only as an answer to a translated flow. */
	own = !address_equal(&headers->key.destination, gateway_address(node, family)) &&
	      (outer || !address_equal(&headers->key.destination, snat_address(node, family)));
	match = flow_established(headers, hash, own, node, epoch, now);
	flow = match.flow;
	if (data + l3 + header + 8 > end)
		return NOT_ESTABLISHED;
	receiver = !match.direction;
	if (!flow) {
		if (!match.claim)
			flow_fetch(hash);
		return NOT_ESTABLISHED;
	}
	if (flow->pods == FLOW_CROSSES)
		return established_cross(ctx, node, l3, family, headers, outer, &match);
	/* Both ends are Pods of this Node, so the packet cannot come from the wire. */
	if (flow->pods != 1 << receiver)
		return NOT_ESTABLISHED;
	/* A peer's Pod that uses a Service of this Node: never in a tunnel, and counted differently. */
	if (flow->route_kind == ROUTE_PEER && flow_to_service(flow, match.direction))
		return NOT_ESTABLISHED;
	if (flow->route_kind == ROUTE_PEER) {
		peer = peer_at(flow->remote);
		if (!peer_judged(peer, flow))
			return NOT_ESTABLISHED;
	}
	if (outer) {
		if (!tunnel_of_peer(peer, outer) || !ecn_stays(outer, headers))
			return NOT_ESTABLISHED;
	} else {
		/* To the Node's own address from a peer's, it may be a tunnel packet to an unknown port. */
		if ((flow->route_kind != ROUTE_PEER && flow->route_kind != ROUTE_OUTSIDE) ||
		    (peer && !untunnelled_of_peer(data, peer, node)) ||
		    (flow_translates(flow) && flow_may_tunnel(flow)))
			return NOT_ESTABLISHED;
	}
	if (!translation_find(&translation, &match, family, headers))
		return NOT_ESTABLISHED;
	from_peer = flow->route_kind == ROUTE_PEER;
	index = flow->remote;
	verdict.ifindex = flow->ifindex[receiver];
	mac = mac_to_put(&flow->mac[receiver]);
#ifdef FAIRWAY_XDP
	if (headers->key.protocol == IPPROTO_TCP)
		return established_strip(ctx, l3 - ETH_HLEN, family, index, headers, node);
	if (must_go_up(ctx, data + l3 + header, family, headers, verdict.ifindex))
		return NOT_ESTABLISHED;
#endif
	if (headers->ttl <= 1)
		return NOT_ESTABLISHED;

	if (!flow_holds(&match, epoch))
		return NOT_ESTABLISHED;

	flow_touch(flow, now);
	flow_follow(&match, headers);
	put_translation(data + l3, family, headers, &translation);
	put_hop(data + l3, family, headers);
	csum_follow(ctx, family, &translation);
	if (outer) {
#ifdef FAIRWAY_XDP
		if (bpf_xdp_adjust_head(ctx, l3 - ETH_HLEN))
			return established_failed();
#else
		if (tunnel_leave(ctx, l3 - ETH_HLEN, 0))
			return established_failed();
#endif
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		if (data + ETH_HLEN > end)
			return established_failed();
	}
	put_ethernet(data, mac, mac_to_put(&node->gateway_mac), family);
	if (from_peer)
		count_received(index, true, outer, headers->length, headers->before_payload, &gso);
	if (put_translated_checksum(ctx, ETH_HLEN + header, &translation))
		return established_failed();
#ifdef FAIRWAY_XDP
	record(&verdict);
	return bpf_redirect(verdict.ifindex, 0);
#else
	if (peer && is_syn_answer(headers) && put_mss(ctx, family, headers, peer->mtu))
		return established_failed();
	record(&verdict);
	return bpf_redirect_peer(verdict.ifindex, 0);
#endif
}

/* 1 and 2, for an outer header that ends at `l4`. */
static __always_inline int established_from(context *ctx, const struct node_config *node, __u32 l4,
					    __u8 family, struct headers *outer)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__be16 port = outer->key.destination_port, ethertype;
	struct verdict verdict = { .action = ACTION_PASS, .peer = NO_PEER };
	__u32 l3 = l4 + TUNNEL_INNER_SIZE, before = l3 - ETH_HLEN;
	struct headers inner;

	if (HOOK_IS_XDP && outer->key.protocol == IPPROTO_TCP) {
		/* No tunnel: passed unchanged to GRO and TC. */
		record(&verdict);
		return XDP_PASS;
	}
	if (outer->key.protocol != IPPROTO_UDP || !is_tunnel_port(port, node))
		return established_deliver(ctx, node, ETH_HLEN, family, outer, NULL);
	ethertype = tunnel_plain(data, end, l4, port, node);
	if (!ethertype || outer->length < before ||
	    (family == 4 && !outer_header_whole(data + ETH_HLEN)))
		return NOT_ESTABLISHED;
	/* Constants for each case: only at TC does it matter whether the tunnel has the other family. */
	if (ethertype == bpf_htons(ETH_P_IP) && (HOOK_IS_XDP || family == 4) &&
	    headers_read(data, end, l3, bpf_htons(ETH_P_IP), outer->length - before, &inner))
		return established_deliver(ctx, node, l3, 4, &inner, outer);
	if (ethertype == bpf_htons(ETH_P_IPV6) && (HOOK_IS_XDP || family == 6) &&
	    headers_read(data, end, l3, bpf_htons(ETH_P_IPV6), outer->length - before, &inner))
		return established_deliver(ctx, node, l3, 6, &inner, outer);
	return NOT_ESTABLISHED;
}

#define established_receive FOR_HOOK(established_receive)
/* Handles a packet from the wire; NOT_ESTABLISHED: nothing has been changed. */
stage int established_receive(context *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct node_config *node = node_configuration();
	struct headers outer;
	__be16 ethertype;
	__u32 room;

	if (!node || !(node->flags & NODE_CONFIGURED) || data + ETH_HLEN > end || of_vlan(ctx) ||
	    !for_this_node(ctx, data, node))
		return NOT_ESTABLISHED;
	/* Only the first buffer: larger packets take the full path. */
	room = HOOK_IS_XDP ? end - data - ETH_HLEN : frame_length(ctx) - ETH_HLEN;
	ethertype = *(__be16 *)(data + 2 * ETH_ALEN);
	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IP), room, &outer))
			return established_from(ctx, node, ETH_HLEN + sizeof(struct iphdr), 4,
						&outer);
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IPV6), room, &outer))
			return established_from(ctx, node, ETH_HLEN + sizeof(struct ipv6hdr), 6,
						&outer);
	}
	return NOT_ESTABLISHED;
}

#endif
