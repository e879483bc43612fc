/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tracking, the same in all hooks: how a packet changes its flow. Decisions read work.flow, a copy of the
 * flow at one moment, or the flow to create; it is written back once, if the slot still belongs to that
 * flow.
 *
 *  1. look up   the flow of a tuple
 *  2. begin     a flow that starts with this packet, in work.flow, and the tuple of its answers
 *  3. start     gives it a slot
 *  4. keep      writes the changes of the packet to a known flow
 *  5. end       a flow that cannot be used any more
 */
#ifndef FAIRWAY_TRACK_H
#define FAIRWAY_TRACK_H

#include "flow_create.h"
#include "route.h"

/* Stage 1. An expired flow counts as unknown: a flow that begins again may be translated differently by now,
 * or not at all. */
stage int flow_lookup(const struct flow_key *key, const struct node_config *node, __u64 now)
{
	struct work *work = work_space();
	struct flow_match match;

	if (!key || !node || !work)
		return 0;
	work->track.known = 0;
	/* Linux 6.1 takes no argument of a global function for the key of a map. */
	work->tuple = *key;
	match = flow_find(&work->tuple, flow_hash(key, &node->flow_hash, true), true);
	if (!match.flow)
		return 0;
	work->flow = *match.flow;
	if (!flow_still(&match) || flow_expired(&work->flow, node, now))
		return 0;
	work->track.claim = match.claim;
	work->track.slot = match.slot;
	work->track.direction = match.direction;
	work->track.known = 1;
	return 1;
}

/* Stage 2. The first packet may end its flow at once (RST). `target`: the tuple that it leaves with, which
 * answers reverse; snat_create then changes where they go. */
static __always_inline void flow_begin(struct work *work, const struct packet *packet,
				       const struct flow_key *target, __u64 now)
{
	struct flow *flow = &work->flow;
	struct flow_progress progress = {};

	__builtin_memset(flow, 0, sizeof(*flow));
	key_reverse(&work->reply, target);
	progress = flow_advanced(progress, FLOW_ORIGINAL, packet);
	flow->state = progress.state;
	flow->flags = progress.flags;
	flow->protocol = packet->key.protocol;
	flow->last_seen = now;
}

/* Stage 3, without translation. False: the packet goes on untracked. */
static __always_inline bool flow_start(const struct node_config *node, __u16 endpoint)
{
	if (flow_create(node, endpoint) >= 0)
		return true;
	count_event(EVENT_UNTRACKED);
	return false;
}

/* Tries, while another CPU is writing to the same flow; that takes some ten instructions. */
#define FLOW_LOCK_TRIES 4

static __always_inline bool flow_lock(struct flow *flow, __u32 claim)
{
	int try;

	for (try = 0; try < FLOW_LOCK_TRIES; try++) {
		if (claim_lock(flow, claim))
			return true;
		if (claim_read(flow) != claim)
			break;
	}
	return false;
}

/* Stage 4, for a locked flow. A reader uses the values that the flow remembers only while the epoch beside them is
 * the present one, so the epoch is cleared first. */
static __always_inline void flow_remember(struct flow *flow, const struct flow *made)
{
	write_once(flow->route_epoch, 0);
	keep_order();
	flow->route_kind = made->route_kind;
	flow->route_flags = made->route_flags;
	flow->pods = made->pods;
	flow->remote = made->remote;
	__builtin_memcpy(flow->ifindex, made->ifindex, sizeof(flow->ifindex));
	__builtin_memcpy(flow->mac, made->mac, sizeof(flow->mac));
	flow->asked = made->asked;
	flow->remote_epoch = made->remote_epoch;
	flow->mtu = made->mtu;
	keep_order();
	/* Another CPU denies the flow: that stays until it is judged again. */
	if (!(flow->flags & FLOW_DENIED))
		write_once(flow->route_epoch, made->route_epoch);
}

/* Stage 4. If the slot belongs to another flow by now, nothing is written. */
stage int flow_keep(const struct packet *packet, __u64 now)
{
	struct work *work = work_space();
	struct flow_progress before, after;
	const struct flow *made;
	struct flow *flow;
	__u8 direction;
	__u32 claim;
	int spare;

	if (!packet || !work)
		return -1;
	flow = flow_at(work->track.slot);
	if (!flow)
		return -1;
	made = &work->flow;
	claim = work->track.claim;
	direction = work->track.direction;
	if (now > flow->last_seen + FLOW_TOUCH_NS)
		flow->last_seen = now;
	before.state = flow->state;
	before.flags = flow->flags;
	after = flow_advanced(before, direction, packet);
	if (!work->track.remembered && after.state == before.state && after.flags == before.flags)
		return 0;
	if (!flow_lock(flow, claim))
		return -1;
	before.state = flow->state;
	before.flags = flow->flags;
	after = flow_advanced(before, direction, packet);
	spare = flow_is_spare(after.state, after.flags) - flow_is_spare(before.state, before.flags);
	if (spare)
		flow_count(flow, 0, spare);
	flow->state = after.state;
	flow->flags = after.flags;
	if (work->track.remembered)
		flow_remember(flow, made);
	claim_unlock(flow, claim);
	return 0;
}

/* Stage 5. The next packet begins a new flow. */
static __always_inline void flow_end(struct track *track)
{
	__u32 slot = track->slot, taken;
	struct flow *flow = flow_at(slot);

	track->known = 0;
	if (!flow)
		return;
	taken = flow_take(slot, track->claim);
	if (taken)
		flow_release(flow, taken);
}

#endif
