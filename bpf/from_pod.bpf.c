// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * from_pod: TC ingress of the host side of a Pod's veth. Handles packets that a Pod sends.
 *
 *  1. parse          Ethernet, IP, L4; ARP and neighbour discovery are checked and pass
 *  2. source         is it the Pod's own?
 *  3. multicast      link-local passes, the rest is dropped
 *  4. flow           known, or related to a known one
 *  5. service        a new flow to a Service's address gets a backend (departure_service.h)
 *  6. route          local Pod, this Node, peer, outside
 *  7. policy         egress of the Pod, ingress of another one on this Node (policy.h)
 *  8. destination    the Pod, or the next hop
 *  9. TTL, MTU
 * 10. new flow       with SNAT if it leaves the cluster
 * 11. rewrite, emit
 *
 * Established flows take the fast path, established_send.h. Here each stage is a function that returns
 * the program's result, or UNDECIDED; work.departure passes values from one stage to the next.
 */
#define FAIRWAY_HOOK HOOK_FROM_POD
#include "lib/departure.h"
#include "lib/departure_service.h"
#include "lib/established_send.h"
#include "lib/fragment.h"
#include "lib/neighbour.h"
#include "lib/policy.h"
#include "lib/remote.h"
#include "lib/snat.h"
#include "lib/unresolved.h"

/* 1 */
stage int pod_parse(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct verdict *verdict;
	struct ethhdr *ethernet;
	struct packet *packet;
	enum drop_reason reason;
	__be16 ethertype;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	verdict = &work->verdict;
	ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet)
		return dropped(verdict, DROP_MALFORMED);
	ethertype = ethernet->h_proto;
	__builtin_memcpy(&work->departure.mac, ethernet->h_source, ETH_ALEN);
	if (ethertype == bpf_htons(ETH_P_ARP) && !ctx->vlan_present)
		return arp_is_own(ctx) ? pass(verdict) : dropped(verdict, DROP_SPOOFED_NEIGHBOUR);
	if (!is_ip(ethertype) || ctx->vlan_present)
		return dropped(verdict, DROP_UNSUPPORTED_ETHERTYPE);
	if (parse(ctx, packet, ETH_HLEN, ethertype, false))
		return dropped(verdict, DROP_MALFORMED);
	if (is_neighbour_discovery(packet)) {
		reason = neighbour_discovery_check(ctx, packet, node);
		return reason ? dropped(verdict, reason) : pass(verdict);
	}
	return UNDECIDED;
}

/* 2: a known flow proves the source. */
stage int pod_source(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct endpoint *sender;
	struct verdict *verdict;
	struct packet *packet;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	verdict = &work->verdict;
	departure = &work->departure;
	sender = &departure->sender;
	if (!departure->unknown && !(packet->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR)))
		flow_lookup(&packet->key, node, departure->now);
	if (work->track.known && flow_current(&work->flow, departure->epoch) &&
	    flow_sent_by(&work->flow, work->track.direction, ctx->ifindex, &departure->mac))
		return UNDECIDED;
	if (packet->family == 6 &&
	    (address_is_link_local6(&packet->key.source) || address_is_zero(&packet->key.source)))
		return is_group_report(packet) ? pass(verdict)
					       : dropped(verdict, DROP_SPOOFED_ADDRESS);
	if (!endpoint_find(&packet->key.source, sender) || sender->ifindex != ctx->ifindex)
		return dropped(verdict, DROP_SPOOFED_ADDRESS);
	if (__builtin_memcmp(&sender->mac, &departure->mac, ETH_ALEN))
		return dropped(verdict, DROP_SPOOFED_MAC);
	return UNDECIDED;
}

/* 3, 4 */
stage int pod_flow(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct packet *packet;
	struct track *track;
	int result;
	__u64 now;

	if (!node || !work)
		return discard();
	packet = &work->packet;
	track = &work->track;
	now = work->departure.now;
	if (address_is_multicast(&packet->key.destination, packet->family))
		return address_is_link_multicast(&packet->key.destination, packet->family)
			       ? pass(&work->verdict)
			       : dropped(&work->verdict, DROP_MULTICAST);
	/* An answer would have a martian source. */
	if (address_is_nobodys(&packet->key.destination, packet->family))
		return dropped(&work->verdict, DROP_MARTIAN_DESTINATION);
	if (packet->flags & PACKET_FRAGMENT) {
		fragment_ports(packet, work->departure.sender.index);
		if (!(packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN)))
			flow_lookup(&packet->key, node, now);
	}
	if (packet->flags & PACKET_PORTS_UNKNOWN) {
		result = policy_hold(ctx, node, work->departure.sender.egress_policy, FAIRWAY_HOOK);
		if (result != UNDECIDED)
			return result;
	}
	if (packet->flags & PACKET_ICMP_ERROR) {
		track->related = related_lookup(ctx, packet, &work->inner, node, now);
		/* A Pod is no router: it may send errors about packets to itself only. Otherwise it could cut or
		 * slow other Pods' connections, and reach their ends under their policies. */
		if (work->inner.family &&
		    !address_equal(&work->inner.key.destination, &packet->key.source))
			return dropped(&work->verdict, DROP_ICMP_UNRELATED);
	}
	if (track->known &&
	    ((!flow_current(&work->flow, work->departure.epoch) &&
	      flow_address_lost(&work->flow)) ||
	     (!track->related && backend_is_gone(&work->flow, track->direction, packet)))) {
		flow_end(track);
		track->related = 0;
		/* The flow that proved the source is over, so the source is checked again. */
		if (!work->departure.sender.ifindex &&
		    !endpoint_find(&packet->key.source, &work->departure.sender))
			return dropped(&work->verdict, DROP_SPOOFED_ADDRESS);
	}
	target_find();
	return UNDECIDED;
}

/* 7. No earlier stage answers a packet. */
stage int pod_policy(struct __sk_buff *ctx, const struct node_config *node)
{
	const struct endpoint *receiver = NULL;
	struct work *work = work_space();
	struct departure *departure;
	struct track *track;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	track = &work->track;
	if (track->known)
		return departure->judged ? UNDECIDED : policy_known(false);
	if (departure->route.kind == ROUTE_LOCAL_PODS &&
	    endpoint_find(&work->target.destination, &departure->receiver))
		receiver = &departure->receiver;
	if (work->packet.flags & PACKET_PORTS_UNKNOWN)
		return receiver ? policy_hold(ctx, node, receiver->ingress_policy, FAIRWAY_HOOK)
				: UNDECIDED;
	return policy_new(work, departure_sender(departure), receiver);
}

/* 9, except for packets to the Node's own stack. */
stage int pod_limits(struct __sk_buff *ctx, const struct node_config *node)
{
	struct gso gso = gso_of(ctx);
	struct work *work = work_space();
	struct departure *departure;
	struct packet *packet;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	if (packet->ttl <= 1) {
		slow_path_send(ctx, packet, node, SLOW_TTL_EXCEEDED, 0, &work->verdict);
		return discard();
	}
	if (departure->receiver.ifindex)
		return UNDECIDED;
	departure->fit = remote_fit(packet, &work->remote, &gso);
	if (departure->fit == FITS_NOT) {
		slow_path_send(ctx, packet, node, SLOW_TOO_BIG, work->remote.mtu, &work->verdict);
		return discard();
	}
	return UNDECIDED;
}

/* 10. The new flow, in work.flow. */
stage int pod_begin(const struct node_config *node)
{
	struct work *work = work_space();
	const struct endpoint *sender;
	struct departure *departure;

	if (!node || !work)
		return -1;
	departure = &work->departure;
	sender = departure_sender(departure);
	flow_begin(work, &work->packet, &work->target, departure->now);
	service_begin(work);
	route_remember(&work->flow, &departure->route, work->packet.family, sender, FLOW_ORIGINAL,
		       departure->epoch);
	if (departure->receiver.ifindex && sender)
		pods_remember(&work->flow, sender, &departure->receiver, FLOW_ORIGINAL);
	if (departure->route.kind == ROUTE_OUTSIDE)
		gateway_remember(&work->flow, FLOW_REPLY, &work->remote.way, node, departure->now);
	work->track.direction = FLOW_ORIGINAL;
	return 0;
}

/* 10. The flow keeps the Pod's port, unless the answers' tuple is that of a translated flow: then the Pod already has
 * a connection from this port by a Service to this endpoint, and the answers to both would belong to that flow. */
static __always_inline bool pod_start(struct __sk_buff *ctx, struct work *work,
				      const struct node_config *node)
{
	__u16 endpoint = work->departure.sender.index;
	int slot = flow_create(node, endpoint);
	bool meets;

	if (slot == FLOW_REPLY_TAKEN) {
		meets = flow_lookup(&work->reply, node, work->departure.now) &&
			flow_translates(&work->flow);
		work->track.known = 0;
		if (!pod_begin(node) && meets)
			slot = snat_create(ctx, &work->packet, node, &work->packet.key.source,
					   endpoint);
	}
	if (slot < 0)
		count_event(EVENT_UNTRACKED);
	return slot >= 0;
}

/* 10. Another CPU has begun the packet's flow: stages 6 to 10 run again. */
static __always_inline bool pod_met(struct work *work, const struct node_config *node)
{
	struct departure *departure = &work->departure;

	if (!flow_met(node, departure->now))
		return false;
	if (!work->track.known)
		return true;
	__builtin_memset(&departure->receiver, 0, sizeof(departure->receiver));
	departure->wants_snat = 0;
	departure->to_stack = 0;
	departure->hairpin = 0;
	departure->routed = 0;
	departure->fit = 0;
	return true;
}

/* 10 */
stage int pod_track(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	const struct address *source;
	struct departure *departure;
	struct packet *packet;
	struct track *track;
	int slot;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	packet = &work->packet;
	track = &work->track;
	if (packet->flags & PACKET_ICMP_ERROR) {
		if (!track->related && departure->wants_snat)
			return dropped(&work->verdict, DROP_ICMP_UNRELATED);
		return UNDECIDED;
	}
	if (packet->flags & PACKET_PORTS_UNKNOWN) {
		if (!departure->wants_snat)
			return UNDECIDED;
		slow_path_send(ctx, packet, node, SLOW_HOLD, work->remote.mtu, &work->verdict);
		return discard();
	}
	if (track->known) {
		flow_keep(packet, departure->now);
		if (flow_takes_address(&work->flow) && track->direction == FLOW_ORIGINAL &&
		    port_keep_due(&work->flow, track->slot, packet->l4_type, departure->now))
			port_renew(ctx);
		return UNDECIDED;
	}
	if (pod_begin(node))
		return discard();
	source = departure->hairpin	 ? gateway_address(node, packet->family)
		 : departure->wants_snat ? remote_source(work, node)
					 : NULL;
	if (!source && !work->choice.service) {
		track->known = pod_start(ctx, work, node);
		target_find();
		return UNDECIDED;
	}
	slot = translated_create(ctx, packet, node, source, departure->sender.index);
	if (slot < 0)
		return pod_met(work, node) ? FLOW_MET : dropped(&work->verdict, -slot);
	track->known = 1;
	if (work->choice.affinity)
		affinity_keep(departure->now);
	target_find();
	return UNDECIDED;
}

/* 11 */
stage int pod_send(struct __sk_buff *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct departure *departure;
	struct verdict *verdict;
	struct packet *packet;
	struct remote *remote;

	if (!node || !work)
		return discard();
	departure = &work->departure;
	verdict = &work->verdict;
	packet = &work->packet;
	remote = &work->remote;
	if (departure->to_stack)
		return pod_to_node(ctx, node);
	if (departure->fit == FITS_IN_FRAGMENTS) {
		slow_path_send(ctx, packet, node, SLOW_FRAGMENT, remote->mtu, verdict);
		return discard();
	}
	remote->translated = work->track.translated;
	if (related_rewrite(ctx))
		return dropped(verdict, DROP_REWRITE_FAILED);
	if (departure->receiver.ifindex) {
		if (rewrite(ctx, packet, target_of(work), 1))
			return dropped(verdict, DROP_REWRITE_FAILED);
		return emit_endpoint(ctx, &departure->receiver, node, verdict);
	}
	if (remote->way.action == ACTION_WIRE_NEIGHBOUR && !remote->way.resolved &&
	    !unresolved_goes(ctx, work, node))
		return dropped(verdict, DROP_NEIGHBOUR_RATE);
	remote->decrement = 1;
	return remote_send(ctx, work, node);
}

/* 6 to 10 */
static __always_inline int depart(struct __sk_buff *ctx, struct work *work,
				  const struct node_config *node)
{
	int result = pod_route();

	if (result == UNDECIDED)
		result = pod_policy(ctx, node);
	if (result == UNDECIDED)
		result = pod_destination(ctx, work, node);
	if (result == UNDECIDED && !work->departure.to_stack)
		result = pod_limits(ctx, node);
	return result == UNDECIDED ? pod_track(ctx, node) : result;
}

static __always_inline int receive(context *ctx, struct work *work)
{
	const struct node_config *node = node_configuration();
	int result;

	if (!node || !(node->flags & NODE_CONFIGURED))
		return dropped(&work->verdict, DROP_NOT_CONFIGURED);
	work->departure.epoch = route_epoch(node);
	work->departure.now = bpf_ktime_get_coarse_ns();
	result = pod_parse(ctx, node);
	if (result == UNDECIDED)
		result = pod_source(ctx, node);
	if (result == UNDECIDED)
		result = pod_flow(ctx, node);
	if (result == UNDECIDED)
		result = pod_service(ctx, node);
	if (result != UNDECIDED)
		return result;
	result = while_flow_met(work, FLOW_MEETINGS, depart(ctx, work, node));
	return result == UNDECIDED ? pod_send(ctx, node) : result;
}

SEC("tc")
int from_pod(struct __sk_buff *ctx)
{
	int result = established_send(ctx);
	struct flow_rules rules = {};
	struct work *work;

	if (result == STALE_FLOW) {
		result = flow_renew();
		if (result == FLOW_RENEWED) {
			rules = renewal_rules();
			result = established_send(ctx);
		}
	}
	if (result == NOT_ESTABLISHED || result == UNKNOWN_FLOW || result == STALE_FLOW) {
		work = work_start();
		if (!work)
			return TC_ACT_SHOT;
		work->departure.unknown = result == UNKNOWN_FLOW;
		result = receive(ctx, work);
		record(&work->verdict);
	}
	renewal_trace(&rules);
	return result;
}
