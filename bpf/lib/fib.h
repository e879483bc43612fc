/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Look-ups in the kernel's FIB. A query has all fields of the packet, so that rules by source,
 * protocol, port, TOS or mark apply, and multipath routes spread flows as they do for the kernel's
 * own forwarding.
 *
 *  1. question      for a packet to the outside, or for all packets to a peer
 *  2. answer        device, next hop, its MAC, the route's MTU, and the source address
 */
#ifndef FAIRWAY_FIB_H
#define FAIRWAY_FIB_H

#include "route.h"
#include "work.h"

/* Names of newer headers than those that this may be built with. */
#define FIB_LOOKUP_SRC (1U << 4)
#define FIB_LOOKUP_MARK (1U << 5)
#define FIB_LKUP_RET_NO_SRC_ADDR 9

/* 1. A packet to the outside: from the source of one tuple, before translation, to the
 * destination of another, after it. */
static __always_inline void fib_question_packet(struct fib_question *question, __u8 family,
						__u8 tos, const struct flow_key *from,
						const struct flow_key *to)
{
	__u8 protocol = from->protocol;

	question->source = from->source;
	question->destination = to->destination;
	question->family = family;
	question->protocol = protocol;
	question->tos = tos;
	question->wants_source = 0;
	question->output = 0;
	question->source_port = 0;
	question->destination_port = 0;
	/* Rules do not match an ICMP identifier as a port. */
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP) {
		question->source_port = from->source_port;
		question->destination_port = to->destination_port;
	}
}

/* 1. All packets to a peer share one next hop: in a tunnel their source is the Node, else the
 * pod CIDR, for which the gateway address stands. */
static __always_inline void fib_question_peer(struct fib_question *question,
					      const struct peer *peer, bool tunnel, __u8 family,
					      const struct node_config *node)
{
	question->source = tunnel ? peer->local : *gateway_address(node, family);
	question->destination = peer->remote;
	question->family = family;
	question->protocol = tunnel ? IPPROTO_UDP : 0;
	question->tos = 0;
	question->source_port = 0;
	question->destination_port = tunnel ? peer->port : 0;
	question->wants_source = 0;
	question->output = 0;
}

/* `length` of 1 fits whatever the MTU, which the answer then has; 0xffff fits (almost) nowhere, and
 * the answer has nothing but the MTU. */
static __always_inline long fib_look(struct __sk_buff *ctx, struct work *work, __u16 length,
				     __u32 flags)
{
	const struct fib_question *question = &work->question;
	struct bpf_fib_lookup *fib = &work->fib;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = ctx->ifindex;
	fib->l4_protocol = question->protocol;
	fib->sport = question->source_port;
	fib->dport = question->destination_port;
	fib->tot_len = length;
	if (question->family == 4) {
		fib->family = AF_INET;
		fib->tos = question->tos;
		fib->ipv4_src = question->source.word[3];
		fib->ipv4_dst = question->destination.word[3];
	} else {
		fib->family = AF_INET6;
		fib->flowinfo = bpf_htonl(question->tos << 20);
		__builtin_memcpy(fib->ipv6_src, &question->source, 16);
		__builtin_memcpy(fib->ipv6_dst, &question->destination, 16);
	}
	if (has_fib_mark) {
		/* In a union with the MACs of the answer. */
		*(__u32 *)fib->smac = ctx->mark;
		flags |= FIB_LOOKUP_MARK;
	}
	if (question->output)
		flags |= BPF_FIB_LOOKUP_OUTPUT;
	return bpf_fib_lookup(ctx, fib, sizeof(*fib), flags);
}

/* 2. Answers work->question into work->remote.way. */
stage int fib_ask(struct __sk_buff *ctx, struct work *work)
{
	const struct fib_question *question;
	const struct source_address *own;
	struct bpf_fib_lookup *fib;
	struct way *way;
	bool source;
	long result;
	__u32 index;

	if (!work)
		return -1;
	question = &work->question;
	fib = &work->fib;
	way = &work->remote.way;
	source = question->wants_source && has_fib_source;
	result = fib_look(ctx, work, 1, source ? FIB_LOOKUP_SRC : 0);
	if (source && result == FIB_LKUP_RET_NO_SRC_ADDR) {
		source = false;
		result = fib_look(ctx, work, 1, 0);
	}
	switch (result) {
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		break;
	case BPF_FIB_LKUP_RET_UNREACHABLE:
		way->refusal = SLOW_UNREACHABLE;
		way->action = ACTION_DROP;
		return 0;
	case BPF_FIB_LKUP_RET_PROHIBIT:
		way->refusal = SLOW_PROHIBITED;
		way->action = ACTION_DROP;
		return 0;
	case BPF_FIB_LKUP_RET_BLACKHOLE:
		way->action = ACTION_DROP;
		return 0;
	default:
		/* The Node's own address, no route at all, or a result that a look-up cannot express: the
		 * kernel handles the packet, or answers unreachable. */
		way->action = ACTION_PASS;
		way->encap = result == BPF_FIB_LKUP_RET_UNSUPP_LWT;
		return 0;
	}
	way->action = ACTION_WIRE_NEIGHBOUR;
	way->ifindex = fib->ifindex;
	/* The look-up has put the gateway, or the destination itself, in the destination's place. */
	way->neighbour.nh_family = fib->family;
	__builtin_memcpy(way->neighbour.ipv6_nh, fib->ipv6_dst, 16);
	if (source) {
		if (question->family == 6)
			__builtin_memcpy(&way->source, fib->ipv6_src, 16);
		else if (fib->ipv4_src)
			address_set_ipv4(&way->source, fib->ipv4_src);
	} else if (question->wants_source) {
		index = way->ifindex;
		own = bpf_map_lookup_elem(&source_addresses, &index);
		if (own)
			way->source = question->family == 4 ? own->ipv4 : own->ipv6;
	}
	/* The device has no other address, and hosts beyond the link could not answer this one. */
	if (question->family == 6 && address_is_link_local6(&way->source))
		__builtin_memset(&way->source, 0, sizeof(way->source));
	if (result == BPF_FIB_LKUP_RET_SUCCESS) {
		way->destination_mac = mac_word(fib->dmac);
		way->source_mac = mac_word(fib->smac);
		/* A device without ARP returns its own address as the neighbour's. A tunnel's address is no
		 * MAC, and may look like a group's, to which bpf_redirect_neigh sends nothing. */
		if (way->destination_mac == way->source_mac)
			way->destination_mac = 0;
		way->resolved = 1;
		way->mtu = fib->mtu_result;
		return 0;
	}
	/* Without a neighbour the look-up returns before it writes the MTU. */
	way->mtu = HOP_MTU_MAX;
	result = fib_look(ctx, work, HOP_MTU_MAX, 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED || result == BPF_FIB_LKUP_RET_SUCCESS)
		way->mtu = fib->mtu_result;
	return 0;
}

#endif
