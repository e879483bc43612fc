// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_pod: TC ingress of the host side of a Pod's veth. What a Pod sends.
 *
 *  1. parse          Ethernet, IP, L4; ARP and neighbour discovery are checked and pass
 *  2. source         is it the Pod's own?
 *  3. multicast      link-local passes, the rest is dropped
 *  4. flow           known, or related to a known one
 *  5. route          local Pod, this Node, peer, outside
 *  6. TTL
 *  7. MTU
 *  8. new flow       with SNAT if it leaves the cluster
 *  9. rewrite, emit
 */
#define FAIRWAY_HOOK HOOK_FROM_POD
#include "lib/established_send.h"
#include "lib/fragment.h"
#include "lib/neighbour.h"
#include "lib/remote.h"
#include "lib/track.h"

/* The kernel's routes refuse the destination; a blackhole does so without a word. */
static __always_inline int refuse(context *ctx, const struct packet *packet,
				  const struct node_config *node, const struct way *way,
				  struct verdict *verdict)
{
	if (!way->refusal)
		return dropped(verdict, DROP_NO_ROUTE);
	slow_path_send(ctx, packet, node, way->refusal, 0, verdict);
	return discard();
}

static __always_inline int receive(context *ctx, struct work *work, struct verdict *verdict)
{
	const struct node_config *node = node_configuration();
	const struct endpoint *sender = NULL, *receiver = NULL;
	struct translation *translation;
	struct packet *packet, *quoted;
	struct track *track;
	struct flow *flow;
	struct remote *remote;
	struct gso gso = gso_of(ctx);
	enum drop_reason reason;
	bool related = false, wants_snat = false, plain, to_stack;
	struct ethhdr *ethernet;
	const struct route host = { .kind = ROUTE_HOST, .peer = NO_PEER };
	enum fit fit = FITS;
	struct route route;
	struct mac source;
	__be16 ethertype;
	__u64 now, checked;
	__u32 epoch;
	int slot;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return dropped(verdict, DROP_NOT_CONFIGURED);
	epoch = route_epoch(node);
	packet = &work->packet;
	track = &work->track;
	flow = &work->flow;
	quoted = &work->inner;
	translation = &work->translation;
	remote = &work->remote;

	/* 1 */
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return dropped(verdict, DROP_MALFORMED);
	ethertype = ethernet->h_proto;
	__builtin_memcpy(&source, ethernet->h_source, sizeof(source));
	if (ethertype == bpf_htons(ETH_P_ARP) && !ctx->vlan_present)
		return arp_is_own(ctx) ? pass(verdict) : dropped(verdict, DROP_SPOOFED_NEIGHBOUR);
	if ((ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6)) ||
	    ctx->vlan_present)
		return dropped(verdict, DROP_UNSUPPORTED_ETHERTYPE);
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return dropped(verdict, DROP_MALFORMED);
	if (is_neighbour_discovery(packet)) {
		reason = neighbour_discovery_check(ctx, packet, node);
		return reason ? dropped(verdict, reason) : pass(verdict);
	}

	/* 2: a known flow proves the source */
	now = bpf_ktime_get_coarse_ns();
	plain = !(packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR));
	if (plain)
		flow_lookup(&packet->key, node, now);
	if (!track->known || !flow_current(flow, epoch) ||
	    !flow_sent_by(flow, track->direction, ctx->ifindex, &source)) {
		if (packet->family == 6 && (address_is_link_local6(&packet->key.source) ||
					    address_is_zero(&packet->key.source))) {
			if (is_group_report(packet))
				return pass(verdict);
			return dropped(verdict, DROP_SPOOFED_ADDRESS);
		}
		sender = endpoint_lookup(&packet->key.source);
		if (!sender || sender->ifindex != ctx->ifindex)
			return dropped(verdict, DROP_SPOOFED_ADDRESS);
		if (__builtin_memcmp(&sender->mac, &source, sizeof(source)))
			return dropped(verdict, DROP_SPOOFED_MAC);
	}

	/* 3 */
	if (address_is_multicast(&packet->key.destination, packet->family)) {
		if (address_is_link_multicast(&packet->key.destination, packet->family))
			return pass(verdict);
		return dropped(verdict, DROP_MULTICAST);
	}

	/* 4 */
	if (packet->flags & PACKET_FRAGMENT)
		fragment_ports(packet);
	if (packet->flags & PACKET_ICMP_ERROR)
		related = !related_lookup(ctx, packet, quoted, node, now);
	else if (!plain && !(packet->flags & PACKET_PORTS_UNKNOWN))
		flow_lookup(&packet->key, node, now);

	/* 5 */
	if (track->known && !flow_current(flow, epoch) && flow_address_lost(flow)) {
		flow_end(track);
		related = false;
	}
	if (track->known && flow->flags & FLOW_STACK && track->direction == FLOW_REPLY) {
		/* The stack may have translated what this answers. */
		route = host;
	} else if (track->known && !related && flow_current(flow, epoch)) {
		route = route_remembered(flow);
	} else {
		route = route_resolve(&packet->key.destination);
		if (track->known && !related) {
			route_remember(flow, &route, sender, track->direction, epoch);
			track->remembered = 1;
		}
	}
	if (route.kind == ROUTE_LOCAL_PODS) {
		receiver = endpoint_lookup(&packet->key.destination);
		if (!receiver) {
			slow_path_send(ctx, packet, node, SLOW_NO_HOST, 0, verdict);
			return discard();
		}
		if (track->known && !related && sender && !flow->local_ifindex) {
			pods_remember(flow, sender, receiver, track->direction);
			track->remembered = 1;
		}
	} else if (route.kind == ROUTE_PEER) {
		reason = remote_peer(ctx, work, route.peer, false, node, now);
		if (reason == DROP_NO_ROUTE)
			return refuse(ctx, packet, node, &remote->way, verdict);
		if (reason)
			return dropped(verdict, reason);
	} else if (route.kind == ROUTE_OUTSIDE) {
		wants_snat = node->flags & NODE_SNAT && !(route.flags & ROUTE_NO_SNAT);
		checked = flow->next_hop.checked;
		remote_outside(ctx, work, &packet->key,
			       track->known && !related ? &flow->next_hop : NULL,
			       wants_snat && !track->known, node, now);
		if (checked != flow->next_hop.checked)
			track->remembered = 1;
		if (remote->way.action == ACTION_DROP)
			return refuse(ctx, packet, node, &remote->way, verdict);
		/* An address of the Node that the agent has not written yet. */
		if (remote->way.action == ACTION_PASS) {
			/* A route that encapsulates is the kernel's alone, which translates nothing. */
			if (remote->way.encap && wants_snat && !(node->flags & NODE_STACK_SNAT))
				return dropped(verdict, DROP_NO_ROUTE);
			return pass(verdict);
		}
		if (route.flags & ROUTE_PEER_NODE && tunnel_forged(ctx, packet, node))
			return dropped(verdict, DROP_TUNNEL_FROM_POD);
	}

	to_stack = route.kind == ROUTE_HOST || route.kind == ROUTE_STACK;
	if (!to_stack) {
		/* 6 */
		if (packet->ttl <= 1) {
			slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, verdict);
			return discard();
		}
		/* 7 */
		if (!receiver) {
			fit = remote_fit(packet, remote, &gso);
			if (fit == FITS_NOT) {
				slow_path_send(ctx, packet, node, SLOW_TOO_BIG, remote->mtu,
					       verdict);
				return discard();
			}
		}
	}

	/* 8 */
	if (packet->flags & PACKET_ICMP_ERROR) {
		if (!related && wants_snat)
			return dropped(verdict, DROP_ICMP_UNRELATED);
	} else if (packet->flags & PACKET_PORTS_UNKNOWN) {
		if (wants_snat) {
			slow_path_send(ctx, packet, node, SLOW_HOLD, remote->mtu, verdict);
			return discard();
		}
	} else if (track->known) {
		flow_keep(packet, now);
	} else {
		flow_begin(work, packet, now);
		route_remember(flow, &route, sender, FLOW_ORIGINAL, epoch);
		if (receiver && sender)
			pods_remember(flow, sender, receiver, FLOW_ORIGINAL);
		if (wants_snat) {
			slot = snat_create(ctx, packet, node, remote_source(work, node),
					   sender ? sender->index : 0);
			if (slot < 0)
				return dropped(verdict, -slot);
			track->known = 1;
		} else {
			track->known = flow_start(node, sender ? sender->index : 0);
		}
		track->direction = FLOW_ORIGINAL;
	}
	if (to_stack)
		return pass(verdict);
	if (fit == FITS_IN_FRAGMENTS) {
		slow_path_send(ctx, packet, node, SLOW_FRAGMENT, remote->mtu, verdict);
		return discard();
	}

	/* 9 */
	remote->translated = track->known && snat_translation(flow, track->direction, translation);
	if (remote->translated && related && related_rewrite(ctx, packet, quoted, translation))
		return dropped(verdict, DROP_REWRITE_FAILED);
	if (receiver) {
		if (rewrite(ctx, packet, NULL, 1))
			return dropped(verdict, DROP_REWRITE_FAILED);
		return emit_endpoint(ctx, receiver, node, verdict);
	}
	remote->decrement = 1;
	return remote_send(ctx, work, node);
}

SEC("tc")
int from_pod(struct __sk_buff *ctx)
{
	int result = established_send(ctx);
	struct work *work;

	if (result != NOT_ESTABLISHED)
		return result;
	work = work_start();
	if (!work)
		return TC_ACT_SHOT;
	result = receive(ctx, work, &work->verdict);
	record(&work->verdict);
	return result;
}
