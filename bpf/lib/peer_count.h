/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * peer_counters: packets to and from a peer's Pods. Both sides count the same packets, and each segment
 * of a GSO packet: the number that a peer reports as received is compared with the number sent.
 */
#ifndef FAIRWAY_PEER_COUNT_H
#define FAIRWAY_PEER_COUNT_H

#include "mtu.h"

/* Packets that this one becomes on the wire: `headers` bytes are IP's and L4's, `length` is that of all. */
static __always_inline __u32 segments_of(__u32 length, __u32 headers, const struct gso *gso)
{
	if (gso->segments)
		return gso->segments;
	return length > headers + gso->size ? (length - headers - 1) / gso->size + 1 : 1;
}

/* How many of the segments are longer than LARGE_PACKET. The last one may be short. */
static __always_inline __u32 large_segments(__u32 length, __u32 headers, __u32 segments, __u32 size)
{
	__u32 last = length - (segments - 1) * size;

	if (!size)
		return length > LARGE_PACKET;
	if (headers + size <= LARGE_PACKET)
		return 0;
	return segments - (last <= LARGE_PACKET);
}

static __always_inline void count_sent(__u32 index, bool tunnel, __u32 length, __u32 headers,
				       const struct gso *gso)
{
	struct peer_counter *counter = bpf_map_lookup_elem(&peer_counters, &index);
	__u32 segments = segments_of(length, headers, gso);
	/* Each segment carries the headers again. */
	__u64 bytes = length + (__u64)(segments - 1) * headers;

	if (!counter)
		return;
	if (tunnel) {
		counter->tunnel_packets += segments;
		counter->tunnel_bytes += bytes;
	} else {
		counter->direct_packets += segments;
		counter->direct_bytes += bytes;
		counter->direct_large += large_segments(length, headers, segments, gso->size);
	}
}

/* `here`: this program delivers the packet; otherwise only a removed tunnel (`stripped`) is counted. */
static __always_inline void count_received(__u32 index, bool here, bool stripped, __u32 length,
					   __u32 headers, const struct gso *gso)
{
	struct peer_counter *counter = bpf_map_lookup_elem(&peer_counters, &index);
	__u32 segments = segments_of(length, headers, gso);
	__u32 large = large_segments(length, headers, segments, gso->size);

	if (!counter)
		return;
	if (here) {
		counter->received_packets += segments;
		counter->received_large += large;
	}
	if (stripped) {
		counter->received_tunnel_packets += segments;
		counter->received_tunnel_large += large;
	}
}

#endif
