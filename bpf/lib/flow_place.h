/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where the tuples of flows lead to their slots: at home, by a place in flow_hints, or by an entry of flow_index. Only
 * the CPU that has the slot's lock writes or removes them.
 */
#ifndef FAIRWAY_FLOW_PLACE_H
#define FAIRWAY_FLOW_PLACE_H

#include "flow.h"
#include "work.h"

/* A full barrier on every architecture; an addition whose result is unused is not. */
static __always_inline __u32 add_ordered(__u32 *word, int more)
{
	__u32 before = __sync_fetch_and_add(word, more);

	hide(before);
	return before;
}

/* The slot is this home slot or its neighbour. */
static __always_inline bool slot_is_home(__u32 slot, __u32 home)
{
	return slot >> 1 == home >> 1;
}

/* Frees the place of work.removed, or removes its entry, where that is this slot's and its tuple of this
 * direction. With the lock of `slot`. */
stage int unpublish(__u32 slot, __u32 generation, __u8 direction)
{
	const struct node_config *node = node_configuration();
	struct work *work = work_space();
	struct flow_pair *pair;
	struct flow_ref *ref;
	__u32 hash, *place;

	if (!work || !node)
		return -1;
	hash = flow_hash(&work->removed, &node->flow_hash, true);
	pair = pair_of(flow_home(hash));
	if (!pair)
		return -1;
	place = &pair->owner[flow_home(hash) & 1];
	if (read_once(*place) == owner_word(slot, direction, hash)) {
		/* No other CPU writes to it now. */
		__sync_lock_test_and_set(place, 0);
		return 0;
	}
	if (!read_once(pair->indexed))
		return -1;
	ref = bpf_map_lookup_elem(&flow_index, &work->removed);
	/* The tuple may belong to another flow. */
	if (!ref || read_once(ref->slot) != slot || read_once(ref->generation) != generation ||
	    bpf_map_delete_elem(&flow_index, &work->removed))
		return -1;
	add_ordered(&pair->indexed, -1);
	return 0;
}

/* A flow is no longer at home in this slot. */
static __always_inline void pair_leave(__u32 slot)
{
	struct flow_pair *pair = pair_of(slot);

	if (pair)
		add_ordered(&pair->at_home, -1);
}

#endif
