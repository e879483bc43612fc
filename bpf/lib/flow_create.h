/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * New flows: take a slot that is free or expired, fill it, publish both tuples. There is no LRU and
 * no timer: who creates a flow removes old ones on the way.
 *
 *  1. tuples     an entry of the index is made and removed only by who has the lock of its slot
 *  2. slot       free or expired, else of whoever has more than his share
 *  3. create     under the lock from taking to publishing
 *
 * Rooms are shared by Pods: a flow counts for the Pod that began it, else for the one that it goes to,
 * else for the Node (index 0). The counts are those of slots that are in use, and change only with a
 * slot, by who has its lock: nothing else could make them wrong.
 */
#ifndef FAIRWAY_FLOW_CREATE_H
#define FAIRWAY_FLOW_CREATE_H

#include "flow.h"
#include "work.h"

/* ------------------------------------------------------------ 1: tuples */

/* With the lock of `slot`. */
static __always_inline void unpublish(const struct flow_key *key, __u32 slot, __u32 generation)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, key);

	/* The tuple may belong to another flow. */
	if (ref && read_once(ref->slot) == slot && read_once(ref->generation) == generation)
		bpf_map_delete_elem(&flow_index, key);
}

/* With the lock of `slot`. Not 0: the tuple has an entry, or there is no room for one. */
static __always_inline int publish(const struct flow_key *key, __u32 slot, __u32 claim,
				   __u8 direction)
{
	struct flow_ref ref = {
		.slot = slot,
		.generation = claim_generation(claim),
		.direction = direction,
	};

	return bpf_map_update_elem(&flow_index, key, &ref, BPF_NOEXIST);
}

/* ------------------------------------------------------------ 2: slot */

/* Of a slot that is locked. */
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
	__u32 taken;

	if (!flow || !work)
		return 0;
	taken = claim_take(flow, claim);
	if (!taken || !(claim & CLAIM_IN_USE))
		return taken;
	flow_tuple(&work->removed, flow, FLOW_REPLY);
	unpublish(&work->removed, slot, claim_generation(claim));
	flow_tuple(&work->removed, flow, FLOW_ORIGINAL);
	unpublish(&work->removed, slot, claim_generation(claim));
	flow_count(flow, -1, flow_is_spare(flow->state, flow->flags) ? -1 : 0);
	flow->flags = 0;
	return taken;
}

/* Gives back what was taken: the slot is free. */
static __always_inline void flow_release(struct flow *flow, __u32 taken)
{
	claim_unlock(flow, taken & CLAIM_GENERATION);
}

/* flow_hash of all of a tuple, for who has little stack left. */
stage __u32 tuple_hash(const struct flow_key *key, const struct node_config *node)
{
	return key && node ? flow_hash(key, &node->flow_hash, true) : 0;
}

/* Why a flow makes room for another one, the better reason the greater. */
enum eviction {
	EVICT_NOT,
	EVICT_SPARE,	   /* nobody has answered it, or it is over */
	EVICT_HEAVY,	   /* its Pod has many more flows than the newcomer's */
	EVICT_SPARE_HEAVY, /* its Pod has many more of those that make room, or is the newcomer's */
};

/* What a step of the search has at hand: the kernel lets it have no more than a place on the stack. */
struct slot_step {
	struct work *work;
	const struct node_config *node;
	__u32 next;
	__u32 pad;
};

/* More than twice the newcomer's, and more than a few. */
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
	/* Another CPU makes a flow here, or writes to one. */
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
 * A slot that is ours alone and locked, in search->found and taken. The places to look at follow from
 * the key: its home, the neighbour of that, and on with a stride of its own, so that they are a fair
 * sample of the table: when a share `a` of it is in use, a search finds no free one with probability
 * a^FLOW_SLOT_TRIES, wherever the flows lie. Then one of the sample makes room, see enum eviction.
 */
static __always_inline bool flow_slot(struct work *work, const struct node_config *node,
				      __u16 endpoint)
{
	__u32 hash = tuple_hash(&work->packet.key, node), index = endpoint, round;
	struct slot_step step = { .work = work, .node = node };
	struct slot_search *search = &work->search;
	struct flow_count *own = bpf_map_lookup_elem(&flow_counts, &index);

	if (!own)
		return false;
	search->now = work->flow.last_seen;
	search->endpoint = endpoint;
	search->own_flows = read_once(own->flows);
	search->own_spare = read_once(own->spare);
	search->found = NO_PEER;
	search->step = (hash & 0xffff) | 1;
	/* Who loses a slot to another CPU looks again: that one has gone on. */
	for (round = 0; round < FLOW_SLOT_ROUNDS; round++) {
		step.next = flow_home(hash);
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

/* Frees a tuple whose flow has expired, or is no more. False: it is in use. */
static __always_inline bool tuple_free(const struct flow_key *key, const struct node_config *node,
				       __u64 now)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, key);
	__u32 slot, generation, claim, taken;
	struct flow *flow;

	if (!ref)
		return true;
	slot = read_once(ref->slot);
	generation = read_once(ref->generation);
	flow = bpf_map_lookup_elem(&flows, &slot);
	if (!flow)
		return false;
	claim = read_once(flow->claim);
	keep_order();
	/* Another CPU makes this very flow, or removes it. */
	if (claim & CLAIM_LOCKED)
		return false;
	if (claim_is_live(claim) && claim_generation(claim) == generation) {
		if (!flow_expired(flow, node, now))
			return false;
		taken = flow_take(slot, claim);
		if (!taken)
			return false;
		flow_release(flow, taken);
		return true;
	}
	if (!claim_lock(flow, claim))
		return false;
	unpublish(key, slot, generation);
	claim_unlock(flow, claim);
	return true;
}

/* Publishes a tuple of a slot that is ours, with its lock. It was looked up in vain, so that it is free as
 * a rule: only where it has an entry, that is an expired flow's, or the same flow's, met on two CPUs at
 * once. */
static __always_inline bool tuple_take(const struct flow_key *key, const struct slot_search *search,
				       const struct node_config *node, __u8 direction)
{
	return !publish(key, search->found, search->taken, direction) ||
	       (tuple_free(key, node, search->now) &&
		!publish(key, search->found, search->taken, direction));
}

/* ------------------------------------------------------------ 3: create */

/* Where the flow is found although its tuple's home is elsewhere. */
static __always_inline void flow_hint(const struct flow_key *key, const struct node_config *node,
				      __u32 slot)
{
	__u32 home = flow_home(tuple_hash(key, node));
	__u32 *hint = bpf_map_lookup_elem(&flow_hints, &home);

	if (hint && (home | 1) != (slot | 1))
		write_once(*hint, slot);
}

/* The flow's tuples, from the packet that begins it and from work->reply. Their difference is what
 * becomes of its packets. */
static __always_inline void flow_tuples(struct work *work)
{
	const struct flow_key *original = &work->packet.key, *reply = &work->reply;
	struct flow *flow = &work->flow;

	flow->addresses[FLOW_ORIGINAL].source = original->source;
	flow->addresses[FLOW_ORIGINAL].destination = original->destination;
	flow->ports[FLOW_ORIGINAL].source = original->source_port;
	flow->ports[FLOW_ORIGINAL].destination = original->destination_port;
	flow->addresses[FLOW_REPLY].source = reply->source;
	flow->addresses[FLOW_REPLY].destination = reply->destination;
	flow->ports[FLOW_REPLY].source = reply->source_port;
	flow->ports[FLOW_REPLY].destination = reply->destination_port;
	if (!address_equal(&reply->source, &original->destination) ||
	    reply->source_port != original->destination_port)
		flow->flags |= FLOW_DNAT;
}

/* Fills and publishes the slot that was found, but for the reply tuple, which is there. */
static __always_inline int flow_publish(struct work *work, const struct node_config *node)
{
	const struct slot_search *search = &work->search;
	__u32 slot = search->found, taken = search->taken;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot), *made = &work->flow;

	if (!flow || !tuple_take(&work->packet.key, search, node, FLOW_ORIGINAL))
		return -1;
	flow_tuples(work);
	made->claim = taken;
	made->endpoint = search->endpoint;
	made->flags |= FLOW_COUNTED;
	*flow = *made;
	flow_count(flow, 1, flow_is_spare(flow->state, flow->flags));
	flow_hint(&work->reply, node, slot);
	flow_hint(&work->packet.key, node, slot);
	claim_unlock(flow, (taken & ~CLAIM_LOCKED) | CLAIM_PUBLISHED);
	return 0;
}

/* Takes back the slot, and the reply tuple where it was published. */
static __always_inline void flow_abandon(struct work *work)
{
	__u32 slot = work->search.found, taken = work->search.taken;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow)
		return;
	unpublish(&work->reply, slot, claim_generation(taken));
	flow_release(flow, taken);
}

/* Of flow_create: the answers' tuple is another flow's. */
#define FLOW_REPLY_TAKEN (-2)

/* Gives work->flow, which begins with work->packet and whose answers carry work->reply, a slot that
 * counts for `endpoint`. The slot, or -1 when the table is full or one of the tuples belongs to another
 * flow: FLOW_REPLY_TAKEN. */
stage int flow_create(const struct node_config *node, __u16 endpoint)
{
	struct work *work = work_space();

	if (!node || !work)
		return -1;
	/* The answers' tuple may be another flow's, for which nobody shall make room. */
	if (!tuple_free(&work->reply, node, work->flow.last_seen))
		return FLOW_REPLY_TAKEN;
	if (!flow_slot(work, node, endpoint))
		return -1;
	/* From an address and port to the same ones, there is one tuple. */
	if ((!tuple_equal(&work->reply, &work->packet.key) &&
	     publish(&work->reply, work->search.found, work->search.taken, FLOW_REPLY)) ||
	    flow_publish(work, node)) {
		flow_abandon(work);
		return -1;
	}
	return work->search.found;
}

#endif
