/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Changes to a packet in place, with incremental checksums (RFC 1624).
 *
 *  1. IP header     TTL or hop limit, addresses, IPv4 header checksum
 *  2. L4 header     ports or echo identifier, checksum with its pseudo header; SCTP's: sctp.h
 *  3. quoted        the packet inside an ICMP error
 */
#ifndef FAIRWAY_REWRITE_H
#define FAIRWAY_REWRITE_H

#include "packet.h"
#include "sctp.h"

static __always_inline __sum16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__sum16)~sum;
}

static __always_inline __u32 csum_add(__u32 sum, __u32 more)
{
	sum += more;
	return sum + (sum < more);
}

/* The one's complement difference of `from` and `to`; both are multiples of 4 bytes. */
static __always_inline __u32 csum_difference(const void *from, const void *to, __u32 size,
					     __u32 sum)
{
	const __u32 *old = from, *new = to;
	__u32 i;

#pragma unroll
	for (i = 0; i < size / 4; i++)
		sum = csum_add(csum_add(sum, ~old[i]), new[i]);
	return sum;
}

static __always_inline __u32 csum_difference16(__be16 from, __be16 to, __u32 sum)
{
	return csum_add(csum_add(sum, (__u16)~from), to);
}

static __always_inline __sum16 csum_apply(__sum16 check, __u32 difference)
{
	return csum_fold(csum_add((__u16)~check, difference));
}

/* The difference of both addresses in a header of this family. */
static __always_inline __u32 addresses_difference(__u8 family, const struct flow_key *from,
						  const struct flow_key *to, __u32 sum)
{
	if (family == 6)
		return csum_difference(from, to, 2 * sizeof(struct address), sum);
	sum = csum_difference(&from->source.word[3], &to->source.word[3], 4, sum);
	return csum_difference(&from->destination.word[3], &to->destination.word[3], 4, sum);
}

/* Both ports, in the order of the wire. */
static __always_inline __u32 ports_of(const struct flow_key *key)
{
	return key->source_port | (__u32)key->destination_port << 16;
}

/* Writes an Ethernet header. Each MAC is stored as eight bytes; the next store overwrites the excess. */
static __always_inline void put_ethernet(void *to, __u64 destination, __u64 source, __u8 family)
{
	*(__u64 *)to = destination;
	*(__u64 *)(to + ETH_ALEN) = source;
	*(__be16 *)(to + 2 * ETH_ALEN) = family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

/* For put_ethernet: the MAC and the next two bytes of its structure. */
static __always_inline __u64 mac_to_put(const struct mac *mac)
{
	return *(const __u64 *)mac;
}

/* Stage 1. `decrement` is 0 or 1; `to` is the new tuple, or NULL. */
static __always_inline int rewrite_ip(context *ctx, const struct packet *packet,
				      const struct flow_key *to, __u8 decrement)
{
	const struct flow_key *from = &packet->key;

	if (packet->family == 4) {
		/* Stores TTL, protocol, checksum and addresses together. */
		struct {
			__u8 ttl, protocol;
			__sum16 check;
			__be32 source, destination;
		} half = {
			.ttl = packet->ttl - decrement,
			.protocol = from->protocol,
			.source = (to ? to : from)->source.word[3],
			.destination = (to ? to : from)->destination.word[3],
		};
		__u32 sum = to ? addresses_difference(4, from, to, 0) : 0;

		if (decrement)
			sum = csum_difference16(bpf_htons(packet->ttl << 8),
						bpf_htons(half.ttl << 8), sum);
		half.check = csum_apply(packet->ip_check, sum);
		return store(ctx, packet->l3 + offsetof(struct iphdr, ttl), &half, sizeof(half));
	}
	if (decrement) {
		__u8 hop_limit = packet->ttl - 1;

		if (store_summed(ctx, packet->l3 + offsetof(struct ipv6hdr, hop_limit), &hop_limit,
				 1))
			return -1;
	}
	if (!to)
		return 0;
	/* The addresses are the first 32 bytes of a tuple, too. */
	return store_summed(ctx, packet->l3 + offsetof(struct ipv6hdr, saddr), to,
			    2 * sizeof(struct address));
}

/* The fields of the L4 header that a translation changes. */
struct l4_fields {
	__u8 ports;    /* bytes of both ports, or of the echo identifier; 0: neither */
	__u8 port;     /* their offset */
	__u8 check;    /* offset; 0: nothing changes */
	__u8 pseudo;   /* the checksum covers addresses */
	__u8 optional; /* a checksum of 0 is none (UDP) */
};

static __always_inline struct l4_fields l4_fields(const struct packet *packet)
{
	struct l4_fields fields = {};

	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		fields.ports = 4;
		fields.check = 16;
		fields.pseudo = 1;
		break;
	case IPPROTO_UDP:
		fields.ports = 4;
		fields.check = 6;
		fields.pseudo = 1;
		fields.optional = 1;
		break;
	case IPPROTO_SCTP:
		fields.ports = 4; /* its checksum: sctp.h */
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if ((packet->key.protocol == IPPROTO_ICMP) != (packet->family == 4))
			break;
		fields.ports = packet->flags & (PACKET_ECHO_REQUEST | PACKET_ECHO_REPLY) ? 2 : 0;
		fields.port = 4;
		fields.check = 2;
		fields.pseudo = packet->family == 6;
		break;
	}
	return fields;
}

/* The header word at fields.port, for this tuple. */
static __always_inline __u32 l4_ports(const struct packet *packet, struct l4_fields fields,
				      const struct flow_key *key)
{
	if (fields.ports == 4)
		return ports_of(key);
	return packet->flags & PACKET_ECHO_REQUEST ? key->source_port : key->destination_port;
}

static __always_inline int l4_store(context *ctx, __u32 offset, struct l4_fields fields,
				    __u32 ports)
{
	return fields.ports == 4 ? store(ctx, offset, &ports, 4) : store(ctx, offset, &ports, 2);
}

#ifndef FAIRWAY_XDP

/* skb->ip_summed: the kind of a packet's L4 checksum. */
enum checksum_kind {
	CHECKSUM_NONE = 0,
	CHECKSUM_UNNECESSARY = 1,
	CHECKSUM_COMPLETE = 2, /* the sum of the whole packet, which changes with it */
	CHECKSUM_PARTIAL = 3,  /* it is unfinished: the pseudo header's sum */
};

/* enum checksum_kind; CHECKSUM_COMPLETE also where it cannot be read: only the kernel's helper updates all kinds. */
int checksum_kind(struct __sk_buff *ctx);

#endif

/* Adds `difference` to the checksum at `offset`. `pseudo`: the difference is in the pseudo header. An
 * unfinished checksum holds only that, so changes of the header itself must not be added. */
static __always_inline int update_checksum(context *ctx, __u32 offset, __u32 difference,
					   bool pseudo, bool optional)
{
#ifdef FAIRWAY_XDP
	__sum16 *check = bytes_in_place(ctx, offset, 2);

	if (!check)
		return -1;
	if (optional && !*check)
		return 0;
	*check = csum_apply(*check, difference);
	if (optional && !*check)
		*check = 0xffff;
	return 0;
#else
	return bpf_l4_csum_replace(ctx, offset, 0, difference,
				   (pseudo ? BPF_F_PSEUDO_HDR : 0) |
					   (optional ? BPF_F_MARK_MANGLED_0 : 0));
#endif
}

/* update_checksum for addresses and ports at once, by one of the kernel's helpers less than for each where the kind of
 * checksum is known: a helper takes some 14 ns. */
static __always_inline int update_translated(context *ctx, __u32 offset, __u32 addresses,
					     __u32 ports, bool optional)
{
#ifndef FAIRWAY_XDP
	int kind = checksum_kind(ctx);
	__sum16 *check;

	if (kind == CHECKSUM_COMPLETE) {
		if (update_checksum(ctx, offset, addresses, true, optional))
			return -1;
		/* The difference of equal values. */
		return ports == ~0U ? 0 : update_checksum(ctx, offset, ports, false, optional);
	}
	check = bytes_in_place(ctx, offset, 2);
	if (!check)
		return -1;
	if (optional && !*check)
		return 0;
	*check = kind == CHECKSUM_PARTIAL ? (__sum16)~csum_fold(csum_add(*check, addresses))
					  : csum_apply(*check, csum_add(addresses, ports));
	if (optional && !*check)
		*check = 0xffff;
	return 0;
#else
	return update_checksum(ctx, offset, csum_add(addresses, ports), true, optional);
#endif
}

/* Stage 2, where a Service's endpoint has another port. The checksum covers no addresses. */
static __always_inline int rewrite_sctp(context *ctx, const struct packet *packet,
					const struct flow_key *to)
{
	__u32 ports = ports_of(to), change = ports ^ ports_of(&packet->key);

	if (!change)
		return 0;
	if (store_summed(ctx, packet->l4, &ports, sizeof(ports)))
		return -1;
	return sctp_checksum(ctx, packet, change);
}

/* Stage 2. Later fragments have no L4 header; unknown protocols have nothing to change. */
static __always_inline int rewrite_l4(context *ctx, const struct packet *packet,
				      const struct flow_key *to)
{
	struct l4_fields fields = l4_fields(packet);
	const struct flow_key *from = &packet->key;
	__u32 ports, before;

	if (packet->flags & PACKET_LATER_FRAGMENT)
		return 0;
	if (packet->key.protocol == IPPROTO_SCTP)
		return rewrite_sctp(ctx, packet, to);
	if (!fields.check)
		return 0;
	if (fields.pseudo && update_checksum(ctx, packet->l4 + fields.check,
					     addresses_difference(packet->family, from, to, 0),
					     true, fields.optional))
		return -1;
	before = l4_ports(packet, fields, from);
	ports = l4_ports(packet, fields, to);
	if (!fields.ports || ports == before)
		return 0;
	if (l4_store(ctx, packet->l4 + fields.port, fields, ports))
		return -1;
	return update_checksum(ctx, packet->l4 + fields.check, csum_add(~before, ports), false,
			       fields.optional);
}

/* Stages 1 and 2. `to`: the tuple that the packet leaves with, or NULL where that stays; `decrement` is
 * subtracted from the TTL, 0 or 1. */
#define rewrite FOR_HOOK(rewrite)
stage int rewrite(context *ctx, const struct packet *packet, const struct flow_key *to,
		  __u8 decrement)
{
	if (!packet || (to && rewrite_l4(ctx, packet, to)))
		return -1;
	return rewrite_ip(ctx, packet, to, decrement);
}

#ifndef FAIRWAY_XDP
/*
 * Stage 3. `quoted` is the packet inside the error, `to` its new tuple. The quoted header's checksums
 * are updated, except TCP's, which is not among the 8 bytes that every error quotes. The ICMP checksum
 * covers everything.
 */
static __always_inline int rewrite_quoted(context *ctx, const struct packet *error,
					  const struct packet *quoted, const struct flow_key *to)
{
	struct l4_fields fields = l4_fields(quoted);
	const struct flow_key *from = &quoted->key;
	__u32 addresses = addresses_difference(quoted->family, from, to, 0);
	__u32 difference = addresses, l4_difference = fields.pseudo ? addresses : 0, ports, before;
	__sum16 check, changed;

	if (quoted->family == 4) {
		struct {
			__sum16 check;
			__be32 source, destination;
		} __attribute__((packed)) half = {
			.check = csum_apply(quoted->ip_check, addresses),
			.source = to->source.word[3],
			.destination = to->destination.word[3],
		};

		difference = csum_difference16(quoted->ip_check, half.check, difference);
		if (store(ctx, quoted->l3 + offsetof(struct iphdr, check), &half, sizeof(half)))
			return -1;
	} else if (store(ctx, quoted->l3 + offsetof(struct ipv6hdr, saddr), to,
			 2 * sizeof(struct address))) {
		return -1;
	}
	before = l4_ports(quoted, fields, from);
	ports = l4_ports(quoted, fields, to);
	if (fields.ports && ports != before) {
		l4_difference = csum_add(csum_add(l4_difference, ~before), ports);
		difference = csum_add(csum_add(difference, ~before), ports);
		if (l4_store(ctx, quoted->l4 + fields.port, fields, ports))
			return -1;
	}
	if (fields.check && quoted->key.protocol != IPPROTO_TCP) {
		if (bpf_skb_load_bytes(ctx, quoted->l4 + fields.check, &check, 2))
			return -1;
		if (check || !fields.optional) {
			changed = csum_apply(check, l4_difference);
			if (fields.optional && !changed)
				changed = 0xffff;
			difference = csum_difference16(check, changed, difference);
			if (store(ctx, quoted->l4 + fields.check, &changed, 2))
				return -1;
		}
	}
	return update_checksum(ctx, error->l4 + 2, difference, false, false);
}
#endif

#endif
