/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The life of a flow: its state machine, last_seen, and the time-outs that end it (RFC 5382, 4787,
 * 5508, 7857).
 */
#ifndef FAIRWAY_FLOW_STATE_H
#define FAIRWAY_FLOW_STATE_H

#include "flow_claim.h"

/* Minimum time between updates of last_seen, to avoid writes to the cache line. */
#define FLOW_TOUCH_NS (250 * NS_PER_MS)

static __always_inline bool flow_expired(const struct flow *flow, const struct node_config *node,
					 __u64 now)
{
	__u32 state = flow->state;
	__u64 last_seen = flow->last_seen;

	if (state >= FLOW_STATE_COUNT)
		return true;
	/* The last packet may have come FLOW_TOUCH_NS after last_seen says. */
	return now > last_seen &&
	       now - last_seen > node->flow_timeouts[state] * NS_PER_SECOND + FLOW_TOUCH_NS;
}

/* The connection is closed by both FINs or a reset. */
static __always_inline bool flow_is_over(__u8 state)
{
	return state == FLOW_TCP_CLOSED || state == FLOW_SCTP_CLOSED;
}

/* Packets of this protocol show the end of a connection. */
static __always_inline bool protocol_has_end(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

/* The flow has been silent for a while, and is UDP, echo or the like, whose end no packet shows, or a TCP
 * connection that was never established. */
static __always_inline bool flow_is_silent(const struct flow *flow, __u64 now)
{
	const __u64 silence = SNAT_SILENT_SECONDS * NS_PER_SECOND + FLOW_TOUCH_NS;

	return (!protocol_has_end(flow->protocol) || flow->state == FLOW_TCP_OPENING) &&
	       now > flow->last_seen + silence;
}

/* The flow is evicted before others: it is unanswered, half-open, or over. */
static __always_inline bool flow_is_spare(__u8 state, __u16 flags)
{
	return !(flags & FLOW_REPLIED) || flags & FLOW_HALF_OPEN || flow_is_over(state);
}

/* The flag of a FIN in this direction. */
static __always_inline __u8 flow_fin(__u8 direction)
{
	return direction == FLOW_ORIGINAL ? FLOW_FIN_ORIGINAL : FLOW_FIN_REPLY;
}

static __always_inline __u8 flow_reset(__u8 direction)
{
	return direction == FLOW_ORIGINAL ? FLOW_RESET_ORIGINAL : FLOW_RESET_REPLY;
}

#define FLOW_BOTH_FINS (FLOW_FIN_ORIGINAL | FLOW_FIN_REPLY)
#define FLOW_RESETS (FLOW_RESET_ORIGINAL | FLOW_RESET_REPLY)

/* The originator's packet goes on after the answer: the connection is no longer half-open. */
static __always_inline bool flow_confirms(__u16 flags, __u8 tcp)
{
	return (flags & (FLOW_REPLIED | FLOW_HALF_OPEN)) == (FLOW_REPLIED | FLOW_HALF_OPEN) &&
	       !(tcp & (TCP_SYN | TCP_RST));
}

/* State and flags of a flow, after a packet. */
struct flow_progress {
	__u8 state;  /* enum flow_state */
	__u16 flags; /* enum flow_flag */
};

/*
 * No sequence number is checked. So a FIN or a reset alone ends nothing: it marks its direction. Data after
 * a FIN, or any packet after a reset, shows that the FIN or reset was forged: the mark is removed, and
 * the connection continues.
 *
 * An answer alone establishes nothing, as it may answer a SYN whose source is forged: the originator has to go on after
 * it. A flow that begins without a SYN is not half-open.
 *
 * Returns the state in the upper half and the flags in the lower: a function that the kernel verifies once.
 */
stage __u32 tcp_next(__u32 flags, __u8 direction, __u8 tcp, bool payload)
{
	__u32 state;

	if (direction == FLOW_REPLY) {
		flags |= FLOW_REPLIED;
	} else if ((tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		if (flags & (FLOW_BOTH_FINS | FLOW_RESETS))
			flags &= ~(FLOW_REPLIED | FLOW_BOTH_FINS | FLOW_RESETS);
		if (!(flags & FLOW_REPLIED))
			flags |= FLOW_HALF_OPEN;
	} else if (flow_confirms(flags, tcp)) {
		flags &= ~FLOW_HALF_OPEN;
	}
	if (tcp & TCP_RST)
		flags |= flow_reset(direction);
	else
		flags &= ~flow_reset(direction);
	if (tcp & TCP_FIN)
		flags |= flow_fin(direction);
	else if (payload)
		flags &= ~flow_fin(direction);
	if (flags & FLOW_RESETS || (flags & FLOW_BOTH_FINS) == FLOW_BOTH_FINS)
		state = FLOW_TCP_CLOSED;
	else if (flags & FLOW_BOTH_FINS)
		state = FLOW_TCP_CLOSING;
	else
		state = flow_is_spare(0, flags) ? FLOW_TCP_OPENING : FLOW_TCP_ESTABLISHED;
	return state << 16 | (flags & 0xffff);
}

static __always_inline void tcp_advance(struct flow_progress *flow, __u8 direction, __u8 tcp,
					bool payload)
{
	__u32 next = tcp_next(flow->flags, direction, tcp, payload);

	flow->flags = next;
	flow->state = next >> 16;
}

/* The packet opens a connection. */
static __always_inline bool packet_opens(const struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP)
		return (packet->l4_type & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	return packet->key.protocol == IPPROTO_SCTP && packet->l4_type == SCTP_INIT;
}

/* The packet may begin a flow that takes the port of one that is over, or silent: it belongs to no connection that
 * continues. */
static __always_inline bool packet_succeeds(const struct packet *packet)
{
	return !protocol_has_end(packet->key.protocol) || packet_opens(packet);
}

/* ABORT and SHUTDOWN COMPLETE are to SCTP what a reset is to TCP. */
static __always_inline void sctp_advance(struct flow_progress *flow, __u8 direction, __u8 chunk)
{
	if (direction == FLOW_ORIGINAL && chunk == SCTP_INIT && flow->flags & FLOW_RESETS)
		flow->flags &= ~(FLOW_REPLIED | FLOW_RESETS);
	if (direction == FLOW_REPLY)
		flow->flags |= FLOW_REPLIED;
	if (chunk == SCTP_ABORT || chunk == SCTP_SHUTDOWN_COMPLETE)
		flow->flags |= flow_reset(direction);
	else
		flow->flags &= ~flow_reset(direction);
	if (flow->flags & FLOW_RESETS)
		flow->state = FLOW_SCTP_CLOSED;
	else
		flow->state =
			flow->flags & FLOW_REPLIED ? FLOW_SCTP_ESTABLISHED : FLOW_SCTP_OPENING;
}

static __always_inline void udp_advance(struct flow_progress *flow, __u8 direction)
{
	if (direction == FLOW_REPLY)
		flow->flags |= FLOW_REPLIED;
	flow->state = flow->flags & FLOW_REPLIED ? FLOW_UDP_ESTABLISHED : FLOW_UDP_OPENING;
}

/* The state of a flow after a packet. Later fragments have no flags of their own (l4_type is 0). */
static __always_inline struct flow_progress flow_advanced(struct flow_progress flow, __u8 direction,
							  const struct packet *packet)
{
	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		tcp_advance(&flow, direction, packet->l4_type,
			    packet->length > headers_length(packet));
		break;
	case IPPROTO_SCTP:
		sctp_advance(&flow, direction, packet->l4_type);
		break;
	case IPPROTO_UDP:
		udp_advance(&flow, direction);
		break;
	default:
		if (direction == FLOW_REPLY)
			flow.flags |= FLOW_REPLIED;
		if (packet->key.protocol == IPPROTO_ICMP || packet->key.protocol == IPPROTO_ICMPV6)
			flow.state = FLOW_ICMP;
		else
			flow.state = FLOW_OTHER;
	}
	return flow;
}

#endif
