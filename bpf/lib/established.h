/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path for packets of established flows: everything is decided from the packet's headers,
 * its flow and its peer, and then written in place. Anything unusual about the packet, the flow or
 * the path is left to the slow path, with nothing changed. Both treat the same packet alike, which
 * the differential test verifies.
 *
 *  established_receive.h   from the wire to a Pod of this Node
 *  established_send.h      from a Pod of this Node to a peer or the outside
 */
#ifndef FAIRWAY_ESTABLISHED_H
#define FAIRWAY_ESTABLISHED_H

#include "emit.h"
#include "headers.h"
#include "peer_count.h"
#include "route.h"
#include "snat.h"

/* Not a valid result of a TC or XDP program: the packet takes the slow path. */
#define NOT_ESTABLISHED (-2)

/* The flow of a packet, when the packet leaves its state as it is and all that it remembers
 * holds. Later its values are used only if flow_holds. */
static __always_inline struct flow_match flow_established(const struct headers *headers, __u32 hash,
							  bool own, const struct node_config *node,
							  __u32 epoch, __u64 now)
{
	struct flow_match match = flow_find(&headers->key, hash, own);
	const struct flow *flow = match.flow;
	__u8 marks;

	if (!flow)
		return match;
	/* What was said of an end is taken back. */
	marks = flow_fin(match.direction) | flow_reset(match.direction);
	if (!flow_current(flow, epoch) || flow_expired(flow, node, now) || flow->flags & marks ||
	    (match.direction == FLOW_REPLY && !(flow->flags & FLOW_REPLIED)))
		match.flow = NULL;
	keep_order();
	return match;
}

/* What was read of the flow belongs together, and is of this epoch. */
static __always_inline bool flow_holds(const struct flow_match *match, __u32 epoch)
{
	return flow_still(match) && flow_current(match->flow, epoch);
}

static __always_inline void flow_touch(struct flow *flow, __u64 now)
{
	if (now > flow->last_seen + FLOW_TOUCH_NS)
		flow->last_seen = now;
}

/* The one's complement difference of decrementing a TTL in its word with the protocol. */
#define TTL_DIFFERENCE bpf_htons(0xfeff)

static __always_inline void put_hop(void *ip, __u8 family, const struct headers *headers)
{
	if (family == 4) {
		((struct iphdr *)ip)->ttl = headers->ttl - 1;
		((struct iphdr *)ip)->check = csum_apply(headers->ip_check, TTL_DIFFERENCE);
	} else {
		((struct ipv6hdr *)ip)->hop_limit = headers->ttl - 1;
	}
}

/* IPv4's header checksum compensates changes of its header; IPv6 has none, so a sum that the NIC
 * made of the whole packet (CHECKSUM_COMPLETE) must be updated. Keeps packet pointers valid. */
static __always_inline void csum_follow(context *ctx, __u8 family,
					const struct translation *translation,
					const struct headers *headers)
{
#ifndef FAIRWAY_XDP
	__u32 difference = bpf_htons(0xfffe); /* of a hop limit that is one less */

	if (family == 4)
		return;
	if (translation)
		difference = csum_difference(translation->source ? &headers->key.source
								 : &headers->key.destination,
					     &translation->address, 16, difference);
	bpf_csum_update(ctx, difference);
#endif
}

/* Writes a translation, except for the L4 checksum, which comes last because it is updated by
 * offset and may invalidate packet pointers. */
static __always_inline void put_translation(void *ip, __u8 family, struct headers *headers,
					    const struct translation *translation)
{
	const struct address *from =
		translation->source ? &headers->key.source : &headers->key.destination;
	const struct address *to = &translation->address;
	__u32 port = translation->source ? 0 : 2;
	struct iphdr *ipv4 = ip;
	struct ipv6hdr *ipv6 = ip;

	if (family == 4) {
		headers->ip_check = csum_apply(headers->ip_check,
					       csum_difference(&from->word[3], &to->word[3], 4, 0));
		*(translation->source ? &ipv4->saddr : &ipv4->daddr) = to->word[3];
		*(__be16 *)(ip + sizeof(*ipv4) + port) = translation->port;
	} else {
		__builtin_memcpy(translation->source ? &ipv6->saddr : &ipv6->daddr, to, 16);
		*(__be16 *)(ip + sizeof(*ipv6) + port) = translation->port;
	}
}

static __always_inline int put_translated_checksum(context *ctx, __u8 family, __u32 l4,
						   const struct headers *headers,
						   const struct translation *translation)
{
	bool udp = headers->key.protocol == IPPROTO_UDP;
	const struct address *from =
		translation->source ? &headers->key.source : &headers->key.destination;
	__be16 port =
		translation->source ? headers->key.source_port : headers->key.destination_port;
	__u32 offset = l4 + (udp ? 6 : 16);

	if (update_checksum(ctx, offset, address_difference(family, from, &translation->address, 0),
			    true, udp))
		return -1;
	if (port == translation->port)
		return 0;
	return update_checksum(ctx, offset, csum_difference16(port, translation->port, 0), false,
			       udp);
}

/* The kernel refused a change after the packet was partly changed. */
static __always_inline int established_failed(void)
{
	struct verdict verdict = { .peer = NO_PEER };

	drop(&verdict, DROP_REWRITE_FAILED);
	record(&verdict);
	return discard();
}

#endif
