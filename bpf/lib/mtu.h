/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sizes: whether a packet fits its path, and the MSS that keeps TCP within it (RFC 6691).
 */
#ifndef FAIRWAY_MTU_H
#define FAIRWAY_MTU_H

#include "packet.h"
#include "rewrite.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_HEADER_MAX 60

#define GSO_BY_FRAGS 0xffff

struct gso {
	__u32 size; /* of a segment's payload, 0: not GSO, or a bundle */
	__u32 segments; /* 1: not GSO; 0: the sender has not counted them (SKB_GSO_DODGY: taps, virtio) */
	__u32 bundle; /* SCTP packets of different lengths, none longer than the sender's path MTU */
};

static __always_inline struct gso gso_of(context *ctx)
{
	struct gso gso = { .segments = 1 };

#ifndef FAIRWAY_XDP
	__u32 size = ctx->gso_size, segments;
	__u64 bundle;

	/* Read once: clang would fold a second read into a modified context pointer. */
	hide(size);
	if (size) {
		/* Without a branch: the verifier would walk every way behind it twice. */
		bundle = ((__u64)(size ^ GSO_BY_FRAGS) - 1) >> 63;
		hide(bundle);
		gso.bundle = bundle;
		gso.size = size & (__u32)(bundle - 1);
		segments = ctx->gso_segs;
		hide(segments);
		gso.segments = segments;
	}
#endif
	return gso;
}

/* Length of the largest IP packet that this one becomes on the wire; 0: unknown, for a bundle. */
static __always_inline __u32 wire_length(const struct packet *packet, const struct gso *gso)
{
	if (gso->bundle)
		return 0;
	return gso->size ? headers_length(packet) + gso->size : packet->length;
}

#ifndef FAIRWAY_XDP

static __always_inline bool is_syn(const struct packet *packet)
{
	return packet->key.protocol == IPPROTO_TCP && packet->l4_type & TCP_SYN &&
	       !(packet->flags & PACKET_FRAGMENT);
}

struct option_search {
	context *ctx;
	__u32 offset; /* of the next option in the frame */
	__u32 end;
	__u32 mss; /* offset of the MSS value, 0: none */
	__u32 pad;
};

static long option_try(__u32 index, struct option_search *search)
{
	__u8 option[2];

	if (search->offset >= search->end ||
	    bpf_skb_load_bytes(search->ctx, search->offset, option, 1))
		return 1;
	if (option[0] == TCP_OPTION_END)
		return 1;
	if (option[0] == TCP_OPTION_NOP) {
		search->offset += 1;
		return 0;
	}
	if (search->offset + 2 > search->end ||
	    bpf_skb_load_bytes(search->ctx, search->offset, option, 2) || option[1] < 2)
		return 1;
	if (option[0] == TCP_OPTION_MSS) {
		if (option[1] == 4 && search->offset + 4 <= search->end)
			search->mss = search->offset + 2;
		return 1;
	}
	search->offset += option[1];
	return 0;
}

/* Lowers the MSS of a SYN, whose TCP header is at `l4` and ends at `end`, to the size that `mtu` leaves for a
 * segment behind `headers` bytes. */
stage int mss_lower(struct __sk_buff *ctx, __u32 l4, __u32 end, __u32 headers, __u32 mtu)
{
	struct option_search search = { .ctx = ctx, .offset = l4 + 20, .end = end };
	__be16 old, new;

	if (mtu <= headers)
		return 0;
	bpf_loop(TCP_HEADER_MAX - 20, option_try, &search, 0);
	if (!search.mss)
		return 0;
	if (bpf_skb_load_bytes(ctx, search.mss, &old, 2))
		return -1;
	if (bpf_ntohs(old) <= mtu - headers)
		return 0;
	new = bpf_htons(mtu - headers);
	if (bpf_skb_store_bytes(ctx, search.mss, &new, 2, 0))
		return -1;
	count_event(EVENT_MSS_CLAMPED);
	/* An option at an odd offset spans two words of the checksum. */
	if ((search.mss - l4) & 1) {
		old = __builtin_bswap16(old);
		new = __builtin_bswap16(new);
	}
	return update_checksum(ctx, l4 + 16, csum_difference16(old, new, 0), false, false);
}

/* Clamps the MSS to that of a segment without IP and TCP options. */
static __always_inline int mss_clamp(struct __sk_buff *ctx, const struct packet *packet, __u32 mtu)
{
	__u32 headers = (packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + 20;

	return mss_lower(ctx, packet->l4, packet->l4 + packet->l4_header, headers, mtu);
}

#endif
#endif
