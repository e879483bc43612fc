/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * peer_counters: packets to and from a peer's Pods. Both sides count the same packets, and each segment
 * of a GSO packet: the number that a peer reports as received is compared with the number sent.
 */
#ifndef FAIRWAY_PEER_COUNT_H
#define FAIRWAY_PEER_COUNT_H

#include "mtu.h"

/* Of the segments of a packet, those that are longer than LARGE_PACKET: `headers` bytes are IP's and
 * L4's, `length` is that of all. The last segment may be a small one. */
static __always_inline __u32 large_segments(__u32 length, __u32 headers, const struct gso *gso)
{
	__u32 last = length - (gso->segments - 1) * gso->size;

	if (!gso->size)
		return length > LARGE_PACKET;
	if (headers + gso->size <= LARGE_PACKET)
		return 0;
	return gso->segments - (last <= LARGE_PACKET);
}

static __always_inline void count_sent(__u32 index, bool tunnel, __u32 length, __u32 headers,
				       const struct gso *gso)
{
	struct peer_counter *counter = bpf_map_lookup_elem(&peer_counters, &index);
	/* Each segment carries the headers again. */
	__u64 bytes = length + (__u64)(gso->segments - 1) * headers;

	if (!counter)
		return;
	if (tunnel) {
		counter->tunnel_packets += gso->segments;
		counter->tunnel_bytes += bytes;
	} else {
		counter->direct_packets += gso->segments;
		counter->direct_bytes += bytes;
		counter->direct_large += large_segments(length, headers, gso);
	}
}

/* `here`: this program delivers the packet; otherwise only a removed tunnel (`stripped`) is counted. */
static __always_inline void count_received(__u32 index, bool here, bool stripped, __u32 length,
					   __u32 headers, const struct gso *gso)
{
	struct peer_counter *counter = bpf_map_lookup_elem(&peer_counters, &index);
	__u32 large = large_segments(length, headers, gso);

	if (!counter)
		return;
	if (here) {
		counter->received_packets += gso->segments;
		counter->received_large += large;
	}
	if (stripped) {
		counter->received_tunnel_packets += gso->segments;
		counter->received_tunnel_large += large;
	}
}

#endif
