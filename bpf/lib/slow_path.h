/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets that the core cannot finish go up through a ring buffer, as they came and within a
 * rate. The forwarder answers or sends them on.
 */
#ifndef FAIRWAY_SLOW_PATH_H
#define FAIRWAY_SLOW_PATH_H

#include "packet.h"
#include "verdict.h"

/* Most records are one Ethernet frame; an ICMP error quotes less. */
#define SLOW_PATH_FRAME 1536

static __always_inline bool slow_path_allowed(const struct node_config *node)
{
	__u64 now = bpf_ktime_get_coarse_ns(), elapsed;
	__u32 zero = 0, rate = node->slow_path_rate;
	struct token_bucket *bucket = bpf_map_lookup_elem(&slow_path_bucket, &zero);

	if (!bucket)
		return false;
	elapsed = now - bucket->refilled;
	if (elapsed > NS_PER_SECOND) {
		bucket->tokens = rate;
		bucket->refilled = now;
	} else {
		__u64 gained = elapsed * rate / NS_PER_SECOND;

		/* Less than a token stays in `refilled`: a low rate would else never come to one. */
		if (gained) {
			gained += bucket->tokens;
			bucket->tokens = gained > rate ? rate : gained;
			bucket->refilled = now;
		}
	}
	/* Two CPUs may pass on one token; it is a limit, not an account. */
	if (!bucket->tokens)
		return false;
	bucket->tokens -= 1;
	return true;
}

static __always_inline int load(context *ctx, __u32 offset, void *to, __u32 length)
{
#ifdef FAIRWAY_XDP
	return bpf_xdp_load_bytes(ctx, offset, to, length);
#else
	return bpf_skb_load_bytes(ctx, offset, to, length);
#endif
}

static __always_inline enum drop_reason slow_path_write(context *ctx, const struct packet *packet,
							const struct slow_path_header *header,
							const __u32 room)
{
	struct slow_path_header *record;
	/* Length minus one: the verifier of 6.1 derives no lower bound from `!= 0`. */
	__u32 rest = header->length - 1;

	record = bpf_ringbuf_reserve(&slow_path, sizeof(*header) + room, 0);
	if (!record)
		return DROP_SLOW_PATH_FULL;
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

#define slow_path_hand_up FOR_HOOK(slow_path_hand_up)
stage int slow_path_hand_up(context *ctx, const struct packet *packet,
			    const struct node_config *node, struct verdict *verdict, __u8 hook)
{
	struct slow_path_header header = { .hook = hook, .ifindex = ingress_ifindex(ctx) };
	enum drop_reason failed;
	bool answer;

	if (!packet || !node || !verdict)
		return -1;
	header.kind = verdict->slow_path_kind;
	header.mtu = verdict->mtu;
	header.length = packet->length;
	answer = header.kind == SLOW_TTL_EXCEEDED || header.kind == SLOW_TOO_BIG;
	/* An answer quotes the beginning only. */
	if (answer && header.length > SLOW_PATH_FRAME)
		header.length = SLOW_PATH_FRAME;
	if (header.length > SLOW_PATH_PACKET_MAX)
		failed = DROP_SLOW_PATH_SIZE;
	else if (!slow_path_allowed(node))
		failed = DROP_SLOW_PATH_RATE;
	else if (header.length <= SLOW_PATH_FRAME)
		failed = slow_path_write(ctx, packet, &header, SLOW_PATH_FRAME);
	else
		failed = slow_path_write(ctx, packet, &header, SLOW_PATH_PACKET_MAX);

	/* What is answered ends here, whether or not the answer could be had. */
	if (header.kind == SLOW_TOO_BIG)
		failed = DROP_PACKET_TOO_BIG;
	else if (header.kind == SLOW_TTL_EXCEEDED)
		failed = DROP_TTL_EXCEEDED;
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
