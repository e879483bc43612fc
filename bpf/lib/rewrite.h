/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Changes to a packet in place, with incremental checksums (RFC 1624).
 *
 *  1. IP header     TTL or hop limit, addresses, IPv4 header checksum
 *  2. L4 header     ports or echo identifier, checksum with its pseudo header
 *  3. quoted        the packet inside an ICMP error
 */
#ifndef FAIRWAY_REWRITE_H
#define FAIRWAY_REWRITE_H

#include "packet.h"

/* The new values of the side that a flow translates. */
struct translation {
	struct address address;
	__be16 port; /* or echo identifier */
	__u8 source; /* 1: the source changes, 0: the destination */
	__u8 pad;
};

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

/* The difference of two addresses in a header of this family. */
static __always_inline __u32 address_difference(__u8 family, const struct address *from,
						const struct address *to, __u32 sum)
{
	return family == 4 ? csum_difference(&from->word[3], &to->word[3], 4, sum)
			   : csum_difference(from, to, 16, sum);
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

/* Stage 1. `decrement` is 0 or 1. */
static __always_inline int rewrite_ip(context *ctx, const struct packet *packet,
				      const struct translation *translation, __u8 decrement)
{
	const struct address *source = &packet->key.source;
	const struct address *destination = &packet->key.destination;

	if (translation) {
		if (translation->source)
			source = &translation->address;
		else
			destination = &translation->address;
	}
	if (packet->family == 4) {
		/* Stores TTL, protocol, checksum and addresses together. */
		struct {
			__u8 ttl, protocol;
			__sum16 check;
			__be32 source, destination;
		} half = {
			.ttl = packet->ttl - decrement,
			.protocol = packet->key.protocol,
			.source = source->word[3],
			.destination = destination->word[3],
		};
		__u32 sum = 0;

		if (decrement)
			sum = csum_difference16(bpf_htons(packet->ttl << 8),
						bpf_htons(half.ttl << 8), sum);
		if (translation) {
			sum = csum_difference(&packet->key.source.word[3], &half.source, 4, sum);
			sum = csum_difference(&packet->key.destination.word[3], &half.destination,
					      4, sum);
		}
		half.check = csum_apply(packet->ip_check, sum);
		return store(ctx, packet->l3 + offsetof(struct iphdr, ttl), &half, sizeof(half));
	}
	if (decrement) {
		__u8 hop_limit = packet->ttl - 1;

		if (store_summed(ctx, packet->l3 + offsetof(struct ipv6hdr, hop_limit), &hop_limit,
				 1))
			return -1;
	}
	if (!translation)
		return 0;
	return store_summed(ctx,
			    packet->l3 + (translation->source ? offsetof(struct ipv6hdr, saddr)
							      : offsetof(struct ipv6hdr, daddr)),
			    &translation->address, 16);
}

/* The fields of the L4 header that a translation changes, as offsets from its start; 0: none. */
struct l4_fields {
	__u8 port;     /* the changing port or identifier (UDP's source port is */
	__u8 has_port; /* at 0, so there is a flag) */
	__u8 check;
	__u8 pseudo;   /* the checksum covers addresses */
	__u8 optional; /* a checksum of 0 is none (UDP) */
};

static __always_inline struct l4_fields l4_fields(const struct packet *packet, bool source)
{
	struct l4_fields fields = {};

	switch (packet->key.protocol) {
	case IPPROTO_TCP:
		fields.port = source ? 0 : 2;
		fields.has_port = 1;
		fields.check = 16;
		fields.pseudo = 1;
		break;
	case IPPROTO_UDP:
		fields.port = source ? 0 : 2;
		fields.has_port = 1;
		fields.check = 6;
		fields.pseudo = 1;
		fields.optional = 1;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if ((packet->key.protocol == IPPROTO_ICMP) != (packet->family == 4))
			break;
		fields.port = 4;
		fields.has_port = !!(packet->flags & (PACKET_ECHO_REQUEST | PACKET_ECHO_REPLY));
		fields.check = 2;
		fields.pseudo = packet->family == 6;
		break;
	}
	return fields;
}

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

/* Stage 2. Later fragments have no L4 header; unknown protocols have nothing to change. */
static __always_inline int rewrite_l4(context *ctx, const struct packet *packet,
				      const struct translation *translation)
{
	struct l4_fields fields = l4_fields(packet, translation->source);
	const struct address *from =
		translation->source ? &packet->key.source : &packet->key.destination;
	__be16 old_port =
		translation->source ? packet->key.source_port : packet->key.destination_port;
	__be16 port = translation->port;

	if (packet->flags & PACKET_LATER_FRAGMENT || !fields.check)
		return 0;
	if (fields.pseudo &&
	    update_checksum(ctx, packet->l4 + fields.check,
			    address_difference(packet->family, from, &translation->address, 0),
			    true, fields.optional))
		return -1;
	if (!fields.has_port || port == old_port)
		return 0;
	if (store(ctx, packet->l4 + fields.port, &port, sizeof(port)))
		return -1;
	return update_checksum(ctx, packet->l4 + fields.check, csum_difference16(old_port, port, 0),
			       false, fields.optional);
}

/* Stages 1 and 2. `translation` may be NULL; `decrement` is subtracted from the TTL, 0 or 1. */
#define rewrite FOR_HOOK(rewrite)
stage int rewrite(context *ctx, const struct packet *packet, const struct translation *translation,
		  __u8 decrement)
{
	if (!packet || (translation && rewrite_l4(ctx, packet, translation)))
		return -1;
	return rewrite_ip(ctx, packet, translation, decrement);
}

#ifndef FAIRWAY_XDP
/*
 * Stage 3. `quoted` is the packet inside the error, `inner` the new values of its matching side. The
 * quoted header's checksums are updated, except TCP's, which is not among the 8 bytes that every
 * error quotes. The ICMP checksum covers everything.
 */
static __always_inline int rewrite_quoted(context *ctx, const struct packet *error,
					  const struct packet *quoted,
					  const struct translation *inner)
{
	struct l4_fields fields = l4_fields(quoted, inner->source);
	const struct address *from = inner->source ? &quoted->key.source : &quoted->key.destination;
	__be16 old_port = inner->source ? quoted->key.source_port : quoted->key.destination_port;
	__be16 port = inner->port;
	__u32 addresses = address_difference(quoted->family, from, &inner->address, 0);
	__u32 difference = addresses, l4_difference = fields.pseudo ? addresses : 0;
	__sum16 check, changed;

	if (quoted->key.protocol == IPPROTO_SCTP)
		fields.has_port = 0; /* the translation kept it */
	if (quoted->family == 4) {
		changed = csum_apply(quoted->ip_check, addresses);
		difference = csum_difference16(quoted->ip_check, changed, difference);
		if (store(ctx, quoted->l3 + offsetof(struct iphdr, check), &changed, 2) ||
		    store(ctx,
			  quoted->l3 + (inner->source ? offsetof(struct iphdr, saddr)
						      : offsetof(struct iphdr, daddr)),
			  &inner->address.word[3], 4))
			return -1;
	} else if (store(ctx,
			 quoted->l3 + (inner->source ? offsetof(struct ipv6hdr, saddr)
						     : offsetof(struct ipv6hdr, daddr)),
			 &inner->address, 16)) {
		return -1;
	}
	if (fields.has_port && port != old_port) {
		l4_difference = csum_difference16(old_port, port, l4_difference);
		difference = csum_difference16(old_port, port, difference);
		if (store(ctx, quoted->l4 + fields.port, &port, 2))
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
