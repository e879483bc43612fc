/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A Pod's packet whose next hop the kernel is still resolving is passed on and waits in the kernel. The slow path
 * gets a copy of its beginning and sends the Pod an ICMP error if the resolution fails; the kernel reports that only
 * to sockets of the Node.
 */
#ifndef FAIRWAY_UNRESOLVED_H
#define FAIRWAY_UNRESOLVED_H

#include "slow_path.h"
#include "work.h"

/* Uses only the Pod's own share of the slow path, so other Pods do not pay for an address scan. */
stage int unresolved_tell(struct __sk_buff *ctx, struct work *work, const struct node_config *node)
{
	struct slow_path_header header = { .kind = SLOW_UNRESOLVED, .hook = HOOK_FROM_POD };
	const struct endpoint *sender;
	const struct packet *packet;
	const struct way *way;
	struct address source;

	if (!work || !node)
		return -1;
	packet = &work->packet;
	way = &work->remote.way;
	if (packet->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT))
		return 0;
	/* Before 6.2 the key of a look-up cannot be in what a function was given. */
	source = packet->key.source;
	sender = bpf_map_lookup_elem(&endpoints, &source);
	if (!sender)
		return 0;
	header.pod = sender->index;
	if (!tokens_take(BUCKET_COMMON + header.pod, SLOW_PATH_SHARE, 1, bpf_ktime_get_coarse_ns()))
		return 0;
	header.ifindex = ctx->ifindex;
	header.mtu = work->remote.to_peer ? work->remote.mtu : 0;
	header.length = packet->length < SLOW_PATH_FRAME ? packet->length : SLOW_PATH_FRAME;
	header.next_hop_ifindex = way->ifindex;
	if (way->neighbour.nh_family == AF_INET)
		address_set_ipv4(&header.next_hop, way->neighbour.ipv4_nh);
	else
		__builtin_memcpy(&header.next_hop, way->neighbour.ipv6_nh, sizeof(header.next_hop));
	if (!slow_path_write(ctx, packet, &header, SLOW_PATH_FRAME))
		work->verdict.slow_path_kind = SLOW_UNRESOLVED;
	return 0;
}

#endif
