/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rules of network policy that allow or deny a flow, in flow_rules beside its slot, and their counters,
 * in rule_counters. Rule 0 means no rule and is not counted. A flow without FLOW_RULED has no rules.
 */
#ifndef FAIRWAY_FLOW_RULES_H
#define FAIRWAY_FLOW_RULES_H

#include "work.h"

static __always_inline struct rule_counter *rule_counter_of(__u32 rule)
{
	return rule ? bpf_map_lookup_elem(&rule_counters, &rule) : NULL;
}

static __always_inline void rule_count_flow(__u32 rule)
{
	struct rule_counter *counter = rule_counter_of(rule);

	if (counter)
		__sync_fetch_and_add(&counter->flows, 1);
}

/* Keeps the rules in work.policing beside the slot of a new flow, which has FLOW_RULED. Most flows have no
 * rules, and each entry here is one more cache miss. */
stage int rules_begin(__u32 slot)
{
	struct work *work = work_space();
	const struct flow_rules *found;
	struct flow_rules *kept;

	if (!work)
		return -1;
	found = &work->policing.rules;
	kept = bpf_map_lookup_elem(&flow_rules, &slot);
	if (!kept)
		return -1;
	*kept = *found;
	rule_count_flow(found->egress);
	rule_count_flow(found->ingress);
	return 0;
}

/* The rules of a flow. */
static __always_inline struct flow_rules rules_of(const struct flow *flow,
						  const struct flow_rules *kept)
{
	struct flow_rules none = {};

	return flow->flags & FLOW_RULED ? *kept : none;
}

/* Likewise of a known flow, whose slot this CPU has locked. It counts once more for each rule that allows it from
 * now on. */
static __always_inline void rules_keep(struct flow *flow, struct flow_rules *kept,
				       const struct flow_rules *found, bool allowed)
{
	struct flow_rules before = rules_of(flow, kept);

	*kept = *found;
	flow->flags |= FLOW_RULED;
	if (!allowed)
		return;
	if (found->egress != before.egress)
		rule_count_flow(found->egress);
	if (found->ingress != before.ingress)
		rule_count_flow(found->ingress);
}

#endif
