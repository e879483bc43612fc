/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The fast path for packets of known flows: everything is decided from the packet's headers,
 * its flow and its peer, and then written in place. Anything unusual about the packet, the flow or
 * the path is left to the full path, with nothing changed. Both paths treat the same packet alike, which
 * the differential test verifies.
 *
 *  established_receive.h   from the wire to a Pod of this Node
 *  established_forward.h   from the wire to the wire
 *  established_send.h      from a Pod of this Node to a peer or the outside
 */
#ifndef FAIRWAY_ESTABLISHED_H
#define FAIRWAY_ESTABLISHED_H

#include "emit.h"
#include "headers.h"
#include "peer_count.h"
#include "rewrite.h"
#include "route.h"
#include "service.h"
#include "track.h"
#include "work.h"

/* Not valid results of a TC or XDP program: the packet takes the full path. */
#define NOT_ESTABLISHED (-2)
#define UNKNOWN_FLOW (-3) /* and no flow has its tuple */
#define CROSSING (-4)	  /* established_forward goes on */
#define STALE_FLOW (-6)	  /* flow_renew may make it current */

/* The flow of a packet, unless the packet removes a mark of a FIN or a reset. Later its values are used only
 * if flow_holds; the packet may change its state: flow_advances. */
static __always_inline struct flow_match flow_running(const struct headers *headers, __u32 hash,
						      bool own, const struct node_config *node,
						      __u64 now)
{
	struct flow_match match = flow_find(&headers->key, hash, own);
	const struct flow *flow = match.flow;
	__u8 marks;

	if (!flow)
		return match;
	/* Any packet removes the mark of a reset, data that of a FIN. The last acknowledgements of a
	 * connection remove none. */
	marks = flow_reset(match.direction);
	if (has_payload(headers) && !(headers->tcp & TCP_FIN))
		marks |= flow_fin(match.direction);
	if (flow_expired(flow, node, now) || flow->flags & marks)
		match.flow = NULL;
	else if (flow->flags & FLOW_DNAT && flow_needs_backend(flow, match.direction) &&
		 flow_backend(flow) && !(backend_state(flow_backend(flow)) & BACKEND_SERVES))
		match.flow = NULL;
	return match;
}

/* Likewise, when all that it remembers is of this epoch. */
static __always_inline struct flow_match flow_established(const struct headers *headers, __u32 hash,
							  bool own, const struct node_config *node,
							  __u32 epoch, __u64 now)
{
	struct flow_match match = flow_running(headers, hash, own, node, now);

	if (match.flow && !flow_current(match.flow, epoch))
		match.flow = NULL;
	keep_order();
	return match;
}

/* The values read from the flow are consistent, and of this epoch. */
static __always_inline bool flow_holds(const struct flow_match *match, __u32 epoch)
{
	return flow_still(match) && flow_current(match->flow, epoch);
}

/* Network policy has judged the flow since the peer's addresses last changed their meaning. `peer` may be
 * NULL. */
static __always_inline bool peer_judged(const struct peer *peer, const struct flow *flow)
{
	return peer && peer->policy_epoch == flow->remote_epoch;
}

/* The packet is the first answer, the originator's first after it, or the first to close its direction. */
static __always_inline bool flow_advances(const struct flow *flow, __u8 direction,
					  const struct headers *headers)
{
	__u16 flags = flow->flags;

	return (direction == FLOW_REPLY ? !(flags & FLOW_REPLIED)
					: flow_confirms(flags, headers->tcp)) ||
	       (headers->tcp & TCP_FIN && !(flags & flow_fin(direction)));
}

/* Like flow_keep, for established TCP and UDP. Does nothing while another CPU writes, or if the slot belongs to
 * another flow by now. */
stage int flow_advance(__u32 slot, __u32 claim, __u8 direction, __u8 tcp, bool payload)
{
	struct flow *flow = flow_at(slot);
	struct flow_progress progress;
	int spare;

	if (!flow || !flow_lock(flow, claim))
		return -1;
	progress.state = flow->state;
	progress.flags = flow->flags;
	spare = -flow_is_spare(progress.state, progress.flags);
	if (flow->protocol == IPPROTO_TCP)
		tcp_advance(&progress, direction, tcp, payload);
	else
		udp_advance(&progress, direction);
	spare += flow_is_spare(progress.state, progress.flags);
	if (spare)
		flow_count(flow, 0, spare);
	flow->state = progress.state;
	flow->flags = progress.flags;
	claim_unlock(flow, claim);
	return 0;
}

static __always_inline void flow_follow(const struct flow_match *match,
					const struct headers *headers)
{
	if (flow_advances(match->flow, match->direction, headers))
		flow_advance(match->slot, match->claim, match->direction, headers->tcp,
			     has_payload(headers));
}

/* Between this Node's address and a peer's, a packet may be one of a tunnel, or look like one: the full path
 * has to look at it. */
static __always_inline bool flow_may_tunnel(const struct flow *flow)
{
	return flow->route_flags & ROUTE_PEER_NODE && flow->protocol == IPPROTO_UDP;
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

/* The result of a translation: the packet's new tuple, and by how much the checksums differ. */
struct translation {
	const struct flow_key *to; /* in work.target; NULL: there is none */
	__u32 addresses;
	__u32 ports;
};

/* The translation of a packet of the flow. False: the packet takes the full path. */
static __always_inline bool translation_find(struct translation *translation,
					     const struct flow_match *match, __u8 family,
					     const struct headers *headers)
{
	struct work *work;

	translation->to = NULL;
	translation->addresses = 0;
	translation->ports = ~0U;
	if (!flow_translates(match->flow))
		return true;
	work = work_space();
	if (!work)
		return false;
	flow_target(&work->target, match->flow, match->direction);
	translation->to = &work->target;
	translation->addresses = addresses_difference(family, &headers->key, translation->to, 0);
	translation->ports = csum_add(~ports_of(&headers->key), ports_of(translation->to));
	return true;
}

/* IPv4's header checksum compensates changes of its header; IPv6 has none, so a sum that the NIC
 * made of the whole packet (CHECKSUM_COMPLETE) must be updated. Keeps packet pointers valid. */
static __always_inline void csum_follow(context *ctx, __u8 family,
					const struct translation *translation)
{
#ifndef FAIRWAY_XDP
	__u32 difference = bpf_htons(0xfffe); /* of a hop limit that is one less */

	if (family == 4)
		return;
	if (translation->to)
		difference = csum_add(difference, translation->addresses);
	bpf_csum_update(ctx, difference);
#endif
}

/* Writes a translation, except for the L4 checksum, which comes last because it is updated by
 * offset and may invalidate packet pointers. */
static __always_inline void put_translation(void *ip, __u8 family, struct headers *headers,
					    const struct translation *translation)
{
	struct iphdr *ipv4 = ip;
	struct ipv6hdr *ipv6 = ip;

	if (!translation->to)
		return;
	if (family == 4) {
		headers->ip_check = csum_apply(headers->ip_check, translation->addresses);
		ipv4->saddr = translation->to->source.word[3];
		ipv4->daddr = translation->to->destination.word[3];
		*(__u32 *)(ipv4 + 1) = ports_of(translation->to);
	} else {
		/* The addresses are the first 32 bytes of a tuple, too. */
		__builtin_memcpy(&ipv6->saddr, translation->to, 2 * sizeof(struct address));
		*(__u32 *)(ipv6 + 1) = ports_of(translation->to);
	}
}

/* `l4` is the offset of the L4 header. */
static __always_inline int put_translated_checksum(context *ctx, __u32 l4,
						   const struct translation *translation)
{
	bool udp;

	if (!translation->to)
		return 0;
	udp = translation->to->protocol == IPPROTO_UDP;
	return update_translated(ctx, l4 + (udp ? 6 : 16), translation->addresses,
				 translation->ports, udp);
}

#ifndef FAIRWAY_XDP

/* Clamps the MSS of a SYN-ACK between a Pod of this Node and one of a peer whose path has this `mtu`. */
static __always_inline int put_mss(struct __sk_buff *ctx, __u8 family,
				   const struct headers *headers, __u32 mtu)
{
	__u32 ip = header_size(family), l4 = ETH_HLEN + ip;

	return mss_lower(ctx, l4, ETH_HLEN + headers->before_payload, ip + 20, mtu);
}

#endif

/* The kernel refused a change after the packet was partly changed. */
static __always_inline int established_failed(void)
{
	struct verdict verdict = { .peer = NO_PEER };

	drop(&verdict, DROP_REWRITE_FAILED);
	record(&verdict);
	return discard();
}

#endif
