// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The fast path, ingress (XDP), step by step: a peer's packet out of its Geneve tunnel into a Pod. */
#define FAIRWAY_XDP
#define FAIRWAY_HOOK HOOK_FROM_WIRE_XDP
#define FRAME_BYTES 112
#define OUTER_L4 (ETH_HLEN + sizeof(struct iphdr))
#define INNER_L3 64
#define PORTS_AT (INNER_L3 + sizeof(struct iphdr))
#define REVERSED true
#include "steps.h"

static __always_inline long move_head(struct xdp_md *ctx, int bytes)
{
	return bpf_xdp_adjust_head(ctx, bytes);
}

/* All packets use the same memory: the Pod's frame overwrites the tunnel's. */
static __always_inline long head_stays(__u64 bytes)
{
	hide(bytes);
	return 0;
}
#define bpf_xdp_adjust_head(ctx, bytes) head_stays(bytes)
#include "../../bpf/lib/established_receive.h"

_Static_assert(INNER_L3 == OUTER_L4 + TUNNEL_INNER_SIZE, "where the inner packet begins");

enum {
	IN_START = NO_STEP,
	IN_OUTER,
	IN_TUNNEL,
	IN_HASH,
	IN_CLOCK,
	IN_FIND,
	IN_CHECK,
	IN_PEER,
	IN_REDIRECTABLE,
	IN_HOP,
	IN_COUNT,
	IN_REDIRECT,
};

/* Like established_receive(), established_from() and established_deliver(), up to `last`. */
static __always_inline int in(struct xdp_md *ctx, int last)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 before = INNER_L3 - ETH_HLEN, hash;
	struct headers outer = {}, inner = {};
	struct gso gso = gso_of(ctx);
	const struct node_config *node;
	struct flow_match match;
	struct flow *flow;
	__u8 receiver;
	__be16 port;
	__u64 now;

	if (!packet_begin(data, end))
		return FAILED;
	END_AT(IN_START, 0);
	node = node_configuration();
	if (!node || !(node->flags & NODE_CONFIGURED) ||
	    *(__be16 *)(data + 2 * ETH_ALEN) != bpf_htons(ETH_P_IP) ||
	    !headers_read(data, end, ETH_HLEN, bpf_htons(ETH_P_IP), end - data - ETH_HLEN, &outer))
		return FAILED;
	END_AT(IN_OUTER, &outer);
	port = outer.key.destination_port;
	if (outer.key.protocol != IPPROTO_UDP || !is_tunnel_port(port, node) ||
	    tunnel_plain(data, end, OUTER_L4, port, node) != bpf_htons(ETH_P_IP) ||
	    outer.length < before ||
	    !headers_read(data, end, INNER_L3, bpf_htons(ETH_P_IP), outer.length - before, &inner))
		return FAILED;
	/* The key must be in memory before the look-up, as in the real code. */
	if (last <= IN_CLOCK)
		USED(&inner);
	END_AT(IN_TUNNEL, 0);
	hash = words_hash(&inner.words, &node->flow_hash, true);
	END_AT(IN_HASH, hash);
	now = bpf_ktime_get_coarse_ns();
	END_AT(IN_CLOCK, now);
	if (last == IN_FIND) {
		match = flow_find(&inner.key, hash, true);
		USED((__u64)match.direction);
		return match.flow ? last : FAILED;
	}
	match = flow_established(&inner, hash, true, node, route_epoch(node), now);
	flow = match.flow;
	receiver = !match.direction;
	if (!flow || flow->pods != 1 << receiver)
		return FAILED;
	END_AT(IN_CHECK, 0);
	if (!peer_judged(peer_at(flow->remote), flow) ||
	    !tunnel_of_peer(peer_at(flow->remote), &outer) ||
	    ecn_decapsulate(outer.tos, inner.tos) != (inner.tos & ECN_MASK))
		return FAILED;
	END_AT(IN_PEER, 0);
	if (data + PORTS_AT + 8 > end ||
	    must_go_up(ctx, data + PORTS_AT, 4, &inner, flow->ifindex[receiver]) || inner.ttl <= 1)
		return FAILED;
	END_AT(IN_REDIRECTABLE, 0);
	flow_touch(flow, now);
	put_hop(data + INNER_L3, 4, &inner);
	END_AT(IN_HOP, 0);
	count_received(flow->remote, true, true, inner.length, inner.before_payload, &gso);
	END_AT(IN_COUNT, 0);
	put_ethernet(data, mac_to_put(&flow->mac[receiver]), mac_to_put(&node->gateway_mac), 4);
	return bpf_redirect(flow->ifindex[receiver], 0);
}

#define IN(name, last)                          \
	SEC("xdp") int name(struct xdp_md *ctx) \
	{                                       \
		return in(ctx, last);           \
	}

IN(in_start, IN_START)
IN(in_outer, IN_OUTER)
IN(in_tunnel, IN_TUNNEL)
IN(in_hash, IN_HASH)
IN(in_clock, IN_CLOCK)
IN(in_find, IN_FIND)
IN(in_check, IN_CHECK)
IN(in_peer, IN_PEER)
IN(in_redirectable, IN_REDIRECTABLE)
IN(in_hop, IN_HOP)
IN(in_count, IN_COUNT)
IN(in_redirect, IN_REDIRECT)

/* The complete fast path, as in from_wire_xdp. */
SEC("xdp")
int in_whole(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!packet_begin(data, end))
		return FAILED;
	return established_receive(ctx);
}

/* Removes the tunnel headers and adds them again. */
SEC("xdp")
int in_room(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!packet_begin(data, end) || move_head(ctx, 50) || move_head(ctx, -50))
		return FAILED;
	return IN_START;
}
