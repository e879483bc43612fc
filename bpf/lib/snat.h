/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Source NAT (RFC 3022, 4787, 5382, 5508): a flow that starts with it gets an address of the Node and a
 * free port, and keeps both.
 *
 *  1. create        claim a flow, then try ports until the reply tuple is unique
 *  2. translation   the translation of a known flow's packet, in either direction
 *  3. related       ICMP errors, by the packet that they quote
 *
 * Only TC programs create translations; both hooks undo them.
 */
#ifndef FAIRWAY_SNAT_H
#define FAIRWAY_SNAT_H

#include "conntrack.h"
#include "rewrite.h"
#include "track.h"

/* Stage 2. False: no translation. */
static __always_inline bool snat_translation(const struct flow *flow, __u8 direction,
					     struct translation *translation)
{
	if (!(flow->flags & FLOW_SNAT))
		return false;
	translation->source = direction == FLOW_ORIGINAL;
	translation->pad = 0;
	if (direction == FLOW_ORIGINAL) {
		translation->address = flow->snat_address;
		translation->port = flow->snat_port;
	} else {
		translation->address = flow->key.source;
		translation->port = flow->key.source_port;
	}
	return true;
}

#ifndef FAIRWAY_XDP

struct port_search {
	context *ctx;
	struct work *work;
	const struct node_config *node;
	__u16 candidate; /* host order */
	__u8 found;
	__u8 pad[5];
};

static long port_try(__u32 index, struct port_search *search)
{
	const struct node_config *node = search->node;
	struct work *work = search->work;

	work->reply.destination_port = bpf_htons(search->candidate);
	if (tuple_free(&work->reply, node, work->search.now) && port_claim(search->ctx) &&
	    !publish(&work->reply, work->search.found, work->search.taken, FLOW_REPLY)) {
		search->found = 1;
		return 1;
	}
	search->candidate = search->candidate >= node->snat_port_last ? node->snat_port_first
								      : search->candidate + 1;
	return 0;
}

static __always_inline bool protocol_has_translated_port(const struct packet *packet)
{
	return packet->key.protocol == IPPROTO_TCP || packet->key.protocol == IPPROTO_UDP ||
	       packet->flags & PACKET_ECHO_REQUEST;
}

/* The first port to try: the Pod's own where it is in the range, else one that follows from the Pod's
 * address and port alone, so that it is the same towards every destination where it can be
 * (RFC 4787 REQ-1). */
static __always_inline __u16 port_first(const struct packet *packet, const struct node_config *node)
{
	__u16 first = node->snat_port_first, last = node->snat_port_last;
	__u16 own = bpf_ntohs(packet->key.source_port);
	const struct key_words *words = key_words(&packet->key);
	__u64 spread;

	if (!protocol_has_translated_port(packet) || (own >= first && own <= last))
		return own;
	spread = side_hash(words->source, packet->key.source_port, &node->port_hash);
	return first + (__u32)((spread * HASH_SUM) >> 32) % (last - first + 1);
}

/* Stage 1. Gives work->flow, which begins with this packet, a translation of its source to `address`
 * and a slot, which counts for `endpoint`. The slot, or the drop reason made negative. */
stage int snat_create(struct __sk_buff *ctx, const struct packet *packet,
		      const struct node_config *node, const struct address *address, __u16 endpoint)
{
	struct work *work = work_space();
	struct port_search search = { .ctx = ctx, .work = work, .node = node };
	__u32 ports, tries = 1;

	if (!packet || !node || !address || !work)
		return -DROP_MALFORMED;
	if (address_is_zero(address))
		return -DROP_NO_SNAT_ADDRESS;
	/* Another CPU may just make the same flow. */
	if (!tuple_free(&work->flow.key, node, work->flow.last_seen) ||
	    !flow_slot(work, node, endpoint))
		return -DROP_FLOW_TABLE_FULL;
	key_reverse(&work->reply, &work->flow.key);
	work->reply.destination = *address;
	search.candidate = port_first(packet, node);
	if (protocol_has_translated_port(packet)) {
		ports = node->snat_port_last - node->snat_port_first + 1;
		tries = ports < SNAT_TRIES ? ports : SNAT_TRIES;
	}
	bpf_loop(tries, port_try, &search, 0);
	if (!search.found) {
		flow_abandon(work);
		return -DROP_SNAT_PORTS_EXHAUSTED;
	}
	work->flow.snat_address = *address;
	work->flow.snat_port = work->reply.destination_port;
	work->flow.flags |= FLOW_SNAT;
	if (flow_publish(work, node)) {
		flow_abandon(work);
		return -DROP_FLOW_TABLE_FULL;
	}
	return work->search.found;
}

/*
 * Stage 3. Parses the packet that an ICMP error quotes and finds its flow, in the direction of the
 * error. -1: not found.
 */
static __always_inline int related_lookup(context *ctx, const struct packet *error,
					  struct packet *quoted, const struct node_config *node,
					  __u64 now)
{
	struct flow_key key;

	if (parse(ctx, quoted, error->l4 + 8,
		  error->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), true))
		return -1;
	/* An error goes to the sender of the packet that it quotes, and to nobody else. */
	if (quoted->flags & PACKET_LATER_FRAGMENT ||
	    !address_equal(&error->key.destination, &quoted->key.source))
		return -1;
	key_reverse(&key, &quoted->key);
	return flow_lookup(&key, node, now) ? 0 : -1;
}

/*
 * Translates the packet that an error quotes; `outer` is the translation of the error itself. In
 * original direction, the error's source and the quoted destination become the Node's address; in
 * reply direction, the error's destination and the quoted source are translated.
 */
stage int related_rewrite(struct __sk_buff *ctx, const struct packet *error,
			  const struct packet *quoted, const struct translation *outer)
{
	struct translation inner;

	if (!error || !quoted || !outer)
		return -1;
	inner = *outer;
	inner.source = !outer->source;
	return rewrite_quoted(ctx, error, quoted, &inner);
}

#endif
#endif
