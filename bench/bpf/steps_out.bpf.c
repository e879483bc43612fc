// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The fast path, egress (TC), step by step: a Pod's packet into a peer's Geneve tunnel. Also fills
 * the table with flows, and measures ways to look one up. */
#define FAIRWAY_HOOK HOOK_FROM_POD
#define FRAME_BYTES 64
#define PORTS_AT (ETH_HLEN + sizeof(struct iphdr))
#define REVERSED false
#define PEER 1 /* id of the peer of all flows */
#include "steps.h"

static __always_inline long make_room(struct __sk_buff *ctx, int bytes)
{
	return bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* An skb can be encapsulated only once: here the headers overwrite the packet's. */
static __always_inline long room_is_there(__u32 bytes, __u64 flags)
{
	hide(bytes);
	hide(flags);
	return 0;
}
#define bpf_skb_adjust_room(ctx, bytes, mode, flags) room_is_there(bytes, flags)
#include "../../bpf/lib/established_send.h"
#include "../../bpf/lib/track.h"
#include "../../bpf/kernel_context.bpf.c"

enum {
	OUT_START = NO_STEP,
	OUT_HEADERS,
	OUT_HASH,
	OUT_CLOCK,
	OUT_FIND,
	OUT_CHECK,
	OUT_SENDER,
	OUT_PATH,
	OUT_FIT,
	OUT_HOP,
	OUT_TUNNEL,
	OUT_COUNT,
	OUT_REDIRECT,
};

/* Like established_send() and established_send_from(), up to `last`. */
static __always_inline int out(struct __sk_buff *ctx, int last)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct node_config *node;
	struct headers headers = {};
	struct flow_match match;
	struct exit exit;
	struct gso gso;
	__u32 hash;
	__u64 now;

	if (!packet_begin(data, end))
		return FAILED;
	END_AT(OUT_START, 0);
	node = node_configuration();
	if (!node || !(node->flags & NODE_CONFIGURED) || ctx->vlan_present ||
	    *(__be16 *)(data + 2 * ETH_ALEN) != bpf_htons(ETH_P_IP) ||
	    !headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IP), ctx->len - ETH_HLEN, &headers))
		return FAILED;
	/* The key must be in memory before the look-up, as in the real code. */
	if (last <= OUT_CLOCK)
		USED(&headers);
	END_AT(OUT_HEADERS, 0);
	hash = words_hash(&headers.words, &node->flow_hash, true);
	END_AT(OUT_HASH, hash);
	now = bpf_ktime_get_coarse_ns();
	END_AT(OUT_CLOCK, now);
	if (last == OUT_FIND) {
		match = flow_find(&headers.key, hash, true);
		USED((__u64)match.direction);
		return match.flow ? last : FAILED;
	}
	match = flow_established(&headers, hash, true, node, route_epoch(node), now);
	if (!match.flow)
		return FAILED;
	END_AT(OUT_CHECK, (__u64)match.direction);
	if (headers.ttl <= 1 || !end_is_pod(match.flow, match.direction) ||
	    !frame_of(data, ctx->ifindex, match.flow->ifindex[match.direction & 1],
		      mac_to_put(&match.flow->mac[match.direction & 1])))
		return FAILED;
	END_AT(OUT_SENDER, 0);
	if (!established_exit(&match, &exit, node, now) || !exit.peer)
		return FAILED;
	END_AT(OUT_PATH, (__u64)exit.mtu);
	gso = gso_of(ctx);
	if ((gso.size ? headers.before_payload + gso.size : headers.length) > exit.mtu)
		return FAILED;
	END_AT(OUT_FIT, 0);
	flow_touch(match.flow, now);
	put_hop(data + ETH_HLEN, 4, &headers);
	END_AT(OUT_HOP, 0);
	if (tunnel_enter(ctx, exit.peer, node, 4, headers.key.protocol, headers.tos, hash))
		return FAILED;
	END_AT(OUT_TUNNEL, 0);
	count_sent(match.flow->remote, true, headers.length, headers.before_payload, &gso);
	END_AT(OUT_COUNT, 0);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN > end)
		return FAILED;
	put_ethernet(data, exit.destination, exit.source, exit.peer->outer_family);
	return bpf_redirect(exit.ifindex, 0);
}

#define OUT(name, last)                           \
	SEC("tc") int name(struct __sk_buff *ctx) \
	{                                         \
		return out(ctx, last);            \
	}

OUT(out_start, OUT_START)
OUT(out_headers, OUT_HEADERS)
OUT(out_hash, OUT_HASH)
OUT(out_clock, OUT_CLOCK)
OUT(out_find, OUT_FIND)
OUT(out_check, OUT_CHECK)
OUT(out_sender, OUT_SENDER)
OUT(out_path, OUT_PATH)
OUT(out_fit, OUT_FIT)
OUT(out_hop, OUT_HOP)
OUT(out_tunnel, OUT_TUNNEL)
OUT(out_count, OUT_COUNT)
OUT(out_redirect, OUT_REDIRECT)

/* In place of port.bpf.c: no packet here has a translated port. */
int port_keep(struct __sk_buff *ctx)
{
	return 0;
}

/* The complete fast path, as in from_pod. */
SEC("tc")
int out_whole(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!packet_begin(data, end))
		return FAILED;
	return established_send(ctx);
}

/* Makes room for a tunnel and removes it again. */
SEC("tc")
int out_room(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!packet_begin(data, end) || make_room(ctx, 50) || make_room(ctx, -50))
		return FAILED;
	return OUT_START;
}

/* ------------------------------------------------------- flows */

/* Reads the packet's headers and hashes its flow. NULL: not the expected packet. */
static __always_inline const struct node_config *look(struct __sk_buff *ctx,
						      struct headers *headers, __u32 *hash)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct node_config *node;

	if (!packet_begin(data, end))
		return NULL;
	node = node_configuration();
	if (!node ||
	    !headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IP), ctx->len - ETH_HLEN, headers))
		return NULL;
	*hash = words_hash(&headers->words, &node->flow_hash, true);
	USED(headers);
	return node;
}

/* Creates a packet's flow as the full path leaves it after an answer. */
SEC("tc")
int fill(struct __sk_buff *ctx)
{
	struct route route = { .kind = ROUTE_PEER, .peer = PEER };
	struct endpoint pod = { .ifindex = ctx->ifindex };
	struct headers headers = {};
	struct packet packet = {};
	struct flow_ref ref = {};
	const struct node_config *node;
	struct bench *state = bench_state();
	struct work *work = work_start();
	__u32 hash;
	int slot;

	node = look(ctx, &headers, &hash);
	if (!node || !state || !work)
		return FAILED;
	__builtin_memcpy(&pod.mac, state->frame + ETH_ALEN, sizeof(pod.mac));
	packet.key = headers.key;
	work->packet = packet;
	flow_begin(work, &packet, &packet.key, bpf_ktime_get_coarse_ns());
	route_remember(&work->flow, &route, 4, &pod, FLOW_ORIGINAL, route_epoch(node));
	work->flow.state = FLOW_UDP_ESTABLISHED;
	work->flow.flags |= FLOW_REPLIED;
	slot = flow_create(node, 0);
	if (slot < 0)
		return FAILED;
	/* For look_index: most tuples need no entry. */
	ref.slot = slot;
	bpf_map_update_elem(&flow_index, &packet.key, &ref, BPF_ANY);
	return OUT_START;
}

/* Counts where flows are found. */
SEC("tc")
int where(struct __sk_buff *ctx)
{
	struct bench *state = bench_state();
	struct headers headers = {};
	__u32 hash, place = 2;

	if (!state || !look(ctx, &headers, &hash))
		return FAILED;
	if (flow_in_slot(flow_home(hash), &headers.words) >= 0)
		place = 0;
	else if (flow_in_slot(flow_home(hash) ^ 1, &headers.words) >= 0)
		place = 1;
	__sync_fetch_and_add(&state->found[place], 1);
	return OUT_START;
}

/* No look-up. */
SEC("tc")
int look_nowhere(struct __sk_buff *ctx)
{
	struct headers headers = {};
	__u32 hash;

	if (!look(ctx, &headers, &hash))
		return FAILED;
	USED(hash);
	return OUT_START;
}

/* The least work of any table: one cache line, at a place that depends on the flow. */
SEC("tc")
int look_touch(struct __sk_buff *ctx)
{
	struct headers headers = {};
	struct flow *flow;
	__u32 hash;

	if (!look(ctx, &headers, &hash))
		return FAILED;
	flow = flow_at(flow_home(hash));
	if (!flow)
		return FAILED;
	USED(flow->last_seen);
	return OUT_START;
}

SEC("tc")
int look_quick(struct __sk_buff *ctx)
{
	struct headers headers = {};
	struct flow_match match;
	__u32 hash;

	if (!look(ctx, &headers, &hash))
		return FAILED;
	match = flow_find(&headers.key, hash, true);
	if (!match.flow)
		return FAILED;
	USED(match.flow->last_seen);
	return OUT_START;
}

/* Through the index: the kernel's hash of the key, a bucket, an element, then the slot. */
SEC("tc")
int look_index(struct __sk_buff *ctx)
{
	struct headers headers = {};
	struct flow_ref *ref;
	struct flow *flow;
	__u32 hash;

	if (!look(ctx, &headers, &hash))
		return FAILED;
	USED(hash);
	ref = bpf_map_lookup_elem(&flow_index, &headers.key);
	if (!ref)
		return FAILED;
	flow = flow_at(ref->slot);
	if (!flow)
		return FAILED;
	USED(flow->last_seen);
	return OUT_START;
}
