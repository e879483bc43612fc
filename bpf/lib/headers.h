/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The headers of the most common packets: UDP, and TCP except segments that open or reset a connection, without IP
 * options or fragments. Read in place at constant offsets; all other packets are left to `parse`.
 */
#ifndef FAIRWAY_HEADERS_H
#define FAIRWAY_HEADERS_H

#include "flow.h"

/* The properties of a packet that the fast path uses. */
struct headers {
	/* Written as words because it is read as words right afterwards: a load that combines two
	 * stores has to wait until both have reached the cache. */
	union {
		struct flow_key key;
		struct key_words words;
	};
	__u32 length;	      /* IP packet, header included */
	__u32 before_payload; /* of it: IP and L4 header */
	__sum16 ip_check;
	__u8 ttl, tos;
	__u8 tcp; /* flags; 0: not TCP */
	__u8 pad[3];
};

/* It answers the packet that opened the connection. */
static __always_inline bool is_syn_answer(const struct headers *headers)
{
	return headers->tcp & TCP_SYN;
}

static __always_inline bool has_payload(const struct headers *headers)
{
	return headers->length > headers->before_payload;
}

/* Size of an IP header without options or extensions, the only ones read here. */
static __always_inline __u32 header_size(__u8 family)
{
	return family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* Reads an IPv4 header at `l3`, with at most `room` bytes. */
static __always_inline bool headers_ipv4(void *data, void *end, __u32 l3, __u32 room,
					 struct headers *headers)
{
	struct iphdr *ip = data + l3;

	if ((void *)(ip + 1) > end || *(__u8 *)ip != 0x45 || ip->frag_off & ~bpf_htons(IP_DF_FLAG))
		return false;
	headers->length = bpf_ntohs(ip->tot_len);
	if (headers->length > room)
		return false;
	headers->before_payload = sizeof(*ip);
	headers->ttl = ip->ttl;
	headers->tos = ip->tos;
	headers->ip_check = ip->check;
	headers->words.rest = (__u64)ip->protocol << 32;
	headers->words.source[0] = 0;
	headers->words.source[1] = (__u64)ip->saddr << 32 | bpf_htonl(0xffff);
	headers->words.destination[0] = 0;
	headers->words.destination[1] = (__u64)ip->daddr << 32 | bpf_htonl(0xffff);
	return true;
}

static __always_inline bool headers_ipv6(void *data, void *end, __u32 l3, __u32 room,
					 struct headers *headers)
{
	struct ipv6hdr *ip = data + l3;
	const __u64 *addresses;

	if ((void *)(ip + 1) > end || *(__u8 *)ip >> 4 != 6)
		return false;
	headers->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (headers->length > room)
		return false;
	headers->before_payload = sizeof(*ip);
	headers->ttl = ip->hop_limit;
	headers->tos = (__u8)(ip->priority << 4 | ip->flow_lbl[0] >> 4);
	headers->words.rest = (__u64)ip->nexthdr << 32;
	addresses = (__u64 *)&ip->saddr;
	headers->words.source[0] = addresses[0];
	headers->words.source[1] = addresses[1];
	headers->words.destination[0] = addresses[2];
	headers->words.destination[1] = addresses[3];
	return !address_is_ipv4(&headers->key.source) &&
	       !address_is_ipv4(&headers->key.destination);
}

/* Reads the L4 header at `l4`. */
static __always_inline bool headers_l4(void *data, void *end, __u32 l4, struct headers *headers)
{
	__u8 *tcp = data + l4, protocol = headers->words.rest >> 32;
	__u32 size = 8;

	headers->tcp = 0;
	if (data + l4 + 8 > end)
		return false;
	if (protocol == IPPROTO_TCP) {
		if (data + l4 + 20 > end || tcp[13] & TCP_RST ||
		    (tcp[13] & TCP_SYN &&
		     (tcp[13] & (TCP_SYN | TCP_ACK | TCP_FIN)) != (TCP_SYN | TCP_ACK)))
			return false;
		headers->tcp = tcp[13];
		size = (tcp[12] >> 4) * 4;
		if (size < 20)
			return false;
	} else if (protocol != IPPROTO_UDP) {
		return false;
	}
	headers->before_payload += size;
	headers->words.rest |= *(__u32 *)(data + l4);
	return headers->before_payload <= headers->length;
}

static __always_inline bool headers_read(void *data, void *end, __u32 l3, __be16 ethertype,
					 __u32 room, struct headers *headers)
{
	if (ethertype == bpf_htons(ETH_P_IP))
		return headers_ipv4(data, end, l3, room, headers) &&
		       headers_l4(data, end, l3 + sizeof(struct iphdr), headers);
	return ethertype == bpf_htons(ETH_P_IPV6) && headers_ipv6(data, end, l3, room, headers) &&
	       headers_l4(data, end, l3 + sizeof(struct ipv6hdr), headers);
}

static __always_inline bool words_equal(const struct address *address, const __u64 *words)
{
	const __u64 *own = (const __u64 *)address;

	return !((own[0] ^ words[0]) | (own[1] ^ words[1]));
}

#endif
