/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Renewal of a Pod's flow with an outdated epoch. Most changes concern few flows: if the ends, the route and the
 * verdict of network policy are still those in the flow, only its epochs are written and the packet stays on the fast
 * path. All other cases are left to the full path, which costs more than twice as much.
 *
 *  1. ends     the Pods of this Node
 *  2. route    of the translated destination
 *  3. policy   the verdict; a denied packet is dropped here, as on the full path
 *  4. write
 */
#ifndef FAIRWAY_ESTABLISHED_RENEW_H
#define FAIRWAY_ESTABLISHED_RENEW_H

#include "established.h"
#include "policy.h"
#include "translation.h"

/* The flow is up to date, and the packet may try again. Not a valid result of a TC program. */
#define FLOW_RENEWED (-5)

/* Notes the packet's flow for flow_renew. A denied flow is stale with every packet, and takes the full path. */
static __always_inline int flow_stale(const struct flow_match *match)
{
	struct work *work = work_space();

	if (!work || match->flow->flags & (FLOW_STACK | FLOW_FORWARDED | FLOW_DENIED))
		return NOT_ESTABLISHED;
	work->track.slot = match->slot;
	work->track.claim = match->claim;
	work->track.direction = match->direction;
	return STALE_FLOW;
}

/* 1. The end that sends in `direction` is still the same Pod; it is kept for policy. */
static __always_inline bool end_stays(struct work *work, __u8 direction)
{
	const struct flow *flow = &work->flow;
	struct address address = flow->addresses[direction & 1].source;
	struct endpoint *pod = &work->policing.ends[direction & 1];

	return endpoint_find(&address, pod) && pod->ifindex == flow->ifindex[direction & 1] &&
	       !__builtin_memcmp(&pod->mac, &flow->mac[direction & 1], sizeof(pod->mac));
}

/* 1, 2. The ends and the route in work.flow are still right. */
stage bool flow_stays(void)
{
	struct work *work = work_space();
	const struct flow *flow;
	struct route route;
	__u8 direction, pods;

	if (!work)
		return false;
	flow = &work->flow;
	direction = work->track.direction & 1;
	pods = flow->route_kind == ROUTE_LOCAL_PODS ? 3 : 1 << direction;
	if (flow->pods != pods || !end_stays(work, direction) || flow_address_lost(flow))
		return false;
	/* Behind a route to another place, no Pod of this Node. */
	work->policing.ends[!direction].ifindex = 0;
	flow_target(&work->target, flow, direction);
	route = route_resolve(&work->target.destination);
	if (route.kind != flow->route_kind || route.flags != flow->route_flags ||
	    route_serves(&route))
		return false;
	switch (route.kind) {
	case ROUTE_PEER:
		return flow->remote == route.peer * 2 + (flow_family(flow) == 6);
	case ROUTE_OUTSIDE:
		return true;
	case ROUTE_LOCAL_PODS:
		return end_stays(work, !direction);
	default:
		return false;
	}
}

/* Renews the flow of work.track: FLOW_RENEWED, or the program's result, or NOT_ESTABLISHED: the full path. */
stage int flow_renew(void)
{
	const struct node_config *node = node_configuration();
	struct work *work = work_space();
	struct flow *flow;
	__u32 claim, epoch;
	int result;

	if (!work || !node)
		return NOT_ESTABLISHED;
	claim = work->track.claim;
	flow = flow_at(work->track.slot);
	if (!flow)
		return NOT_ESTABLISHED;
	epoch = route_epoch(node);
	work->flow = *flow;
	keep_order();
	if (claim_read(flow) != claim)
		return NOT_ESTABLISHED;
	work->track.related = 0;
	if (!flow_stays())
		return NOT_ESTABLISHED;
	__builtin_memset(&work->verdict, 0, sizeof(work->verdict));
	work->verdict.peer = NO_PEER;
	result = policy_judge_known(work, false);
	if (result != UNDECIDED) {
		record(&work->verdict);
		return result;
	}
	work->flow.route_epoch = epoch;
	if (!flow_lock(flow, claim))
		return NOT_ESTABLISHED;
	flow_remember(flow, &work->flow);
	claim_unlock(flow, claim);
	return FLOW_RENEWED;
}

/* Tests: the rules that judged a renewed flow, whatever happened to its packet then. */
static __always_inline struct flow_rules renewal_rules(void)
{
	struct work *work = work_space();
	struct flow_rules none = {};

	if (!trace_verdicts || !work)
		return none;
	/* Linux 6.1 refuses to take its address before the check that it exists. */
	hide(work);
	return work->policing.rules;
}

static __always_inline void renewal_trace(const struct flow_rules *rules)
{
	struct verdict *trace;
	__u32 zero = 0;

	if (!trace_verdicts || !(rules->egress | rules->ingress))
		return;
	trace = bpf_map_lookup_elem(&verdicts, &zero);
	if (!trace)
		return;
	trace->egress_rule = rules->egress;
	trace->ingress_rule = rules->ingress;
}

#endif
