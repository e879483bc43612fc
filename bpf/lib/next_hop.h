/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The MAC and device towards an address. A cached next hop is used for NEXT_HOP_TRUST_MS; then one
 * packet goes through the kernel's own neighbour code, which resolves as for its own packets, and the
 * result is cached again. An ARP or neighbour message on the NIC, or a raised epoch, ends the trust
 * at once.
 */
#ifndef FAIRWAY_NEXT_HOP_H
#define FAIRWAY_NEXT_HOP_H

#include "packet.h"
#include "verdict.h"

/* How a packet leaves: with cached MACs (ACTION_WIRE), through the kernel's neighbour code
 * (ACTION_WIRE_NEIGHBOUR), or not at all because the address is the Node's own (ACTION_PASS) or
 * there is no route (ACTION_DROP). */
struct way {
	__u64 destination_mac;
	__u64 source_mac;
	__u32 ifindex;
	__u8 action;   /* enum action */
	__u8 resolved; /* the neighbour's MAC is known */
	__u8 refusal;  /* ACTION_DROP: enum slow_path_kind of the answer, 0: none */
	__u8 encap;    /* ACTION_PASS: the route encapsulates, which is the kernel's to do */
	__u32 mtu;     /* to the outside: the largest IP packet that the route takes */
	__u16 gateway; /* to the outside: its index in next_hops; 0: not kept */
	__u8 asked;    /* the kernel was asked */
	__u8 pad;
	struct bpf_redir_neigh neighbour;
	struct address source; /* where requested: the one that the kernel sends from; or zeros */
};

#define HOP_MTU_MAX 0xffff

#define ARP_BODY 28 /* IPv4 over Ethernet, RFC 826 */
#define ARP_REPLY 2

#define ICMPV6_NEIGHBOUR_SOLICIT 135

/* Notes that the kernel's neighbour table may change just after this packet. */
static __always_inline void next_hop_unsettle(void)
{
	__u32 zero = 0;
	__u64 *settled = bpf_map_lookup_elem(&next_hop_settle, &zero);

	if (settled)
		*settled = bpf_ktime_get_ns() + NEXT_HOP_SETTLE_MS * NS_PER_MS;
}

/* Handles replies, announcements, and requests from peers, which can announce a next hop's new MAC.
 * Requests from others on the link are ignored, because they would keep every cache cold. */
static __always_inline void next_hop_arp(context *ctx)
{
	__u8 *arp = bytes_at(ctx, ETH_HLEN, ARP_BODY);
	struct address sender;
	__be32 ipv4, target;
	__be16 operation;

	if (!arp)
		return;
	operation = *(__be16 *)(arp + 6);
	__builtin_memcpy(&ipv4, arp + 14, 4);
	__builtin_memcpy(&target, arp + 24, 4);
	address_set_ipv4(&sender, ipv4);
	if (operation == bpf_htons(ARP_REPLY) || ipv4 == target ||
	    bpf_map_lookup_elem(&peer_addresses, &sender))
		next_hop_unsettle();
}

static __always_inline void next_hop_icmpv6(const struct packet *packet)
{
	if (packet->l4_type == ICMPV6_ROUTER_SOLICIT)
		return;
	if (packet->l4_type == ICMPV6_NEIGHBOUR_SOLICIT &&
	    !bpf_map_lookup_elem(&peer_addresses, &packet->key.source))
		return;
	next_hop_unsettle();
}

static __always_inline __u64 mac_word(const __u8 *mac)
{
	__u64 word = 0;

	__builtin_memcpy(&word, mac, ETH_ALEN);
	return word;
}

#ifndef FAIRWAY_XDP

/* True for times before the last neighbour message has settled. */
static __always_inline bool next_hop_unsettled(__u64 when)
{
	__u32 zero = 0;
	__u64 *settled = bpf_map_lookup_elem(&next_hop_settle, &zero);

	return settled && when < *settled;
}

static __always_inline bool next_hop_trusted(const struct next_hop *hop,
					     const struct node_config *node, __u64 now)
{
	return hop->checked && now - hop->checked < NEXT_HOP_TRUST_MS * NS_PER_MS &&
	       hop->epoch == node->next_hop_epoch && !next_hop_unsettled(hop->checked);
}

/* All CPUs share the entry. One CPU writes it at a time, so that it holds one answer of the
 * kernel; a CPU that finds another one writing uses its answer without caching it. */
stage int next_hop_keep(struct next_hop *hop, const struct way *way, __u32 epoch, __u64 now)
{
	__u64 before;

	if (!hop || !way)
		return -1;
	before = hop->checked;
	if (before == NEXT_HOP_WRITING ||
	    __sync_val_compare_and_swap(&hop->checked, before, NEXT_HOP_WRITING) != before)
		return -1;
	hop->ifindex = way->ifindex;
	hop->epoch = epoch;
	hop->source_mac = way->source_mac;
	hop->destination_mac = way->destination_mac;
	/* An exchange is a full barrier: a CPU that sees the time sees the values that were checked then. */
	__sync_lock_test_and_set(&hop->checked, now);
	return 0;
}

/* The way that is cached in `hop`, which may be NULL. False: the kernel has to be asked. */
static __always_inline bool next_hop_cached(const struct next_hop *hop,
					    const struct node_config *node, __u64 now,
					    struct way *way)
{
	if (!hop || !next_hop_trusted(hop, node, now))
		return false;
	way->destination_mac = hop->destination_mac;
	way->source_mac = hop->source_mac;
	way->ifindex = hop->ifindex;
	way->action = ACTION_WIRE;
	return true;
}

/* Caches the kernel's answer for a peer in `hop`, which may be NULL. */
static __always_inline void next_hop_learn(struct next_hop *hop, const struct node_config *node,
					   __u64 now, const struct way *way)
{
	if (!hop)
		return;
	if (!way->resolved || next_hop_unsettled(now)) {
		if (hop->checked != NEXT_HOP_WRITING)
			hop->checked = 0;
		return;
	}
	next_hop_keep(hop, way, node->next_hop_epoch, now);
	count_event(EVENT_NEXT_HOP_REFRESHED);
}

#endif
#endif
