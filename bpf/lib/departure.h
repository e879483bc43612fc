/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where the packet of a Pod goes: from_pod's stages 6 and 8, between its source and its size. Their results
 * are in work.departure, work.remote and the copy of the flow.
 *
 *  6. route          local Pod, this Node, peer, outside
 *  8. destination    the Pod, or the next hop
 */
#ifndef FAIRWAY_DEPARTURE_H
#define FAIRWAY_DEPARTURE_H

#include "policy.h"
#include "remote.h"
#include "service.h"
#include "translation.h"

/* The Pod's endpoint, where it was looked up. */
static __always_inline const struct endpoint *departure_sender(const struct departure *departure)
{
	return departure->sender.ifindex ? &departure->sender : NULL;
}

/* 6 */
stage int pod_route(void)
{
	const struct route host = { .kind = ROUTE_HOST, .peer = NO_PEER };
	struct work *work = work_space();
	struct departure *departure;
	struct track *track;
	struct flow *flow;

	if (!work)
		return discard();
	departure = &work->departure;
	track = &work->track;
	flow = &work->flow;
	departure->judged = track->known && flow_judged(flow, departure->epoch);
	if (track->known && flow->flags & FLOW_STACK && track->direction == FLOW_REPLY) {
		/* The stack may have translated the packet that this one answers. */
		departure->route = host;
		if (!track->related && !departure->judged && flow->route_kind == ROUTE_HOST) {
			struct route client = route_resolve(&flow->addresses[FLOW_ORIGINAL].source);

			flow->route_epoch = departure->epoch;
			flow->remote = 0;
			client_remember(flow, &client, work->packet.family);
		}
	} else if (track->known && !track->related && flow_current(flow, departure->epoch)) {
		departure->route = route_remembered(flow);
	} else {
		if (!departure->routed)
			departure->route =
				track->known ? route_resolve_again(flow, &work->target.destination)
					     : route_resolve(&work->target.destination);
		if (track->known && !track->related) {
			route_remember(flow, &departure->route, work->packet.family,
				       departure_sender(departure), track->direction,
				       departure->epoch);
			track->remembered = 1;
		}
	}
	return UNDECIDED;
}

/* The kernel's routes refuse the destination; a blackhole does so silently. */
static __always_inline int refuse(context *ctx, const struct packet *packet,
				  const struct node_config *node, const struct way *way,
				  struct verdict *verdict)
{
	if (!way->refusal)
		return dropped(verdict, DROP_NO_ROUTE);
	slow_path_send(ctx, packet, node, way->refusal, 0, verdict);
	return discard();
}

/* 8, another Pod of this Node. */
stage int pod_to_pod(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	const struct endpoint *sender;
	struct departure *departure;
	struct track *track;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	track = &work->track;
	/* Network policy may have looked it up already. */
	if (!departure->receiver.ifindex &&
	    !endpoint_find(&work->target.destination, &departure->receiver)) {
		slow_path_send(ctx, &work->packet, node, SLOW_NO_HOST, 0, &work->verdict);
		return discard();
	}
	departure->hairpin = work->choice.service &&
			     address_equal(&work->target.destination, &work->packet.key.source);
	sender = departure_sender(departure);
	if (track->known && !track->related && sender && !work->flow.pods) {
		pods_remember(&work->flow, sender, &departure->receiver, track->direction);
		track->remembered = 1;
	}
	return UNDECIDED;
}

/* 8, a Pod of a peer. */
stage int pod_to_peer(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	enum drop_reason reason;

	if (!node || !work)
		return discard();
	reason = remote_peer(ctx, work, work->departure.route.peer, false, node,
			     work->departure.now);
	if (reason == DROP_NO_ROUTE)
		return refuse(ctx, &work->packet, node, &work->remote.way, &work->verdict);
	return reason ? dropped(&work->verdict, reason) : UNDECIDED;
}

/* 8, the outside. */
stage int pod_to_outside(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct verdict *verdict;
	struct packet *packet;
	struct track *track;
	struct way *way;
	bool known;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	verdict = &work->verdict;
	packet = &work->packet;
	track = &work->track;
	way = &work->remote.way;
	known = track->known && !track->related;
	departure->wants_snat =
		node->flags & NODE_SNAT && !(departure->route.flags & ROUTE_NO_SNAT);
	/* A Service's answer leaves from its address, by which the kernel's rules choose the client's way. */
	remote_outside(ctx, work,
		       known && track->direction == FLOW_REPLY && flow_backend(&work->flow)
			       ? &work->target
			       : &packet->key,
		       known ? &work->flow : NULL, track->direction,
		       departure->wants_snat && !track->known, node, departure->now);
	if (known && way->asked) {
		gateway_remember(&work->flow, !track->direction, way, node, departure->now);
		track->remembered = 1;
	}
	if (way->action == ACTION_DROP)
		return refuse(ctx, packet, node, way, verdict);
	/* An address of the Node that the agent has not written yet. */
	if (way->action == ACTION_PASS) {
		/* Only the kernel can use a route that encapsulates, and it translates nothing. */
		if (way->encap && departure->wants_snat && !(node->flags & NODE_STACK_SNAT))
			return dropped(verdict, DROP_NO_ROUTE);
		return pass(verdict);
	}
	if (departure->route.flags & ROUTE_PEER_NODE &&
	    tunnel_forged(ctx, packet, work->target.destination_port, node))
		return dropped(verdict, DROP_TUNNEL_FROM_POD);
	return UNDECIDED;
}

/* 8 */
static __always_inline int pod_destination(struct __sk_buff *ctx, struct work *work,
					   const struct node_config *node)
{
	switch (work->departure.route.kind) {
	case ROUTE_LOCAL_PODS:
		return pod_to_pod(ctx, node);
	case ROUTE_PEER:
		return pod_to_peer(ctx, node);
	case ROUTE_OUTSIDE:
		return pod_to_outside(ctx, node);
	case ROUTE_SERVICE:
		/* A backend's address must not be that of another Service. */
		return dropped(&work->verdict, DROP_SERVICE_UNKNOWN_ADDRESS);
	default:
		work->departure.to_stack = 1;
		return UNDECIDED;
	}
}

#endif
