/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The hook that the stages run at. A program file that defines FAIRWAY_XDP before its includes
 * gets the stages for struct xdp_md, any other for struct __sk_buff. FAIRWAY_HOOK, an enum hook,
 * names the hook to the slow path. Other files distinguish the two only where the kernel does
 * (encapsulation, redirects, GSO).
 */
#ifndef FAIRWAY_CONTEXT_H
#define FAIRWAY_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

#define AF_INET 2
#define AF_INET6 10

#ifdef FAIRWAY_XDP
typedef struct xdp_md context;
#define HOOK_IS_XDP true
#else
typedef struct __sk_buff context;
#define HOOK_IS_XDP false
#endif

/*
 * A stage that the verifier checks once, by itself, instead of on every path that leads to it. The
 * objects of all hooks define the same stages, and the linker keeps the first. So a stage that
 * depends on the kind of context has it in its name.
 */
#define stage __weak __noinline
#ifdef FAIRWAY_XDP
#define FOR_HOOK(name) name##_xdp
#else
#define FOR_HOOK(name) name##_tc
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Fairway runs on little-endian machines");

/* Headers end before this offset, which also bounds every offset for the verifier. */
#define HEADERS_MAX 1024

#define NS_PER_SECOND 1000000000ULL
#define NS_PER_MS 1000000ULL

/* Keeps the compiler from recomputing a checked value from its source. */
#define hide(value) asm volatile("" : "+r"(value))

static __always_inline void *bytes_in_place(context *ctx, __u32 offset, __u32 size)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u64 at = offset;

	/* The bound must be on the register that is added. */
	hide(at);
	if (at > HEADERS_MAX)
		return NULL;
	data += at;
	hide(data);
	if (data + size > end)
		return NULL;
	return data;
}

/* Returns a pointer to `size` (a constant) bytes at `offset` of the frame; NULL if it is
 * shorter. At TC it may pull them into the linear part, which invalidates all earlier packet
 * pointers. */
static __always_inline void *bytes_at(context *ctx, __u32 offset, __u32 size)
{
	void *bytes = bytes_in_place(ctx, offset, size);

#ifndef FAIRWAY_XDP
	if (!bytes && offset + size <= ctx->len && offset <= HEADERS_MAX) {
		if (bpf_skb_pull_data(ctx, offset + size))
			return NULL;
		bytes = bytes_in_place(ctx, offset, size);
	}
#endif
	return bytes;
}

static __always_inline __u32 frame_length(context *ctx)
{
#ifdef FAIRWAY_XDP
	return bpf_xdp_get_buff_len(ctx);
#else
	return ctx->len;
#endif
}

/* The kernel or the NIC removes VLAN tags before TC sees the frame. A tag of VLAN 0 carries only a
 * priority (IEEE 802.1Q, 6.9). At XDP the tag is still in the frame, which then is not IP. */
static __always_inline bool of_vlan(context *ctx)
{
#ifdef FAIRWAY_XDP
	return false;
#else
	return ctx->vlan_present && ctx->vlan_tci & 0xfff;
#endif
}

/* As in struct next_hop, in two loads. */
static __always_inline __u64 mac_at(const void *mac)
{
	return *(const __u32 *)mac | (__u64) * (const __u16 *)(mac + 4) << 32;
}

#ifndef PACKET_OTHERHOST
#define PACKET_OTHERHOST 3
#endif

/* The frame is for this Node: a promiscuous NIC, or flooding, delivers others, too. XDP knows only a few MACs of this
 * Node and leaves other frames to TC, where the kernel has compared the MAC. `ethernet`: 14 bytes. */
static __always_inline bool for_this_node(context *ctx, const void *ethernet,
					  const struct node_config *node)
{
#ifdef FAIRWAY_XDP
	__u64 destination = mac_at(ethernet);
	__u32 i;

#pragma unroll
	for (i = 0; i < WIRE_MACS_MAX; i++)
		if (node->wire_macs[i] == destination)
			return true;
	return false;
#else
	return ctx->pkt_type != PACKET_OTHERHOST;
#endif
}

static __always_inline __u32 ingress_ifindex(context *ctx)
{
#ifdef FAIRWAY_XDP
	return ctx->ingress_ifindex;
#else
	return ctx->ifindex;
#endif
}

/* Copies bytes of the frame out of it; nothing is pulled for that. */
static __always_inline int load(context *ctx, __u32 offset, void *to, __u32 length)
{
#ifdef FAIRWAY_XDP
	return bpf_xdp_load_bytes(ctx, offset, to, length);
#else
	return bpf_skb_load_bytes(ctx, offset, to, length);
#endif
}

/* Overwrites `size` (a constant) bytes. Checksums are the caller's. */
static __always_inline int store(context *ctx, __u32 offset, const void *from, __u32 size)
{
#ifdef FAIRWAY_XDP
	void *to = bytes_in_place(ctx, offset, size);

	if (!to)
		return -1;
	__builtin_memcpy(to, from, size);
	return 0;
#else
	return bpf_skb_store_bytes(ctx, offset, from, size, 0);
#endif
}

/* The same for bytes that no checksum of their own header compensates: if the NIC has summed the
 * whole packet (CHECKSUM_COMPLETE), its sum is updated. */
static __always_inline int store_summed(context *ctx, __u32 offset, const void *from, __u32 size)
{
#ifdef FAIRWAY_XDP
	return store(ctx, offset, from, size);
#else
	return bpf_skb_store_bytes(ctx, offset, from, size, BPF_F_RECOMPUTE_CSUM);
#endif
}

static __always_inline const struct node_config *node_configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&node_config, &zero);
}

static __always_inline void count_event(enum event_counter event)
{
	__u32 index = event;
	__u64 *counter = bpf_map_lookup_elem(&events, &index);

	if (counter)
		*counter += 1;
}

static __always_inline bool address_equal(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

static __always_inline bool address_is_zero(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

static __always_inline bool address_is_ipv4(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline void address_set_ipv4(struct address *address, __be32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xffff);
	address->word[3] = ipv4;
}

#endif
