// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_link: TC ingress of the Node's links that are no way to other Nodes: bridges with containers
 * or virtual machines, VPNs, dummies. What from_pod has sent out of one comes back by it. Only
 * answers to translated flows are taken; all else, tunnels and probes included, is the Node's own
 * stack's, which filters it as it did before.
 *
 *  1. parse          with or without an Ethernet header
 *  2. flow           for an address of the Node, in reply direction of a translated flow
 *  3. deliver        into the Pod, or to the stack that began the flow
 */
#define FAIRWAY_HOOK HOOK_FROM_LINK
#include "lib/emit.h"
#include "lib/fragment.h"
#include "lib/link_layer.h"
#include "lib/slow_path.h"
#include "lib/translation.h"

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct packet *packet = &work->packet;
	const struct endpoint *endpoint;
	struct track *track = &work->track;
	const struct flow *flow = &work->flow;
	bool bare;
	__be16 ethertype;
	__u64 now;
	__u32 l3;

	if (!node || !(node->flags & NODE_CONFIGURED) || of_vlan(ctx))
		return pass(verdict);

	/* 1 */
	bare = is_bare_ip(ctx);
	ethertype = ip_header_at(ctx, bare, &l3);
	if (!ethertype || parse(ctx, packet, l3, ethertype, false) ||
	    route_lookup(&packet->key.destination).kind != ROUTE_HOST)
		return pass(verdict);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_WIRE);
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);
	if (packet->flags & PACKET_PORTS_UNKNOWN && node->flags & NODE_SNAT) {
		/* The stack gets it now, the slow path a copy: see wire_to_host. */
		slow_path_send(ctx, packet, node, SLOW_HOLD, 0, verdict);
		verdict->drop_reason = DROP_NONE;
	}
	if (!target_find())
		return pass(verdict);

	/* 3 */
	if (flow->flags & FLOW_STACK) {
		if (!track->related)
			flow_keep(packet, now);
		if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
			return dropped(verdict, DROP_REWRITE_FAILED);
		return pass(verdict);
	}
	endpoint = endpoint_lookup(&work->target.destination);
	if (!endpoint)
		return pass(verdict);
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
