// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_link: TC ingress of the Node's links that do not lead to other Nodes: bridges with containers
 * or virtual machines, VPNs, dummies. Answers to packets that from_pod has sent out of a link come
 * back by it. The program handles only answers to translated flows, and packets to a Service; all
 * others, tunnels and probes included, pass to the Node's own stack and its packet filter. Packets to
 * a Service's own address would reach fairway0 by the stack's routes as well, but answers do not pass
 * the stack, so its connection tracking would find the client's second packet invalid.
 *
 *  1. parse          with or without an Ethernet header
 *  2. flow           for an address of the Node, of a translated flow
 *  3. Service        its own address, a new flow to its port, or a known flow of it: to from_host, as
 *                    if the Node had sent it
 *  4. deliver        into the Pod, or to the stack that began the flow
 */
#define FAIRWAY_HOOK HOOK_FROM_LINK
#include "lib/emit.h"
#include "lib/fragment.h"
#include "lib/link_layer.h"
#include "lib/policy.h"
#include "lib/service.h"
#include "lib/slow_path.h"
#include "lib/translation.h"

/* 3 */
static __always_inline int to_from_host(struct __sk_buff *ctx, const struct node_config *node,
					bool bare, struct verdict *verdict)
{
	if ((bare && ethernet_push(ctx)) || store_macs(ctx, &node->gateway_mac, &node->gateway_mac))
		return dropped(verdict, DROP_REWRITE_FAILED);
	decide(verdict, ACTION_WIRE);
	verdict->ifindex = node->host_ifindex;
	return bpf_redirect(verdict->ifindex, 0);
}

/* 3. A client's packet that begins a flow to a port of a Service. */
static __always_inline bool begins_service(const struct work *work, const struct route *route,
					   const struct node_config *node)
{
	return !work->track.known && node->flags & NODE_SERVES_ALL && route_serves(route) &&
	       !(work->packet.flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)) &&
	       is_service_port(route->flags) &&
	       route_lookup(&work->packet.key.source).kind == ROUTE_OUTSIDE;
}

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct packet *packet = &work->packet;
	struct endpoint *endpoint = &work->arrival.receiver;
	struct track *track = &work->track;
	const struct flow *flow = &work->flow;
	struct route route;
	bool bare;
	__be16 ethertype;
	__u32 l3, epoch;
	__u64 now;
	int result;

	if (!node || !(node->flags & NODE_CONFIGURED) || of_vlan(ctx))
		return pass(verdict);

	epoch = route_epoch(node);

	/* 1 */
	bare = is_bare_ip(ctx);
	ethertype = ip_header_at(ctx, bare, &l3);
	if (!ethertype || parse(ctx, packet, l3, ethertype, false))
		return pass(verdict);
	route = route_lookup(&packet->key.destination);
	if (route.kind == ROUTE_SERVICE && node->flags & NODE_SERVES_ALL &&
	    route_lookup(&packet->key.source).kind == ROUTE_OUTSIDE)
		return to_from_host(ctx, node, bare, verdict);
	if (route.kind != ROUTE_HOST)
		return pass(verdict);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_WIRE);
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);
	if (packet->flags & PACKET_PORTS_UNKNOWN &&
	    (node->flags & NODE_SNAT || (node->flags & NODE_SERVES_ALL && route_serves(&route)))) {
		/* The stack gets it now, the slow path a copy: see wire_to_host. */
		slow_path_send(ctx, packet, node, SLOW_HOLD, 0, verdict);
		verdict->drop_reason = DROP_NONE;
	}
	target_find();

	/* 3 */
	if (begins_service(work, &route, node))
		return to_from_host(ctx, node, bare, verdict);
	if (!track->translated)
		return pass(verdict);
	if (!endpoint_find(&work->target.destination, endpoint))
		endpoint = NULL;
	if (flow_backend(flow) && (!endpoint || track->direction == FLOW_ORIGINAL))
		return to_from_host(ctx, node, bare, verdict);

	/* 4 */
	if (flow->flags & FLOW_STACK) {
		if (!track->related)
			flow_keep(packet, now);
		if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
			return dropped(verdict, DROP_REWRITE_FAILED);
		return pass(verdict);
	}
	if (!endpoint)
		return pass(verdict);
	if (!flow_judged(flow, epoch)) {
		result = policy_known(false);
		if (result != UNDECIDED)
			return result;
	}
	if (packet->ttl <= 1) {
		slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
		return discard();
	}
	if (!track->related)
		flow_keep(packet, now);
	if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 1) ||
	    (bare && ethernet_push(ctx)))
		return dropped(verdict, DROP_REWRITE_FAILED);
	return emit_endpoint(ctx, endpoint, node, verdict);
}

SEC("tc")
int from_link(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_UNSPEC;
	result = receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
