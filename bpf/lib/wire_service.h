/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services for clients from the wire, at TC: packets to an address of a Service or to a port of the Node
 * that belongs to a Service, and the answers.
 *
 *  1. refuse      a reset, out of the device that the packet came by
 *  2. forward     from the wire to the wire: to a backend that is not on this Node, and the answers
 *  3. serve       a new flow gets a backend: a Pod of this Node, which sees the client; the Node itself; a
 *                 peer's Pod or the outside, which see this Node
 */
#ifndef FAIRWAY_WIRE_SERVICE_H
#define FAIRWAY_WIRE_SERVICE_H

#include "arrival.h"
#include "service.h"

/* Packets to this route may be for a Service, from clients that are not Pods. */
static __always_inline bool wire_serves(const struct route *route, const struct node_config *node)
{
	return node->flags & NODE_SERVES_ALL && route_serves(route);
}

#ifndef FAIRWAY_XDP

#include "reset.h"
#include "snat.h"

/* 1 */
static __always_inline int wire_refuse(struct __sk_buff *ctx, const struct node_config *node,
				       enum drop_reason reason)
{
	struct work *work = work_space();
	__u8 macs[2 * ETH_ALEN];

	if (!work || !service_refuse(ctx, node, reason))
		return discard();
	if (bpf_skb_load_bytes(ctx, 0, macs, sizeof(macs)) ||
	    store_macs(ctx, macs + ETH_ALEN, macs))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	work->verdict.ifindex = ctx->ifindex;
	return bpf_redirect(ctx->ifindex, 0);
}

/* 2. In a copy: the ends of client and backend, neither of which is a Pod of this Node. */
static __always_inline void wire_remember(struct work *work, const struct route *client,
					  const struct route *backend)
{
	struct flow *flow = &work->flow;

	route_remember(flow, client, work->packet.family, NULL, FLOW_REPLY, work->arrival.epoch);
	/* UDP from a peer's own address may be a tunnel packet, which has to be checked. */
	if (client->kind != ROUTE_OUTSIDE || backend->kind != ROUTE_PEER ||
	    (client->flags & ROUTE_PEER_NODE && flow->protocol == IPPROTO_UDP))
		return;
	flow->pods = FLOW_CROSSES;
	flow->ifindex[FLOW_REPLY] = backend->peer * 2 + (work->packet.family == 6);
}

/* 2. The next hop of work.target, into work.remote. */
stage int wire_way(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	enum drop_reason reason;
	struct arrival *arrival;
	struct track *track;
	bool is_answer;
	struct way *way;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	track = &work->track;
	way = &work->remote.way;
	is_answer = track->known && !track->related && track->direction == FLOW_REPLY;
	if (arrival->way.kind == ROUTE_PEER) {
		/* An answer comes from the Service's address, which a peer does not accept in a tunnel. */
		reason = remote_peer(ctx, work, arrival->way.peer,
				     track->known && track->direction == FLOW_REPLY, node,
				     arrival->now);
		if (reason)
			return dropped(&work->verdict, reason);
		if (track->known && !track->related && !is_answer &&
		    !flow_current(&work->flow, arrival->epoch)) {
			route_complete(&arrival->source, &work->packet.key.source);
			wire_remember(work, &arrival->source, &arrival->way);
			track->remembered = 1;
		}
		return UNDECIDED;
	}
	if (arrival->way.kind != ROUTE_OUTSIDE)
		return dropped(&work->verdict, DROP_SERVICE_UNKNOWN_ADDRESS);
	/* The gateway that a flow remembers is that of its client; the kernel's rules may match the source
	 * address of an answer. */
	remote_outside(ctx, work, is_answer ? &work->target : &work->packet.key,
		       is_answer ? &work->flow : NULL, track->direction, !track->known, node,
		       arrival->now);
	if (is_answer && (way->asked || !flow_current(&work->flow, arrival->epoch))) {
		wire_remember(work, &arrival->way, &arrival->source);
		if (way->asked)
			gateway_remember(&work->flow, FLOW_ORIGINAL, way, node, arrival->now);
		track->remembered = 1;
	}
	if (way->action == ACTION_DROP || way->action == ACTION_PASS)
		return dropped(&work->verdict, DROP_NO_ROUTE);
	/* It leaves with an address of this Node, whose tunnels a peer believes. */
	return arrival->way.flags & ROUTE_PEER_NODE &&
			       tunnel_forged(ctx, &work->packet, work->target.destination_port,
					     node)
		       ? dropped(&work->verdict, DROP_TUNNEL_FROM_POD)
		       : UNDECIDED;
}

/* 2. The packet must fit the path's MTU, and not be at its last hop. */
stage int wire_limits(struct __sk_buff *ctx, const struct node_config *node)
{
	struct gso gso = gso_of(ctx);
	struct work *work = work_space();

	if (!node || !work)
		return discard();
	if (work->packet.ttl <= 1) {
		slow_path_send(ctx, &work->packet, node, SLOW_TTL_EXCEEDED, 0, &work->verdict);
		return discard();
	}
	work->departure.fit = remote_fit(&work->packet, &work->remote, &gso);
	if (work->departure.fit == FITS_NOT) {
		slow_path_send(ctx, &work->packet, node, SLOW_TOO_BIG, work->remote.mtu,
			       &work->verdict);
		return discard();
	}
	return UNDECIDED;
}

/* 2. Sends a packet of a known or new flow. */
stage int wire_leave(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();

	if (!node || !work)
		return discard();
	if (work->departure.fit == FITS_IN_FRAGMENTS) {
		slow_path_send(ctx, &work->packet, node, SLOW_FRAGMENT, work->remote.mtu,
			       &work->verdict);
		return discard();
	}
	if (related_rewrite(ctx))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	work->remote.translated = work->track.translated;
	work->remote.decrement = 1;
	return remote_send(ctx, work, node);
}

/* 2. A packet of a known flow, or an error about one, whose target is neither here nor the Node. */
static __always_inline int wire_forward(struct __sk_buff *ctx, struct work *work,
					const struct node_config *node)
{
	int result;

	work->arrival.way = route_resolve(&work->target.destination);
	result = wire_way(ctx, node);
	if (result == UNDECIDED)
		result = wire_limits(ctx, node);
	if (result != UNDECIDED)
		return result;
	if (!work->track.related)
		flow_keep(&work->packet, work->arrival.now);
	return wire_leave(ctx, node);
}

/* 3. A known flow is unchanged while its route is current; answered TCP always is, because another
 * proxy has translated it. */
static __always_inline bool wire_stays(const struct work *work)
{
	const struct track *track = &work->track;
	const struct flow *flow = &work->flow;

	if (!track->known)
		return false;
	return track->related || track->direction != FLOW_ORIGINAL ||
	       flow_current(flow, work->arrival.epoch) ||
	       (flow->protocol == IPPROTO_TCP && flow->flags & FLOW_REPLIED &&
		!flow_begins_again(flow, &work->packet));
}

/* 3. A client from outside opens a connection to the Node itself, while its flow to a Service has the tuple of the
 * answers. work.packet has no flow. */
stage bool wire_meets(const struct node_config *node)
{
	struct work *work = work_space();
	bool meets;

	if (!node || !work || !(node->flags & NODE_STACK_ANSWERS) || work->track.known ||
	    work->arrival.way.kind != ROUTE_HOST || work->packet.key.protocol != IPPROTO_TCP ||
	    work->packet.flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN) ||
	    !packet_opens(&work->packet))
		return false;
	key_reverse(&work->reply, &work->packet.key);
	meets = flow_lookup(&work->reply, node, work->arrival.now) &&
		work->track.direction == FLOW_REPLY && flow_shows_client(&work->flow);
	work->track.known = 0;
	return meets;
}

/* 3. The backend of a new flow, in work.choice, and its route; without one, the packet goes to no Service.
 * work.arrival has the routes of both its addresses. */
stage int wire_choose(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct arrival *arrival;
	int answer;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	if (!wire_serves(&arrival->way, node) || work->packet.flags & PACKET_PORTS_UNKNOWN ||
	    wire_stays(work))
		return UNDECIDED;
	if (work->packet.flags & PACKET_ICMP_ERROR)
		return arrival->way.kind == ROUTE_SERVICE
			       ? dropped(&work->verdict, DROP_ICMP_UNRELATED)
			       : UNDECIDED;
	answer = service_choose(node, arrival->way.kind, arrival->way.flags, true, arrival->now);
	if (answer == SERVICE_NONE)
		return UNDECIDED;
	if (work->track.known)
		flow_end(&work->track);
	if (answer != SERVICE_CHOSEN)
		return wire_refuse(ctx, node, -answer);
	arrival->way = route_resolve(&work->target.destination);
	return UNDECIDED;
}

/* 3, a Pod of this Node. */
stage int wire_pod(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct endpoint *receiver;
	int result;

	if (!node || !work)
		return discard();
	receiver = &work->arrival.receiver;
	if (!endpoint_find(&work->target.destination, receiver)) {
		slow_path_send(ctx, &work->packet, node, SLOW_NO_HOST, 0, &work->verdict);
		return discard();
	}
	result = policy_new(work, NULL, receiver);
	if (result != UNDECIDED)
		return result;
	if (work->packet.ttl <= 1) {
		slow_path_send(ctx, &work->packet, node, SLOW_TTL_EXCEEDED, 0, &work->verdict);
		return discard();
	}
	return UNDECIDED;
}

/* 3. The address that the client's is translated to; NULL: it is kept. Answers of the Node itself to an outside
 * client leave through to_wire; others come by fairway0, because they go to an address that is not the
 * Node's. */
static __always_inline const struct address *wire_source_for(const struct work *work,
							     const struct node_config *node)
{
	__u8 family = work->packet.family;

	switch (work->arrival.way.kind) {
	case ROUTE_LOCAL_PODS:
		return NULL;
	case ROUTE_HOST:
		if (node->flags & NODE_STACK_ANSWERS && work->arrival.source.kind == ROUTE_OUTSIDE)
			return NULL;
		return family == 4 ? &node->return_address4 : &node->return_address6;
	case ROUTE_PEER:
		return gateway_address(node, family);
	default:
		return remote_source(work, node);
	}
}

/* 3. Another CPU has begun the packet's flow: the packet is handled again as if it just arrived. */
static __always_inline bool wire_met(struct work *work, const struct node_config *node)
{
	struct arrival *arrival = &work->arrival;

	if (!flow_met(node, arrival->now))
		return false;
	__builtin_memset(&arrival->receiver, 0, sizeof(arrival->receiver));
	arrival->way = route_lookup(&work->packet.key.destination);
	return true;
}

/* 3. The flow. It remembers its client's end; towards a backend that is no Pod, the route is looked up. */
stage int wire_begin(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	const struct address *source;
	struct arrival *arrival;
	struct track *track;
	int slot;

	if (!node || !work)
		return discard();
	arrival = &work->arrival;
	track = &work->track;
	source = wire_source_for(work, node);
	work->choice.to_node = !source && arrival->way.kind == ROUTE_HOST;
	flow_begin(work, &work->packet, &work->target, arrival->now);
	service_begin(work);
	route_complete(&arrival->source, &work->packet.key.source);
	if (arrival->receiver.ifindex)
		route_remember(&work->flow, &arrival->source, work->packet.family,
			       &arrival->receiver, FLOW_REPLY, arrival->epoch);
	else
		wire_remember(work, &arrival->source, &arrival->way);
	slot = translated_create(ctx, &work->packet, node, source, arrival->receiver.index);
	if (slot < 0)
		return wire_met(work, node) ? FLOW_MET : dropped(&work->verdict, -slot);
	track->known = 1;
	track->direction = FLOW_ORIGINAL;
	if (work->choice.affinity)
		affinity_keep(arrival->now);
	target_find();
	return UNDECIDED;
}

/* To the Node itself, of a known flow or of one that has just begun: to the stack on the device it came by, where
 * to_wire translates the answers, else into fairway0. */
stage int wire_self(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();

	if (!node || !work)
		return discard();
	if (related_rewrite(ctx) || rewrite(ctx, &work->packet, target_of(work), 0))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	return work->track.direction == FLOW_ORIGINAL && flow_shows_client(&work->flow)
		       ? pass(&work->verdict)
		       : emit_host(ctx, node, &work->verdict);
}

/* 3. A new flow, whose backend has been chosen. */
static __always_inline int wire_serve(struct __sk_buff *ctx, struct work *work,
				      const struct node_config *node)
{
	__u8 kind = work->arrival.way.kind;
	int result = UNDECIDED;

	if (kind == ROUTE_LOCAL_PODS) {
		result = wire_pod(ctx, node);
	} else if (kind != ROUTE_HOST) {
		result = wire_way(ctx, node);
		if (result == UNDECIDED)
			result = wire_limits(ctx, node);
	}
	if (result == UNDECIDED)
		result = wire_begin(ctx, node);
	if (result != UNDECIDED)
		return result;
	if (kind == ROUTE_LOCAL_PODS)
		return wire_deliver(ctx, node);
	return kind == ROUTE_HOST ? wire_self(ctx, node) : wire_leave(ctx, node);
}

#endif
#endif
