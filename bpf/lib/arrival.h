/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Functions that from_wire's stages share: the check of a packet's source, its counters, its flow, and its
 * delivery into a Pod.
 */
#ifndef FAIRWAY_ARRIVAL_H
#define FAIRWAY_ARRIVAL_H

#include "emit.h"
#include "peer_count.h"
#include "policy.h"
#include "probe.h"
#include "slow_path.h"
#include "translation.h"
#include "untunnelled.h"
#ifdef FAIRWAY_XDP
#include "xdp.h"
#else
#include "remote.h"
#endif

/* Counts a packet from a peer. `stripped`: it was decapsulated; if not `here`, only the decapsulation
 * is counted. */
static __always_inline void wire_count(const struct packet *packet, __u32 peer, bool here,
				       bool stripped, const struct gso *gso)
{
	count_received(peer * 2 + (packet->family == 6), here, stripped, packet->length,
		       headers_length(packet), gso);
}

/* The reason to drop a packet with a source in the pod CIDRs of peer `id`, or DROP_NONE. `known`: it belongs to a flow,
 * whose first packet was checked. DROP_REASON_COUNT: TC has to check it. */
static __always_inline enum drop_reason source_refused(context *ctx, struct work *work, __u32 id,
						       bool known, const struct node_config *node)
{
	if (work->arrival.tunnelled)
		return DROP_NONE;
	if (!sends_untunnelled(peer_lookup(id, work->packet.family)))
		return DROP_UNTUNNELLED;
	if (known)
		return DROP_NONE;
	switch (link_check(ctx, work, id, node)) {
	case LINK_PEER:
		return DROP_NONE;
	case LINK_ASK_TC:
		return DROP_REASON_COUNT;
	default:
		return DROP_PEER_MAC_MISMATCH;
	}
}

/* `local` is the Pod that the packet goes to, NULL for the Node itself. */
static __always_inline void wire_flow(struct work *work, const struct route *source,
				      const struct endpoint *local, const struct node_config *node)
{
	const struct packet *packet = &work->packet;
	__u64 now = work->arrival.now;

	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_PORTS_UNKNOWN))
		return;
	if (work->track.known) {
		flow_keep(packet, now);
		return;
	}
	flow_begin(work, packet, &packet->key, now);
	route_remember(&work->flow, source, packet->family, local, FLOW_REPLY, work->arrival.epoch);
	flow_start(node, local ? local->index : 0);
}

/* Into the Pod that work.arrival has found, from work.arrival's source. */
#define wire_deliver FOR_HOOK(wire_deliver)
stage int wire_deliver(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	const struct packet *packet;
	struct verdict *verdict;
#ifndef FAIRWAY_XDP
	const struct route *source;
#endif

	if (!node || !work)
		return discard();
	packet = &work->packet;
	verdict = &work->verdict;
#ifndef FAIRWAY_XDP
	if (related_rewrite(ctx))
		return dropped(verdict, DROP_REWRITE_FAILED);
#endif
	if (rewrite(ctx, packet, target_of(work), 1))
		return dropped(verdict, DROP_REWRITE_FAILED);
#ifndef FAIRWAY_XDP
	source = &work->arrival.source;
	if (source->kind == ROUTE_PEER && is_syn(packet)) {
		const struct peer *peer = peer_lookup(source->peer, packet->family);

		if (peer && peer->mtu && mss_clamp(ctx, packet, peer->mtu))
			return dropped(verdict, DROP_REWRITE_FAILED);
	}
#endif
	return emit_endpoint(ctx, &work->arrival.receiver, node, verdict);
}

/* Judges a packet to a Pod of this Node, `receiver`, unless its flow is known and up to date. */
#define wire_policy FOR_HOOK(wire_policy)
stage int wire_policy(context *ctx, const struct node_config *node)
{
	struct work *work = work_space();
	struct track *track;

	if (!node || !work)
		return discard();
	track = &work->track;
#ifndef FAIRWAY_XDP
	/* For an ICMP error, stage 6 has found the flow. */
	if (track->related)
		return flow_judged(&work->flow, work->arrival.epoch) ? UNDECIDED
								     : policy_known(false);
	if (work->packet.flags & PACKET_PORTS_UNKNOWN)
		return policy_hold(ctx, node, work->arrival.receiver.ingress_policy, FAIRWAY_HOOK);
#endif
	if (track->known)
		return work->arrival.judged ? UNDECIDED : policy_known(false);
	work->target = work->packet.key;
	return policy_new(work, NULL, &work->arrival.receiver);
}

/* The Pod that a packet of a known flow goes to, as the flow remembers it. */
static __always_inline bool wire_known(const struct track *track, const struct flow *flow,
				       __u32 epoch, struct endpoint *endpoint)
{
	__u8 receiver = !track->direction;

	/* Both ends are Pods of this Node, so the packet cannot come from the wire. */
	if (!track->known || !flow_current(flow, epoch) || flow->pods != 1 << receiver)
		return false;
	endpoint->ifindex = flow->ifindex[receiver];
	endpoint->mac = flow->mac[receiver];
	return true;
}

#endif
