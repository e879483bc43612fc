/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Source NAT (RFC 3022, 4787, 5382, 5508): a flow that starts with it gets an address of the Node and a
 * port that is free towards its destination, and keeps both. Only TC programs create such flows.
 *
 * A connection that is over holds its port until it expires: its last packets may come again, and the other
 * end may remember it. A new connection that finds none of SNAT_FREE_TRIES ports free takes that of one of the
 * same Pod that is over. UDP and echo flows, whose end no packet shows, give up theirs after
 * SNAT_SILENT_SECONDS of silence. Where none of SNAT_TRIES ports is free then, one of a Pod that has many more flows is
 * taken, as in a full table.
 */
#ifndef FAIRWAY_SNAT_H
#define FAIRWAY_SNAT_H

#include "conntrack.h"
#include "translation.h"

struct port_search {
	context *ctx;
	struct work *work;
	__u16 candidate; /* host order */
	__u8 found;
	__u8 own; /* the address is kept: it is the client's own, with the ports of that client */
	__u16 first;
	/* The tries from which ports of flows that are over, and then those of heavy Pods, are free, too. */
	__u8 over_at;
	__u8 heavy_at;
};

/* The Node itself does not have the port. The client's own address is no address of the Node, but the Node may have a
 * connection of its own with the client, which has no flow. */
static __always_inline bool port_unused(struct port_search *search, const struct work *work)
{
	if (!search->own)
		return port_claim(search->ctx);
	return !work->choice.to_node || !connection_exists(search->ctx);
}

static __always_inline bool port_free(struct port_search *search, struct work *work,
				      const struct node_config *node)
{
	/* No flow is evicted for one that then cannot have the port. */
	if (work->search.yields)
		return port_unused(search, work) && tuple_free(work, &work->reply, node);
	/* First, because many ports are taken towards a popular destination, and this look-up costs less. */
	return tuple_free(work, &work->reply, node) && port_unused(search, work);
}

static long port_try(__u32 index, struct port_search *search)
{
	/* The frame of snat_create has no room for it: Linux 6.1 counts all frames together. */
	const struct node_config *node = node_configuration();
	struct work *work = search->work;

	if (!node)
		return 1;
	if (index == search->over_at || index == search->heavy_at) {
		search->candidate = search->first;
		work->search.yields = index == search->heavy_at ? YIELDS_HEAVY : YIELDS_OVER;
	}
	work->reply.destination_port = bpf_htons(search->candidate);
	if (port_free(search, work, node) && tuple_enter(work, node, FLOW_REPLY)) {
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

/* Gives work->flow, which begins with this packet and whose answers carry work->reply, a translation of
 * its source to `address` and a slot, which counts for `endpoint`. The slot, or the drop reason made
 * negative. */
stage int snat_create(struct __sk_buff *ctx, const struct packet *packet,
		      const struct node_config *node, const struct address *address, __u16 endpoint)
{
	struct work *work = work_space();
	struct port_search search = { .ctx = ctx, .work = work };
	__u32 ports, tries = 1;
	bool succeeds;
	__u16 first;

	if (!packet || !node || !address || !work)
		return -DROP_MALFORMED;
	if (address_is_zero(address))
		return -DROP_NO_SNAT_ADDRESS;
	work->search.yields = 0;
	if (!flow_slot(node, endpoint))
		return -DROP_FLOW_TABLE_FULL;
	work->reply.destination = *address;
	search.own = address_equal(address, &packet->key.source);
	first = port_first(packet, node);
	search.candidate = first;
	search.first = first;
	if (protocol_has_translated_port(packet)) {
		ports = node->snat_port_last - node->snat_port_first + 1;
		tries = ports < SNAT_TRIES ? ports : SNAT_TRIES;
	}
	succeeds = packet_succeeds(packet);
	search.over_at = succeeds && tries > SNAT_FREE_TRIES ? SNAT_FREE_TRIES : tries;
	/* Reuse the port of a connection that is over: its server may accept the SYN in TIME-WAIT (RFC 9293, 3.6.1). */
	search.heavy_at = search.over_at + (succeeds ? tries : 0);
	/* Of a single port, a newcomer would take whichever it likes. */
	bpf_loop(search.heavy_at + (tries > 1 ? tries : 0), port_try, &search, 0);
	work->search.yields = 0;
	if (!search.found) {
		flow_abandon(work);
		return -DROP_SNAT_PORTS_EXHAUSTED;
	}
	work->flow.flags |= FLOW_SNAT;
	flow_tuples(work);
	if (flow_publish(node, true)) {
		flow_abandon(work);
		return -DROP_FLOW_TABLE_FULL;
	}
	return work->search.found;
}

/*
 * A slot for work->flow where its packets must not leave without one, because a Service has given them
 * their destination. `address`: of the source, or NULL where that stays; then at most its port is
 * translated, where the answers' tuple is another flow's or that of a connection of the Node itself. The slot, or the
 * drop reason made negative.
 */
stage int translated_create(struct __sk_buff *ctx, const struct packet *packet,
			    const struct node_config *node, const struct address *address,
			    __u16 endpoint)
{
	const struct work *work = work_space();
	int slot;

	if (!packet || !node || !work)
		return -DROP_MALFORMED;
	if (address)
		return snat_create(ctx, packet, node, address, endpoint);
	/* A packet in the midst of a connection is of that connection, whose flow was lost. */
	if (work->choice.to_node && packet_opens(packet) && connection_exists(ctx))
		slot = FLOW_REPLY_TAKEN;
	else
		slot = flow_create(node, endpoint);
	if (slot == FLOW_REPLY_TAKEN)
		return snat_create(ctx, packet, node, &packet->key.source, endpoint);
	return slot < 0 ? -DROP_FLOW_TABLE_FULL : slot;
}

#endif
