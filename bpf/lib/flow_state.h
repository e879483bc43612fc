/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The life of a flow: its state machine, last_seen, and the time-outs that end it.
 */
#ifndef FAIRWAY_FLOW_STATE_H
#define FAIRWAY_FLOW_STATE_H

#include "packet.h"

/* Minimum time between updates of last_seen, to avoid writes to the cache line. */
#define FLOW_TOUCH_NS (250 * NS_PER_MS)

static __always_inline bool flow_expired(const struct flow *flow, const struct node_config *node,
					 __u64 now)
{
	__u32 state = flow->state, timeout;
	__u64 last_seen = flow->last_seen;

	if (state >= FLOW_STATE_COUNT)
		return true;
	timeout = node->flow_timeouts[state];
	/* FLOW_NONE: claimed and about to be filled, on another CPU. */
	if (!timeout)
		timeout = 1;
	return now > last_seen && now - last_seen > timeout * NS_PER_SECOND;
}

static __always_inline bool flow_unanswered(const struct flow *flow)
{
	return flow->state == FLOW_TCP_OPENING || flow->state == FLOW_UDP_OPENING ||
	       flow->state == FLOW_SCTP_OPENING;
}

static __always_inline __u8 flow_initial_state(const struct packet *packet)
{
	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		/* A flow that is met in the middle was opened before we looked. */
		return (packet->l4_type & (TCP_SYN | TCP_ACK)) == TCP_SYN ? FLOW_TCP_OPENING
									  : FLOW_TCP_ESTABLISHED;
	case IPPROTO_UDP:
		return FLOW_UDP_OPENING;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return FLOW_ICMP;
	case IPPROTO_SCTP:
		return packet->l4_type == SCTP_INIT ? FLOW_SCTP_OPENING : FLOW_SCTP_ESTABLISHED;
	}
	return FLOW_OTHER;
}

/* The flow is as good as expired: whatever comes next begins anew. */
static __always_inline void flow_end(struct flow *flow)
{
	flow->state = FLOW_NONE;
	flow->last_seen = 0;
}

static __always_inline void tcp_advance(struct flow *flow, __u8 direction, __u8 tcp)
{
	__u8 state = flow->state, flags = flow->flags;
	__u8 fin = direction == FLOW_ORIGINAL ? FLOW_FIN_ORIGINAL : FLOW_FIN_REPLY;

	if (direction == FLOW_ORIGINAL && (tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	    (state == FLOW_TCP_CLOSING || state == FLOW_TCP_CLOSED)) {
		state = FLOW_TCP_OPENING;
		flags &= ~(FLOW_REPLIED | FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY);
	}
	if (direction == FLOW_REPLY) {
		flags |= FLOW_REPLIED;
		if (state == FLOW_TCP_OPENING)
			state = FLOW_TCP_ESTABLISHED;
	}
	if (tcp & TCP_FIN) {
		flags |= fin;
		if (state != FLOW_TCP_CLOSED)
			state = FLOW_TCP_CLOSING;
		if ((flags & (FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY)) ==
		    (FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY))
			state = FLOW_TCP_CLOSED;
	}
	if (tcp & TCP_RST)
		state = FLOW_TCP_CLOSED;
	if (state != flow->state)
		flow->state = state;
	if (flags != flow->flags)
		flow->flags = flags;
}

static __always_inline void sctp_advance(struct flow *flow, __u8 direction, __u8 chunk)
{
	__u8 state = flow->state;

	if (direction == FLOW_ORIGINAL && chunk == SCTP_INIT && state == FLOW_SCTP_CLOSED)
		state = FLOW_SCTP_OPENING;
	if (direction == FLOW_REPLY && state == FLOW_SCTP_OPENING)
		state = FLOW_SCTP_ESTABLISHED;
	if (chunk == SCTP_ABORT || chunk == SCTP_SHUTDOWN_COMPLETE)
		state = FLOW_SCTP_CLOSED;
	if (state != flow->state)
		flow->state = state;
}

/* A packet of a known flow. Later fragments have no flags of their own (l4_type is 0). */
static __always_inline void flow_advance(struct flow *flow, __u8 direction,
					 const struct packet *packet, __u64 now)
{
	if (now > flow->last_seen + FLOW_TOUCH_NS)
		flow->last_seen = now;
	if (packet->key.protocol == IPPROTO_TCP) {
		tcp_advance(flow, direction, packet->l4_type);
		return;
	}
	if (direction == FLOW_REPLY && !(flow->flags & FLOW_REPLIED)) {
		flow->flags |= FLOW_REPLIED;
		if (flow->state == FLOW_UDP_OPENING)
			flow->state = FLOW_UDP_ESTABLISHED;
	}
	if (packet->key.protocol == IPPROTO_SCTP)
		sctp_advance(flow, direction, packet->l4_type);
}

#endif
