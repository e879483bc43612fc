/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * New flows: take a slot that is free or expired, fill it, publish both tuples. There is no LRU and
 * no timer: the creation of a flow evicts old ones on the way.
 *
 *  1. tuples     only the CPU that has the slot's lock writes or removes their places and entries
 *  2. slot       free or expired, else of a Pod with more than its share
 *  3. create     under the lock from taking to publishing
 *
 * Pods share the table: a flow counts for the Pod that began it, else for the Pod that it goes to, else
 * for the Node (index 0). The counts are of slots in use and change only together with a slot, under its
 * lock, so they stay right.
 */
#ifndef FAIRWAY_FLOW_CREATE_H
#define FAIRWAY_FLOW_CREATE_H

#include "flow.h"
#include "flow_rules.h"
#include "work.h"

/* ------------------------------------------------------------ 1: tuples */

/* A full barrier on every architecture; an addition whose result is unused is not. */
static __always_inline __u32 add_ordered(__u32 *word, int more)
{
	__u32 before = __sync_fetch_and_add(word, more);

	hide(before);
	return before;
}

/* The slot is one of the first two that the hash of a tuple with this home names. */
static __always_inline bool slot_is_home(__u32 slot, __u32 home)
{
	return slot >> 1 == home >> 1;
}

/* flow_hash of the whole tuple, for callers with little stack left. */
stage __u32 tuple_hash(const struct flow_key *key, const struct node_config *node)
{
	return key && node ? flow_hash(key, &node->flow_hash, true) : 0;
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
		/* Nobody else writes to it now. */
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

/* ------------------------------------------------------------ 2: slot */

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

/* Gives back what was taken: the slot is free. */
static __always_inline void flow_release(struct flow *flow, __u32 taken)
{
	claim_unlock(flow, taken & CLAIM_GENERATION);
}

/* Why a flow makes room for another one, the better reason the greater. */
enum eviction {
	EVICT_NOT,
	EVICT_SPARE,	   /* it is unanswered, or over */
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

/* The flow leaves its tuples to another one. What is over may be a connection that a forged reset has
 * marked: at most its own Pod takes its port. */
static __always_inline bool flow_yields(const struct flow *flow, const struct work *work,
					const struct node_config *node, __u64 now)
{
	return flow_expired(flow, node, now) || (work->search.over && flow_is_over(flow->state) &&
						 flow->endpoint == work->search.endpoint);
}

/* The flow in the slot, if it has work.tuple, makes room. False: it is in use. `owner`: the slot has the place of
 * such a tuple, which is taken before the flow is filled. */
static __always_inline bool slot_yields(__u32 slot, const struct work *work,
					const struct node_config *node, __u64 now, bool owner)
{
	const struct key_words *key = key_words(&work->tuple);
	struct flow *flow = flow_at(slot);
	__u32 claim, taken;

	if (!flow)
		return true;
	claim = read_once(flow->claim);
	keep_order();
	if (owner && (claim & (CLAIM_LOCKED | CLAIM_PUBLISHED)) == CLAIM_LOCKED)
		return false;
	if (!(claim & CLAIM_IN_USE) ||
	    !(tuple_is(flow, FLOW_ORIGINAL, key) || tuple_is(flow, FLOW_REPLY, key)))
		return true;
	/* Another CPU makes this very flow, or writes to it. */
	if (claim & CLAIM_LOCKED || !flow_yields(flow, work, node, now))
		return false;
	taken = flow_take(slot, claim);
	if (!taken)
		return false;
	flow_release(flow, taken);
	return true;
}

/* Likewise, by an entry of the index. */
static __always_inline bool entry_yields(const struct flow_ref *ref, struct work *work,
					 const struct node_config *node, __u64 now)
{
	__u32 slot = read_once(ref->slot), generation = read_once(ref->generation), claim, taken;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow)
		return false;
	claim = read_once(flow->claim);
	keep_order();
	/* Another CPU makes this very flow, or removes it. */
	if (claim & CLAIM_LOCKED)
		return false;
	if (claim_is_live(claim) && claim_generation(claim) == generation) {
		if (!flow_yields(flow, work, node, now))
			return false;
		taken = flow_take(slot, claim);
		if (!taken)
			return false;
		flow_release(flow, taken);
		return true;
	}
	if (!claim_lock(flow, claim))
		return false;
	work->removed = work->tuple;
	unpublish(slot, generation, ref->direction);
	claim_unlock(flow, claim);
	return true;
}

/* Frees work.tuple of a flow that has expired, or is no more; with search.over, of one of the same
 * Pod that is over. 0: it is in use by another one than that of
 * `own`, a slot. */
stage int tuple_frees(const struct node_config *node, __u64 now, __u32 own)
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
	if (read_once(pair->at_home) &&
	    ((home != own && !slot_yields(home, work, node, now, false)) ||
	     ((home ^ 1) != own && !slot_yields(home ^ 1, work, node, now, false))))
		return 0;
	owner = read_once(pair->owner[home & 1]);
	keep_order();
	if (owner_fits(owner, hash) && owner_slot(owner) != own &&
	    !slot_yields(owner_slot(owner), work, node, now, true))
		return 0;
	if (!read_once(pair->indexed))
		return 1;
	ref = bpf_map_lookup_elem(&flow_index, &work->tuple);
	return !ref || read_once(ref->slot) == own || entry_yields(ref, work, node, now);
}

static __always_inline bool tuple_free(struct work *work, const struct flow_key *key,
				       const struct node_config *node)
{
	work->tuple = *key;
	return tuple_frees(node, work->search.now, work->search.found);
}

/*
 * Enters a tuple of a slot whose lock we hold: at its place in flow_hints if that is free, in a cache line that the
 * caller has read; else in the index, which costs three more lines and a lock. False: the tuple is entered already,
 * there is no room, or it is at home in a slot.
 *
 * A CPU that takes the place then checks the slots of the tuple's home and the index; one that writes to the index
 * counts the entry and then checks those slots and the place; one that fills a slot at the home of its tuple counts
 * that and then checks the other two (flow_settle). Exchanges and counts are barriers: of two CPUs with the same
 * tuple, at least one sees the other.
 */
static __always_inline bool tuple_enter(struct work *work, const struct flow_key *key,
					const struct node_config *node, __u8 direction)
{
	const struct slot_search *search = &work->search;
	struct flow_ref ref = {
		.slot = search->found,
		.generation = claim_generation(search->taken),
		.direction = direction,
	};
	__u32 hash = tuple_hash(key, node), home = flow_home(hash), *place;
	struct flow_pair *pair = pair_of(home);

	if (!pair)
		return false;
	place = &pair->owner[home & 1];
	if (!read_once(*place) &&
	    !__sync_val_compare_and_swap(place, 0, owner_word(search->found, direction, hash))) {
		if (!read_once(pair->at_home) && !read_once(pair->indexed))
			return true;
	} else {
		if (bpf_map_update_elem(&flow_index, key, &ref, BPF_NOEXIST))
			return false;
		add_ordered(&pair->indexed, 1);
		if (!read_once(pair->at_home) && !owner_fits(read_once(*place), hash))
			return true;
	}
	if (tuple_free(work, key, node))
		return true;
	work->removed = *key;
	unpublish(search->found, claim_generation(search->taken), direction);
	return false;
}

/* ------------------------------------------------------------ 3: create */

/* The flow's tuples, from the packet that begins it and from work->reply. Their difference is the
 * translation. */
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

/* The slot is at the home of the tuple that begins its flow, and is filled. False: the tuple, or that of
 * plain answers, which has the same home, is another flow's. */
static __always_inline bool flow_settle(struct work *work, const struct node_config *node)
{
	struct flow_pair *pair = pair_of(work->search.found);

	if (!pair)
		return false;
	/* The usual case: no other tuple has this home. */
	if (!add_ordered(&pair->at_home, 1) && !read_once(pair->indexed) &&
	    !owner_fits(read_once(pair->owner[work->search.home & 1]), work->search.hash))
		return true;
	return tuple_free(work, &work->packet.key, node) &&
	       (flow_translates(&work->flow) || tuple_free(work, &work->reply, node));
}

/* Fills the slot that was found, and makes both tuples lead to it. `entered`: that of the answers does. */
static __always_inline int flow_fill(struct work *work, const struct node_config *node,
				     bool entered)
{
	const struct slot_search *search = &work->search;
	__u32 slot = search->found, taken = search->taken;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot), *made = &work->flow;
	bool at_home = slot_is_home(slot, search->home);
	const struct flow_rules *rules;

	if (!flow)
		return -1;
	made->claim = taken;
	made->endpoint = search->endpoint;
	made->flags |= FLOW_COUNTED | (at_home ? FLOW_AT_HOME : 0);
	rules = &work->policing.rules;
	if (rules->egress || rules->ingress)
		made->flags |= FLOW_RULED;
	*flow = *made;
	if (at_home) {
		if (!flow_settle(work, node))
			return -1;
	} else if (!tuple_enter(work, &work->packet.key, node, FLOW_ORIGINAL)) {
		/* As a rule it was looked up in vain; an expired flow's entry makes room. */
		if (!tuple_free(work, &work->packet.key, node) ||
		    !tuple_enter(work, &work->packet.key, node, FLOW_ORIGINAL))
			return -1;
	}
	/* From an address and port to the same ones, there is one tuple. */
	if (!entered && (!at_home || flow_translates(made)) &&
	    !tuple_equal(&work->reply, &work->packet.key) &&
	    !tuple_enter(work, &work->reply, node, FLOW_REPLY))
		return -1;
	flow_count(flow, 1, flow_is_spare(flow->state, flow->flags));
	if (made->flags & FLOW_RULED)
		rules_begin(slot);
	claim_unlock(flow, (taken & ~CLAIM_LOCKED) | CLAIM_PUBLISHED);
	return 0;
}

/* If another CPU creates the same flow at the same time, both may fail. */
static __always_inline int flow_publish(struct work *work, const struct node_config *node,
					bool entered)
{
	int failed = flow_fill(work, node, entered);

	work->search.met = !!failed;
	return failed;
}

/* Releases the slot and removes its tuples. */
static __always_inline void flow_abandon(struct work *work)
{
	__u32 slot = work->search.found, taken = work->search.taken;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow)
		return;
	if (work->flow.flags & FLOW_AT_HOME) {
		pair_leave(slot);
	} else {
		work->removed = work->packet.key;
		unpublish(slot, claim_generation(taken), FLOW_ORIGINAL);
	}
	work->removed = work->reply;
	unpublish(slot, claim_generation(taken), FLOW_REPLY);
	flow->flags = 0;
	flow_release(flow, taken);
}

/* Result of flow_create: the answers' tuple belongs to another flow. */
#define FLOW_REPLY_TAKEN (-2)

/* Gives work->flow, which begins with work->packet and whose answers carry work->reply, a slot that
 * counts for `endpoint`. The slot, or -1 when the table is full or one of the tuples belongs to another
 * flow: FLOW_REPLY_TAKEN. */
stage int flow_create(const struct node_config *node, __u16 endpoint)
{
	struct work *work = work_space();

	if (!node || !work)
		return -1;
	flow_tuples(work);
	work->search.now = work->flow.last_seen;
	work->search.found = NO_PEER;
	work->search.over = 0;
	/* If the answers' tuple belongs to another flow, no flow is evicted for this one. */
	if (!tuple_free(work, &work->reply, node))
		return FLOW_REPLY_TAKEN;
	if (!flow_slot(work, node, endpoint))
		return -1;
	if (flow_publish(work, node, false)) {
		flow_abandon(work);
		return -1;
	}
	return work->search.found;
}

#endif
