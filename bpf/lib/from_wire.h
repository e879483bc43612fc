/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_wire, the same for XDP and TC: handles packets from the Node network.
 *
 *  1. parse          neighbour messages are noted, all else that is not IP passes
 *  2. tunnel         of a known peer: checked and stripped
 *  3. XDP only       passes up packets that GRO can merge, or that must not lose an unfinished checksum
 *  4. destination    of its flow, else a Pod of this Node, the Node, a Service, or none of them
 *  5. to the Node    or to a Service: wire_to_host.h
 *  6. to the stack   answers to flows that the stack has translated
 *  7. source         may its owner send this packet? (untunnelled.h)
 *  8. policy         ingress of the Pod (policy.h)
 *  9. track          TTL, flow
 * 10. deliver        rewrite, MSS, into the Pod
 *
 * Established flows take the fast path, established_receive.h. As in from_pod, each stage returns the
 * program's result, or UNDECIDED; work.arrival passes values from one stage to the next.
 */
#ifndef FAIRWAY_FROM_WIRE_H
#define FAIRWAY_FROM_WIRE_H

#include "decap.h"
#include "decap_known.h"
#include "established_receive.h"
#include "fragment.h"
#include "wire_to_host.h"

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

/* 1 */
#define wire_parse FOR_HOOK(wire_parse)
stage int wire_parse(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct arrival *arrival;
	struct ethhdr *ethernet;
	struct verdict *verdict;
	struct packet *packet;
	__be16 ethertype;
	bool ours;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	verdict = &work->verdict;
	packet = &work->packet;
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	ours = for_this_node(ctx, ethernet, node);
	arrival->source_mac = ethernet_source(ethernet);
	arrival->tunnelled = !HOOK_IS_XDP && was_stripped(ethernet, node);
	if (ethertype == bpf_htons(ETH_P_ARP))
		next_hop_arp(ctx);
	/* Malformed packets are left to the Node's own stack. */
	if (!is_ip(ethertype) || parse(ctx, packet, ETH_HLEN, ethertype, false))
		return pass(verdict);
	if (packet->key.protocol == IPPROTO_ICMPV6 && packet->l4_type >= ICMPV6_ROUTER_SOLICIT &&
	    packet->l4_type <= ICMPV6_REDIRECT_MESSAGE) {
		next_hop_icmpv6(packet);
		return pass(verdict);
	}
	return ours ? UNDECIDED : pass(verdict);
}

/* 2 */
#define wire_strip FOR_HOOK(wire_strip)
stage int wire_strip(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct packet *packet, *inner;
	__u32 peer = NO_PEER, inner_ethernet = 0;
	struct gso gso = gso_of(ctx);
	struct verdict *verdict;
	enum tunnel_kind tunnel;

	if (!node || !work)
		return discard();
	verdict = &work->verdict;
	packet = &work->packet;
	inner = &work->inner;
	if (tunnel_known_flow(ctx, work, node, work->arrival.epoch, work->arrival.now)) {
		peer = work->flow.remote / 2;
	} else {
		tunnel = tunnel_expected(packet, node, &peer, verdict);
		if (tunnel != TUNNEL_NONE && tunnel != TUNNEL_REFUSED)
			tunnel = tunnel_parse(ctx, packet, node, tunnel, &inner_ethernet, verdict);
		if (tunnel == TUNNEL_NONE)
			return UNDECIDED;
		if (tunnel == TUNNEL_REFUSED ||
		    tunnel_inner_check(ctx, packet, inner, inner_ethernet, peer, node, verdict))
			return discard();
	}
	if (decapsulate(ctx, packet, inner, node))
		return dropped(verdict, DROP_REWRITE_FAILED);
	*packet = *inner;
	work->arrival.tunnelled = 1;
	if (probe_from(ctx, packet, node) == NO_PEER)
		wire_count(packet, peer, false, true, &gso);
	return UNDECIDED;
}

/* A flow ends when its backend is gone; XDP leaves that to TC. */
static __always_inline bool backend_leaves(struct work *work)
{
	if (!work->track.known ||
	    !backend_is_gone(&work->flow, work->track.direction, &work->packet))
		return false;
#ifndef FAIRWAY_XDP
	flow_end(&work->track);
#endif
	return true;
}

/* 4. Packets to a Service never come in a tunnel: a peer sends its Pods' packets to the backend. */
static __always_inline bool tunnelled_to_service(const struct work *work)
{
	return work->arrival.tunnelled && work->track.known &&
	       flow_to_service(&work->flow, work->track.direction);
}

/* 4 */
#define wire_destination FOR_HOOK(wire_destination)
stage int wire_destination(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct arrival *arrival;
	struct packet *packet;
	struct route *way;
	bool plain;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	packet = &work->packet;
	way = &arrival->way;
	plain = !(packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR));
	if (plain && !work->track.known)
		flow_lookup(&packet->key, node, arrival->now);
	if (backend_leaves(work) && HOOK_IS_XDP)
		return pass(&work->verdict);
	if (tunnelled_to_service(work))
		return dropped(&work->verdict, DROP_TUNNEL_WRONG_DESTINATION);
	if (!plain || !wire_known(&work->track, &work->flow, arrival->epoch, &arrival->receiver)) {
		if (!endpoint_find(&packet->key.destination, &arrival->receiver)) {
			*way = route_lookup(&packet->key.destination);
			if (way->kind != ROUTE_LOCAL_PODS && way->kind != ROUTE_HOST &&
			    !wire_serves(way, node))
				return pass(&work->verdict);
			arrival->to_host = way->kind != ROUTE_LOCAL_PODS;
		}
	}
#ifdef FAIRWAY_XDP
	if (arrival->receiver.ifindex &&
	    too_long_for_redirect(ctx, packet->length, arrival->receiver.ifindex))
		return pass(&work->verdict);
#endif
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_WIRE);
	if (!plain && !(packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN))) {
		flow_lookup(&packet->key, node, arrival->now);
		backend_leaves(work);
		if (tunnelled_to_service(work))
			return dropped(&work->verdict, DROP_TUNNEL_WRONG_DESTINATION);
	}
	arrival->judged = work->track.known && flow_judged(&work->flow, arrival->epoch);
	return UNDECIDED;
}

#ifndef FAIRWAY_XDP

/* Finds the flow that an ICMP error for a Pod is about, for translation: the error itself has no flow.
 * True where the Node's stack has translated that flow, in reply direction. */
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
static __always_inline int wire_to_stack(context *ctx, struct work *work,
					 const struct node_config *node)
{
	const struct packet *packet = &work->packet;
	struct route source = route_lookup(&packet->key.source);
	struct gso gso = gso_of(ctx);

	if (source.kind != ROUTE_PEER)
		return pass(&work->verdict);
	wire_count(packet, source.peer, true, false, &gso);
	if (!(packet->flags & PACKET_ICMP_ERROR))
		flow_keep(packet, work->arrival.now);
	return emit_host(ctx, node, &work->verdict);
}

#endif

/* 6 */
#define wire_stack FOR_HOOK(wire_stack)
stage int wire_stack(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	bool to_stack;

	if (!node || !work)
		return discard();
	/* An answer of a peer's Pod to a packet that the Node's stack sent for a local Pod goes back to the stack. */
	to_stack = work->track.known && work->flow.flags & FLOW_STACK &&
		   work->track.direction == FLOW_REPLY;
#ifdef FAIRWAY_XDP
	return to_stack ? pass(&work->verdict) : UNDECIDED;
#else
	if (work->packet.flags & PACKET_ICMP_ERROR && error_of_stack(ctx, work, node))
		to_stack = true;
	return to_stack ? wire_to_stack(ctx, work, node) : UNDECIDED;
#endif
}

/* 7. The route of a packet's source, when its flow does not have it. A peer's Node that begins a flow from its
 * own address counts as one of the peer's Pods, where it may send as they do. */
static __always_inline struct route wire_origin(const struct work *work)
{
	const struct address *address = &work->packet.key.source;
	struct route route, of_peer;

	if (work->track.known)
		return route_resolve_again(&work->flow, address);
	route = route_resolve(address);
	if (!(route.flags & ROUTE_PEER_NODE))
		return route;
	of_peer = route;
	route_to_peer_node(&of_peer, address);
	if (work->arrival.tunnelled ||
	    (!(work->packet.flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)) &&
	     sends_untunnelled(peer_lookup(of_peer.peer, work->packet.family))))
		return of_peer;
	return route;
}

/* 7 */
#define wire_source FOR_HOOK(wire_source)
stage int wire_source(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct gso gso = gso_of(ctx);
	struct arrival *arrival;
	enum drop_reason reason;
	struct verdict *verdict;
	struct packet *packet;
	struct route *source;
	struct track *track;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	verdict = &work->verdict;
	packet = &work->packet;
	track = &work->track;
	source = &arrival->source;
	if (track->known && flow_current(&work->flow, arrival->epoch)) {
		*source = route_remembered(&work->flow);
	} else {
		*source = wire_origin(work);
		if (track->known && arrival->receiver.ifindex) {
			route_remember(&work->flow, source, packet->family, &arrival->receiver,
				       !track->direction, arrival->epoch);
			track->remembered = 1;
		}
	}
	if (source->kind == ROUTE_LOCAL_PODS || source->kind == ROUTE_HOST ||
	    address_is_nobodys(&packet->key.source, packet->family))
		return dropped(verdict, DROP_MARTIAN_SOURCE);
	if (source->kind == ROUTE_PEER) {
		reason = source_refused(ctx, work, source->peer, track->known, node);
		if (HOOK_IS_XDP && reason == DROP_REASON_COUNT)
			return pass(verdict);
		if (reason)
			return dropped(verdict, reason);
		/* The packet has arrived, whatever happens to it now. */
		if (!track->known || !flow_to_service(&work->flow, track->direction))
			wire_count(packet, source->peer, true, false, &gso);
	}
	return UNDECIDED;
}

/* 9 */
#define wire_track FOR_HOOK(wire_track)
stage int wire_track(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct arrival *arrival;
	struct packet *packet;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	packet = &work->packet;
	if (!arrival->receiver.ifindex) {
		slow_path_send(ctx, packet, node, SLOW_NO_HOST, 0, &work->verdict);
		return discard();
	}
	if (packet->ttl <= 1) {
		slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, &work->verdict);
		return discard();
	}
	wire_flow(work, &arrival->source, &arrival->receiver, node);
	/* For an ICMP error, stage 6 has found the target. */
	if (!(packet->flags & PACKET_ICMP_ERROR))
		target_find();
	return UNDECIDED;
}

static __always_inline int wire_receive(context *ctx, struct work *work)
{
	const struct node_config *node = node_configuration();
	int result;

	if (!node || !(node->flags & NODE_CONFIGURED) || of_vlan(ctx))
		return pass(&work->verdict);
	work->arrival.epoch = route_epoch(node);
	work->arrival.now = bpf_ktime_get_coarse_ns();
	result = wire_parse(ctx, node);
	if (result == UNDECIDED)
		result = wire_strip(ctx, node);
#ifdef FAIRWAY_XDP
	/* 3 */
	if (result == UNDECIDED && for_tc(ctx, &work->packet))
		result = pass(&work->verdict);
#endif
	if (result == UNDECIDED)
		result = wire_destination(ctx, node);
	if (result == UNDECIDED && work->arrival.to_host)
		return wire_to_host_or_service(ctx, work, node);
	if (result == UNDECIDED)
		result = wire_stack(ctx, node);
	if (result == UNDECIDED)
		result = wire_source(ctx, node);
	if (result == UNDECIDED && work->arrival.receiver.ifindex)
		result = wire_policy(ctx, node);
	if (result == UNDECIDED)
		result = wire_track(ctx, node);
	if (result == UNDECIDED)
		result = wire_deliver(ctx, node);
	return result;
}

#endif
