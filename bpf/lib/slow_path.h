/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets that the core cannot finish go up through a ring buffer, unchanged and within a
 * rate limit. The slow path answers them or sends them on.
 *
 *  1. answerable    some packets must not be answered (RFC 1812, 4.3.2.7; RFC 4443, 2.4)
 *  2. rate          of the sending Pod and then of all Pods, of the wire, or of the Node
 *  3. record        the packet from its IP header on; only the beginning where an ICMP error answers it
 */
#ifndef FAIRWAY_SLOW_PATH_H
#define FAIRWAY_SLOW_PATH_H

#include "packet.h"
#include "verdict.h"

/* Most records are one Ethernet frame; an ICMP error quotes less. */
#define SLOW_PATH_FRAME 1536

#define BUCKET_TRIES 4

/* 2. Takes `count` tokens of a bucket that gets `rate` a second. All comparisons are signed: another
 * CPU may have been here later than `now`. */
stage bool tokens_take(__u32 index, __u32 rate, __u32 count, __u64 now)
{
	struct token_bucket *bucket = bpf_map_lookup_elem(&slow_path_buckets, &index);
	__u64 spent, next;
	int i;

	if (!bucket || !rate)
		return false;
	for (i = 0; i < BUCKET_TRIES; i++) {
		spent = *(volatile __u64 *)&bucket->spent;
		next = spent;
		if ((__s64)(now - NS_PER_SECOND - spent) > 0)
			next = now - NS_PER_SECOND;
		next += NS_PER_SECOND / rate * count;
		if ((__s64)(next - now) > 0)
			return false;
		if (__sync_val_compare_and_swap(&bucket->spent, spent, next) == spent)
			return true;
	}
	/* Too many CPUs take tokens at this moment. */
	return false;
}

/* 2. `pod`: endpoint.index of the sender, 0: none. */
static __always_inline bool slow_path_allowed(const struct node_config *node, __u8 hook, __u16 pod,
					      __u32 count)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 rate = node->slow_path_rate, quarter = (rate + 3) / 4;

	if (hook == HOOK_FROM_POD) {
		if (pod && tokens_take(BUCKET_COMMON + pod, SLOW_PATH_SHARE, count, now))
			return true;
		if (tokens_take(BUCKET_COMMON, rate, count, now))
			return true;
		count_event(EVENT_SLOW_PATH_REFUSED_POD);
		return false;
	}
	if (hook == HOOK_FROM_HOST) {
		if (tokens_take(BUCKET_HOST, quarter, count, now))
			return true;
		count_event(EVENT_SLOW_PATH_REFUSED_HOST);
		return false;
	}
	if (tokens_take(BUCKET_WIRE, quarter, count, now))
		return true;
	count_event(EVENT_SLOW_PATH_REFUSED_WIRE);
	return false;
}

static __always_inline enum drop_reason slow_path_write(context *ctx, const struct packet *packet,
							const struct slow_path_header *header,
							const __u32 room)
{
	struct slow_path_header *record;
	/* Length minus one: the verifier of 6.1 derives no lower bound from `!= 0`. */
	__u32 rest = header->length - 1;

	record = bpf_ringbuf_reserve(&slow_path, sizeof(*header) + room, 0);
	if (!record) {
		count_event(EVENT_SLOW_PATH_RING_FULL);
		return DROP_SLOW_PATH_FULL;
	}
	*record = *header;
	hide(rest);
	if (rest >= room || load(ctx, packet->l3, record + 1, rest + 1)) {
		bpf_ringbuf_discard(record, 0);
		return DROP_MALFORMED;
	}
	bpf_ringbuf_submit(record, 0);
	count_event(EVENT_SLOW_PATH);
	return DROP_NONE;
}

/* The drop reason of a packet that is to be answered, whether or not the slow path answers it; DROP_NONE: this kind is
 * not answered. */
static __always_inline enum drop_reason answered_as(__u8 kind)
{
	switch (kind) {
	case SLOW_TTL_EXCEEDED:
		return DROP_TTL_EXCEEDED;
	case SLOW_TOO_BIG:
		return DROP_PACKET_TOO_BIG;
	case SLOW_UNREACHABLE:
	case SLOW_PROHIBITED:
		return DROP_NO_ROUTE;
	case SLOW_NO_HOST:
		return DROP_NO_ENDPOINT;
	default:
		return DROP_NONE;
	}
}

#define slow_path_hand_up FOR_HOOK(slow_path_hand_up)
stage int slow_path_hand_up(context *ctx, const struct packet *packet,
			    const struct node_config *node, struct verdict *verdict, __u8 hook)
{
	struct slow_path_header header = { .hook = hook, .ifindex = ingress_ifindex(ctx) };
	enum drop_reason failed, answered;
	const struct endpoint *sender;
	struct address source;

	if (!packet || !node || !verdict)
		return -1;
	header.kind = verdict->slow_path_kind;
	header.mtu = verdict->mtu;
	header.length = packet->length;
	/* The Service's refusal has set the reason already. */
	answered = header.kind == SLOW_REFUSED ? verdict->drop_reason : answered_as(header.kind);
	if (hook == HOOK_FROM_POD) {
		/* Before 6.2 the key of a look-up cannot be in what a function was given. */
		source = packet->key.source;
		sender = bpf_map_lookup_elem(&endpoints, &source);
		if (sender)
			header.pod = sender->index;
	}
	/* An answer quotes the beginning only. */
	if (answered && header.length > SLOW_PATH_FRAME)
		header.length = SLOW_PATH_FRAME;
	/* 1 */
	if (answered && packet->flags & (PACKET_ICMP_ERROR | PACKET_LATER_FRAGMENT)) {
		verdict->slow_path_kind = 0;
		verdict->mtu = 0;
		failed = answered;
	} else if (header.length > SLOW_PATH_PACKET_MAX)
		failed = DROP_SLOW_PATH_SIZE;
	else if (!slow_path_allowed(node, hook, header.pod,
				    1 + (header.length - 1) / SLOW_PATH_FRAME))
		failed = DROP_SLOW_PATH_RATE;
	else if (header.length <= SLOW_PATH_FRAME)
		failed = slow_path_write(ctx, packet, &header, SLOW_PATH_FRAME);
	else
		failed = slow_path_write(ctx, packet, &header, SLOW_PATH_PACKET_MAX);

	if (answered)
		failed = answered;
	if (failed)
		drop(verdict, failed);
	else
		decide(verdict, ACTION_SLOW_PATH);
	return 0;
}

/* Hands the packet up. A packet to be answered counts as dropped. */
static __always_inline void slow_path_send(context *ctx, const struct packet *packet,
					   const struct node_config *node, enum slow_path_kind kind,
					   __u32 mtu, struct verdict *verdict)
{
	verdict->slow_path_kind = kind;
	verdict->mtu = mtu;
	slow_path_hand_up(ctx, packet, node, verdict, FAIRWAY_HOOK);
}

#endif
