// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * to_pod: TC egress of the host side of a Pod's veth. What the Node's own stack sends to its Pods:
 * kubelet probes, answers of the slow path, and of a Service's backend that is this Node. Tracked, so that
 * answers are recognised, and never dropped.
 *
 *  1. parse
 *  2. flow           known: an answer to what a Service has translated comes from the Service's address
 *  3. new flow       of the Node's stack, which gets the answers back
 */
#define FAIRWAY_HOOK HOOK_TO_POD
#include "lib/emit.h"
#include "lib/fragment.h"
#include "lib/service.h"
#include "lib/track.h"
#include "lib/translation.h"

/* What from_host has given a backend here leaves the Node's stack with the backend's tuple, which is no flow's:
 * its answers' is. */
static __always_inline bool is_from_host(struct work *work, const struct node_config *node,
					 __u64 now)
{
	bool found;

	key_reverse(&work->target, &work->packet.key);
	found = flow_lookup(&work->target, node, now) && work->track.direction == FLOW_REPLY &&
		flow_backend(&work->flow);
	work->track.known = 0;
	return found;
}

/* 2. Of a packet that answers what from_pod has given this Node as a backend. */
static __always_inline int answer(struct __sk_buff *ctx, struct work *work, __u64 now)
{
	struct track *track = &work->track;

	if (!track->related)
		flow_keep(&work->packet, now);
	if (track->direction != FLOW_REPLY ||
	    (!flow_backend(&work->flow) && flow_takes_address(&work->flow)) || !target_find())
		return pass(&work->verdict);
	if (related_rewrite(ctx) || rewrite(ctx, &work->packet, &work->target, 0))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	return pass(&work->verdict);
}

static __always_inline int receive(struct __sk_buff *ctx, struct work *work,
				   struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct route route = { .kind = ROUTE_HOST, .peer = NO_PEER };
	struct packet *packet;
	const struct endpoint *owner;
	struct ethhdr *ethernet;
	__be16 ethertype;
	__u32 epoch;
	__u64 now;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return pass(verdict);
	epoch = route_epoch(node);
	packet = &work->packet;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	if ((ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6)) ||
	    parse(ctx, packet, ETH_HLEN, ethertype, false) ||
	    address_is_multicast(&packet->key.destination, packet->family) ||
	    address_is_link_local6(&packet->key.source) || address_is_zero(&packet->key.source))
		return pass(verdict);
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_HOST);
	if (packet->flags & PACKET_PORTS_UNKNOWN)
		return pass(verdict);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_ICMP_ERROR) {
		work->track.related = related_lookup(ctx, packet, &work->inner, node, now);
		return work->track.related ? answer(ctx, work, now) : pass(verdict);
	}
	if (flow_lookup(&packet->key, node, now))
		return answer(ctx, work, now);

	/* 3 */
	if (is_from_host(work, node, now))
		return pass(verdict);
	flow_begin(work, packet, &packet->key, now);
	work->flow.flags |= FLOW_STACK;
	route_remember(&work->flow, &route, packet->family, NULL, FLOW_ORIGINAL, epoch);
	owner = endpoint_lookup(&packet->key.source);
	if (!owner)
		owner = endpoint_lookup(&packet->key.destination);
	flow_start(node, owner ? owner->index : 0);
	return pass(verdict);
}

SEC("tc")
int to_pod(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_UNSPEC;
	result = receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
