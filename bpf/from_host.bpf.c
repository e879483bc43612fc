// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_host: TC egress of fairway0, where the kernel's routes to the peers' pod CIDRs lead.
 * What this Node itself sends to Pods on other Nodes, and what the slow path sends on.
 *
 *  1. parse          a question of the agent's to a peer goes its own way (probe.h)
 *  2. route          a peer's pod CIDR; of the slow path also the outside, as it is
 *  3. flow           known, or that of the packet which an ICMP error quotes
 *  4. source         a peer takes tunnel packets only from our Pods and gateway addresses
 *  5. path, MTU
 *  6. new flow       with SNAT to the gateway address where the source needs it
 *  7. rewrite, emit
 */
#define FAIRWAY_HOOK HOOK_FROM_HOST
#include "lib/fragment.h"
#include "lib/probe.h"
#include "lib/remote.h"
#include "lib/snat.h"
#include "lib/track.h"

/* What the slow path sends to the outside is finished: translated, cut, its TTL taken. It needs a next
 * hop only. 0: it is in work->remote. */
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
	/* By the flow's own way: rules may go by the Pod's address. */
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

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	struct packet *packet;
	const struct endpoint *sender;
	struct track *track;
	struct flow *flow;
	struct remote *remote;
	struct gso gso = gso_of(ctx);
	enum drop_reason reason;
	bool known, from_pod_of_ours, own_source, native = false, wants_snat, from_slow_path;
	struct ethhdr *ethernet;
	struct route route;
	__be16 ethertype;
	__u32 probed, epoch;
	__u16 owner = 0;
	__u64 now;
	int slot;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return dropped(verdict, DROP_NOT_CONFIGURED);
	epoch = route_epoch(node);
	packet = &work->packet;
	track = &work->track;
	flow = &work->flow;
	remote = &work->remote;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return dropped(verdict, DROP_MALFORMED);
	ethertype = ethernet->h_proto;
	/* The kernel writes its own devices' addresses there. */
	from_slow_path = !__builtin_memcmp(ethernet->h_source, &fairway_mac.mac, ETH_ALEN);
	if (ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6))
		return dropped(verdict, DROP_UNSUPPORTED_ETHERTYPE);
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return dropped(verdict, DROP_MALFORMED);
	probed = probe_peer(ctx, packet, &packet->key.source, &packet->key.destination, node);
	if (probed != NO_PEER)
		return probe_ask(ctx, work, node, probed);

	/* 2 */
	if (address_is_link_multicast(&packet->key.destination, packet->family))
		return pass(verdict);
	now = bpf_ktime_get_coarse_ns();
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet, OWNER_HOST);

	/* 3 */
	if (packet->flags & PACKET_ICMP_ERROR)
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
	else if (!(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);
	target_find();
	/* A flow of to_pod's remembers the Node's stack as its remote side, which we come from. */
	known = track->known && !track->related && flow_current(flow, epoch) &&
		flow->route_kind == ROUTE_PEER;
	route = known ? route_remembered(flow) : route_lookup(&work->target.destination);
	if (from_slow_path && route.kind == ROUTE_OUTSIDE)
		return resolve_outside(ctx, work, node) ? dropped(verdict, DROP_NO_ROUTE)
							: remote_send(ctx, work, node);
	if (route.kind != ROUTE_PEER)
		return dropped(verdict, DROP_NO_ROUTE);

	/* 4 */
	from_pod_of_ours = route_lookup(&packet->key.source).kind == ROUTE_LOCAL_PODS;
	own_source = from_pod_of_ours ||
		     address_equal(&packet->key.source, gateway_address(node, packet->family));
	/* A Pod's own flow, of which the slow path sends a part, is from_pod's to refresh. */
	if (track->known && !track->related && !from_pod_of_ours && !flow_current(flow, epoch)) {
		route_remember(flow, &route, packet->family, NULL, track->direction, epoch);
		track->remembered = 1;
	}
	/* The answer to what came from a Pod's own address, past the tunnel, goes back so. */
	native = !own_source && track->known && track->direction == FLOW_REPLY;
	wants_snat = !own_source && !track->known;

	/* 5 */
	reason = remote_peer(ctx, work, route.peer, native, node, now);
	if (reason)
		return dropped(verdict, reason);
	switch (remote_fit(packet, remote, &gso)) {
	case FITS:
		break;
	case FITS_NOT:
		slow_path_send(ctx, packet, node, SLOW_TOO_BIG, remote->mtu, verdict);
		return discard();
	case FITS_IN_FRAGMENTS:
		slow_path_send(ctx, packet, node, SLOW_FRAGMENT, remote->mtu, verdict);
		return discard();
	}

	/* 6 */
	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)) {
		if (wants_snat)
			return dropped(verdict, packet->flags & PACKET_ICMP_ERROR
							? DROP_ICMP_UNRELATED
							: DROP_FRAGMENT_UNKNOWN);
	} else if (track->known) {
		flow_keep(packet, now);
	} else {
		flow_begin(work, packet, &packet->key, now);
		route_remember(flow, &route, packet->family, NULL, FLOW_ORIGINAL, epoch);
		sender = from_pod_of_ours ? endpoint_lookup(&packet->key.source) : NULL;
		if (sender)
			owner = sender->index;
		if (wants_snat) {
			slot = snat_create(ctx, packet, node, gateway_address(node, packet->family),
					   owner);
			if (slot < 0)
				return dropped(verdict, -slot);
			track->known = 1;
			track->direction = FLOW_ORIGINAL;
			target_find();
		} else {
			/* The stack forwards what it has translated: a Service's backend. */
			if (!address_equal(&packet->key.source,
					   gateway_address(node, packet->family)))
				flow->flags |= FLOW_STACK;
			flow_start(node, owner);
		}
	}

	/* 7 */
	if (related_rewrite(ctx))
		return dropped(verdict, DROP_REWRITE_FAILED);
	remote->translated = track->translated;
	return remote_send(ctx, work, node);
}

SEC("tc")
int from_host(struct __sk_buff *ctx)
{
	struct work *work = work_start();
	int result;

	if (!work)
		return TC_ACT_SHOT;
	result = receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
