/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Network policy: judges a flow's first packet, and its next packet when the verdict may be out of date. The
 * judged tuple leads from the client to the backend: after DNAT, before SNAT.
 *
 *  1. class      of the other end's address: identities, else blocks
 *  2. verdict    of the Pod's policy for that class
 *  3. ports      where the verdict is a set of them
 *  4. judge      egress of the sending Pod, then ingress of the receiving Pod, where they are on this Node
 *  5. fragments  whose ports are not known yet
 *  6. known      flows: judged anew by their original tuple; a denied flow keeps its slot, its packets are dropped
 */
#ifndef FAIRWAY_POLICY_H
#define FAIRWAY_POLICY_H

#include "emit.h"
#include "slow_path.h"
#include "track.h"

/* The flow's verdict is current: by the tables of this epoch and of its peer's policy_epoch. A denied flow
 * has no epoch. */
static __always_inline bool flow_judged(const struct flow *flow, __u32 epoch)
{
	const struct peer *peer;

	if (!flow_current(flow, epoch))
		return false;
	if (!flow_has_peer(flow))
		return true;
	peer = peer_at(flow->remote);
	return peer && read_once(peer->policy_epoch) == flow->remote_epoch;
}

/* Stage 6. The verdict is written to the flow of work.track at once, whatever happens to the packet. A denied flow
 * keeps its slot, and expires as if there were no packets of it. */
stage int verdict_keep(bool denied)
{
	struct work *work = work_space();
	const struct flow_rules *found;
	struct flow_rules *kept, known;
	struct flow *flow;
	__u32 slot;

	if (!work)
		return -1;
	slot = work->track.slot;
	found = &work->policing.rules;
	flow = flow_at(slot);
	kept = bpf_map_lookup_elem(&flow_rules, &slot);
	if (!flow || !kept)
		return -1;
	known = rules_of(flow, kept);
	if (!(flow->flags & FLOW_DENIED) == !denied && known.egress == found->egress &&
	    known.ingress == found->ingress)
		return 0;
	if (!flow_lock(flow, work->track.claim))
		return -1;
	if (denied) {
		write_once(flow->route_epoch, 0);
		flow->flags |= FLOW_DENIED;
	} else {
		flow->flags &= ~FLOW_DENIED;
	}
	rules_keep(flow, kept, found, !denied);
	claim_unlock(flow, work->track.claim);
	return 0;
}

/* Stores the epoch in the copy of a known flow before its policy look-ups: everything that they read about the peer's
 * addresses is at least that new. */
static __always_inline void flow_date(struct work *work)
{
	const struct peer *peer;

	if (!flow_has_peer(&work->flow))
		return;
	peer = peer_at(work->flow.remote);
	if (peer)
		work->flow.remote_epoch = read_once(peer->policy_epoch);
	keep_order();
}

/* Stage 1. Before class_limit is read, see ARCHITECTURE: the order of the agent's writes. */
static __always_inline __u32 class_of_other(struct policing *policing)
{
	__u32 *class, found, writes;
	int try;

	for (try = 0; try < ELEMENT_TRIES; try++) {
		writes = agent_writes_before();
		class = bpf_map_lookup_elem(&identities, &policing->other.address);
		if (!class) {
			policing->other.prefix_length = 128;
			/* Elements of a trie are not reused while a program reads them. */
			class = bpf_map_lookup_elem(&blocks, &policing->other);
			found = class ? read_once(*class) : CLASS_NONE;
			keep_order();
			return found;
		}
		reader_pauses();
		found = read_once(*class);
		if (agent_element_stays(&identities, &policing->other.address, class, writes))
			return found;
	}
	return CLASS_OVERFLOW;
}

/* The position on the line of ports; for a protocol without ports, independent of the key's fields. */
static __always_inline __u32 port_position(const struct flow_key *tuple)
{
	__u32 port = bpf_ntohs(tuple->destination_port);

	switch (tuple->protocol) {
	case IPPROTO_TCP:
		return POSITION_TCP + port;
	case IPPROTO_UDP:
		return POSITION_UDP + port;
	case IPPROTO_SCTP:
		return POSITION_SCTP + port;
	default:
		return POSITION_NO_PORTS;
	}
}

enum part_answer {
	PART_JUDGED = 0, /* into work.policing.judgement */
	PART_NEXT = 1,	 /* work.policing.port_set */
	PART_MISSING = -1,
};

/* Stage 3, by the part of a set with the id work.policing.port_set. enum part_answer; a part that changes is read
 * again. */
stage int port_part_judge(__u32 position)
{
	struct work *work = work_space();
	struct judgement judgement;
	const struct port_set *set;
	__u32 step, at = 0, id, next, writes;

	if (!work)
		return PART_MISSING;
	id = work->policing.port_set;
	writes = agent_writes_before();
	set = bpf_map_lookup_elem(&port_sets, &id);
	if (!set || !set->count)
		return PART_MISSING;
	reader_pauses();
	if (set->next_from && position >= set->next_from) {
		next = set->next;
		if (agent_element_stays(&port_sets, &id, set, writes))
			work->policing.port_set = next;
		return PART_NEXT;
	}
#pragma unroll
	for (step = PORT_SET_SEGMENTS / 2; step; step /= 2)
		if ((at | step) < set->count && set->segments[at | step].from <= position)
			at |= step;
	judgement = set->segments[at % PORT_SET_SEGMENTS].judgement;
	if (!agent_element_stays(&port_sets, &id, set, writes))
		return PART_NEXT;
	work->policing.judgement = judgement;
	return PART_JUDGED;
}

/* Stage 3. PART_JUDGED, or another answer if a part is missing. */
static __always_inline int port_set_judge(__u32 position)
{
	int part, answer = PART_NEXT;

	for (part = 0; part < PORT_SET_PARTS && answer == PART_NEXT; part++)
		answer = port_part_judge(position);
	return answer;
}

/* Stage 2, of work.policing.pair, into work.policing.judgement and port_set. -1: it changes all the time. */
static __always_inline int verdict_read(struct policing *policing, const struct policy *entry)
{
	const struct policy_verdict *verdict;
	__u32 writes;
	int try;

	for (try = 0; try < ELEMENT_TRIES; try++) {
		writes = agent_writes_before();
		verdict = bpf_map_lookup_elem(&policy_verdicts, &policing->pair);
		if (!verdict) {
			policing->judgement = entry->verdict.judgement;
			policing->port_set = entry->verdict.port_set;
			return 0;
		}
		reader_pauses();
		policing->judgement = verdict->judgement;
		policing->port_set = verdict->port_set;
		if (agent_element_stays(&policy_verdicts, &policing->pair, verdict, writes))
			return 0;
	}
	return -1;
}

/* Stages 1 to 3, of one direction, into work.policing.judgement. */
stage int policy_look_up(__u32 policy)
{
	const struct judgement allowed = { .flags = JUDGEMENT_ALLOW };
	struct work *work = work_space();
	struct policing *policing;
	const struct policy *entry;
	__u32 zero = 0, *limit;

	if (!work)
		return DROP_POLICY_INCOMPLETE;
	policing = &work->policing;
	entry = bpf_map_lookup_elem(&policies, &policy);
	if (!entry || !entry->hairpin)
		return DROP_POLICY_INCOMPLETE;
	if (policing->hairpin) {
		policy = entry->hairpin;
		if (policy == POLICY_OPEN) {
			policing->judgement = allowed;
			return DROP_NONE;
		}
		entry = bpf_map_lookup_elem(&policies, &policy);
		if (!entry || !entry->hairpin)
			return DROP_POLICY_INCOMPLETE;
	}
	policing->pair.policy = policy;
	policing->pair.class = class_of_other(policing);
	limit = bpf_map_lookup_elem(&class_limit, &zero);
	if (!limit || policing->pair.class >= read_once(*limit) ||
	    policing->pair.class == CLASS_OVERFLOW)
		return DROP_POLICY_INCOMPLETE;
	keep_order();
	if (verdict_read(policing, entry))
		return DROP_POLICY_INCOMPLETE;
	if (!policing->port_set)
		return DROP_NONE;
	return port_set_judge(port_position(&policing->tuple)) == PART_JUDGED
		       ? DROP_NONE
		       : DROP_POLICY_INCOMPLETE;
}

/* Counts work.policing.judgement; `reason`: of the drop. */
static __always_inline void judgement_count(const struct judgement *judgement, bool denied)
{
	struct rule_counter *counter;
	bool allows = judgement->flags & JUDGEMENT_ALLOW;
	bool would = judgement->flags & JUDGEMENT_STAGED_ALLOW;

	if (judgement->flags & JUDGEMENT_STAGED && would != allows) {
		counter = rule_counter_of(judgement->staged_rule);
		if (counter)
			__sync_fetch_and_add(&counter->staged, 1);
	}
	counter = denied ? rule_counter_of(judgement->rule) : NULL;
	if (counter)
		__sync_fetch_and_add(&counter->packets, 1);
}

/* Records denied packets for `fairway denials`: some of each rule, so that each packet of a flood costs one more look-up. */
static __always_inline void denial_note(const struct policing *policing)
{
	__u32 place = policing->judgement.rule % DENIALS_MAX;
	struct policy_denial *denial = bpf_map_lookup_elem(&policy_denials, &place);
	__u64 now = bpf_ktime_get_coarse_ns(), at;

	if (!denial)
		return;
	at = read_once(denial->at);
	if (now < at + DENIAL_PAUSE_NS && at)
		return;
	if (!__sync_bool_compare_and_swap(&denial->at, at, now))
		return;
	denial->source = policing->tuple.source;
	denial->destination = policing->tuple.destination;
	denial->destination_port = policing->tuple.destination_port;
	denial->protocol = policing->tuple.protocol;
	denial->rule = policing->judgement.rule;
}

/* Stage 4, one direction of work.policing.tuple. UNDECIDED, or the program's result. */
#define policy_direction FOR_HOOK(policy_direction)
stage int policy_direction(__u32 policy, bool egress)
{
	struct work *work = work_space();
	struct policing *policing;
	__u32 reason;

	if (!work)
		return discard();
	if (policy == POLICY_OPEN)
		return UNDECIDED;
	if (policy == POLICY_NOT_READY)
		return dropped(&work->verdict, DROP_POLICY_NOT_READY);
	policing = &work->policing;
	policing->other.address = egress ? policing->tuple.destination : policing->tuple.source;
	reason = policy_look_up(policy);
	if (reason)
		return dropped(&work->verdict, DROP_POLICY_INCOMPLETE);
	if (egress)
		work->verdict.egress_rule = policing->rules.egress = policing->judgement.rule;
	else
		work->verdict.ingress_rule = policing->rules.ingress = policing->judgement.rule;
	if (policing->judgement.flags & JUDGEMENT_ALLOW) {
		judgement_count(&policing->judgement, false);
		return UNDECIDED;
	}
	judgement_count(&policing->judgement, true);
	denial_note(policing);
	return dropped(&work->verdict, egress ? DROP_POLICY_EGRESS : DROP_POLICY_INGRESS);
}

/* Stage 4. The policies of the ends of work.policing.tuple; for one that is not on this Node, POLICY_OPEN. */
static __always_inline int policy_judge(__u32 egress, __u32 ingress)
{
	int result = policy_direction(egress, true);

	return result == UNDECIDED ? policy_direction(ingress, false) : result;
}

/* Judges a packet that begins a flow, or has none. `sender`, `receiver`: the ends that are Pods of this Node and
 * whose policies apply, or NULL. */
static __always_inline int policy_new(struct work *work, const struct endpoint *sender,
				      const struct endpoint *receiver)
{
	struct policing *policing = &work->policing;
	__u32 egress = sender ? sender->egress_policy : POLICY_OPEN;
	__u32 ingress = receiver ? receiver->ingress_policy : POLICY_OPEN;

	__builtin_memset(&policing->rules, 0, sizeof(policing->rules));
	if (egress == POLICY_OPEN && ingress == POLICY_OPEN)
		return UNDECIDED;
	policing->tuple = work->target;
	policing->tuple.source = work->packet.key.source;
	policing->hairpin = sender && receiver && sender->index == receiver->index;
	return policy_judge(egress, ingress);
}

#ifndef FAIRWAY_XDP

/* Stage 5. A later fragment waits for its first one where that has to be judged. `policy`: the Pod's. */
stage int policy_hold(struct __sk_buff *ctx, const struct node_config *node, __u32 policy,
		      __u8 hook)
{
	struct work *work = work_space();

	if (!work || !node)
		return discard();
	if (policy == POLICY_OPEN)
		return UNDECIDED;
	if (policy == POLICY_NOT_READY)
		return dropped(&work->verdict, DROP_POLICY_NOT_READY);
	work->verdict.slow_path_kind = SLOW_HOLD;
	slow_path_hand_up(ctx, &work->packet, node, &work->verdict, hook);
	return discard();
}

#endif

/* Stage 6. Finds the ends of the flow in work.flow by its original tuple, for policy_judge_known. */
stage int policy_ends(void)
{
	struct work *work = work_space();
	struct policing *policing;
	const struct flow *flow;
	struct address address;
	struct endpoint *end;

	if (!work)
		return -1;
	policing = &work->policing;
	flow = &work->flow;
	end = &policing->ends[FLOW_ORIGINAL];
	address = flow->addresses[FLOW_ORIGINAL].source;
	/* A Pod's packet by way of the Node's stack was judged on its way there. */
	if (flow->flags & FLOW_STACK || !endpoint_find(&address, end))
		end->ifindex = 0;
	end = &policing->ends[FLOW_REPLY];
	address = flow->addresses[FLOW_REPLY].source;
	if (!endpoint_find(&address, end))
		end->ifindex = 0;
	return 0;
}

/* Stage 6. Judges the flow in work.flow, with the ends in work.policing, whichever direction the packet has. Allowed:
 * the copy gets the present epochs; flow_keep writes them. `forwarded`: the Node's stack forwards the packet for
 * another sender. */
static __always_inline int policy_judge_known(struct work *work, bool forwarded)
{
	struct policing *policing = &work->policing;
	const struct endpoint *client = &policing->ends[FLOW_ORIGINAL];
	const struct endpoint *backend = &policing->ends[FLOW_REPLY];
	__u32 egress = client->ifindex ? client->egress_policy : POLICY_OPEN;
	__u32 ingress = backend->ifindex ? backend->ingress_policy : POLICY_OPEN;
	const struct flow *flow = &work->flow;
	int result;

	flow_date(work);
	policing->hairpin = client->ifindex && backend->ifindex && client->index == backend->index;
	__builtin_memset(&policing->rules, 0, sizeof(policing->rules));
	policing->tuple.source = flow->addresses[FLOW_ORIGINAL].source;
	policing->tuple.destination = flow->addresses[FLOW_REPLY].source;
	policing->tuple.destination_port = flow->ports[FLOW_REPLY].source;
	policing->tuple.protocol = flow->protocol;
	/* The Node's own: it began in the Node's stack, or in from_host with an address of the Node. */
	if (ingress != POLICY_OPEN && !forwarded && !(flow->flags & FLOW_FORWARDED) &&
	    (flow->flags & FLOW_STACK || route_lookup(&policing->tuple.source).kind == ROUTE_HOST))
		ingress = POLICY_OPEN;
	result = policy_judge(egress, ingress);
	if (work->track.related)
		return result;
	verdict_keep(result != UNDECIDED);
	work->track.remembered = 1;
	return result;
}

/* Stage 6. The same, and finds the ends. */
#define policy_known FOR_HOOK(policy_known)
stage int policy_known(bool forwarded)
{
	struct work *work = work_space();

	if (!work || policy_ends())
		return discard();
	return policy_judge_known(work, forwarded);
}

#endif
