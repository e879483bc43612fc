// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_host: TC egress of fairway0, where the kernel's routes to the peers' pod CIDRs and to the addresses of
 * Services lead. Handles packets that this Node itself sends to Pods on other Nodes and to Services, and packets
 * that the slow path sends on.
 *
 *  1. parse          a probe request of the agent is handled in probe.h
 *  2. flow           known, or that of the packet which an ICMP error quotes
 *  3. service        a new flow to a Service's address gets a backend
 *  4. route          a peer's pod CIDR; for a Service's flow any; from the slow path also the outside, unchanged
 *  5. destination    with the source: a peer takes tunnel packets only from our Pods and gateway addresses
 *                    (host_destination.h)
 *  6. new flow       with SNAT where the source needs it
 *  7. rewrite, emit
 *
 * As in from_pod, each stage returns the program's result, or UNDECIDED; work.departure passes values from one stage to
 * the next.
 */
#define FAIRWAY_HOOK HOOK_FROM_HOST
#include "lib/fragment.h"
#include "lib/host_destination.h"
#include "lib/policy.h"
#include "lib/probe.h"
#include "lib/remote.h"
#include "lib/reset.h"
#include "lib/service.h"
#include "lib/snat.h"
#include "lib/track.h"
#include "lib/translation.h"

/* A packet of the slow path to the outside is already translated, fragmented and has its final TTL: it
 * needs only a next hop. 0: it is in work->remote. */
stage int resolve_outside(struct __sk_buff *ctx, struct work *work, const struct node_config *node)
{
	const struct flow *flow = NULL;
	struct flow_key *from;
	struct remote *remote;
	__u64 now;

	if (!work || !node)
		return -1;
	remote = &work->remote;
	now = bpf_ktime_get_coarse_ns();
	/* By the flow's own path: routing rules may match the Pod's address. */
	from = &work->reply;
	*from = work->packet.key;
	key_reverse(&work->target, from);
	if (flow_lookup(&work->target, node, now) && flow_translates(&work->flow)) {
		flow = &work->flow;
		flow_tuple(from, flow, !work->track.direction);
	}
	work->target = work->packet.key;
	/* The answers' direction is the gateway's. */
	remote_outside(ctx, work, from, flow, !work->track.direction, false, node, now);
	return remote->way.action == ACTION_DROP || remote->way.action == ACTION_PASS;
}

/* The kernel writes its own devices' addresses there. */
static __always_inline bool is_from_slow_path(const struct work *work)
{
	return !__builtin_memcmp(&work->departure.mac, &fairway_mac.mac, ETH_ALEN);
}

/* 1 */
stage int host_parse(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct ethhdr *ethernet;
	struct packet *packet;
	__be16 ethertype;
	__u32 probed;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return dropped(&work->verdict, DROP_MALFORMED);
	ethertype = ethernet->h_proto;
	__builtin_memcpy(&work->departure.mac, ethernet->h_source, ETH_ALEN);
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return dropped(&work->verdict, DROP_UNSUPPORTED_ETHERTYPE);
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return dropped(&work->verdict, DROP_MALFORMED);
	probed = probe_peer(ctx, packet, &packet->key.source, &packet->key.destination, node);
	if (probed != NO_PEER)
		return probe_ask(ctx, work, node, probed);
	return address_is_link_multicast(&packet->key.destination, packet->family)
		       ? pass(&work->verdict)
		       : UNDECIDED;
}

/* 2 */
stage int host_flow(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct packet *packet;
	struct track *track;
	__u64 now;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	track = &work->track;
	now = work->departure.now;
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_HOST);
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);
	if (track->known && !track->related &&
	    backend_is_gone(&work->flow, track->direction, packet))
		flow_end(track);
	target_find();
	return UNDECIDED;
}

/* Refuses to the Node's own stack: by a reset, or silently. */
static __always_inline int host_refuse(struct __sk_buff *ctx, const struct node_config *node,
				       enum drop_reason reason)
{
	struct work *work = work_space();
	int result;

	if (!work || !service_refuse(ctx, node, reason))
		return discard();
	result = emit_host(ctx, node, &work->verdict);
	if (work->verdict.action == ACTION_HOST)
		decide(&work->verdict, ACTION_RESET);
	return result;
}

/* 3, and the route of 4. */
stage int host_service(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	const struct packet *packet;
	struct track *track;
	struct flow *flow;
	bool known;
	int answer;
	__u8 kind;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	track = &work->track;
	flow = &work->flow;
	/* A flow that to_pod began has the Node's stack, where this packet comes from, as its remote side. */
	known = track->known && !track->related && flow_current(flow, departure->epoch) &&
		flow->route_kind == ROUTE_PEER;
	departure->route = known	  ? route_remembered(flow)
			   : track->known ? route_resolve_again(flow, &work->target.destination)
					  : route_resolve(&work->target.destination);
	if (track->known || is_from_slow_path(work) || !route_serves(&departure->route) ||
	    !(node->flags & NODE_SERVES_ALL))
		return UNDECIDED;
	if (packet->flags & PACKET_ICMP_ERROR)
		return dropped(&work->verdict, DROP_ICMP_UNRELATED);
	/* The Node's stack sends the first fragment first. */
	if (packet->flags & PACKET_PORTS_UNKNOWN)
		return dropped(&work->verdict, DROP_FRAGMENT_UNKNOWN);
	/* The Node forwards what comes by links that have no from_wire. */
	kind = route_lookup(&packet->key.source).kind;
	answer = service_choose(node, departure->route.kind, departure->route.flags,
				kind == ROUTE_OUTSIDE || kind == ROUTE_PEER, departure->now);
	if (answer == SERVICE_NONE)
		return UNDECIDED;
	if (answer != SERVICE_CHOSEN)
		return host_refuse(ctx, node, -answer);
	departure->route = route_resolve(&work->target.destination);
	return UNDECIDED;
}

/* 6. The address that a new flow's source is translated to; NULL: it is kept. */
static __always_inline const struct address *host_source(const struct work *work,
							 const struct node_config *node)
{
	__u8 family = work->packet.family;

	if (!work->departure.wants_snat)
		return NULL;
	if (work->departure.route.kind == ROUTE_PEER)
		return gateway_address(node, family);
	if (work->departure.route.kind == ROUTE_OUTSIDE)
		return remote_source(work, node);
	return family == 4 ? &node->return_address4 : &node->return_address6;
}

/* 6. Another CPU has begun the packet's flow: stages 2 to 6 run again. */
static __always_inline bool host_met(struct work *work, const struct node_config *node)
{
	struct departure *departure = &work->departure;

	if (!flow_met(node, departure->now))
		return false;
	__builtin_memset(&departure->sender, 0, sizeof(departure->sender));
	__builtin_memset(&departure->receiver, 0, sizeof(departure->receiver));
	departure->wants_snat = 0;
	departure->to_stack = 0;
	return true;
}

/* 6 */
stage int host_track(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	const struct address *source;
	struct departure *departure;
	struct packet *packet;
	struct track *track;
	__u16 owner;
	int slot;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	track = &work->track;
	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)) {
		if (departure->wants_snat)
			return dropped(&work->verdict, packet->flags & PACKET_ICMP_ERROR
							       ? DROP_ICMP_UNRELATED
							       : DROP_FRAGMENT_UNKNOWN);
		return UNDECIDED;
	}
	if (track->known) {
		flow_keep(packet, departure->now);
		return UNDECIDED;
	}
	owner = departure->sender.ifindex ? departure->sender.index : departure->receiver.index;
	source = host_source(work, node);
	work->choice.to_node = departure->to_stack && !source;
	flow_begin(work, packet, &work->target, departure->now);
	service_begin(work);
	route_remember(&work->flow, &departure->route, packet->family, NULL, FLOW_ORIGINAL,
		       departure->epoch);
	if (departure->receiver.ifindex && ctx->ingress_ifindex)
		work->flow.flags |= FLOW_FORWARDED;
	if (departure->route.kind == ROUTE_OUTSIDE)
		gateway_remember(&work->flow, FLOW_REPLY, &work->remote.way, node, departure->now);
	if (!source && !work->choice.service) {
		/* The stack forwards a packet that it has translated to a Service's backend. */
		if (!address_equal(&packet->key.source, gateway_address(node, packet->family)))
			work->flow.flags |= FLOW_STACK;
		flow_start(node, owner);
		return UNDECIDED;
	}
	slot = translated_create(ctx, packet, node, source, owner);
	if (slot < 0)
		return host_met(work, node) ? FLOW_MET : dropped(&work->verdict, -slot);
	track->known = 1;
	track->direction = FLOW_ORIGINAL;
	if (work->choice.affinity)
		affinity_keep(departure->now);
	target_find();
	return UNDECIDED;
}

/* 7 */
stage int host_send(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct verdict *verdict;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	verdict = &work->verdict;
	if (related_rewrite(ctx))
		return dropped(verdict, DROP_REWRITE_FAILED);
	work->remote.translated = work->track.translated;
	if (!departure->to_stack && !departure->receiver.ifindex)
		return remote_send(ctx, work, node);
	if (rewrite(ctx, &work->packet, target_of(work), 0))
		return dropped(verdict, DROP_REWRITE_FAILED);
	if (departure->to_stack)
		return emit_host(ctx, node, verdict);
	/* On egress, the only way into the Pod is the egress of its device. */
	if (store_macs(ctx, &departure->receiver.mac, &node->gateway_mac))
		return dropped(verdict, DROP_REWRITE_FAILED);
	decide(verdict, ACTION_ENDPOINT);
	verdict->ifindex = departure->receiver.ifindex;
	return bpf_redirect(verdict->ifindex, 0);
}

/* 2 to 6; 7 for packets that the slow path sends to the outside. */
static __always_inline int host_depart(context *ctx, struct work *work,
				       const struct node_config *node)
{
	int result = host_flow(ctx, node);

	if (result == UNDECIDED)
		result = host_service(ctx, node);
	if (result == UNDECIDED && is_from_slow_path(work) &&
	    work->departure.route.kind == ROUTE_OUTSIDE)
		return resolve_outside(ctx, work, node) ? dropped(&work->verdict, DROP_NO_ROUTE)
							: remote_send(ctx, work, node);
	if (result == UNDECIDED)
		result = host_destination(ctx, work, node);
	return result == UNDECIDED ? host_track(ctx, node) : result;
}

static __always_inline int receive(context *ctx, struct work *work)
{
	const struct node_config *node = node_configuration();
	int result;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return dropped(&work->verdict, DROP_NOT_CONFIGURED);
	work->departure.epoch = route_epoch(node);
	work->departure.now = bpf_ktime_get_coarse_ns();
	result = host_parse(ctx, node);
	if (result != UNDECIDED)
		return result;
	result = while_flow_met(work, FLOW_MEETINGS, host_depart(ctx, work, node));
	return result == UNDECIDED ? host_send(ctx, node) : result;
}

SEC("tc")
int from_host(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_SHOT;
	result = receive(ctx, work);
	record(&work->verdict);
	return result;
}
