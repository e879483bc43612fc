/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Translation of a packet's tuple (RFC 3022): the new tuple is the reverse of the one that packets of the
 * other direction carry. It may change the source, the destination or both.
 *
 *  1. related    the flow of the packet that an ICMP error quotes
 *  2. target     the tuple that a packet leaves with
 *  3. met        the flow that another CPU has begun before this one
 *  4. quotation  the packet inside an ICMP error, as its sender sent it
 */
#ifndef FAIRWAY_TRANSLATION_H
#define FAIRWAY_TRANSLATION_H

#include "rewrite.h"
#include "track.h"

#ifndef FAIRWAY_XDP

/* Stage 1. Parses the packet that an ICMP error quotes and finds its flow, in the direction of the
 * error. At from_pod `quoted->family` is 0 if nothing can be read. */
static __always_inline bool related_lookup(context *ctx, const struct packet *error,
					   struct packet *quoted, const struct node_config *node,
					   __u64 now)
{
	struct flow_key key;

	if (parse(ctx, quoted, error->l4 + 8,
		  error->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), true)) {
		if (FAIRWAY_HOOK == HOOK_FROM_POD)
			quoted->family = 0;
		return false;
	}
	/* An error is valid only for the sender of the packet that it quotes. */
	if (quoted->flags & PACKET_LATER_FRAGMENT ||
	    !address_equal(&error->key.destination, &quoted->key.source))
		return false;
	key_reverse(&key, &quoted->key);
	return flow_lookup(&key, node, now);
}

#endif

/*
 * Stage 2. Writes the target tuple of work.packet and its flow into work.target; without translation it is
 * the packet's own tuple. The source of an ICMP error is translated if it is an end of the flow; a
 * router's address stays. A Pod's own address never leaves in an error about a flow with SNAT.
 */
stage bool target_find(void)
{
	struct work *work = work_space();
	const struct packet *packet;
	const struct flow *flow;
	struct flow_key *target;
	struct track *track;
	__u8 direction;

	if (!work)
		return false;
	packet = &work->packet;
	flow = &work->flow;
	track = &work->track;
	target = &work->target;
	direction = track->direction & 1;
	*target = packet->key;
	track->translated = track->known && flow_translates(flow);
	if (!track->translated)
		return false;
	if (!track->related) {
		flow_target(target, flow, direction);
		return true;
	}
	target->destination = flow->addresses[!direction].source;
	if ((flow->flags & FLOW_SNAT && direction == FLOW_ORIGINAL) ||
	    address_equal(&packet->key.source, &flow->addresses[direction].source))
		target->source = flow->addresses[!direction].destination;
	return true;
}

/* Not a result of a program: another CPU has begun the flow first, so the stages after the flow's run again. */
#define FLOW_MET (-5)
/* How often that may be. */
#define FLOW_MEETINGS 7

/* The result of the stages after the flow's, which run again while another CPU is first, at most `times`. */
#define while_flow_met(work, times, stages)                                                \
	({                                                                                 \
		int result_met = FLOW_MET, meeting;                                        \
                                                                                           \
		for (meeting = 0; meeting <= (times) && result_met == FLOW_MET; meeting++) \
			result_met = stages;                                               \
		result_met == FLOW_MET ? dropped(&(work)->verdict, DROP_FLOW_TABLE_FULL)   \
				       : result_met;                                       \
	})

/* Stage 3, of a flow that could not begin. Another CPU may have begun this very flow meanwhile, and given it its
 * translation: then the packet belongs to that flow. While that CPU still fills its slot, this one tries again. False: the
 * table is full, or this CPU has tried too often. */
stage bool flow_met(const struct node_config *node, __u64 now)
{
	struct work *work = work_space();

	if (!node || !work || !work->search.met || work->track.meetings >= FLOW_MEETINGS)
		return false;
	work->track.meetings++;
	if (!flow_lookup(&work->packet.key, node, now))
		return true;
	work->track.remembered = 0;
	work->verdict.backend = 0;
	__builtin_memset(&work->remote, 0, sizeof(work->remote));
	__builtin_memset(&work->choice, 0, sizeof(work->choice));
	target_find();
	return true;
}

/* The new tuple of work.packet, for `rewrite`; NULL: it has none. */
static __always_inline const struct flow_key *target_of(const struct work *work)
{
	return work->track.translated ? &work->target : NULL;
}

#ifndef FAIRWAY_XDP

/* Stage 4. The packet that work.packet quotes is work.inner. */
stage int related_rewrite(struct __sk_buff *ctx)
{
	struct work *work = work_space();

	if (!work)
		return -1;
	if (!work->track.related || !work->track.translated)
		return 0;
	/* No packet is looked up any more. */
	flow_tuple(&work->tuple, &work->flow, !work->track.direction);
	return rewrite_quoted(ctx, &work->packet, &work->inner, &work->tuple);
}

#endif
#endif
