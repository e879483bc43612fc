/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A packet that leaves the Node, to a peer's Pod or to the outside.
 *
 *  1. resolve       the peer's path or the kernel's FIB; changes nothing
 *  2. fit           is the packet small enough for the path?
 *  3. send          rewrite, MSS, encapsulate, count, emit
 */
#ifndef FAIRWAY_REMOTE_H
#define FAIRWAY_REMOTE_H

#include "emit.h"
#include "fib.h"
#include "gateway.h"
#include "mtu.h"
#include "peer_count.h"
#include "slow_path.h"
#include "encap.h"
#include "work.h"

/* Records traffic when the kernel is asked for the next hop of Pod packets to a peer. After a pause, tells the
 * agent. */
stage int traffic_note(__u32 index, __u64 now)
{
	struct peer_activity *activity = bpf_map_lookup_elem(&peer_activity, &index);
	struct probe_record *record;

	if (!activity)
		return -1;
	/* Signed: another CPU may have stored a later time. */
	if ((__s64)(now - activity->sent_at) > (__s64)(TRAFFIC_PAUSE_MS * NS_PER_MS)) {
		record = bpf_ringbuf_reserve(&probe_events, sizeof(*record), 0);
		if (record) {
			__builtin_memset(record, 0, sizeof(*record));
			record->event = PROBE_TRAFFIC;
			record->index = index;
			bpf_ringbuf_submit(record, 0);
		} else {
			count_event(EVENT_PROBE_RING_FULL);
		}
	}
	activity->sent_at = now;
	return 0;
}

/* Asks the kernel for the next hop of packets to the peer, and caches its answer in `hop`, which may be NULL. `family`:
 * of the packet's outermost IP header. */
static __always_inline void peer_ask(context *ctx, struct work *work, const struct peer *peer,
				     bool tunnel, __u8 family, struct next_hop *hop,
				     const struct node_config *node, __u64 now)
{
	fib_question_peer(&work->question, peer, tunnel, family, node);
	fib_ask(ctx, work);
	next_hop_learn(hop, node, now, &work->remote.way);
}

/* Asks the kernel for the next hop of a packet from `from` to work.target, and caches its answer. */
static __always_inline void outside_ask(context *ctx, struct work *work, __u8 family, __u8 tos,
					const struct flow_key *from, bool wants_source,
					const struct node_config *node, __u64 now)
{
	struct way *way = &work->remote.way;
	struct route route;

	fib_question_packet(&work->question, family, tos, from, &work->target);
	work->question.wants_source = wants_source;
	fib_ask(ctx, work);
	way->asked = 1;
	if (node->flags & NODE_ROUTE_MTU) {
		route = route_lookup(&work->target.destination);
		if (route.mtu && route.mtu < way->mtu)
			way->mtu = route.mtu;
	}
	gateway_learn(node, now, way);
}

/* Stage 1 for a peer. `native`: never encapsulated, whatever the path. */
static __always_inline enum drop_reason remote_peer(context *ctx, struct work *work, __u32 id,
						    bool native, const struct node_config *node,
						    __u64 now)
{
	const struct packet *packet = &work->packet;
	const struct peer *peer = peer_lookup(id, packet->family);
	struct verdict *verdict = &work->verdict;
	struct remote *remote = &work->remote;
	struct next_hop *hop;
	__u8 family;

	verdict->peer = id;
	if (!peer || peer->path == PATH_NONE || peer->path == PATH_DOWN)
		return DROP_PEER_DOWN;
	remote->to_peer = 1;
	remote->index = id * 2 + (packet->family == 6);
	remote->native = native;
	remote->tunnel = !native && peer_tunnels(peer);
	remote->mtu = native ? node->transport_mtu : peer->mtu;
	verdict->path = native ? PATH_ROUTED : peer->path;
	family = remote->tunnel || native ? peer->outer_family : packet->family;
	hop = bpf_map_lookup_elem(&next_hops, &remote->index);
	if (!next_hop_cached(hop, node, now, &remote->way))
		peer_ask(ctx, work, peer, remote->tunnel, family ? family : packet->family, hop,
			 node, now);
	if (remote->way.action == ACTION_PASS)
		remote->way.refusal = SLOW_UNREACHABLE;
	if (remote->way.action == ACTION_DROP || remote->way.action == ACTION_PASS)
		return DROP_NO_ROUTE;
	if (remote->way.action == ACTION_WIRE_NEIGHBOUR && !native)
		traffic_note(remote->index, now);
	return DROP_NONE;
}

/*
 * Stage 1 for the outside; the caller checks way.action. `from`: the tuple as the flow's Pod has sent it,
 * whose source rules match; the destination is work.target's. `flow`: a known flow, or NULL;
 * `direction`: that of the packet in it. `wants_source`: a translation begins, see remote_source.
 */
static __always_inline void remote_outside(context *ctx, struct work *work,
					   const struct flow_key *from, const struct flow *flow,
					   __u8 direction, bool wants_source,
					   const struct node_config *node, __u64 now)
{
	struct way *way = &work->remote.way;

	if (!flow || !gateway_find(flow, !direction, node, now, way))
		outside_ask(ctx, work, work->packet.family, work->packet.tos, from, wants_source,
			    node, now);
	work->remote.mtu = way->mtu;
}

/* Source address of a translated packet to the outside: that of its route or device, else the Node's
 * main address. */
static __always_inline const struct address *remote_source(const struct work *work,
							   const struct node_config *node)
{
	const struct address *source = &work->remote.way.source;

	return address_is_zero(source) ? snat_address(node, work->packet.family) : source;
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
	if (remote->tunnel && gso.bundle)
		return dropped(verdict, DROP_SCTP_BUNDLE);
	if ((remote->translated || remote->decrement) &&
	    rewrite(ctx, packet, remote->translated ? &work->target : NULL, remote->decrement))
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
		/* A packet that bypasses the tunnel is not from a pod CIDR, so the peer does not count it. */
		if (!remote->native)
			count_sent(remote->index, remote->tunnel, packet->length,
				   headers_length(packet), &gso);
	}
	return emit_wire(ctx, &work->remote.way, family, verdict);
}

#endif
