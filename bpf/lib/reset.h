/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Refusal of packets to a Service, from the Service's address: for TCP the packet itself becomes a reset
 * (RFC 9293, 3.10.7.1), UDP and SCTP are answered by the slow path, everything else is not answered.
 *
 *  1. checksum    does the kernel still have to finish it?
 *  2. reset       the packet is cut to its headers, which are written anew
 *  3. refuse
 */
#ifndef FAIRWAY_RESET_H
#define FAIRWAY_RESET_H

#include "emit.h"
#include "rewrite.h"
#include "slow_path.h"
#include "work.h"

#define RESET_TTL 64

struct tcp_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledgment;
	__u8 offset; /* << 4, in words */
	__u8 flags;
	__be16 window;
	__sum16 check;
	__be16 urgent;
};

/*
 * Stage 1. A packet that a stack hands to a NIC with checksum offload has the sum of the pseudo header only
 * (CHECKSUM_PARTIAL), which programs cannot read from their context. But the kernel's helper does not add changes
 * elsewhere in the packet to such a checksum. 1: unfinished, 0: finished, -1: failed. Changes nothing.
 */
static __always_inline int checksum_is_unfinished(struct __sk_buff *ctx, __u32 offset)
{
	__sum16 before, after;

	if (bpf_skb_load_bytes(ctx, offset, &before, 2) ||
	    bpf_l4_csum_replace(ctx, offset, 0, 1, 0) ||
	    bpf_skb_load_bytes(ctx, offset, &after, 2) ||
	    bpf_skb_store_bytes(ctx, offset, &before, 2, 0))
		return -1;
	return before == after;
}

/* Stage 2. The sum of the pseudo header of `to`, with nothing but a TCP header. */
static __always_inline __u32 pseudo_sum(const struct flow_key *to, __u8 family)
{
	const struct flow_key none = {};

	return csum_add(addresses_difference(family, &none, to, 0),
			bpf_htons(sizeof(struct tcp_header)) + bpf_htons(IPPROTO_TCP));
}

/* Stage 2. The numbers of the reset: the sequence number is the segment's acknowledgment number, if it has one;
 * else the reset acknowledges the segment. */
static __always_inline void reset_tcp(struct tcp_header *tcp, const struct packet *packet)
{
	__u32 length = packet->length - headers_length(packet);
	__u8 flags = packet->l4_type;

	if (flags & TCP_SYN)
		length++;
	if (flags & TCP_FIN)
		length++;
	if (flags & TCP_ACK) {
		tcp->sequence = tcp->acknowledgment;
		tcp->acknowledgment = 0;
		tcp->flags = TCP_RST;
	} else {
		tcp->acknowledgment = bpf_htonl(bpf_ntohl(tcp->sequence) + length);
		tcp->sequence = 0;
		tcp->flags = TCP_RST | TCP_ACK;
	}
	tcp->source = packet->key.destination_port;
	tcp->destination = packet->key.source_port;
	tcp->offset = sizeof(*tcp) / 4 << 4;
	tcp->window = 0;
	tcp->check = 0;
	tcp->urgent = 0;
}

/* Stage 2. Writes the IP header. `to`: the answer's tuple. */
static __always_inline int reset_ip(struct __sk_buff *ctx, const struct packet *packet,
				    const struct flow_key *to)
{
	if (packet->family == 4) {
		struct iphdr ip = {
			.tot_len = bpf_htons(sizeof(ip) + sizeof(struct tcp_header)),
			.frag_off = bpf_htons(IP_DF_FLAG),
			.ttl = RESET_TTL,
			.protocol = IPPROTO_TCP,
			.saddr = to->source.word[3],
			.daddr = to->destination.word[3],
		};
		__u32 sum;

		*(__u8 *)&ip = 0x45;
		sum = csum_difference(&to->source, &ip, 0, 0);
		sum = csum_add(sum, *(__u32 *)&ip);
		sum = csum_add(sum, *((__u32 *)&ip + 1));
		sum = csum_add(sum, *((__u32 *)&ip + 2));
		sum = csum_add(sum, ip.saddr);
		ip.check = csum_fold(csum_add(sum, ip.daddr));
		return store_summed(ctx, packet->l3, &ip, sizeof(ip));
	}
	{
		struct ipv6hdr ip = {
			.payload_len = bpf_htons(sizeof(struct tcp_header)),
			.nexthdr = IPPROTO_TCP,
			.hop_limit = RESET_TTL,
		};

		*(__u8 *)&ip = 0x60;
		__builtin_memcpy(&ip.saddr, &to->source, sizeof(struct address));
		__builtin_memcpy(&ip.daddr, &to->destination, sizeof(struct address));
		return store_summed(ctx, packet->l3, &ip, sizeof(ip));
	}
}

/* Stage 2. Makes work.packet a reset of it. Not 0: it gets none; nothing has been changed, or the
 * kernel refused. A reset answers no reset; fragments, and packets with options or extension headers,
 * which no connection begins with, are not worth the work. */
stage int reset_write(struct __sk_buff *ctx)
{
	struct work *work = work_space();
	const struct packet *packet;
	struct tcp_header tcp;
	int unfinished, i;
	__u32 check, sum;
	__sum16 field;

	if (!work)
		return -1;
	packet = &work->packet;
	if (packet->key.protocol != IPPROTO_TCP || packet->flags & PACKET_FRAGMENT ||
	    packet->l4_type & TCP_RST ||
	    packet->l4 - packet->l3 !=
		    (packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))
		return -1;
	check = packet->l4 + offsetof(struct tcp_header, check);
	if (bpf_skb_load_bytes(ctx, packet->l4, &tcp, sizeof(tcp)) ||
	    bpf_skb_change_tail(ctx, packet->l4 + sizeof(tcp), 0))
		return -1;
	unfinished = checksum_is_unfinished(ctx, check);
	if (unfinished < 0)
		return -1;
	key_reverse(&work->tuple, &packet->key);
	reset_tcp(&tcp, packet);
	sum = pseudo_sum(&work->tuple, packet->family);
	if (unfinished) {
		field = ~csum_fold(sum);
	} else {
#pragma unroll
		for (i = 0; i < sizeof(tcp) / 4; i++)
			sum = csum_add(sum, ((__u32 *)&tcp)[i]);
		field = csum_fold(sum);
	}
	tcp.check = field;
	if (store_summed(ctx, packet->l4, &tcp, sizeof(tcp)))
		return -1;
	return reset_ip(ctx, packet, &work->tuple);
}

/* Stage 3. Only refusals because of a missing endpoint or port are answered; the client learns no other reason. */
static __always_inline bool refusal_is_answered(enum drop_reason reason)
{
	return reason == DROP_SERVICE_NO_ENDPOINTS || reason == DROP_SERVICE_UNKNOWN_PORT;
}

/* Stage 3. True: the packet is a reset now, which the hook sends back. False: it ends here. */
static __always_inline bool service_refuse(struct __sk_buff *ctx, const struct node_config *node,
					   enum drop_reason reason)
{
	struct work *work = work_space();
	__u8 protocol;

	if (!work)
		return false;
	protocol = work->packet.key.protocol;
	drop(&work->verdict, reason);
	if (!refusal_is_answered(reason))
		return false;
	if (protocol == IPPROTO_TCP) {
		if (reset_write(ctx))
			return false;
		decide(&work->verdict, ACTION_RESET);
		return true;
	}
	if (protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP)
		slow_path_send(ctx, &work->packet, node, SLOW_REFUSED, 0, &work->verdict);
	return false;
}

#endif
