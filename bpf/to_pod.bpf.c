// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * to_pod: TC egress of the host side of a Pod's veth. What the Node's own stack sends to its Pods:
 * kubelet probes, answers of the slow path. Tracked, so that answers are recognised, and never dropped.
 */
#include "lib/emit.h"
#include "lib/track.h"

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
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
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	if ((ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6)) ||
	    parse(ctx, packet, ETH_HLEN, ethertype, false) ||
	    packet->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT) ||
	    address_is_multicast(&packet->key.destination, packet->family) ||
	    address_is_link_local6(&packet->key.source) || address_is_zero(&packet->key.source))
		return pass(verdict);

	now = bpf_ktime_get_coarse_ns();
	if (flow_lookup(&packet->key, node, now)) {
		flow_keep(packet, now);
		return pass(verdict);
	}
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
