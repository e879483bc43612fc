/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * New flows: take a slot that is free or expired, fill it, publish both tuples.
 *
 *  flow_place.h    where tuples lead to slots
 *  flow_slot.h     the slot
 *  flow_enter.h    the tuples
 *
 * A flow is created under the slot's lock, from taking to publishing.
 */
#ifndef FAIRWAY_FLOW_CREATE_H
#define FAIRWAY_FLOW_CREATE_H

#include "flow_enter.h"
#include "flow_rules.h"

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
	taken = claim_use(flow, taken);
	if (at_home) {
		if (!flow_settle(work, node))
			return -1;
	} else if (!tuple_enter(work, node, FLOW_ORIGINAL)) {
		/* Usually it was looked up without success; an expired flow's entry is removed. */
		if (!tuple_free(work, &work->packet.key, node) ||
		    !tuple_enter(work, node, FLOW_ORIGINAL))
			return -1;
	}
	/* From an address and port to the same ones, there is one tuple. */
	if (!entered && (!at_home || flow_translates(made)) &&
	    !tuple_equal(&work->reply, &work->packet.key) && !tuple_enter(work, node, FLOW_REPLY))
		return -1;
	flow_count(flow, 1, flow_is_spare(flow->state, flow->flags));
	if (made->flags & FLOW_RULED)
		rules_begin(slot);
	claim_unlock(flow, (taken & ~CLAIM_LOCKED) | CLAIM_PUBLISHED);
	return 0;
}

/* If another CPU creates the same flow at the same time, both may fail. */
stage int flow_publish(const struct node_config *node, bool entered)
{
	struct work *work = work_space();
	int failed;

	if (!work || !node)
		return -1;
	failed = flow_fill(work, node, entered);
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
	work->search.yields = 0;
	/* If the answers' tuple belongs to another flow, no flow is evicted for this one. */
	if (!tuple_free(work, &work->reply, node))
		return FLOW_REPLY_TAKEN;
	if (!flow_slot(node, endpoint))
		return -1;
	if (flow_publish(node, false)) {
		flow_abandon(work);
		return -1;
	}
	return work->search.found;
}

#endif
