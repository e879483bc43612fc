/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A Pod's packet whose next hop the kernel is still resolving is passed on and waits in the kernel. The slow path
 * gets a copy of its beginning and sends the Pod an ICMP error if the resolution fails; the kernel reports that only
 * to sockets of the Node.
 *
 * On the Node's own links, the next hop is a host of the Pod's choice. Each packet to one that is not resolved may
 * make an entry in the kernel's neighbour table, which has room for about a thousand and belongs to all, so a Pod
 * may send only NEIGHBOUR_RATE of them. Gateways and peers are few, and not limited.
 */
#ifndef FAIRWAY_UNRESOLVED_H
#define FAIRWAY_UNRESOLVED_H

#include "slow_path.h"
#include "translation.h"
#include "work.h"

static __always_inline void next_hop_address(struct address *address, const struct way *way)
{
	if (way->neighbour.nh_family == AF_INET)
		address_set_ipv4(address, way->neighbour.ipv4_nh);
	else
		__builtin_memcpy(address, way->neighbour.ipv6_nh, sizeof(*address));
}

/* False: the packet is dropped. Uses only the Pod's own share of the slow path, so other Pods do not pay for an
 * address scan. */
stage bool unresolved_goes(struct __sk_buff *ctx, struct work *work, const struct node_config *node)
{
	struct slow_path_header header = { .kind = SLOW_UNRESOLVED, .hook = HOOK_FROM_POD };
	const struct endpoint *sender;
	const struct flow_key *target;
	const struct packet *packet;
	const struct way *way;
	struct address source;
	bool chosen, untold;
	__u32 tokens;

	if (!work || !node)
		return false;
	packet = &work->packet;
	way = &work->remote.way;
	target = target_of(work);
	next_hop_address(&header.next_hop, way);
	chosen = !work->remote.to_peer &&
		 address_equal(&header.next_hop,
			       target ? &target->destination : &packet->key.destination);
	untold = packet->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT);
	if (untold && !chosen)
		return true;
	/* Before 6.2 the key of a look-up cannot be in what a function was given. */
	source = packet->key.source;
	sender = bpf_map_lookup_elem(&endpoints, &source);
	if (!sender)
		return true;
	header.pod = sender->index;
	tokens = chosen ? SLOW_PATH_SHARE / NEIGHBOUR_RATE : 1;
	if (!tokens_take(BUCKET_COMMON + header.pod, SLOW_PATH_SHARE, tokens,
			 bpf_ktime_get_coarse_ns()))
		return !chosen;
	if (untold)
		return true;
	header.ifindex = ctx->ifindex;
	header.mtu = work->remote.to_peer ? work->remote.mtu : 0;
	header.length = packet->length < SLOW_PATH_FRAME ? packet->length : SLOW_PATH_FRAME;
	header.next_hop_ifindex = way->ifindex;
	if (!slow_path_write(ctx, packet, &header, SLOW_PATH_FRAME))
		work->verdict.slow_path_kind = SLOW_UNRESOLVED;
	return true;
}

#endif
