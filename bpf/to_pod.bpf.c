// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * to_pod: TC egress of the host side of a Pod's veth. Handles packets that the Node's own stack sends to its
 * Pods: kubelet probes, answers of the slow path, and answers of this Node as a Service's backend. They are
 * tracked, so that their answers are recognised. Only network policy drops them, and it does not apply to the
 * Node's own packets.
 *
 *  1. parse
 *  2. flow
 *  3. policy         ingress of the Pod, for forwarded packets; known flows as everywhere (policy.h)
 *  4. answer         of a Service's backend: its source becomes the Service's address
 *  5. new flow       of the Node's stack, which gets the answers back; with the peer's policy_epoch for a client on a peer
 */
#define FAIRWAY_HOOK HOOK_TO_POD
#include "lib/emit.h"
#include "lib/fragment.h"
#include "lib/policy.h"
#include "lib/service.h"
#include "lib/track.h"
#include "lib/translation.h"

/* A packet for which from_host chose a backend here leaves the Node's stack with the backend's tuple. No flow has that
 * tuple, only the tuple of its answers. */
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

/* 3. Brings the copy of a flow to the Node's stack up to date: from_pod keeps no route for such flows. */
static __always_inline void stack_remember(struct work *work)
{
	struct route route = { .kind = ROUTE_HOST, .peer = NO_PEER };
	struct flow *flow = &work->flow;

	if (!(flow->flags & FLOW_STACK))
		route = route_resolve(&flow->addresses[FLOW_REPLY].source);
	else if (flow->route_kind != ROUTE_HOST)
		return;
	if (route.kind != ROUTE_HOST && route.kind != ROUTE_STACK)
		return;
	route_remember(flow, &route, work->packet.family, NULL, FLOW_ORIGINAL,
		       work->departure.epoch);
	route = route_resolve(&flow->addresses[FLOW_ORIGINAL].source);
	client_remember(flow, &route, work->packet.family);
}

/* 3. Packets of the Node itself, and those of the slow path, always reach its Pods. A packet that came in by a device
 * is neither, even if masquerading has given it the Node's source, so masquerading does not bypass policies. */
stage int to_pod_policy(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	struct endpoint *receiver;
	struct packet *packet;
	bool forwarded;

	if (!work)
		return discard();
	packet = &work->packet;
	forwarded = ctx->ingress_ifindex;
	if (work->track.known) {
		if (flow_judged(&work->flow, work->departure.epoch))
			return UNDECIDED;
		if (!work->track.related)
			stack_remember(work);
		return policy_known(forwarded && work->track.direction == FLOW_ORIGINAL);
	}
	receiver = &work->departure.receiver;
	/* The peer's epoch is read before any look-up for the verdict. */
	if (forwarded)
		work->departure.route = route_resolve(&packet->key.source);
	if (!forwarded || !endpoint_find(&packet->key.destination, receiver) ||
	    receiver->ingress_policy == POLICY_OPEN)
		return UNDECIDED;
	if (packet->flags & PACKET_PORTS_UNKNOWN)
		return dropped(&work->verdict, receiver->ingress_policy == POLICY_NOT_READY
						       ? DROP_POLICY_NOT_READY
						       : DROP_FRAGMENT_UNKNOWN);
	work->target = packet->key;
	return policy_new(work, NULL, receiver);
}

/* 4. Translates the answer to a flow for which from_pod chose this Node as the backend. */
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

/* 3. A packet that cannot be parsed but that the kernel would forward: a TCP header in several fragments, a long chain
 * of extension headers. No policy can judge it, so a Pod with policies does not get it. */
static __always_inline int unread(struct __sk_buff *ctx, struct work *work)
{
	struct endpoint receiver;

	if (!ctx->ingress_ifindex || !endpoint_find(&work->packet.key.destination, &receiver) ||
	    receiver.ingress_policy == POLICY_OPEN)
		return pass(&work->verdict);
	return dropped(&work->verdict, receiver.ingress_policy == POLICY_NOT_READY
					       ? DROP_POLICY_NOT_READY
					       : DROP_MALFORMED);
}

static __always_inline int receive(struct __sk_buff *ctx, struct work *work,
				   struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct route route = { .kind = ROUTE_HOST, .peer = NO_PEER };
	struct packet *packet;
	struct endpoint owner = {};
	struct ethhdr *ethernet;
	__be16 ethertype;
	int result;
	__u32 epoch;
	__u64 now;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return pass(verdict);
	epoch = route_epoch(node);
	work->departure.epoch = epoch;
	packet = &work->packet;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return pass(verdict);
	ethertype = ethernet->h_proto;
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return pass(verdict);
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return unread(ctx, work);
	if (address_is_multicast(&packet->key.destination, packet->family) ||
	    address_is_link_local6(&packet->key.source) || address_is_zero(&packet->key.source))
		return pass(verdict);
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_HOST);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_ICMP_ERROR)
		work->track.related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN) && !flow_lookup(&packet->key, node, now) &&
		 is_from_host(work, node, now))
		return pass(verdict);

	/* 3 */
	result = to_pod_policy(ctx);
	if (result != UNDECIDED)
		return result;

	/* 4 */
	if (work->track.known)
		return answer(ctx, work, now);
	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN))
		return pass(verdict);

	/* 5 */
	flow_begin(work, packet, &packet->key, now);
	work->flow.flags |= FLOW_STACK;
	if (ctx->ingress_ifindex)
		work->flow.flags |= FLOW_FORWARDED;
	route_remember(&work->flow, &route, packet->family, NULL, FLOW_ORIGINAL, epoch);
	client_remember(&work->flow, &work->departure.route, packet->family);
	if (!endpoint_find(&packet->key.source, &owner))
		endpoint_find(&packet->key.destination, &owner);
	flow_start(node, owner.index);
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
