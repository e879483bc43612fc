/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where the packet of the Node goes: from_host's stage 5, between its service and its flow. The result is in
 * work.departure, work.remote and the copy of the flow.
 *
 *  peer       one of its Pods
 *  Service    to a Pod of this Node, which network policy judges, to this Node itself, or to the outside
 */
#ifndef FAIRWAY_HOST_DESTINATION_H
#define FAIRWAY_HOST_DESTINATION_H

#include "policy.h"
#include "remote.h"
#include "service.h"
#include "translation.h"

/* 5. To its own port of a Service whose external traffic policy is Local, the Node sends from its own address,
 * because that policy keeps every client's address. */
static __always_inline bool host_shows_itself(context *ctx, const struct work *work,
					      const struct route *source)
{
	return work->choice.external_local && !ctx->ingress_ifindex && source->kind == ROUTE_HOST &&
	       source->flags & ROUTE_PEERS_KNOW;
}

/* 5, a peer's Pod. */
stage int host_to_peer(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	bool from_pod_of_ours, own_source;
	struct departure *departure;
	const struct packet *packet;
	enum drop_reason reason;
	struct route source;
	struct track *track;
	bool native;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	track = &work->track;
	source = route_lookup(&packet->key.source);
	from_pod_of_ours = source.kind == ROUTE_LOCAL_PODS;
	own_source = from_pod_of_ours ||
		     address_equal(&packet->key.source, gateway_address(node, packet->family)) ||
		     host_shows_itself(ctx, work, &source);
	/* The slow path sends a packet of a Pod's own flow; only from_pod refreshes such flows. */
	if (track->known && !track->related && !from_pod_of_ours &&
	    !flow_current(&work->flow, departure->epoch)) {
		route_remember(&work->flow, &departure->route, packet->family, NULL,
			       track->direction, departure->epoch);
		track->remembered = 1;
	}
	/* The packet that this one answers came past the tunnel, so the answer goes past it, too. */
	native = !own_source && track->known && track->direction == FLOW_REPLY;
	departure->wants_snat = !own_source && !track->known;
	if (from_pod_of_ours && !track->known)
		endpoint_find(&packet->key.source, &departure->sender);
	reason = remote_peer(ctx, work, departure->route.peer, native, node, departure->now);
	return reason ? dropped(&work->verdict, reason) : UNDECIDED;
}

/* 5, for a Service's flow to a Pod of this Node. The Node's own packets always reach it; packets that came in by a
 * device are judged, by the Node's address where the Node's stack has masqueraded them. */
stage int host_policy(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	struct departure *departure;
	bool forwarded;

	if (!work)
		return discard();
	departure = &work->departure;
	forwarded = ctx->ingress_ifindex;
	if (work->track.known) {
		if (flow_judged(&work->flow, departure->epoch))
			return UNDECIDED;
		if (!work->track.related && work->track.direction == FLOW_ORIGINAL)
			route_remember(&work->flow, &departure->route, work->packet.family, NULL,
				       FLOW_ORIGINAL, departure->epoch);
		return policy_known(forwarded);
	}
	return forwarded ? policy_new(work, NULL, &departure->receiver) : UNDECIDED;
}

/* 5, this Node itself: a client from outside keeps its address, whichever link it comes by, where to_wire translates
 * the answers. */
static __always_inline bool host_shows_client(context *ctx, const struct work *work,
					      const struct node_config *node)
{
	return node->flags & NODE_STACK_ANSWERS && ctx->ingress_ifindex &&
	       route_lookup(&work->packet.key.source).kind == ROUTE_OUTSIDE;
}

/* 5, of a Service's flow: a Pod of this Node, whose answer from_pod recognises, or this Node itself. Its answer to a
 * process of its own comes by fairway0, because it goes to an address that is not the Node's. */
stage int host_to_node(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct track *track;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	track = &work->track;
	if (departure->route.kind == ROUTE_LOCAL_PODS) {
		if (!endpoint_find(&work->target.destination, &departure->receiver)) {
			slow_path_send(ctx, &work->packet, node, SLOW_NO_HOST, 0, &work->verdict);
			return discard();
		}
		/* The end that is no Pod: the Node, or a client whose packets the Node forwards. */
		departure->route = route_resolve(&work->packet.key.source);
		return host_policy(ctx);
	} else {
		departure->to_stack = 1;
		departure->wants_snat = !track->known && !host_shows_client(ctx, work, node);
	}
	return UNDECIDED;
}

/* 5, of a Service's flow: the outside. */
stage int host_to_outside(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct track *track;
	bool known;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	track = &work->track;
	known = track->known && !track->related && track->direction == FLOW_ORIGINAL;
	departure->wants_snat = !track->known;
	/* An answer leaves from the Service's address, which the kernel's rules may match. */
	remote_outside(ctx, work, track->known ? &work->target : &work->packet.key,
		       known ? &work->flow : NULL, track->direction, departure->wants_snat, node,
		       departure->now);
	if (known && work->remote.way.asked) {
		gateway_remember(&work->flow, !track->direction, &work->remote.way, node,
				 departure->now);
		track->remembered = 1;
	}
	return work->remote.way.action == ACTION_DROP || work->remote.way.action == ACTION_PASS
		       ? dropped(&work->verdict, DROP_NO_ROUTE)
		       : UNDECIDED;
}

/* 5 */
static __always_inline int host_destination(struct __sk_buff *ctx, struct work *work,
					    const struct node_config *node)
{
	struct gso gso = gso_of(ctx);
	bool served = work->choice.service || (work->track.translated && flow_backend(&work->flow));
	int result;

	if (work->departure.route.kind == ROUTE_PEER)
		result = host_to_peer(ctx, node);
	else if (!served)
		return dropped(&work->verdict, DROP_NO_ROUTE);
	else if (work->departure.route.kind == ROUTE_OUTSIDE)
		result = host_to_outside(ctx, node);
	else if (work->departure.route.kind == ROUTE_SERVICE)
		return dropped(&work->verdict, DROP_SERVICE_UNKNOWN_ADDRESS);
	else
		return host_to_node(ctx, node);
	if (result != UNDECIDED)
		return result;
	switch (remote_fit(&work->packet, &work->remote, &gso)) {
	case FITS:
		return UNDECIDED;
	case FITS_NOT:
		slow_path_send(ctx, &work->packet, node, SLOW_TOO_BIG, work->remote.mtu,
			       &work->verdict);
		return discard();
	default:
		slow_path_send(ctx, &work->packet, node, SLOW_FRAGMENT, work->remote.mtu,
			       &work->verdict);
		return discard();
	}
}

#endif
