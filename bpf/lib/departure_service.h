/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for packets of a Pod: from_pod's stage 5, and the way to and from a backend that is this Node.
 *
 *  new flow         to a Service's address: its backend, or a refusal
 *  known flow       to an address that has become a Service's: it ends, except answered TCP
 *  to the Node      translated; the answer to a process of the Node by fairway0
 */
#ifndef FAIRWAY_DEPARTURE_SERVICE_H
#define FAIRWAY_DEPARTURE_SERVICE_H

#include "departure.h"
#include "reset.h"
#include "service.h"

/* Refuses, back into the Pod: by a reset, or silently. */
static __always_inline int pod_refuse(struct __sk_buff *ctx, const struct node_config *node,
				      enum drop_reason reason)
{
	struct work *work = work_space();

	if (!work || !service_refuse(ctx, node, reason))
		return discard();
	if (store_macs(ctx, &work->departure.mac, &node->gateway_mac))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	work->verdict.ifindex = ctx->ifindex;
	return bpf_redirect_peer(ctx->ifindex, 0);
}

/* A later fragment before its first one, which will show whether it goes to a Service. */
static __always_inline int pod_hold(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	bool to_node;

	if (!work)
		return discard();
	to_node = work->departure.route.kind == ROUTE_HOST;
	slow_path_send(ctx, &work->packet, node, SLOW_HOLD, 0, &work->verdict);
	if (!to_node)
		return discard();
	/* The Node's reassembly gets it now, the slow path a copy: see wire_to_host. */
	work->verdict.drop_reason = DROP_NONE;
	return UNDECIDED;
}

/* 5. The route of a packet whose flow does not remember one is looked up here, once, for pod_route. */
stage int pod_service(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	const struct packet *packet;
	struct track *track;
	struct flow *flow;
	int answer;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	track = &work->track;
	flow = &work->flow;
	if (track->known && (track->related || track->direction != FLOW_ORIGINAL ||
			     flow_backend(flow) || flow_current(flow, departure->epoch)))
		return UNDECIDED;
	departure->route = route_resolve(&work->target.destination);
	departure->routed = 1;
	if (!route_serves(&departure->route))
		return UNDECIDED;
	if (packet->flags & PACKET_ICMP_ERROR)
		return departure->route.kind == ROUTE_SERVICE
			       ? dropped(&work->verdict, DROP_ICMP_UNRELATED)
			       : UNDECIDED;
	if (packet->flags & PACKET_PORTS_UNKNOWN)
		return pod_hold(ctx, node);
	/* The proxy that has had it answered has translated it, and continues. */
	if (track->known && flow->protocol == IPPROTO_TCP && flow->flags & FLOW_REPLIED &&
	    !flow_begins_again(flow, packet)) {
		departure->route = route_remembered(flow);
		return UNDECIDED;
	}
	answer = service_choose(node, departure->route.kind, departure->route.flags, false,
				departure->now);
	if (answer == SERVICE_NONE)
		return UNDECIDED;
	if (track->known)
		flow_end(track);
	track->translated = 0;
	if (answer != SERVICE_CHOSEN)
		return pod_refuse(ctx, node, -answer);
	departure->routed = 0;
	return UNDECIDED;
}

/* 10, for packets to the Node's own stack. */
static __always_inline int pod_to_node(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();

	if (!work)
		return discard();
	if (!work->track.translated ||
	    (!flow_backend(&work->flow) && flow_takes_address(&work->flow)))
		return pass(&work->verdict);
	if (related_rewrite(ctx) || rewrite(ctx, &work->packet, target_of(work), 0))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	/* The Service's address is the source now: the kernel expects it by fairway0. */
	return work->track.direction == FLOW_REPLY ? emit_host(ctx, node, &work->verdict)
						   : pass(&work->verdict);
}

#endif
