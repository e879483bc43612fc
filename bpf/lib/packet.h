/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stage 1, parse, whose result all later stages use. IPv4 (RFC 791), IPv6 with extension headers
 * (RFC 8200, 4302), TCP, UDP, ICMP, ICMPv6, SCTP, fragments.
 */
#ifndef FAIRWAY_PACKET_H
#define FAIRWAY_PACKET_H

#include "context.h"

#define IPV6_EXTENSIONS_MAX 8

#define IP_MF_FLAG 0x2000
#define IP_DF_FLAG 0x4000
#define IP_OFFSET_MASK 0x1fff
#define IP6F_OFFSET_MASK 0xfff8
#define IP6F_MORE 0x0001

#ifndef IPPROTO_SCTP
#define IPPROTO_SCTP 132
#endif
#ifndef IPPROTO_ICMPV6
#define IPPROTO_ICMPV6 58
#endif

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define SCTP_INIT 1
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN_COMPLETE 14

#define ICMP_ECHO_REQUEST 8
#define ICMP_ECHO_REPLY 0
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_ROUTER_SOLICIT 133
#define ICMPV6_REDIRECT_MESSAGE 137

enum packet_flag {
	PACKET_FRAGMENT = 1,
	PACKET_LATER_FRAGMENT = 2, /* offset above 0: no L4 header */
	PACKET_DONT_FRAGMENT = 4,  /* IPv4 DF, or IPv6 */
	PACKET_ICMP_ERROR = 8,
	PACKET_ECHO_REQUEST = 16,
	PACKET_ECHO_REPLY = 32,
	PACKET_PORTS_UNKNOWN = 64, /* a later fragment of which no first one is known */
};

struct packet {
	struct flow_key key;   /* as the packet carries it */
	__u32 length;	       /* IP packet, header included */
	__be32 identification; /* fragments */
	__u16 l3;	       /* offset of the IP header in the frame */
	__u16 l4;	       /* offset of the L4 header in the frame */
	__sum16 ip_check;      /* IPv4 header checksum */
	__u16 l4_header;       /* length of the L4 header, 0 where there is none to know */
	__u8 family;	       /* 4 or 6 */
	__u8 ttl;	       /* or hop limit */
	__u8 tos;	       /* DSCP and ECN */
	__u8 flags;	       /* enum packet_flag */
	__u8 l4_type;	       /* TCP flags, ICMP type, or SCTP's first chunk */
	__u8 pad[3];
};

/* IP and L4 header, which each segment carries again. */
static __always_inline __u32 headers_length(const struct packet *packet)
{
	return packet->l4 - packet->l3 + packet->l4_header;
}

struct udp_header {
	__be16 source;
	__be16 destination;
	__be16 length;
	__sum16 check;
};

struct ports {
	__be16 source;
	__be16 destination;
};

/* Reads ports, flags and type. `quoted`: the packet inside an ICMP error, of which only 8 bytes
 * of L4 are guaranteed (RFC 792). */
static __always_inline int parse_l4(context *ctx, struct packet *packet, bool quoted)
{
	__u32 l4 = packet->l4;
	__u8 *header;

	switch (packet->key.protocol) {
	case IPPROTO_TCP: {
		struct ports *ports = quoted ? bytes_at(ctx, l4, 8) : bytes_at(ctx, l4, 20);

		if (!ports)
			return -1;
		packet->key.source_port = ports->source;
		packet->key.destination_port = ports->destination;
		if (!quoted) {
			header = (__u8 *)ports;
			packet->l4_type = header[13];
			packet->l4_header = (header[12] >> 4) * 4;
			if (packet->l4_header < 20)
				return -1;
		}
		return 0;
	}
	case IPPROTO_UDP: {
		struct ports *ports = bytes_at(ctx, l4, 8);

		if (!ports)
			return -1;
		packet->key.source_port = ports->source;
		packet->key.destination_port = ports->destination;
		packet->l4_header = 8;
		return 0;
	}
	case IPPROTO_SCTP: {
		struct ports *ports = quoted ? bytes_at(ctx, l4, 8) : bytes_at(ctx, l4, 12);

		if (!ports)
			return -1;
		packet->key.source_port = ports->source;
		packet->key.destination_port = ports->destination;
		packet->l4_header = 12;
		/* In a bundle the first chunk is in an skb fragment of its own, and must stay there: a
		 * receiver splits the bundle by these fragments. */
		if (!quoted && packet->length >= (__u32)(l4 - packet->l3) + 13 &&
		    load(ctx, l4 + 12, &packet->l4_type, 1))
			packet->l4_type = 0;
		return 0;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: {
		__u8 request = packet->family == 4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST;
		__u8 reply = packet->family == 4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
		__u8 own = packet->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
		__be16 id;

		if (packet->key.protocol != own)
			return 0;
		header = bytes_at(ctx, l4, 8);
		if (!header)
			return -1;
		packet->l4_header = 8;
		packet->l4_type = header[0];
		id = *(__be16 *)(header + 4);
		if (packet->l4_type == request) {
			packet->flags |= PACKET_ECHO_REQUEST;
			packet->key.source_port = id;
			packet->key.destination_port = bpf_htons(ECHO_PORT);
		} else if (packet->l4_type == reply) {
			packet->flags |= PACKET_ECHO_REPLY;
			packet->key.source_port = bpf_htons(ECHO_PORT);
			packet->key.destination_port = id;
		} else if (packet->family == 4 ? packet->l4_type == 3 || packet->l4_type == 11 ||
							 packet->l4_type == 12
					       : packet->l4_type >= 1 && packet->l4_type <= 4) {
			packet->flags |= PACKET_ICMP_ERROR;
		}
		return 0;
	}
	}
	return 0;
}

static __always_inline int parse_ipv4(context *ctx, struct packet *packet, bool quoted)
{
	struct iphdr *ip = bytes_at(ctx, packet->l3, sizeof(*ip));
	__u32 header, room = frame_length(ctx) - packet->l3;
	__u16 fragment;

	if (!ip)
		return -1;
	header = (*(__u8 *)ip & 0x0f) * 4;
	if (*(__u8 *)ip >> 4 != 4 || header < sizeof(*ip))
		return -1;
	packet->length = bpf_ntohs(ip->tot_len);
#ifndef FAIRWAY_XDP
	/* IPv4 BIG TCP: a GSO packet above 64 KiB has no total length. */
	if (!packet->length && ctx->gso_segs > 1)
		packet->length = room;
#endif
	if (packet->length < header || (!quoted && packet->length > room))
		return -1;
	packet->family = 4;
	packet->ttl = ip->ttl;
	packet->tos = ip->tos;
	packet->ip_check = ip->check;
	packet->key.protocol = ip->protocol;
	address_set_ipv4(&packet->key.source, ip->saddr);
	address_set_ipv4(&packet->key.destination, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IP_DF_FLAG)
		packet->flags |= PACKET_DONT_FRAGMENT;
	if (fragment & (IP_MF_FLAG | IP_OFFSET_MASK)) {
		packet->flags |= PACKET_FRAGMENT;
		packet->identification = bpf_htonl(bpf_ntohs(ip->id));
		if (fragment & IP_OFFSET_MASK)
			packet->flags |= PACKET_LATER_FRAGMENT;
	}
	packet->l4 = packet->l3 + header;
	return 0;
}

static __always_inline int parse_ipv6(context *ctx, struct packet *packet, bool quoted)
{
	struct ipv6hdr *ip = bytes_at(ctx, packet->l3, sizeof(*ip));
	__u32 room = frame_length(ctx) - packet->l3;
	__u32 offset = packet->l3 + sizeof(*ip), end;
	__u8 next;
	int i;

	if (!ip || *(__u8 *)ip >> 4 != 6)
		return -1;
	packet->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
#ifndef FAIRWAY_XDP
	if (packet->length == sizeof(*ip) && ctx->gso_segs > 1)
		packet->length = room;
#endif
	if (!quoted && packet->length > room)
		return -1;
	end = packet->l3 + packet->length;
	packet->family = 6;
	packet->flags |= PACKET_DONT_FRAGMENT;
	packet->ttl = ip->hop_limit;
	packet->tos = (__u8)(ip->priority << 4 | ip->flow_lbl[0] >> 4);
	__builtin_memcpy(&packet->key.source, &ip->saddr, sizeof(struct address));
	__builtin_memcpy(&packet->key.destination, &ip->daddr, sizeof(struct address));
	/* The tables use ::ffff:0:0/96 for IPv4; it is invalid on the wire (RFC 4291, 2.5.5.2). */
	if (address_is_ipv4(&packet->key.source) || address_is_ipv4(&packet->key.destination))
		return -1;
	next = ip->nexthdr;

	for (i = 0; i < IPV6_EXTENSIONS_MAX + 1; i++) {
		__u8 *header;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_AH && next != IPPROTO_FRAGMENT)
			break;
		if (i == IPV6_EXTENSIONS_MAX)
			return -1;
		header = bytes_at(ctx, offset, 8);
		if (!header || (!quoted && offset + 8 > end))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(*(__be16 *)(header + 2));

			/* An atomic fragment (RFC 6946), with offset 0 and nothing to follow, is whole. */
			if (fragment & (IP6F_OFFSET_MASK | IP6F_MORE)) {
				packet->flags |= PACKET_FRAGMENT;
				packet->identification = *(__be32 *)(header + 4);
			}
			next = header[0];
			offset += 8;
			if (fragment & IP6F_OFFSET_MASK) {
				packet->flags |= PACKET_LATER_FRAGMENT;
				break;
			}
		} else if (next == IPPROTO_AH) {
			next = header[0];
			offset += (header[1] + 2) * 4;
		} else {
			next = header[0];
			offset += (header[1] + 1) * 8;
		}
		if (offset > HEADERS_MAX)
			return -1;
	}
	if (!quoted && offset > end)
		return -1;
	packet->key.protocol = next;
	packet->l4 = offset;
	return 0;
}

/* Parses the packet whose IP header is at `l3`. Returns 0, or -1: malformed. `packet` must be zeroed. */
#define parse FOR_HOOK(parse)
stage int parse(context *ctx, struct packet *packet, __u32 l3, __be16 ethertype, bool quoted)
{
	int wrong;

	if (!packet || l3 > HEADERS_MAX)
		return -1;
	packet->l3 = l3;
	wrong = ethertype == bpf_htons(ETH_P_IP) ? parse_ipv4(ctx, packet, quoted)
						 : parse_ipv6(ctx, packet, quoted);
	if (wrong)
		return -1;
	if (packet->flags & PACKET_LATER_FRAGMENT)
		return 0;
	/* A header that extends beyond the packet into the frame's padding is invalid. */
	if (parse_l4(ctx, packet, quoted))
		return -1;
	if (!quoted && (__u32)(packet->l4 - packet->l3) + packet->l4_header > packet->length)
		return -1;
	return 0;
}

#endif
