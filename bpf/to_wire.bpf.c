// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * to_wire: TC egress of the devices that lead out of the Node, for two purposes.
 *
 * Services that are left to the Node's own stack: when the stack forwards a local Pod's packet to a
 * Service's backend outside, this program translates it as from_pod translates packets that Pods send
 * there directly. Packets that Fairway has sent come through here, too: their source is the Node's by
 * then, or their flow is known as untranslated.
 *
 *  1. source         a local Pod, else stage 5
 *  2. flow           known, or that of the packet which an ICMP error quotes
 *  3. new flow       to the outside, with SNAT; its answers go back to the stack
 *  4. rewrite
 *
 * Services with this Node itself as a backend that sees the outside client's address:
 *
 *  5. answer         of the Node itself: its source becomes the Service's address and port. Where the client's port is
 *                    translated, because it has two connections to one endpoint, that changes back
 */
#define FAIRWAY_HOOK HOOK_TO_WIRE
#include "lib/emit.h"
#include "lib/fib.h"
#include "lib/fragment.h"
#include "lib/link_layer.h"
#include "lib/remote.h"
#include "lib/service.h"
#include "lib/snat.h"

/* 5. An answer of the Node itself to a Service's client, or its error about a packet of that client. Packets
 * that came in by a device are not the Node's own. */
stage int answer(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct packet *packet;
	struct track *track;
	__u64 now;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	track = &work->track;
	if (!(node->flags & NODE_STACK_ANSWERS) || ctx->ingress_ifindex)
		return pass(&work->verdict);
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_HOST);
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);
	if (!track->known || track->direction != FLOW_REPLY || !flow_shows_client(&work->flow) ||
	    !target_find())
		return pass(&work->verdict);
	if (!track->related)
		flow_keep(packet, now);
	if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	return pass(&work->verdict);
}

/* 3. Begins the flow of a packet that the stack forwards for the Pod that counts as `sender`. Returns FLOW_MET if
 * another CPU has begun it first, else the program's result, or UNDECIDED. */
stage int forwarded(struct __sk_buff *ctx, const struct node_config *node, __u16 sender)
{
	struct work *work = work_space();
	struct packet *packet;
	struct route route;
	__u64 now;
	int slot;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	now = bpf_ktime_get_coarse_ns();
	route = route_lookup(&packet->key.destination);
	if (route.kind != ROUTE_OUTSIDE || route.flags & ROUTE_NO_SNAT ||
	    !(node->flags & NODE_SNAT))
		return pass(&work->verdict);
	if (packet->flags & PACKET_ICMP_ERROR)
		return dropped(&work->verdict, DROP_ICMP_UNRELATED);
	if (packet->flags & PACKET_PORTS_UNKNOWN)
		return dropped(&work->verdict, DROP_FRAGMENT_UNKNOWN);
	fib_question_packet(&work->question, packet->family, packet->tos, &packet->key,
			    &packet->key);
	work->question.wants_source = 1;
	work->question.output = 1;
	fib_ask(ctx, work);
	flow_begin(work, packet, &packet->key, now);
	work->flow.flags |= FLOW_STACK;
	slot = snat_create(ctx, packet, node, remote_source(work, node), sender);
	if (slot < 0)
		return flow_met(node, now) ? FLOW_MET : dropped(&work->verdict, -slot);
	work->track.known = 1;
	work->track.direction = FLOW_ORIGINAL;
	target_find();
	return UNDECIDED;
}

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct packet *packet = &work->packet;
	struct track *track = &work->track;
	struct endpoint sender;
	struct route route;
	__be16 ethertype;
	int result, meeting;
	bool begins;
	__u64 now;
	__u32 l3;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return pass(verdict);

	/* 1 */
	ethertype = ip_header_at(ctx, is_bare_ip(ctx), &l3);
	if (!ethertype || parse(ctx, packet, l3, ethertype, false))
		return pass(verdict);
	if (!(node->flags & NODE_STACK_SNAT) || !endpoint_find(&packet->key.source, &sender))
		return answer(ctx, node);

	/* 2 */
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, sender.index);
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);

	/* 3 */
	begins = !track->known;
	for (meeting = 0; meeting <= FLOW_MEETINGS && !track->known; meeting++) {
		result = forwarded(ctx, node, sender.index);
		if (result != UNDECIDED && result != FLOW_MET)
			return result;
	}
	if (!track->known)
		return dropped(verdict, DROP_FLOW_TABLE_FULL);
	/* 4: packets that from_pod has sent untranslated stay so */
	if (track->direction != FLOW_ORIGINAL || !target_find())
		return pass(verdict);
	/* From the Node's address, a peer would accept it as a tunnel packet. */
	route = route_resolve(&packet->key.destination);
	if (route.flags & ROUTE_PEER_NODE &&
	    tunnel_forged(ctx, packet, packet->key.destination_port, node))
		return dropped(verdict, DROP_TUNNEL_FROM_POD);
	if (!begins && !track->related)
		flow_keep(packet, now);

	if (related_rewrite(ctx) || rewrite(ctx, packet, &work->target, 0))
		return dropped(verdict, DROP_REWRITE_FAILED);
	return pass(verdict);
}

SEC("tc")
int to_wire(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_UNSPEC;
	result = receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
