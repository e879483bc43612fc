/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Enters the tuples of a new flow, so that they lead to its slot.
 *
 *  1. yield     a flow that is over or expired leaves its tuple to a new one
 *  2. enter     a tuple of a slot whose lock we hold
 */
#ifndef FAIRWAY_FLOW_ENTER_H
#define FAIRWAY_FLOW_ENTER_H

#include "element.h"
#include "flow_slot.h"

/* The flow leaves its tuples to another one. A connection that is over may only have been marked by a forged reset, and
 * a silent flow may go on, so only a new flow of its own Pod takes its port; one of another Pod does where this Pod has
 * many more flows. A stage that looks up again what it needs, because the frame of tuple_frees has no room for it. */
stage bool flow_yields(const struct flow *flow)
{
	const struct node_config *node = node_configuration();
	const struct work *work = work_space();
	const struct slot_search *search;
	const struct flow_count *counts;
	__u32 endpoint;

	if (!flow || !node || !work)
		return false;
	search = &work->search;
	if (flow_expired(flow, node, search->now))
		return true;
	endpoint = flow->endpoint;
	if (endpoint == search->endpoint)
		return search->yields == YIELDS_OVER &&
		       (flow_is_over(flow->state) || flow_is_silent(flow, search->now));
	if (search->yields != YIELDS_HEAVY)
		return false;
	counts = bpf_map_lookup_elem(&flow_counts, &endpoint);
	if (!counts)
		return false;
	return is_heavy(read_once(counts->flows), search->own_flows) ||
	       (flow_is_spare(flow->state, flow->flags) &&
		is_heavy(read_once(counts->spare), search->own_spare));
}

/* Takes the flow, found with this claim, out of its slot. False: it is in use. */
static __always_inline bool flow_leaves(struct flow *flow, __u32 slot, __u32 claim)
{
	__u32 taken;

	/* Another CPU creates this flow, or writes to it. */
	if (claim & CLAIM_LOCKED || !flow_yields(flow))
		return false;
	taken = flow_take(slot, claim);
	if (!taken)
		return false;
	flow_release(flow, taken);
	return true;
}

/* The flow in a home slot, if it has work.tuple, makes room. False: it is in use. */
static __always_inline bool slot_yields(__u32 slot, const struct work *work)
{
	const struct key_words *key = key_words(&work->tuple);
	struct flow *flow = flow_at(slot);
	__u32 claim;

	if (!flow)
		return true;
	claim = read_once(flow->claim);
	keep_order();
	if (!(claim & CLAIM_IN_USE) ||
	    !(tuple_is(flow, FLOW_ORIGINAL, key) || tuple_is(flow, FLOW_REPLY, key)))
		return true;
	return !claim_stays(flow, claim) || flow_leaves(flow, slot, claim);
}

/* Likewise the flow whose place this is. Its tuple is written before it takes the place, and stays until it has left
 * it. */
static __always_inline bool owner_yields(__u32 owner, const struct work *work)
{
	__u32 slot = owner_slot(owner), claim;
	struct flow *flow = flow_at(slot);

	if (!flow)
		return true;
	claim = read_once(flow->claim);
	keep_order();
	if (!(claim & (CLAIM_IN_USE | CLAIM_LOCKED)) ||
	    !tuple_is(flow, owner_direction(owner), key_words(&work->tuple)))
		return true;
	return !claim_stays(flow, claim) || flow_leaves(flow, slot, claim);
}

/* Likewise the flow of an entry of the index. */
static __always_inline bool entry_yields(const struct flow_ref *ref, struct work *work)
{
	__u32 slot = read_once(ref->slot), generation = read_once(ref->generation), claim;
	__u8 direction = read_once(ref->direction);
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	/* The entry is removed by now, and its element another tuple's. */
	if (!element_stays(&flow_index, &work->tuple, ref))
		return true;
	if (!flow)
		return false;
	claim = read_once(flow->claim);
	keep_order();
	if (claim_is_live(claim) && claim_generation(claim) == generation)
		return flow_leaves(flow, slot, claim);
	/* Another CPU creates this flow, or removes it. */
	if (!claim_lock(flow, claim))
		return false;
	work->removed = work->tuple;
	unpublish(slot, generation, direction);
	claim_unlock(flow, claim);
	return true;
}

/* Frees work.tuple of a flow that has expired, is no more, or yields as search.yields says. 0: a flow in another slot
 * than `own` uses it. */
stage int tuple_frees(const struct node_config *node, __u32 own)
{
	struct work *work = work_space();
	struct flow_pair *pair;
	struct flow_ref *ref;
	__u32 home, hash, owner;

	if (!node || !work)
		return 0;
	hash = flow_hash(&work->tuple, &node->flow_hash, true);
	home = flow_home(hash);
	pair = pair_of(home);
	if (!pair)
		return 0;
	if (read_once(pair->at_home) && ((home != own && !slot_yields(home, work)) ||
					 ((home ^ 1) != own && !slot_yields(home ^ 1, work))))
		return 0;
	owner = read_once(pair->owner[home & 1]);
	keep_order();
	if (owner_fits(owner, hash) && owner_slot(owner) != own && !owner_yields(owner, work) &&
	    read_once(pair->owner[home & 1]) == owner)
		return 0;
	if (!read_once(pair->indexed))
		return 1;
	ref = bpf_map_lookup_elem(&flow_index, &work->tuple);
	return !ref || read_once(ref->slot) == own || entry_yields(ref, work);
}

static __always_inline bool tuple_free(struct work *work, const struct flow_key *key,
				       const struct node_config *node)
{
	work->tuple = *key;
	return tuple_frees(node, work->search.found);
}

/* The result of entering a tuple. */
enum tuple_entry {
	TUPLE_TAKEN,	/* it is entered already, or there is no room */
	TUPLE_ENTERED,	/* and no other flow can have it */
	TUPLE_DISPUTED, /* it is entered; another flow may have it, too */
};

/* The tuple of the new flow's packets in this direction. */
static __always_inline const struct flow_key *tuple_of_new(const struct work *work, __u8 direction)
{
	return direction == FLOW_ORIGINAL ? &work->packet.key : &work->reply;
}

/* Writes a tuple to a slot that is being filled. */
static __always_inline void tuple_write(__u32 slot, __u8 direction, const struct flow_key *key)
{
	struct flow *flow = flow_at(slot);

	if (!flow)
		return;
	flow->addresses[direction & 1].source = key->source;
	flow->addresses[direction & 1].destination = key->destination;
	flow->ports[direction & 1].source = key->source_port;
	flow->ports[direction & 1].destination = key->destination_port;
	flow->protocol = key->protocol;
}

/*
 * Enters a tuple of a slot whose lock we hold: at its place in flow_hints if that is free, in a cache line that the
 * caller has read; else in the index, which costs three more lines and a lock. enum tuple_entry.
 *
 * A CPU that takes the place then checks the slots of the tuple's home and the index; one that writes to the index
 * counts the entry and then checks those slots and the place; one that fills a slot at the home of its tuple counts
 * that and then checks the other two (flow_settle). Exchanges and counts are barriers: of two CPUs with the same
 * tuple, at least one sees the other.
 */
stage int tuple_place(const struct node_config *node, __u8 direction)
{
	struct work *work = work_space();
	struct flow_ref ref = { .direction = direction };
	const struct slot_search *search;
	struct flow_pair *pair;
	__u32 hash, home, *place;

	if (!work || !node)
		return TUPLE_TAKEN;
	search = &work->search;
	work->tuple = *tuple_of_new(work, direction);
	hash = flow_hash(&work->tuple, &node->flow_hash, true);
	home = flow_home(hash);
	pair = pair_of(home);
	if (!pair)
		return TUPLE_TAKEN;
	/* Who finds the place compares the tuple: most that fit it are others. */
	tuple_write(search->found, direction, &work->tuple);
	place = &pair->owner[home & 1];
	if (!read_once(*place) &&
	    !__sync_val_compare_and_swap(place, 0, owner_word(search->found, direction, hash))) {
		writer_pauses();
		return read_once(pair->at_home) || read_once(pair->indexed) ? TUPLE_DISPUTED
									    : TUPLE_ENTERED;
	}
	ref.slot = search->found;
	ref.generation = claim_generation(search->taken);
	if (bpf_map_update_elem(&flow_index, &work->tuple, &ref, BPF_NOEXIST))
		return TUPLE_TAKEN;
	add_ordered(&pair->indexed, 1);
	return read_once(pair->at_home) || owner_fits(read_once(*place), hash) ? TUPLE_DISPUTED
									       : TUPLE_ENTERED;
}

/* False: the tuple belongs to another flow, or there is no room. */
static __always_inline bool tuple_enter(struct work *work, const struct node_config *node,
					__u8 direction)
{
	int entry = tuple_place(node, direction);

	/* tuple_place has left the tuple in work.tuple. */
	if (entry != TUPLE_DISPUTED || tuple_frees(node, work->search.found))
		return entry != TUPLE_TAKEN;
	work->removed = *tuple_of_new(work, direction);
	unpublish(work->search.found, claim_generation(work->search.taken), direction);
	return false;
}

#endif
