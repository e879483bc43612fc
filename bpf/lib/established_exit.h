/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a packet of an established flow leaves the Node.
 *
 *  1. exit   the peer's current path or the client's gateway, with a trusted next hop, or one that was just renewed
 *  2. fit    the packet is small enough for it
 *  3. send   L4 checksum, MSS, tunnel, count, MACs, redirect
 */
#ifndef FAIRWAY_ESTABLISHED_EXIT_H
#define FAIRWAY_ESTABLISHED_EXIT_H

#include "established.h"
#include "remote.h"

/* Where a packet goes out, and how large it may be. */
struct exit {
	const struct peer *peer; /* NULL: to the outside */
	__u64 destination;	 /* MACs as in struct next_hop */
	__u64 source;
	__u32 ifindex;
	__u32 mtu;
	__u32 index;	   /* of the peer */
	bool by_neighbour; /* through the kernel's neighbour code, by the way in work.remote */
};

static __always_inline void exit_by(struct exit *exit, const struct next_hop *hop)
{
	exit->source = read_once(hop->source_mac);
	exit->destination = read_once(hop->destination_mac);
	exit->ifindex = read_once(hop->ifindex);
}

/* 1. `index` as in peers. False: full path. */
static __always_inline bool exit_to_peer(struct exit *exit, __u32 index,
					 const struct node_config *node, __u64 now)
{
	const struct next_hop *hop;

	exit->index = index;
	exit->by_neighbour = false;
	exit->peer = peer_at(index);
	hop = bpf_map_lookup_elem(&next_hops, &index);
	if (!exit->peer || exit->peer->path == PATH_NONE || exit->peer->path == PATH_DOWN || !hop ||
	    !next_hop_trusted(hop, node, now))
		return false;
	exit->mtu = exit->peer->mtu;
	exit_by(exit, hop);
	return true;
}

/* 1. By the gateway that the flow remembers; `direction`: that in which the gateway's packets travel.
 * False: full path. */
static __always_inline bool exit_to_gateway(struct exit *exit, const struct flow *flow,
					    __u8 direction, const struct node_config *node,
					    __u64 now)
{
	const struct next_hop *hop = gateway_cached(flow, node, now);

	exit->index = 0;
	exit->by_neighbour = false;
	exit->peer = NULL;
	if (!hop)
		return false;
	exit->mtu = flow->mtu;
	exit_by(exit, hop);
	return gateway_is(hop, flow, direction);
}

/* 1. By the way in work.remote, which established_hop.h has renewed. */
static __always_inline bool exit_by_renewed(struct exit *exit)
{
	const struct work *work = work_space();

	if (!work)
		return false;
	exit->source = work->remote.way.source_mac;
	exit->destination = work->remote.way.destination_mac;
	exit->ifindex = work->remote.way.ifindex;
	exit->mtu = work->remote.mtu;
	exit->by_neighbour = work->remote.way.action == ACTION_WIRE_NEIGHBOUR;
	return true;
}

/* 2 */
static __always_inline bool exit_fits(const struct exit *exit, const struct headers *headers,
				      const struct gso *gso)
{
	__u32 largest = gso->size ? headers->before_payload + gso->size : headers->length;

	return largest <= exit->mtu;
}

/* 3. Sends a packet of `family` whose IP header is already written. */
static __always_inline int exit_take(struct __sk_buff *ctx, const struct exit *exit,
				     const struct node_config *node, __u8 family,
				     const struct headers *headers, __u32 hash,
				     const struct gso *gso, const struct translation *translation)
{
	struct verdict verdict = { .action = ACTION_WIRE,
				   .peer = NO_PEER,
				   .ifindex = exit->ifindex };
	void *data, *end;
	bool tunnel;
	int result;

	if (put_translated_checksum(ctx, ETH_HLEN + header_size(family), translation))
		return established_failed();
	if (exit->peer) {
		if (is_syn_answer(headers) && put_mss(ctx, family, headers, exit->mtu))
			return established_failed();
		verdict.peer = exit->index / 2;
		verdict.path = exit->peer->path;
		verdict.mtu = exit->mtu;
		tunnel = peer_tunnels(exit->peer);
		if (tunnel) {
			if (tunnel_enter(ctx, exit->peer, node, family, headers->key.protocol,
					 headers->tos, hash))
				return established_failed();
			family = exit->peer->outer_family;
		}
		count_sent(exit->index, tunnel, headers->length, headers->before_payload, gso);
	}
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + ETH_HLEN > end)
		return established_failed();
	put_ethernet(data, exit->destination, exit->source, family);
	if (exit->by_neighbour) {
		verdict.action = ACTION_WIRE_NEIGHBOUR;
		result = emit_neighbour(ctx);
		if (result < 0)
			return established_failed();
		record(&verdict);
		return result;
	}
	record(&verdict);
	return bpf_redirect(verdict.ifindex, 0);
}

#endif
