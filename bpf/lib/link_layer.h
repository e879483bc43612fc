/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Devices without an Ethernet header (tun, WireGuard, PPP, IPIP): a packet begins with its IP header
 * there. Towards them the kernel takes the header off (bpf_redirect, bpf_redirect_neigh).
 */
#ifndef FAIRWAY_LINK_LAYER_H
#define FAIRWAY_LINK_LAYER_H

#include "context.h"

/* The packet begins with its IP header. A MAC address may look like an IP header, so the offset of the network header
 * is checked, too: with an Ethernet header, it is nearer to the end. */
static __always_inline bool is_bare_ip(struct __sk_buff *ctx)
{
	__u8 *first = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, last;
	__u64 length;

	if (first + 1 > end || (*first >> 4 != 4 && *first >> 4 != 6))
		return false;
	/* On registers of its own, and in all 64 bits: pointers cannot be narrowed. */
	hide(first);
	hide(end);
	length = end - first;
	hide(length);
	return !bpf_skb_load_bytes_relative(ctx, length - 1, &last, 1, BPF_HDR_START_NET);
}

/* Puts an Ethernet header without addresses before a bare IP packet. The kernel knows of it and skips
 * it, wherever the packet goes from here. */
static __always_inline int ethernet_push(struct __sk_buff *ctx)
{
	__be16 protocol = ctx->protocol;

	return bpf_skb_change_head(ctx, ETH_HLEN, 0) ||
	       bpf_skb_store_bytes(ctx, offsetof(struct ethhdr, h_proto), &protocol,
				   sizeof(protocol), 0);
}

/* Where the IP header is, and its ethertype; 0: neither IPv4 nor IPv6. */
static __always_inline __be16 ip_header_at(struct __sk_buff *ctx, bool bare, __u32 *l3)
{
	struct ethhdr *ethernet;
	__be16 ethertype;

	*l3 = 0;
	ethertype = ctx->protocol;
	if (!bare) {
		ethernet = bytes_at(ctx, 0, sizeof(*ethernet));
		if (!ethernet)
			return 0;
		*l3 = ETH_HLEN;
		ethertype = ethernet->h_proto;
	}
	return ethertype == bpf_htons(ETH_P_IP) || ethertype == bpf_htons(ETH_P_IPV6) ? ethertype
										      : 0;
}

#endif
