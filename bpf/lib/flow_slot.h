/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The slot of a new flow: free or expired, else of a Pod with more than its share. There is no LRU and no timer: the
 * creation of a flow evicts old ones on the way.
 *
 *  1. take      out of service with both tuples, and into ours
 *  2. weigh     the reason to evict a flow
 *  3. search    a fair sample of the table
 *
 * Pods share the table: a flow counts for the Pod that began it, else for the Pod that it goes to, else for the Node
 * (index 0). The counts are of slots in use and change only together with a slot, under its lock, so they stay right.
 */
#ifndef FAIRWAY_FLOW_SLOT_H
#define FAIRWAY_FLOW_SLOT_H

#include "flow_place.h"

/* Adds to the counts of the flow's Pod; the slot is locked. */
static __always_inline void flow_count(const struct flow *flow, int flows, int spare)
{
	__u32 index = flow->endpoint;
	struct flow_count *count = bpf_map_lookup_elem(&flow_counts, &index);

	if (!count || !(flow->flags & FLOW_COUNTED))
		return;
	if (flows)
		__sync_fetch_and_add(&count->flows, flows);
	if (spare)
		__sync_fetch_and_add(&count->spare, spare);
}

/* Takes a slot out of service together with both its tuples, and into ours: the claim, locked.
 * 0: another CPU was first. */
stage __u32 flow_take(__u32 slot, __u32 claim)
{
	struct flow *flow = flow_at(slot);
	struct work *work = work_space();
	bool at_home;
	__u32 taken;

	if (!flow || !work)
		return 0;
	taken = claim_take(flow, claim);
	if (!taken || !(claim & CLAIM_IN_USE))
		return taken;
	writer_pauses();
	at_home = flow->flags & FLOW_AT_HOME;
	if (!at_home || flow_translates(flow)) {
		flow_tuple(&work->removed, flow, FLOW_REPLY);
		unpublish(slot, claim_generation(claim), FLOW_REPLY);
	}
	if (at_home) {
		pair_leave(slot);
	} else {
		flow_tuple(&work->removed, flow, FLOW_ORIGINAL);
		unpublish(slot, claim_generation(claim), FLOW_ORIGINAL);
	}
	flow_count(flow, -1, flow_is_spare(flow->state, flow->flags) ? -1 : 0);
	flow->flags = 0;
	return taken;
}

/* Releases a slot that was taken: it is free. */
static __always_inline void flow_release(struct flow *flow, __u32 taken)
{
	claim_unlock(flow, taken & CLAIM_GENERATION);
}

/* Why a flow is evicted for another one: the greater, the better the reason. */
enum eviction {
	EVICT_NOT,
	EVICT_SPARE,	   /* it is unanswered, or over */
	EVICT_HEAVY,	   /* its Pod has many more flows than the new flow's */
	EVICT_SPARE_HEAVY, /* spare, and its Pod has many more of these, or is the new flow's */
};

/* The context of a step of the search: bpf_loop passes it a single pointer to the stack. */
struct slot_step {
	struct work *work;
	const struct node_config *node;
	__u32 next;
	__u32 pad;
};

/* More than twice those of the new flow's Pod, and FLOWS_FEW more. */
static __always_inline bool is_heavy(__u32 count, __u32 own)
{
	return count > 2 * own + FLOWS_FEW;
}

static __always_inline void slot_weigh(struct slot_search *search, __u32 slot, __u32 claim,
				       const struct flow *flow)
{
	__u32 endpoint = flow->endpoint, count;
	struct flow_count *counts = bpf_map_lookup_elem(&flow_counts, &endpoint);
	__u64 seen = flow->last_seen;
	__u8 eviction = EVICT_NOT;

	if (!counts)
		return;
	if (flow_is_spare(flow->state, flow->flags)) {
		count = read_once(counts->spare);
		eviction = endpoint == search->endpoint || is_heavy(count, search->own_spare)
				   ? EVICT_SPARE_HEAVY
				   : EVICT_SPARE;
	} else {
		count = read_once(counts->flows);
		if (is_heavy(count, search->own_flows))
			eviction = EVICT_HEAVY;
	}
	if (eviction == EVICT_NOT || eviction < search->eviction)
		return;
	if (eviction == search->eviction &&
	    (count < search->victim_count ||
	     (count == search->victim_count && seen >= search->victim_seen)))
		return;
	search->eviction = eviction;
	search->victim = slot;
	search->victim_claim = claim;
	search->victim_count = count;
	search->victim_seen = seen;
}

static long slot_try(__u32 index, struct slot_step *step)
{
	__u32 slot = index == 1 ? step->next ^ 1 : step->next, claim;
	struct slot_search *search = &step->work->search;
	struct flow *flow;

	if (index)
		step->next = (step->next + search->step) % flow_slots;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return 0;
	claim = read_once(flow->claim);
	keep_order();
	/* Another CPU creates a flow here, or writes to one. */
	if (claim & CLAIM_LOCKED)
		return 0;
	if (!(claim & CLAIM_IN_USE) || flow_expired(flow, step->node, search->now)) {
		search->taken = flow_take(slot, claim);
		if (!search->taken)
			return 0;
		search->found = slot;
		return 1;
	}
	slot_weigh(search, slot, claim, flow);
	/* A full table is searched until the sample is fair, not to its end. */
	return search->eviction == EVICT_SPARE_HEAVY && index >= FLOW_SLOT_SAMPLE - 1;
}

/*
 * Finds a slot and locks it, in search->found and taken. The slots to try follow from
 * the key: its home, its neighbour, then further ones with a stride of the key, so that they are a fair
 * sample of the table: when a share `a` of it is in use, a search finds no free one with probability
 * a^FLOW_SLOT_TRIES, wherever the flows lie. Then one of the sample is evicted, see enum eviction.
 */
stage bool flow_slot(const struct node_config *node, __u16 endpoint)
{
	struct work *work = work_space();
	__u32 hash, index = endpoint, round;
	struct slot_step step = { .work = work, .node = node };
	struct slot_search *search;
	struct flow_count *own = bpf_map_lookup_elem(&flow_counts, &index);

	if (!work || !node || !own)
		return false;
	search = &work->search;
	hash = flow_hash(&work->packet.key, &node->flow_hash, true);
	search->now = work->flow.last_seen;
	search->met = 0;
	search->endpoint = endpoint;
	search->own_flows = read_once(own->flows);
	search->own_spare = read_once(own->spare);
	search->found = NO_PEER;
	search->home = flow_home(hash);
	search->hash = hash;
	search->step = (hash & 0xffff) | 1;
	/* After losing a slot to another CPU, search again: that CPU made progress. */
	for (round = 0; round < FLOW_SLOT_ROUNDS; round++) {
		step.next = search->home;
		search->eviction = EVICT_NOT;
		bpf_loop(FLOW_SLOT_TRIES, slot_try, &step, 0);
		if (search->found != NO_PEER)
			return true;
		if (search->eviction == EVICT_NOT)
			return false;
		search->taken = flow_take(search->victim, search->victim_claim);
		if (search->taken) {
			search->found = search->victim;
			count_event(EVENT_FLOW_EVICTED_EARLY);
			return true;
		}
	}
	return false;
}

#endif
