/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_wire, the same for XDP and TC: what comes in from the Node network.
 *
 *  1. parse          neighbour messages are noted, all else that is not IP passes
 *  2. tunnel         of a known peer: checked and stripped
 *  3. XDP only       what GRO helps, or what must not lose an unfinished checksum, goes up
 *  4. destination    a Pod of this Node, the Node, or neither
 *  5. to the Node    translated answers go back to where they belong
 *  6. to a Pod       flow, TTL, MSS, deliver
 */
#ifndef FAIRWAY_WIRE_H
#define FAIRWAY_WIRE_H

#include "fragment.h"
#ifdef FAIRWAY_XDP
#include "emit.h"
#include "slow_path.h"
#include "snat.h"
#include "tunnel.h"
#include "work.h"
#else
#include "remote.h"
#endif

#ifdef FAIRWAY_XDP

/* A veth hands over packets whose checksum the sender's stack left to a NIC that never came:
 * the field holds the pseudo header's sum alone (SCTP: nothing). A redirect would forget what
 * the skb knows of that; passed up, it is kept. */
static __always_inline bool checksum_unfinished(context *ctx, const struct packet *packet)
{
	const __u16 *word = (const __u16 *)&packet->key.source;
	__u8 *l4;
	__u32 sum, i;

	if (packet->key.protocol == IPPROTO_SCTP) {
		l4 = bytes_at(ctx, packet->l4, 12);
		return !l4 || !*(__be32 *)(l4 + 8);
	}
	if (packet->key.protocol != IPPROTO_UDP)
		return false;
	l4 = bytes_at(ctx, packet->l4, 8);
	if (!l4)
		return true;
	sum = bpf_htons(IPPROTO_UDP) + *(__be16 *)(l4 + 4);
	/* An IPv4-mapped address's leading words are 0 and ffff, both of them nothing in this sum. */
#pragma unroll
	for (i = 0; i < 16; i++)
		sum += word[i];
	return (__u16)~csum_fold(sum) == *(__sum16 *)(l4 + 6);
}

/* A redirect into a veth loses without a word what is longer than its MTU: a Pod in `encap` has a
 * smaller one than the wire. TC delivers such packets; no Pod has an MTU below XDP_ALWAYS_FITS. */
#define XDP_ALWAYS_FITS 512

static __always_inline bool too_long_for_redirect(context *ctx, const struct packet *packet,
						  const struct endpoint *endpoint)
{
	__u32 mtu = packet->length;

	return packet->length > XDP_ALWAYS_FITS &&
	       bpf_check_mtu(ctx, endpoint->ifindex, &mtu, 0, 0);
}
#endif

static __always_inline void wire_flow(struct flow_match *match, const struct packet *packet,
				      const struct route *source, const struct node_config *node,
				      __u64 now)
{
	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN))
		return;
	if (!match->flow) {
		match->flow = flow_start(packet, node);
		match->direction = FLOW_ORIGINAL;
		if (!match->flow)
			return;
		route_remember(match->flow, source, node);
	}
	flow_advance(match->flow, match->direction, packet, node, now);
}

/* 6. `translation` may be NULL. */
static __always_inline int wire_to_pod(context *ctx, struct packet *packet,
				       const struct endpoint *endpoint,
				       const struct translation *translation,
				       const struct route *source, const struct node_config *node,
				       struct verdict *verdict)
{
	if (rewrite(ctx, packet, translation, 1))
		return dropped(verdict, DROP_REWRITE_FAILED);
#ifndef FAIRWAY_XDP
	if (source->kind == ROUTE_PEER && is_syn(packet)) {
		const struct peer *peer = peer_lookup(source->peer, packet->family);

		if (peer && peer->mtu && mss_clamp(ctx, packet, peer->mtu))
			return dropped(verdict, DROP_REWRITE_FAILED);
	}
#endif
	return emit_endpoint(ctx, endpoint, node, verdict);
}

/* 5 */
static __always_inline int wire_to_host(context *ctx, struct work *work, struct flow_match match,
					const struct node_config *node, __u64 now,
					struct verdict *verdict)
{
	struct packet *packet = &work->packet;
	struct translation *translation = &work->translation;
	const struct endpoint *endpoint;
	struct route source;
	bool related = false;
#ifndef FAIRWAY_XDP
	struct packet *quoted = &work->inner;

	__builtin_memset(quoted, 0, sizeof(*quoted));

	if (packet->flags & PACKET_ICMP_ERROR)
		related = !related_lookup(ctx, packet, quoted, node, now, &match);
	if (packet->flags & PACKET_PORTS_UNKNOWN) {
		/* The first fragment will tell whose this is. The Node's reassembly gets it now, in
		 * case it is the Node's; the slow path a copy, in case it is a Pod's. */
		if (node->flags & NODE_SNAT)
			slow_path_send(ctx, packet, node, SLOW_HOLD, 0, verdict);
		verdict->drop_reason = DROP_NONE;
	}
#endif
	if (match.flow && match.direction == FLOW_REPLY &&
	    snat_translation(match.flow, FLOW_REPLY, translation)) {
		endpoint = endpoint_lookup(&translation->address);
		if (endpoint) {
#ifdef FAIRWAY_XDP
			if (too_long_for_redirect(ctx, packet, endpoint))
				return pass(verdict);
#endif
			if (packet->ttl <= 1) {
				slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
				return discard();
			}
			if (!related)
				flow_advance(match.flow, FLOW_REPLY, packet, node, now);
#ifndef FAIRWAY_XDP
			if (related && related_rewrite(ctx, packet, quoted, translation))
				return dropped(verdict, DROP_REWRITE_FAILED);
#endif
			source.kind = ROUTE_OUTSIDE;
			return wire_to_pod(ctx, packet, endpoint, translation, &source, node,
					   verdict);
		}
#ifndef FAIRWAY_XDP
		/* from_host translated an address of the Node itself. */
		if (route_lookup(&translation->address).kind == ROUTE_HOST) {
			if (!related)
				flow_advance(match.flow, FLOW_REPLY, packet, node, now);
			if ((related && related_rewrite(ctx, packet, quoted, translation)) ||
			    rewrite(ctx, packet, translation, 0))
				return dropped(verdict, DROP_REWRITE_FAILED);
			return emit_host(ctx, node, verdict);
		}
		return dropped(verdict, DROP_NO_ENDPOINT);
#endif
	}
#ifdef FAIRWAY_XDP
	return pass(verdict);
#else
	source = route_lookup(&packet->key.source);
	if (source.kind != ROUTE_PEER)
		return pass(verdict);
	wire_flow(&match, packet, &source, node, now);
	return emit_host(ctx, node, verdict);
#endif
}

static __always_inline int wire_receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	const struct endpoint *endpoint;
	struct packet *packet, *inner;
	struct flow_match match = {};
	enum tunnel_kind tunnel;
	struct ethhdr *ethernet;
	struct route source, destination = {};
	__u32 peer = NO_PEER, inner_ethernet = 0;
	__be16 ethertype;
	__u64 now;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return pass(verdict);
	packet = &work->packet;
	inner = &work->inner;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	if (ethertype == bpf_htons(ETH_P_ARP))
		next_hop_arp(ctx);
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return pass(verdict);
	/* What the Node's own stack makes of a packet that is wrong here is its affair. */
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return pass(verdict);
	if (packet->key.protocol == IPPROTO_ICMPV6 && packet->l4_type >= ICMPV6_ROUTER_SOLICIT &&
	    packet->l4_type <= ICMPV6_REDIRECT_MESSAGE) {
		next_hop_icmpv6(packet);
		return pass(verdict);
	}

	/* 2 */
	tunnel = tunnel_expected(packet, node, &peer, verdict);
	if (tunnel == TUNNEL_REFUSED)
		return discard();
	if (tunnel != TUNNEL_NONE) {
		tunnel = tunnel_parse(ctx, packet, node, tunnel, &inner_ethernet, verdict);
		if (tunnel == TUNNEL_REFUSED)
			return discard();
	}
	if (tunnel != TUNNEL_NONE) {
		if (tunnel_inner_check(ctx, packet, inner, inner_ethernet, peer, node, verdict))
			return discard();
		if (decapsulate(ctx, packet, inner))
			return dropped(verdict, DROP_REWRITE_FAILED);
		*packet = *inner;
	}

#ifdef FAIRWAY_XDP
	/* 3 */
	if (packet->key.protocol == IPPROTO_TCP ||
	    packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR) ||
	    (veth_wire && checksum_unfinished(ctx, packet)))
		return pass(verdict);
#endif

	/* 4 */
	now = bpf_ktime_get_coarse_ns();
	endpoint = endpoint_lookup(&packet->key.destination);
#ifdef FAIRWAY_XDP
	if (endpoint && too_long_for_redirect(ctx, packet, endpoint))
		return pass(verdict);
#endif
	if (!endpoint) {
		destination = route_lookup(&packet->key.destination);
		if (destination.kind != ROUTE_LOCAL_PODS && destination.kind != ROUTE_HOST)
			return pass(verdict);
	}
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet);
	if (!(packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)))
		match = flow_lookup(&packet->key, node, now);
	if (!endpoint && destination.kind == ROUTE_HOST)
		return wire_to_host(ctx, work, match, node, now, verdict);

	/* 6 */
	source = route_of(match.flow, &packet->key.source, node);
	if (source.kind == ROUTE_LOCAL_PODS || source.kind == ROUTE_HOST)
		return dropped(verdict, DROP_MARTIAN_SOURCE);
	if (!endpoint)
		return dropped(verdict, DROP_NO_ENDPOINT);
	if (packet->ttl <= 1) {
		slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
		return discard();
	}
	wire_flow(&match, packet, &source, node, now);
	return wire_to_pod(ctx, packet, endpoint, NULL, &source, node, verdict);
}

#endif
