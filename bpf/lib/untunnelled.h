/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets from a peer's pod CIDR that come without a tunnel. The only evidence for their sender is the source
 * address, which any host on the Node network can forge. Three checks:
 *
 *  1. was it untunnelled?             TC does not see the tunnel that XDP has stripped: the frame's source MAC shows it
 *  2. does the peer send untunnelled? peer.flags, which the agent writes: the peer's announcement, else this Node's mode
 *  3. did the peer send this one?     for a new flow, where the peer is on this Node's link: the frame's source MAC must
 *                                     be that of the peer's last direct answer to a probe, or of the kernel's
 *                                     neighbour; a device without ARP has none
 */
#ifndef FAIRWAY_UNTUNNELLED_H
#define FAIRWAY_UNTUNNELLED_H

#ifndef FAIRWAY_XDP
#include "fib.h"
#endif
#include "next_hop.h"
#include "route.h"
#include "work.h"

static __always_inline __u64 ethernet_source(const void *ethernet)
{
	return mac_at(ethernet + ETH_ALEN);
}

/* 1. `ethernet` is the frame's Ethernet header, at TC. */
static __always_inline bool was_stripped(const void *ethernet, const struct node_config *node)
{
	return node->stripped_mac && ethernet_source(ethernet) == node->stripped_mac;
}

/* 2. `peer`: NULL for none. */
static __always_inline bool sends_untunnelled(const struct peer *peer)
{
	return peer && !(peer->flags & PEER_TUNNELLED_ONLY);
}

enum link_answer {
	LINK_PEER,    /* the peer's MAC, or unknown */
	LINK_ANOTHER, /* another host's */
	LINK_ASK_TC,  /* XDP: the kernel has to be asked */
};

#ifndef FAIRWAY_XDP

/* The kernel's neighbour has the new MAC of a peer that has changed it. `proven`: there is another one. */
static __always_inline enum link_answer link_ask(struct __sk_buff *ctx, struct work *work,
						 const struct peer *path, bool proven,
						 const struct node_config *node)
{
	struct way *way = &work->remote.way;
	enum link_answer answer;

	fib_question_peer(&work->question, path, false, work->packet.family, node);
	fib_ask(ctx, work);
	if (way->resolved)
		answer = !way->destination_mac || way->destination_mac == work->arrival.source_mac
				 ? LINK_PEER
				 : LINK_ANOTHER;
	else
		answer = proven ? LINK_ANOTHER : LINK_PEER;
	__builtin_memset(way, 0, sizeof(*way));
	return answer;
}

#endif

#define link_check FOR_HOOK(link_check)
/* 3. Two array look-ups while the MAC is the proven one; else the kernel's FIB is asked. */
stage int link_check(context *ctx, struct work *work, __u32 id, const struct node_config *node)
{
	const struct path_proof *proof;
	const struct peer *path;
	__u32 index;

	if (!work || !node)
		return LINK_ANOTHER;
	index = (id * 2 + (work->packet.family == 6)) * 2 + PROBE_DIRECT;
	path = bpf_map_lookup_elem(&peer_paths, &index);
	/* Behind a router every peer has the router's MAC. */
	if (!path || path->path != PATH_DIRECT)
		return LINK_PEER;
	proof = bpf_map_lookup_elem(&path_proofs, &index);
	/* 0: none, as on a link without MACs. */
	if (proof && proof->source_mac && proof->source_mac == work->arrival.source_mac)
		return LINK_PEER;
#ifdef FAIRWAY_XDP
	return LINK_ASK_TC;
#else
	return link_ask(ctx, work, path, proof && proof->source_mac, node);
#endif
}

#endif
