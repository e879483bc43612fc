/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Probes between the gateway addresses of Nodes, which prove a path; see ARCHITECTURE, Probes.
 *
 *  1. shape         is it one?
 *  2. path          the peer's path that the probe names; the kernel is asked for its next hop
 *  3. send          the datagram, its checksum, the tunnel
 *  4. request      of this Node's agent, at from_host: stamped and sent
 *
 * from_wire's handling of a peer's request, and of the answer to a request of this Node, is in probe_answer.h.
 *
 * Requests and answers announce whether Pod packets of their Node come without a tunnel, and whether it
 * accepts such packets from the other Node. Only an answer is believed: any host can send a request.
 */
#ifndef FAIRWAY_PROBE_H
#define FAIRWAY_PROBE_H

#include "route.h"
#include "work.h"
#ifndef FAIRWAY_XDP
#include "remote.h"
#include "siphash.h"
#include "untunnelled.h"
#endif

#define PROBE_REQUEST_FLAGS ((1 << PROBE_ANSWER_SHIFT) - 1)
#define PROBE_DATAGRAM sizeof(struct probe_datagram)

_Static_assert(PROBE_DATAGRAM == sizeof(struct udp_header) + sizeof(struct probe),
	       "a probe follows its UDP header");

/* 1. True for a whole UDP packet with both probe ports and room for a probe. */
static __always_inline bool probe_shaped(context *ctx, const struct packet *packet)
{
	__u32 before = packet->l4 - packet->l3, length;
	struct udp_header *udp;

	if (packet->key.protocol != IPPROTO_UDP ||
	    packet->key.source_port != bpf_htons(PROBE_PORT) ||
	    packet->key.destination_port != bpf_htons(PROBE_PORT) ||
	    packet->flags & PACKET_FRAGMENT)
		return false;
#ifndef FAIRWAY_XDP
	if (gso_of(ctx).size)
		return false;
#endif
	udp = bytes_at(ctx, packet->l4, sizeof(*udp));
	if (!udp)
		return false;
	length = bpf_ntohs(udp->length);
	return length >= PROBE_DATAGRAM && before + length <= packet->length;
}

/* `own` and `other` are the two sides of a packet. Returns the peer's id if they are a gateway address
 * of this Node and one of a peer, and the packet has the shape of a probe; otherwise NO_PEER. */
static __always_inline __u32 probe_peer(context *ctx, const struct packet *packet,
					const struct address *own, const struct address *other,
					const struct node_config *node)
{
	const struct address *gateway = gateway_address(node, packet->family);
	__u32 *id;

	if (!probe_shaped(ctx, packet) || address_is_zero(gateway) || !address_equal(own, gateway))
		return NO_PEER;
	id = bpf_map_lookup_elem(&peer_gateways, other);
	return id ? *id : NO_PEER;
}

/* The peer that a request or an answer came from, or NO_PEER. */
static __always_inline __u32 probe_from(context *ctx, const struct packet *packet,
					const struct node_config *node)
{
	return probe_peer(ctx, packet, &packet->key.destination, &packet->key.source, node);
}

#ifndef FAIRWAY_XDP

/* The packet has the shape of a probe request, even if it is invalid otherwise. */
static __always_inline bool probe_asks(context *ctx, const struct packet *packet)
{
	__u8 *kind = bytes_at(
		ctx, packet->l4 + sizeof(struct udp_header) + offsetof(struct probe, kind), 1);

	return kind && *kind == PROBE_REQUEST;
}

static __always_inline bool way_is_known(__u8 way)
{
	return way == PROBE_DIRECT || way == PROBE_TUNNEL;
}

static __always_inline __u32 probe_index(const struct packet *packet, __u32 id)
{
	return id * 2 + (packet->family == 6);
}

/* 2. NULL: the verdict has the reason. The next hop is not cached: the probe must prove the present neighbour,
 * too. */
static __always_inline const struct peer *probe_path(struct __sk_buff *ctx, struct work *work,
						     __u32 id, __u8 name,
						     const struct node_config *node)
{
	__u32 index = probe_index(&work->packet, id) * 2 + name;
	const struct peer *path = bpf_map_lookup_elem(&peer_paths, &index);
	struct way *way = &work->remote.way;

	if (!path || path->path == PATH_NONE || path->path == PATH_DOWN) {
		drop(&work->verdict, DROP_PEER_DOWN);
		return NULL;
	}
	work->verdict.path = path->path;
	fib_question_peer(&work->question, path, peer_tunnels(path),
			  peer_tunnels(path) ? path->outer_family : work->packet.family, node);
	fib_ask(ctx, work);
	if (way->action == ACTION_DROP || way->action == ACTION_PASS) {
		drop(&work->verdict, DROP_NO_ROUTE);
		return NULL;
	}
	return path;
}

/* The checksum over pseudo header, UDP header and struct probe; the following zeros add nothing. It
 * stays the same if the two sides are swapped. */
static __always_inline __sum16 probe_checksum(const struct packet *packet,
					      const struct probe_datagram *datagram)
{
	const __u32 *address = (const __u32 *)&packet->key.source;
	const __u32 *word = (const __u32 *)datagram;
	__u64 sum = (__u64)bpf_htons(IPPROTO_UDP) + datagram->udp.length + address[3] + address[7];
	__sum16 check;
	__u32 i;

	if (packet->family == 6)
		sum += (__u64)address[0] + address[1] + address[2] + address[4] + address[5] +
		       address[6];
	/* Word 1 holds the checksum itself. */
	sum += word[0] + (__u64)datagram->udp.length;
#pragma unroll
	for (i = 2; i < PROBE_DATAGRAM / 4; i++)
		sum += word[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	check = csum_fold(sum);
	return check ? check : 0xffff;
}

/* 3. Sends work->probe over this path. */
static __always_inline int probe_send(struct __sk_buff *ctx, struct work *work,
				      const struct peer *path, const struct node_config *node)
{
	const struct packet *packet = &work->packet;
	__u8 family = packet->family;

	work->probe.udp.check = probe_checksum(packet, &work->probe);
	if (store_summed(ctx, packet->l4, &work->probe, PROBE_DATAGRAM))
		return dropped(&work->verdict, DROP_REWRITE_FAILED);
	if (peer_tunnels(path)) {
		if (encapsulate(ctx, packet, path, node))
			return dropped(&work->verdict, DROP_REWRITE_FAILED);
		family = path->outer_family;
	}
	return emit_wire(ctx, &work->remote.way, family, &work->verdict);
}

struct peer_sum {
	__u32 index;
	__u32 sent_packets;
	__u32 sent_large;
	__u32 received_packets;
	__u32 received_large;
};

#define CPUS_MAX 8192

static long peer_sum_cpu(__u32 cpu, struct peer_sum *sum)
{
	__u32 index = sum->index;
	struct peer_counter *counter = bpf_map_lookup_percpu_elem(&peer_counters, &index, cpu);

	if (!counter)
		return 1;
	sum->sent_packets += counter->direct_packets;
	sum->sent_large += counter->direct_large;
	sum->received_packets += counter->received_packets - counter->received_tunnel_packets;
	sum->received_large += counter->received_large - counter->received_tunnel_large;
	return 0;
}

/* Packets sent directly to a peer and received directly from it, over all CPUs, modulo 2^32. */
static __always_inline void peer_sum(struct peer_sum *sum)
{
	bpf_loop(CPUS_MAX, peer_sum_cpu, sum, 0);
}

/* The token of the peer's gateway address, the request and its time. */
static __always_inline __u64 probe_token(const struct address *gateway, const struct probe *probe,
					 const struct node_config *node)
{
	struct {
		struct address gateway;
		struct probe probe;
	} message = { .gateway = *gateway, .probe = *probe };
	const __u32 words = (sizeof(*gateway) + offsetof(struct probe, token)) / sizeof(__u64);

	message.probe.kind = PROBE_REQUEST;
	message.probe.flags &= PROBE_REQUEST_FLAGS;
	return siphash((const __u64 *)&message, words, node->probe_key);
}

/* This Node accepts untunnelled packets of the peer, and will continue to do so. */
static __always_inline bool invites_untunnelled(__u32 id, __u8 family)
{
	const struct peer *peer = peer_lookup(id, family);

	return peer && !(peer->flags & (PEER_TUNNELLED_ONLY | PEER_ENDING));
}

/* What this Node announces to the peer of `id`: enum probe_flag. */
static __always_inline __u8 announcement(__u32 id, __u8 family, const struct node_config *node)
{
	__u8 flags = PROBE_ANNOUNCES;

	if (node->flags & NODE_SENDS_UNTUNNELLED)
		flags |= PROBE_SENDS_UNTUNNELLED;
	if (invites_untunnelled(id, family))
		flags |= PROBE_TAKES_UNTUNNELLED;
	return flags;
}

/* A request announces something that is not known about its peer. */
static __always_inline bool announces_news(__u8 flags, __u32 id, __u8 family)
{
	return flags & PROBE_ANNOUNCES &&
	       !(flags & PROBE_SENDS_UNTUNNELLED) == invites_untunnelled(id, family);
}

/* 4 */
stage int probe_ask(struct __sk_buff *ctx, struct work *work, const struct node_config *node,
		    __u32 id)
{
	struct peer_sum sum = {};
	const struct packet *packet;
	const struct peer *path;
	struct verdict *verdict;
	struct probe *probe;

	if (!work || !node)
		return TC_ACT_SHOT;
	packet = &work->packet;
	verdict = &work->verdict;
	probe = &work->probe.probe;
	verdict->peer = id;
	if (bpf_skb_load_bytes(ctx, packet->l4, &work->probe, PROBE_DATAGRAM) ||
	    probe->magic != bpf_htonl(PROBE_MAGIC) || probe->kind != PROBE_REQUEST ||
	    !way_is_known(probe->way_there) || !way_is_known(probe->way_back))
		return dropped(verdict, DROP_PROBE_REFUSED);
	path = probe_path(ctx, work, id, probe->way_there, node);
	if (!path)
		return discard();
	sum.index = probe_index(packet, id);
	peer_sum(&sum);
	probe->flags = (probe->flags & PROBE_HELLO) | announcement(id, packet->family, node);
	probe->length = bpf_htons(packet->length);
	probe->sent_packets = bpf_htonl(sum.sent_packets);
	probe->sent_large = bpf_htonl(sum.sent_large);
	probe->received_packets = 0;
	probe->received_large = 0;
	probe->sent_at = bpf_ktime_get_ns();
	probe->token = probe_token(&packet->key.destination, probe, node);
	return probe_send(ctx, work, path, node);
}

#endif
#endif
