/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_wire, the same for XDP and TC: what comes in from the Node network.
 *
 *  1. parse          neighbour messages are noted, all else that is not IP passes
 *  2. tunnel         of a known peer: checked, the quick way when its flow is known, and stripped
 *  3. XDP only       what GRO helps, or what must not lose an unfinished checksum, goes up
 *  4. destination    a Pod of this Node, the Node, or neither
 *  5. to the Node    probes (probe.h); translated answers go back to where they belong
 *  6. to a Pod       flow, TTL, MSS, deliver
 *
 * 5 and 6 ask of a packet that came without a tunnel whether it may be its source's (untunnelled.h).
 */
#ifndef FAIRWAY_WIRE_H
#define FAIRWAY_WIRE_H

#include "established_receive.h"
#include "fragment.h"
#include "peer_count.h"
#include "probe.h"
#include "translation.h"
#include "untunnelled.h"
#ifdef FAIRWAY_XDP
#include "emit.h"
#include "slow_path.h"
#include "tunnel.h"
#include "work.h"
#include "xdp.h"
#else
#include "remote.h"
#endif

#ifdef FAIRWAY_XDP

/* A veth delivers packets whose checksum the sender's stack left to a NIC: the field holds only the
 * pseudo header's sum (SCTP: nothing). A redirect would lose the skb's note of that; passing the
 * packet up keeps it. */
static __always_inline bool checksum_unfinished(context *ctx, const struct packet *packet)
{
	__u8 *l4;

	if (packet->key.protocol == IPPROTO_SCTP) {
		l4 = bytes_at(ctx, packet->l4, 12);
		return !l4 || !*(__be32 *)(l4 + 8);
	}
	if (packet->key.protocol != IPPROTO_UDP)
		return false;
	l4 = bytes_at(ctx, packet->l4, 8);
	return !l4 || udp_checksum_unfinished(&packet->key, packet->family, *(__be16 *)(l4 + 4),
					      *(__sum16 *)(l4 + 6));
}

/* True for packets that GRO and the TC program must handle. */
static __always_inline bool for_tc(context *ctx, const struct packet *packet)
{
	return packet->key.protocol == IPPROTO_TCP ||
	       packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR) ||
	       (veth_wire && checksum_unfinished(ctx, packet));
}

#endif

/* Counts a packet from a peer. `stripped`: it was decapsulated; if not `here`, only that is
 * counted. */
static __always_inline void wire_count(const struct packet *packet, __u32 peer, bool here,
				       bool stripped, const struct gso *gso)
{
	count_received(peer * 2 + (packet->family == 6), here, stripped, packet->length,
		       headers_length(packet), gso);
}

/* Why a packet with a source in the pod CIDRs of peer `id` is not believed. `known`: it belongs to a flow,
 * whose first packet was. DROP_REASON_COUNT: TC has to look at it. */
static __always_inline enum drop_reason source_refused(context *ctx, struct work *work, __u32 id,
						       bool known, const struct node_config *node)
{
	if (work->arrival.tunnelled)
		return DROP_NONE;
	if (!sends_untunnelled(peer_lookup(id, work->packet.family)))
		return DROP_UNTUNNELLED;
	if (known)
		return DROP_NONE;
	switch (link_check(ctx, work, id, node)) {
	case LINK_PEER:
		return DROP_NONE;
	case LINK_ASK_TC:
		return DROP_REASON_COUNT;
	default:
		return DROP_PEER_MAC_MISMATCH;
	}
}

/* `local` is the Pod that the packet goes to, NULL for the Node itself. */
static __always_inline void wire_flow(struct work *work, const struct route *source,
				      const struct endpoint *local, const struct node_config *node,
				      __u32 epoch, __u64 now)
{
	const struct packet *packet = &work->packet;

	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN))
		return;
	if (work->track.known) {
		flow_keep(packet, now);
		return;
	}
	flow_begin(work, packet, now);
	route_remember(&work->flow, source, packet->family, local, FLOW_REPLY, epoch);
	flow_start(node, local ? local->index : 0);
}

/* 6 */
static __always_inline int wire_to_pod(context *ctx, struct work *work,
				       const struct endpoint *endpoint, const struct route *source,
				       const struct node_config *node, struct verdict *verdict)
{
	const struct packet *packet = &work->packet;

#ifndef FAIRWAY_XDP
	if (related_rewrite(ctx))
		return dropped(verdict, DROP_REWRITE_FAILED);
#endif
	if (rewrite(ctx, packet, target_of(work), 1))
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
static __always_inline int wire_to_host(context *ctx, struct work *work, const struct gso *gso,
					const struct node_config *node, __u32 epoch, __u64 now,
					struct verdict *verdict)
{
	struct packet *packet = &work->packet;
	const struct endpoint *endpoint;
	struct route source;
	struct track *track = &work->track;
	struct flow *flow = &work->flow;
#ifndef FAIRWAY_XDP
	struct packet *quoted = &work->inner;
	enum drop_reason reason;
	__u32 probed = probe_from(ctx, packet, node);

	if (probed != NO_PEER) {
		verdict->peer = probed;
		if (!work->arrival.tunnelled && probe_asks(ctx, packet) &&
		    link_check(ctx, work, probed, node) == LINK_ANOTHER)
			return dropped(verdict, DROP_PEER_MAC_MISMATCH);
		return probe_receive(ctx, work, node, probed);
	}
	source = route_lookup(&packet->key.source);
	if (source.kind == ROUTE_LOCAL_PODS || source.kind == ROUTE_HOST)
		return dropped(verdict, DROP_MARTIAN_SOURCE);
	if (source.kind == ROUTE_PEER) {
		reason = source_refused(ctx, work, source.peer, track->known, node);
		if (reason)
			return dropped(verdict, reason);
		/* What goes to another address of the Node, the peer's Pods do not send as a
		 * peer's. */
		if (address_equal(&packet->key.destination, gateway_address(node, packet->family)))
			wire_count(packet, source.peer, true, false, gso);
	}
	__builtin_memset(quoted, 0, sizeof(*quoted));

	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, quoted, node, now);
	if (packet->flags & PACKET_PORTS_UNKNOWN) {
		/* The first fragment will show the destination. The Node's reassembly gets the packet
		 * now, in case it is for the Node; the slow path gets a copy, in case it is for a Pod. */
		if (node->flags & NODE_SNAT)
			slow_path_send(ctx, packet, node, SLOW_HOLD, 0, verdict);
		verdict->drop_reason = DROP_NONE;
	}
#endif
	if (target_find()) {
		if (flow->flags & FLOW_STACK) {
#ifndef FAIRWAY_XDP
			/* to_wire translated it last, so it is turned back first. */
			if (!track->related)
				flow_keep(packet, now);
			if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
				return dropped(verdict, DROP_REWRITE_FAILED);
#endif
			return pass(verdict);
		}
		endpoint = endpoint_lookup(&work->target.destination);
		if (endpoint) {
#ifdef FAIRWAY_XDP
			if (too_long_for_redirect(ctx, packet->length, endpoint->ifindex))
				return pass(verdict);
#endif
			if (packet->ttl <= 1) {
				slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
				return discard();
			}
			if (!track->related) {
				if (!flow_current(flow, epoch)) {
					source = route_resolve(&packet->key.source);
					route_remember(flow, &source, packet->family, endpoint,
						       !track->direction, epoch);
					track->remembered = 1;
				}
				flow_keep(packet, now);
			}
			source.kind = ROUTE_OUTSIDE;
			return wire_to_pod(ctx, work, endpoint, &source, node, verdict);
		}
#ifndef FAIRWAY_XDP
		/* from_host translated an address of the Node itself. */
		if (route_lookup(&work->target.destination).kind == ROUTE_HOST) {
			if (!track->related)
				flow_keep(packet, now);
			if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
				return dropped(verdict, DROP_REWRITE_FAILED);
			return emit_host(ctx, node, verdict);
		}
		return dropped(verdict, DROP_NO_ENDPOINT);
#endif
	}
#ifdef FAIRWAY_XDP
	return pass(verdict);
#else
	if (source.kind != ROUTE_PEER)
		return pass(verdict);
	if (track->known && !flow_current(flow, epoch)) {
		route_remember(flow, &source, packet->family, NULL, FLOW_REPLY, epoch);
		track->remembered = 1;
	}
	wire_flow(work, &source, NULL, node, epoch, now);
	return emit_host(ctx, node, verdict);
#endif
}

#ifndef FAIRWAY_XDP

/* Finds the flow that an ICMP error for a Pod is about, for translation: the error itself has no flow.
 * True where the Node's stack has translated that, in reply direction. */
stage bool error_of_stack(struct __sk_buff *ctx, struct work *work, const struct node_config *node)
{
	struct track *track;
	bool about;

	if (!work || !node)
		return false;
	track = &work->track;
	__builtin_memset(&work->inner, 0, sizeof(work->inner));
	track->related =
		related_lookup(ctx, &work->packet, &work->inner, node, bpf_ktime_get_coarse_ns());
	about = track->related && work->flow.flags & FLOW_STACK && track->direction == FLOW_REPLY;
	target_find();
	track->known = 0;
	return about;
}

/* An answer of a peer's Pod to a flow that the Node's stack has translated, or an error about it. */
static __always_inline int wire_to_stack(context *ctx, struct packet *packet, const struct gso *gso,
					 const struct node_config *node, __u64 now,
					 struct verdict *verdict)
{
	struct route source = route_lookup(&packet->key.source);

	if (source.kind != ROUTE_PEER)
		return pass(verdict);
	wire_count(packet, source.peer, true, false, gso);
	if (!(packet->flags & PACKET_ICMP_ERROR))
		flow_keep(packet, now);
	return emit_host(ctx, node, verdict);
}

#endif

/* The Pod that a packet of a known flow goes to, as the flow remembers it. */
static __always_inline bool wire_known(const struct track *track, const struct flow *flow,
				       __u32 epoch, struct endpoint *endpoint)
{
	__u8 receiver = !track->direction;

	/* Both ends: nothing that comes from the wire. */
	if (!track->known || !flow_current(flow, epoch) || flow->pods != 1 << receiver)
		return false;
	endpoint->ifindex = flow->ifindex[receiver];
	endpoint->mac = flow->mac[receiver];
	return true;
}

/*
 * 2, for most tunnel packets: the inner packet belongs to a known flow whose remote side is a peer, and
 * the outer addresses are those of that peer's tunnel. Then source and destination have been checked
 * before, in this epoch. False, with `inner` empty again: needs the complete checks.
 */
static __always_inline bool tunnel_known_flow(context *ctx, struct work *work,
					      const struct node_config *node, __u32 epoch,
					      __u64 now)
{
	const struct packet *outer = &work->packet;
	struct packet *inner = &work->inner;
	__be16 port = outer->key.destination_port;
	struct {
		struct tunnel_header tunnel;
		struct ethhdr ethernet;
	} __attribute__((packed)) * header;
	const struct peer *peer;
	struct endpoint endpoint;
	__be16 ethertype;

	if (outer->key.protocol != IPPROTO_UDP || outer->flags & PACKET_FRAGMENT ||
	    !is_tunnel_port(port, node) || !outer_checksum_right(ctx, outer))
		return false;
	header = bytes_at(ctx, outer->l4 + sizeof(struct udp_header), sizeof(*header));
	if (!header || header->tunnel.vni != bpf_htonl(node->vni << 8) || header->tunnel.second ||
	    header->ethernet.h_dest[0] & 1)
		return false;
	if (port == node->geneve_port
		    ? header->tunnel.first || header->tunnel.protocol != bpf_htons(ETH_P_TEB)
		    : header->tunnel.first != VXLAN_VNI_FLAG || header->tunnel.protocol)
		return false;
	ethertype = header->ethernet.h_proto;
	if ((ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6)) ||
	    parse(ctx, inner, outer->l4 + sizeof(struct udp_header) + sizeof(*header), ethertype,
		  false))
		goto unknown;
	if (inner->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR) ||
	    (__u32)(inner->l3 - outer->l3) + inner->length > outer->length ||
	    ecn_decapsulate(outer->tos, inner->tos) < 0)
		goto unknown;
	flow_lookup(&inner->key, node, now);
	if (!wire_known(&work->track, &work->flow, epoch, &endpoint) ||
	    work->flow.route_kind != ROUTE_PEER)
		goto unknown;
	peer = peer_at(work->flow.remote);
	if (peer && peer_tunnels(peer) && address_equal(&peer->remote, &outer->key.source) &&
	    address_equal(&peer->local, &outer->key.destination))
		return true;
unknown:
	work->track.known = 0;
	__builtin_memset(inner, 0, sizeof(*inner));
	return false;
}

static __always_inline int wire_receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	const struct endpoint *found = NULL;
	struct endpoint endpoint = {};
	struct packet *packet, *inner;
	struct track *track;
	struct flow *flow;
	bool stripped, plain, known = false, ours;
	enum drop_reason reason;
	enum tunnel_kind tunnel;
	struct ethhdr *ethernet;
	struct route source, destination = {};
	__u32 peer = NO_PEER, inner_ethernet = 0, epoch;
	struct gso gso = gso_of(ctx);
	__be16 ethertype;
	__u64 now;

	if (!node || !(node->flags & NODE_CONFIGURED) || of_vlan(ctx))
		return pass(verdict);
	epoch = route_epoch(node);
	packet = &work->packet;
	track = &work->track;
	inner = &work->inner;
	flow = &work->flow;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	ours = for_this_node(ctx, ethernet, node);
	work->arrival.source_mac = ethernet_source(ethernet);
	work->arrival.tunnelled = !HOOK_IS_XDP && was_stripped(ethernet, node);
	if (ethertype == bpf_htons(ETH_P_ARP))
		next_hop_arp(ctx);
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return pass(verdict);
	/* Malformed packets are left to the Node's own stack. */
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return pass(verdict);
	if (packet->key.protocol == IPPROTO_ICMPV6 && packet->l4_type >= ICMPV6_ROUTER_SOLICIT &&
	    packet->l4_type <= ICMPV6_REDIRECT_MESSAGE) {
		next_hop_icmpv6(packet);
		return pass(verdict);
	}

	if (!ours)
		return pass(verdict);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	stripped = tunnel_known_flow(ctx, work, node, epoch, now);
	if (!stripped) {
		tunnel = tunnel_expected(packet, node, &peer, verdict);
		if (tunnel != TUNNEL_NONE && tunnel != TUNNEL_REFUSED)
			tunnel = tunnel_parse(ctx, packet, node, tunnel, &inner_ethernet, verdict);
		if (tunnel == TUNNEL_REFUSED)
			return discard();
		stripped = tunnel != TUNNEL_NONE;
		if (stripped &&
		    tunnel_inner_check(ctx, packet, inner, inner_ethernet, peer, node, verdict))
			return discard();
	}
	if (stripped) {
		if (track->known)
			peer = flow->remote / 2;
		if (decapsulate(ctx, packet, inner, node))
			return dropped(verdict, DROP_REWRITE_FAILED);
		*packet = *inner;
		work->arrival.tunnelled = 1;
		if (probe_from(ctx, packet, node) == NO_PEER)
			wire_count(packet, peer, false, true, &gso);
	}

#ifdef FAIRWAY_XDP
	/* 3 */
	if (for_tc(ctx, packet))
		return pass(verdict);
#endif

	/* 4 */
	plain = !(packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR));
	if (plain && !track->known)
		flow_lookup(&packet->key, node, now);
	if (plain && wire_known(track, flow, epoch, &endpoint))
		known = true;
	if (!known) {
		found = endpoint_lookup(&packet->key.destination);
		if (found) {
			endpoint = *found;
		} else {
			destination = route_lookup(&packet->key.destination);
			if (destination.kind != ROUTE_LOCAL_PODS && destination.kind != ROUTE_HOST)
				return pass(verdict);
		}
	}
#ifdef FAIRWAY_XDP
	if ((known || found) && too_long_for_redirect(ctx, packet->length, endpoint.ifindex))
		return pass(verdict);
#endif
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_WIRE);
	if (!plain && !(packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)))
		flow_lookup(&packet->key, node, now);
	if (!known && !found && destination.kind == ROUTE_HOST)
		return wire_to_host(ctx, work, &gso, node, epoch, now, verdict);

	/* An answer to what the Node's stack has sent a peer's Pod for one of ours goes back there. */
	if (track->known && flow->flags & FLOW_STACK && track->direction == FLOW_REPLY) {
#ifdef FAIRWAY_XDP
		return pass(verdict);
#else
		return wire_to_stack(ctx, packet, &gso, node, now, verdict);
#endif
	}
#ifndef FAIRWAY_XDP
	if (packet->flags & PACKET_ICMP_ERROR && error_of_stack(ctx, work, node))
		return wire_to_stack(ctx, packet, &gso, node, now, verdict);
#endif

	/* 6 */
	if (track->known && flow_current(flow, epoch)) {
		source = route_remembered(flow);
	} else {
		source = route_lookup(&packet->key.source);
		if (track->known && found) {
			route_remember(flow, &source, packet->family, found, !track->direction,
				       epoch);
			track->remembered = 1;
		}
	}
	if (source.kind == ROUTE_LOCAL_PODS || source.kind == ROUTE_HOST)
		return dropped(verdict, DROP_MARTIAN_SOURCE);
	if (source.kind == ROUTE_PEER) {
		reason = source_refused(ctx, work, source.peer, track->known, node);
		if (HOOK_IS_XDP && reason == DROP_REASON_COUNT)
			return pass(verdict);
		if (reason)
			return dropped(verdict, reason);
		/* The packet has arrived, whatever happens to it now. */
		wire_count(packet, source.peer, true, false, &gso);
	}
	if (!known && !found) {
		slow_path_send(ctx, packet, node, SLOW_NO_HOST, 0, verdict);
		return discard();
	}
	if (packet->ttl <= 1) {
		slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
		return discard();
	}
	wire_flow(work, &source, &endpoint, node, epoch, now);
	if (!(packet->flags & PACKET_ICMP_ERROR))
		target_find();
	return wire_to_pod(ctx, work, &endpoint, &source, node, verdict);
}

#endif
