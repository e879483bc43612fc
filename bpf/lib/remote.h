/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet that leaves the Node, to a peer's Pod or to the outside.
 *
 *  1. resolve       the peer's path or the kernel's FIB; nothing is changed yet
 *  2. fits          is it small enough for that path?
 *  3. send          rewrite, MSS, encapsulate, count, emit
 */
#ifndef FAIRWAY_REMOTE_H
#define FAIRWAY_REMOTE_H

#include "emit.h"
#include "mtu.h"
#include "slow_path.h"
#include "tunnel.h"
#include "work.h"

/* Stage 1 for a peer. `native`: past the tunnel, whatever the path is. */
static __always_inline enum drop_reason remote_peer(context *ctx, const struct packet *packet,
						    __u32 id, bool native,
						    const struct node_config *node, __u64 now,
						    struct remote *remote, struct verdict *verdict)
{
	const struct peer *peer = peer_lookup(id, packet->family);
	struct next_hop *hop;
	__u8 family;

	verdict->peer = id;
	if (!peer || peer->path == PATH_NONE || peer->path == PATH_DOWN)
		return DROP_PEER_DOWN;
	remote->to_peer = 1;
	remote->index = id * 2 + (packet->family == 6);
	remote->tunnel = !native && (peer->path == PATH_GENEVE || peer->path == PATH_VXLAN);
	remote->mtu = native ? node->transport_mtu : peer->mtu;
	verdict->path = native ? PATH_ROUTED : peer->path;
	family = remote->tunnel || native ? peer->outer_family : packet->family;
	hop = bpf_map_lookup_elem(&next_hops, &remote->index);
	next_hop_resolve(ctx, hop, &peer->remote, family ? family : packet->family, false, node,
			 now, &remote->way);
	if (remote->way.action == ACTION_DROP || remote->way.action == ACTION_PASS)
		return DROP_NO_ROUTE;
	return DROP_NONE;
}

/* Stage 1 for the outside; the caller looks at way.action. */
static __always_inline void remote_outside(context *ctx, const struct packet *packet,
					   struct next_hop *hop, const struct node_config *node,
					   __u64 now, struct remote *remote)
{
	remote->mtu = node->transport_mtu;
	next_hop_resolve(ctx, hop, &packet->key.destination, packet->family, true, node, now,
			 &remote->way);
}

enum fit {
	FITS,
	FITS_IN_FRAGMENTS,
	FITS_NOT,
};

/* Stage 2. */
static __always_inline enum fit remote_fit(const struct packet *packet, const struct remote *remote,
					   const struct gso *gso)
{
	if (wire_length(packet, gso) <= remote->mtu)
		return FITS;
	return packet->flags & PACKET_DONT_FRAGMENT || gso->size ? FITS_NOT : FITS_IN_FRAGMENTS;
}

static __always_inline void peer_count(const struct packet *packet, const struct remote *remote,
				       const struct gso *gso)
{
	/* A key on the stack: 6.1 takes none from an argument's memory. */
	__u32 index = remote->index;
	struct peer_counter *counter = bpf_map_lookup_elem(&peer_counters, &index);

	if (!counter)
		return;
	if (remote->tunnel) {
		counter->tunnel_packets += gso->segments;
		counter->tunnel_bytes += wire_bytes(packet, gso);
	} else {
		counter->direct_packets += gso->segments;
		counter->direct_bytes += wire_bytes(packet, gso);
	}
}

/* Stage 3. */
stage int remote_send(struct __sk_buff *ctx, struct work *work, const struct node_config *node)
{
	const struct packet *packet;
	const struct remote *remote;
	const struct peer *peer;
	struct verdict *verdict;
	struct gso gso = gso_of(ctx);
	__u32 index;
	__u8 family;

	if (!work || !node)
		return TC_ACT_SHOT;
	packet = &work->packet;
	remote = &work->remote;
	verdict = &work->verdict;
	family = packet->family;
	if ((remote->translated || remote->decrement) &&
	    rewrite(ctx, packet, remote->translated ? &work->translation : NULL, remote->decrement))
		return dropped(verdict, DROP_REWRITE_FAILED);
	if (remote->to_peer) {
		verdict->mtu = remote->mtu;
		if (is_syn(packet) && mss_clamp(ctx, packet, remote->mtu))
			return dropped(verdict, DROP_REWRITE_FAILED);
		if (remote->tunnel) {
			index = remote->index;
			peer = bpf_map_lookup_elem(&peers, &index);
			if (!peer || encapsulate(ctx, packet, peer, node))
				return dropped(verdict, DROP_REWRITE_FAILED);
			family = peer->outer_family;
		}
		peer_count(packet, remote, &gso);
	}
	return emit_wire(ctx, &work->remote.way, family, verdict);
}

#endif
