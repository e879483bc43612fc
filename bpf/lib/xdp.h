/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets that an XDP redirect into a Pod's veth would silently lose or damage, and that must therefore
 * be passed up.
 */
#ifndef FAIRWAY_XDP_H
#define FAIRWAY_XDP_H

#include "rewrite.h"

/* Every Pod's MTU is at least this. */
#define XDP_ALWAYS_FITS 512

/* True if a packet exceeds the MTU of the veth; in `encap`, Pods have a smaller MTU than the wire. */
static __always_inline bool too_long_for_redirect(context *ctx, __u32 length, __u32 ifindex)
{
	__u32 mtu = length;

	return length > XDP_ALWAYS_FITS && bpf_check_mtu(ctx, ifindex, &mtu, 0, 0);
}

/* True for a UDP checksum that the sender's stack left to a NIC, which a veth is not: the field holds
 * only the pseudo header's sum, and only the skb knows. */
static __always_inline bool udp_checksum_unfinished(const struct flow_key *key, __u8 family,
						    __be16 length, __sum16 check)
{
	const __u32 *word = (const __u32 *)&key->source;
	__u64 sum = (__u64)bpf_htons(IPPROTO_UDP) + length + word[3] + word[7];

	if (family == 6)
		sum += (__u64)word[0] + word[1] + word[2] + word[4] + word[5] + word[6];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~csum_fold(sum) == check;
}

#endif
