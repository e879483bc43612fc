/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * from_wire's stage 5: packets for the Node itself, or for Pods and Services behind its address.
 *
 *  probes        requests and answers of peers, at TC (probe_answer.h)
 *  translated    to the Pod, the Node's stack, the Node as a client that from_host translated or as a
 *                backend, or on to where the flow leads
 *  Service       a new flow to an address or a port of one (wire_service.h)
 *  the rest      of a peer's Pods into fairway0, else to the Node's stack
 */
#ifndef FAIRWAY_WIRE_TO_HOST_H
#define FAIRWAY_WIRE_TO_HOST_H

#include "arrival.h"
#include "wire_service.h"
#ifndef FAIRWAY_XDP
#include "probe_answer.h"
#endif

#define wire_to_host FOR_HOOK(wire_to_host)
stage int wire_to_host(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct endpoint *endpoint;
	struct verdict *verdict;
	struct packet *packet;
	struct route source;
	struct track *track;
	struct flow *flow;
	__u32 epoch;
	__u64 now;
#ifndef FAIRWAY_XDP
	struct gso gso = gso_of(ctx);
	struct packet *quoted;
	enum drop_reason reason;
	__u32 probed;
#endif
	int result;
	bool judged;

	if (!work || !node)
		return discard();
	verdict = &work->verdict;
	packet = &work->packet;
	track = &work->track;
	flow = &work->flow;
	epoch = work->arrival.epoch;
	now = work->arrival.now;
	if (address_is_nobodys(&packet->key.source, packet->family))
		return dropped(verdict, DROP_MARTIAN_SOURCE);
#ifndef FAIRWAY_XDP
	quoted = &work->inner;
	probed = probe_from(ctx, packet, node);
	if (probed != NO_PEER) {
		verdict->peer = probed;
		if (!work->arrival.tunnelled && probe_asks(ctx, packet) &&
		    link_check(ctx, work, probed, node) == LINK_ANOTHER)
			return dropped(verdict, DROP_PEER_MAC_MISMATCH);
		return probe_receive(ctx, work, node, probed);
	}
	source = route_lookup(&packet->key.source);
	route_date(&source, packet->family);
	if (source.kind == ROUTE_LOCAL_PODS || source.kind == ROUTE_HOST)
		return dropped(verdict, DROP_MARTIAN_SOURCE);
	if (source.kind == ROUTE_PEER) {
		reason = source_refused(ctx, work, source.peer, track->known, node);
		if (reason)
			return dropped(verdict, reason);
	}
	__builtin_memset(quoted, 0, sizeof(*quoted));

	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, quoted, node, now);
	if (source.kind == ROUTE_PEER) {
		/* The peer counts packets of its Pods to the Node's other addresses only if they answer the Node
		 * itself. */
		if (address_equal(&packet->key.destination,
				  gateway_address(node, packet->family)) ||
		    (track->known && track->direction == FLOW_REPLY && flow_backend(flow)))
			wire_count(packet, source.peer, true, false, &gso);
		else if (work->arrival.tunnelled && !(packet->flags & PACKET_PORTS_UNKNOWN))
			return dropped(verdict, DROP_TUNNEL_WRONG_DESTINATION);
	}
	if (packet->flags & PACKET_PORTS_UNKNOWN) {
		/* The first fragment will show the destination. The Node's reassembly gets the packet
		 * now, in case it is for the Node; the slow path gets a copy, in case it is for a Pod. */
		if (node->flags & NODE_SNAT || wire_serves(&work->arrival.way, node))
			slow_path_send(ctx, packet, node, SLOW_HOLD, 0, verdict);
		if (work->arrival.way.kind == ROUTE_SERVICE)
			return discard();
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
		endpoint = &work->arrival.receiver;
		if (endpoint_find(&work->target.destination, endpoint)) {
#ifdef FAIRWAY_XDP
			if (too_long_for_redirect(ctx, packet->length, endpoint->ifindex))
				return pass(verdict);
#endif
			judged = flow_judged(flow, epoch);
			if (!track->related && !flow_current(flow, epoch)) {
				source = route_resolve(&packet->key.source);
				route_remember(flow, &source, packet->family, endpoint,
					       !track->direction, epoch);
				track->remembered = 1;
			}
			result = judged ? UNDECIDED : policy_known(false);
			if (result != UNDECIDED)
				return result;
			if (packet->ttl <= 1) {
				slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
				return discard();
			}
			if (!track->related)
				flow_keep(packet, now);
			work->arrival.source.kind = ROUTE_OUTSIDE;
			return wire_deliver(ctx, node);
		}
#ifndef FAIRWAY_XDP
		/* from_host translated an address of the Node itself, or that is the backend. */
		if (route_lookup(&work->target.destination).kind == ROUTE_HOST) {
			if (!track->related)
				flow_keep(packet, now);
			return wire_self(ctx, node);
		}
		if (!flow_backend(flow))
			return dropped(verdict, DROP_NO_ENDPOINT);
		work->arrival.source = source;
		work->arrival.forward = 1;
		return UNDECIDED;
#endif
	}
#ifdef FAIRWAY_XDP
	return pass(verdict);
#else
	work->arrival.source = source;
	return UNDECIDED;
#endif
}

#ifndef FAIRWAY_XDP

/* A packet to the Node's own stack. */
stage int wire_to_node(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct arrival *arrival;
	struct track *track;

	if (!work || !node)
		return discard();
	arrival = &work->arrival;
	track = &work->track;
	if (arrival->source.kind != ROUTE_PEER || arrival->way.kind != ROUTE_HOST)
		return pass(&work->verdict);
	if (track->known && !flow_current(&work->flow, arrival->epoch)) {
		route_remember(&work->flow, &arrival->source, work->packet.family, NULL, FLOW_REPLY,
			       arrival->epoch);
		track->remembered = 1;
	}
	wire_flow(work, &arrival->source, NULL, node);
	return emit_host(ctx, node, &work->verdict);
}

/* Handles the packets that wire_to_host does not. */
static __always_inline int wire_host_or_service(struct __sk_buff *ctx, struct work *work,
						const struct node_config *node)
{
	int result;

	if (work->arrival.forward)
		return wire_forward(ctx, work, node);
	result = wire_choose(ctx, node);
	if (result != UNDECIDED)
		return result;
	/* Without a Service its port is translated, like that of the second of two flows to one backend. */
	if (work->choice.service ||
	    (work->arrival.meets && work->arrival.source.kind == ROUTE_OUTSIDE))
		return wire_serve(ctx, work, node);
	return wire_to_node(ctx, node);
}

#endif

/* Used here in place of FLOW_MEETINGS: the verifier checks all of this again for each meeting. */
#define WIRE_MEETINGS 3

#ifndef FAIRWAY_XDP

static __always_inline int wire_to_host_once(struct __sk_buff *ctx, struct work *work,
					     const struct node_config *node)
{
	int result = wire_to_host(ctx, node);

	return result == UNDECIDED ? wire_host_or_service(ctx, work, node) : result;
}

#endif

/* All of stage 5. */
static __always_inline int wire_to_host_or_service(context *ctx, struct work *work,
						   const struct node_config *node)
{
#ifdef FAIRWAY_XDP
	return wire_to_host(ctx, node);
#else
	work->arrival.meets = wire_meets(node);
	return while_flow_met(work, WIRE_MEETINGS, wire_to_host_once(ctx, work, node));
#endif
}

#endif
