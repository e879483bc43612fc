/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The rules of network policy by which a flow passes, or is denied, in flow_rules beside its slot, and what
 * they have judged, in rule_counters. Rule 0 is none, and counted nowhere.
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

/* Keeps what work.policing has found beside a slot that this CPU has locked. A flow counts once for each rule
 * that allows it: when it begins, `begins`, or when another rule does so from now on. */
stage int rules_keep(__u32 slot, bool begins, bool allowed)
{
	struct work *work = work_space();
	struct flow_rules *kept, before = {};
	const struct flow_rules *found;

	if (!work)
		return -1;
	found = &work->policing.rules;
	kept = bpf_map_lookup_elem(&flow_rules, &slot);
	if (!kept)
		return -1;
	if (!begins)
		before = *kept;
	if (kept->egress != found->egress || kept->ingress != found->ingress)
		*kept = *found;
	if (!allowed)
		return 0;
	if (found->egress != before.egress)
		rule_count_flow(found->egress);
	if (found->ingress != before.ingress)
		rule_count_flow(found->ingress);
	return 0;
}

#endif
