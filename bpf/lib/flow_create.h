/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * New flows: claim a slot that is free or expired, fill it, publish both tuples. There is no LRU and
 * no timer: who creates a flow removes old ones on the way.
 */
#ifndef FAIRWAY_FLOW_CREATE_H
#define FAIRWAY_FLOW_CREATE_H

#include "flow.h"
#include "work.h"

/* The tuple that answers carry. */
static __always_inline void flow_reply_key(struct flow_key *to, const struct flow *flow)
{
	key_reverse(to, &flow->key);
	if (flow->flags & FLOW_SNAT) {
		to->destination = flow->snat_address;
		to->destination_port = flow->snat_port;
	}
}

static __always_inline void unpublish(const struct flow_key *key, __u32 slot, __u32 generation)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, key);

	/* The tuple may belong to a newer flow by now. */
	if (ref && ref->slot == slot && ref->generation == generation)
		bpf_map_delete_elem(&flow_index, key);
}

/* Takes a slot out of service together with both its tuples, and into ours.
 * False: another CPU was first. */
static __always_inline bool flow_claim(struct flow *flow, __u32 slot, __u32 claim, __u64 now)
{
	__u32 taken = (claim + 2) | 1;
	struct work *work = work_space();

	if (!work)
		return false;
	/* Before the claim is seen, so that no other CPU takes the slot for expired. */
	flow->last_seen = now;
	if (__sync_val_compare_and_swap(&flow->claim, claim, taken) != claim)
		return false;
	flow->published = 0;
	if (claim & 1) {
		flow_reply_key(&work->removed, flow);
		unpublish(&work->removed, slot, claim >> 1);
		work->removed = flow->key;
		unpublish(&work->removed, slot, claim >> 1);
	}
	return true;
}

static __always_inline void flow_release(struct flow *flow)
{
	__u32 claim = flow->claim;

	__sync_val_compare_and_swap(&flow->claim, claim, claim & ~1);
}

struct slot_search {
	const struct node_config *node;
	__u64 now;
	__u32 next;
	__u32 found; /* slot, or NO_PEER */
	__u64 oldest_seen;
	__u32 oldest; /* slot of the oldest unanswered flow, or NO_PEER */
	__u32 step;
};

static long slot_try(__u32 index, struct slot_search *search)
{
	__u32 slot = index == 1 ? search->next ^ 1 : search->next, claim;
	struct flow *flow;

	if (index)
		search->next = (search->next + search->step) % flow_slots;
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return 0;
	claim = flow->claim;
	if (!(claim & 1) || flow_expired(flow, search->node, search->now)) {
		if (!flow_claim(flow, slot, claim, search->now))
			return 0;
		search->found = slot;
		return 1;
	}
	if (flow_unanswered(flow) && flow->last_seen < search->oldest_seen) {
		search->oldest = slot;
		search->oldest_seen = flow->last_seen;
	}
	return 0;
}

/*
 * A slot that is ours alone, or -1: the table is full. The places to look at follow from the key:
 * its home, the neighbour of that, and on with a stride of its own, so that they are a fair sample
 * of the table: when a share `a` of it is in use, a search fails with probability
 * a^FLOW_SLOT_TRIES, wherever the flows lie. A function of its own: on its callers' stack, beside
 * what they keep for later, the search would be too much for 6.1.
 */
static __noinline int flow_slot(const struct flow_key *key, const struct node_config *node,
				__u64 now)
{
	__u32 hash = flow_hash(key, node->hash_seed, true);
	struct slot_search search = {
		.node = node,
		.now = now,
		.next = flow_home(hash),
		.step = (hash & 0xffff) | 1,
		.found = NO_PEER,
		.oldest = NO_PEER,
		.oldest_seen = ~0ULL,
	};
	struct flow *flow;

	bpf_loop(FLOW_SLOT_TRIES, slot_try, &search, 0);
	if (search.found != NO_PEER)
		return search.found;
	flow = bpf_map_lookup_elem(&flows, &search.oldest);
	if (!flow || !flow_claim(flow, search.oldest, flow->claim | 1, now))
		return -1;
	count_event(EVENT_FLOW_EVICTED_EARLY);
	return search.oldest;
}

static __always_inline void flow_fill(struct flow *flow, const struct packet *packet, __u64 now)
{
	flow->state = flow_initial_state(packet);
	flow->flags = 0;
	flow->snat_port = 0;
	flow->key = packet->key;
	__builtin_memset(&flow->snat_address, 0, sizeof(flow->snat_address));
	flow->route_epoch = 0;
	flow->peer = NO_PEER;
	flow->route_kind = 0;
	flow->route_flags = 0;
	flow->local_ifindex = 0;
	__builtin_memset(&flow->next_hop, 0, sizeof(flow->next_hop));
	flow->last_seen = now;
}

/* From here on a look-up finds the flow in its slot. */
static __always_inline void flow_finish(struct flow *flow)
{
	barrier();
	flow->published = 1;
}

static __always_inline int flow_publish(const struct flow *flow, __u32 slot,
					const struct flow_key *key, __u8 direction, __u64 how)
{
	struct flow_ref ref = {
		.slot = slot,
		.generation = flow->claim >> 1,
		.direction = direction,
	};

	return bpf_map_update_elem(&flow_index, key, &ref, how);
}

/* Frees a tuple whose flow has expired. False: it is in use. */
static __always_inline bool tuple_free(const struct flow_key *reply, const struct node_config *node,
				       __u64 now)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, reply);
	struct flow_ref old;
	struct flow *flow;

	if (!ref)
		return true;
	old = *ref;
	flow = flow_of(&old);
	if (!flow) {
		unpublish(reply, old.slot, old.generation);
		return true;
	}
	if (!flow_expired(flow, node, now))
		return false;
	if (!flow_claim(flow, old.slot, old.generation << 1 | 1, now))
		return false;
	flow_release(flow);
	return true;
}

/* A new flow without translation: its slot, or -1 when the table is full or the tuple of its
 * answers belongs to another flow. */
stage int flow_create(const struct packet *packet, const struct node_config *node)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct work *work = work_space();
	struct flow_key *reply;
	struct flow *flow;
	int slot;

	if (!packet || !node || !work)
		return -1;
	reply = &work->reply;
	key_reverse(reply, &packet->key);
	if (!tuple_free(reply, node, now))
		return -1;
	slot = flow_slot(&packet->key, node, now);
	if (slot < 0)
		return -1;
	flow = flow_at(slot);
	if (!flow)
		return -1;
	flow_fill(flow, packet, now);
	/* The original tuple was looked up in vain: if it is there, it is an expired flow's, or
	 * the same flow met on two CPUs at once, and the later one serves as well. */
	if (flow_publish(flow, slot, reply, FLOW_REPLY, BPF_NOEXIST))
		goto release;
	if (flow_publish(flow, slot, &flow->key, FLOW_ORIGINAL, BPF_ANY)) {
		unpublish(reply, slot, flow->claim >> 1);
		goto release;
	}
	flow_finish(flow);
	return slot;
release:
	flow_release(flow);
	return -1;
}

/* The same, or NULL: the packet goes on without a flow. */
static __always_inline struct flow *flow_start(const struct packet *packet,
					       const struct node_config *node)
{
	int slot = flow_create(packet, node);

	if (slot < 0) {
		count_event(EVENT_UNTRACKED);
		return NULL;
	}
	return flow_at(slot);
}

#endif
