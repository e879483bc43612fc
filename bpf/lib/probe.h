/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Probes between the gateway addresses of Nodes, which prove a path; see ARCHITECTURE, Probes.
 *
 *  1. shape         is it one?
 *  2. path          of the peer's, the one that the probe names; the kernel is asked for its next hop
 *  3. send          the datagram, its checksum, the tunnel
 *  4. question      of this Node's agent, at from_host: stamped and sent
 *  5. answer        a peer's question, at from_wire: turned round and sent, not too many of one peer's;
 *                   from_wire has asked where it came from, as of any packet of a peer
 *  6. proof         the answer to a question of ours, at from_wire: its token, the agent is told
 *
 * Questions and answers announce whether Pod packets of their Node come without a tunnel, and whether it
 * takes such packets of the other. Only an answer is believed: a question can come from anybody.
 */
#ifndef FAIRWAY_PROBE_H
#define FAIRWAY_PROBE_H

#include "route.h"
#ifndef FAIRWAY_XDP
#include "remote.h"
#include "siphash.h"
#include "untunnelled.h"
#endif

#define PROBE_QUESTION_FLAGS ((1 << PROBE_ANSWER_SHIFT) - 1)
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

/* What has the shape of a probe asks, whatever else is wrong with it. */
static __always_inline bool probe_asks(context *ctx, const struct packet *packet)
{
	__u8 *kind = bytes_at(
		ctx, packet->l4 + sizeof(struct udp_header) + offsetof(struct probe, kind), 1);

	return kind && *kind == PROBE_QUESTION;
}

static __always_inline bool way_is_known(__u8 way)
{
	return way == PROBE_DIRECT || way == PROBE_TUNNEL;
}

static __always_inline __u32 probe_index(const struct packet *packet, __u32 id)
{
	return id * 2 + (packet->family == 6);
}

/* 2. NULL: the verdict says why. No next hop is kept: it is the neighbour of this moment that is to be
 * proven, too. */
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

	message.probe.kind = PROBE_QUESTION;
	message.probe.flags &= PROBE_QUESTION_FLAGS;
	return siphash((const __u64 *)&message, words, node->probe_key);
}

/* This Node takes untunnelled packets of the peer, and will go on to do so. */
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

/* A question announces what is not known of its peer. */
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
	    probe->magic != bpf_htonl(PROBE_MAGIC) || probe->kind != PROBE_QUESTION ||
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

/* The agent is told of a peer that introduces itself, or announces something new: it asks the peer. */
static __always_inline void probe_greeted(__u32 index)
{
	struct peer_activity *activity = bpf_map_lookup_elem(&peer_activity, &index);
	__u64 now = bpf_ktime_get_coarse_ns();
	struct probe_record *record;

	if (!activity || (__s64)(now - activity->greeted_at) <= (__s64)(HELLO_PAUSE_MS * NS_PER_MS))
		return;
	activity->greeted_at = now;
	record = bpf_ringbuf_reserve(&probe_events, sizeof(*record), 0);
	if (!record) {
		count_event(EVENT_PROBE_RING_FULL);
		return;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->event = PROBE_GREETED;
	record->index = index;
	bpf_ringbuf_submit(record, 0);
}

/* One word a peer: the time until which what was asked so far is paid for. Two CPUs at once may let
 * one question more pass. */
static __always_inline bool answer_allowed(__u32 index)
{
	struct peer_activity *activity = bpf_map_lookup_elem(&peer_activity, &index);
	__u64 now = bpf_ktime_get_coarse_ns(), until;

	if (!activity)
		return false;
	until = activity->answers_until;
	/* Signed: another CPU may have read the clock later. */
	if ((__s64)(until - now) < 0)
		until = now;
	if (until - now > (__u64)PROBE_ANSWER_BURST * PROBE_ANSWER_NS)
		return false;
	activity->answers_until = until + PROBE_ANSWER_NS;
	return true;
}

/* bpf_skb_adjust_room takes no more at once. */
#define ROOM_MAX 0xfff
#define CUTS_MAX 4

/* Shortens a request to `length`. The kernel cannot cut the tail of a packet that is still marked as
 * tunnelled (see tunnel_room). Then the bytes after its IP header are removed, and the datagram is
 * written into the rest, which is zeros. */
static __always_inline int probe_cut(struct __sk_buff *ctx, __u32 l3, __u32 length)
{
	__u32 more;
	int i;

	if (!bpf_skb_change_tail(ctx, l3 + length, 0))
		return 0;
	for (i = 0; i < CUTS_MAX; i++) {
		more = ctx->len - (l3 + length);
		if (!more)
			return 0;
		if (bpf_skb_adjust_room(ctx, -(int)(more > ROOM_MAX ? ROOM_MAX : more),
					BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO))
			return -1;
	}
	return -1;
}

/* Writes the IP header of the answer: addresses swapped, another length, a fresh TTL. */
static __always_inline int answer_ip(struct __sk_buff *ctx, const struct packet *packet,
				     __u32 length)
{
	struct {
		__u8 next_header, hop_limit;
		struct address source, destination;
	} __attribute__((packed)) ipv6;
	__be16 payload;
	struct iphdr ip;

	if (packet->family == 4) {
		if (bpf_skb_load_bytes(ctx, packet->l3, &ip, sizeof(ip)))
			return -1;
		ip.tot_len = bpf_htons(length);
		ip.ttl = PROBE_TTL;
		ip.saddr = packet->key.destination.word[3];
		ip.daddr = packet->key.source.word[3];
		ip.check = 0;
		ip.check = csum_fold(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
		return store_summed(ctx, packet->l3, &ip, sizeof(ip));
	}
	payload = bpf_htons(length - sizeof(struct ipv6hdr));
	ipv6.next_header = IPPROTO_UDP;
	ipv6.hop_limit = PROBE_TTL;
	ipv6.source = packet->key.destination;
	ipv6.destination = packet->key.source;
	if (store_summed(ctx, packet->l3 + offsetof(struct ipv6hdr, payload_len), &payload, 2))
		return -1;
	return store_summed(ctx, packet->l3 + offsetof(struct ipv6hdr, nexthdr), &ipv6,
			    sizeof(ipv6));
}

/* 5 */
static __always_inline int probe_answer(struct __sk_buff *ctx, struct work *work,
					const struct node_config *node, __u32 id)
{
	const struct packet *packet = &work->packet;
	struct verdict *verdict = &work->verdict;
	struct probe *probe = &work->probe.probe;
	__u32 header = packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 length = bpf_ntohs(probe->answer_length);
	struct peer_sum sum = { .index = probe_index(packet, id) };
	const struct peer *path;

	/* No IPv4 options, no extension headers, and never longer than the request. */
	if ((__u32)(packet->l4 - packet->l3) != header || length < header + PROBE_DATAGRAM ||
	    length > packet->length || bpf_ntohs(probe->length) != packet->length)
		return dropped(verdict, DROP_PROBE_REFUSED);
	if (!answer_allowed(sum.index))
		return dropped(verdict, DROP_PROBE_RATE);
	if (probe->flags & PROBE_HELLO || announces_news(probe->flags, id, packet->family))
		probe_greeted(sum.index);
	path = probe_path(ctx, work, id, probe->way_back, node);
	if (!path)
		return discard();
	peer_sum(&sum);
	probe->kind = PROBE_ANSWER;
	probe->flags = (probe->flags & PROBE_QUESTION_FLAGS) |
		       announcement(id, packet->family, node) << PROBE_ANSWER_SHIFT;
	probe->received_packets = bpf_htonl(sum.received_packets);
	probe->received_large = bpf_htonl(sum.received_large);
	work->probe.udp.length = bpf_htons(length - header);
	if (probe_cut(ctx, packet->l3, length) || answer_ip(ctx, packet, length))
		return dropped(verdict, DROP_REWRITE_FAILED);
	count_event(EVENT_PROBE_ANSWERED);
	return probe_send(ctx, work, path, node);
}

static __always_inline void proof_stamp(__u32 index, __u8 way, bool large, __u64 now)
{
	__u32 key = index * 2 + way;
	struct path_proof *proof = bpf_map_lookup_elem(&path_proofs, &key);

	if (!proof)
		return;
	proof->answered_at = now;
	if (large)
		proof->large_answered_at = now;
}

/* Only who saw the question can have made its answer: this is the MAC that the peer sends with. */
static __always_inline void sender_proven(__u32 index, __u64 mac)
{
	__u32 key = index * 2 + PROBE_DIRECT;
	struct path_proof *proof = bpf_map_lookup_elem(&path_proofs, &key);

	if (proof && proof->source_mac != mac)
		proof->source_mac = mac;
}

/* 6 */
static __always_inline int probe_proof(struct work *work, const struct node_config *node, __u32 id)
{
	const struct packet *packet = &work->packet;
	struct verdict *verdict = &work->verdict;
	const struct probe *probe = &work->probe.probe;
	__u32 index = probe_index(packet, id), length = bpf_ntohs(probe->length);
	__u64 now = bpf_ktime_get_ns(), sent_at = probe->sent_at;
	struct probe_record *record;

	if (now < sent_at || now - sent_at > PROBE_LIFE_MS * NS_PER_MS ||
	    probe->token != probe_token(&packet->key.source, probe, node))
		return dropped(verdict, DROP_PROBE_REFUSED);
	if (!work->arrival.tunnelled)
		sender_proven(index, work->arrival.source_mac);
	if (probe->way_there == probe->way_back)
		proof_stamp(index, probe->way_there,
			    length > LARGE_PACKET && packet->length > LARGE_PACKET, now);
	record = bpf_ringbuf_reserve(&probe_events, sizeof(*record), 0);
	if (record) {
		__builtin_memset(record, 0, sizeof(*record));
		record->event = PROBE_ANSWERED;
		record->way_there = probe->way_there;
		record->way_back = probe->way_back;
		record->announced = probe->flags >> PROBE_ANSWER_SHIFT;
		record->index = index;
		record->sequence = bpf_ntohl(probe->sequence);
		record->length = length;
		record->answer_length = packet->length;
		record->sent_at = sent_at;
		record->round_trip = now - sent_at;
		record->sent_packets = bpf_ntohl(probe->sent_packets);
		record->sent_large = bpf_ntohl(probe->sent_large);
		record->received_packets = bpf_ntohl(probe->received_packets);
		record->received_large = bpf_ntohl(probe->received_large);
		bpf_ringbuf_submit(record, 0);
	} else {
		count_event(EVENT_PROBE_RING_FULL);
	}
	decide(verdict, ACTION_PROBE);
	return discard();
}

/* 5 or 6, for a peer's packet that has the shape of a probe. */
stage int probe_receive(struct __sk_buff *ctx, struct work *work, const struct node_config *node,
			__u32 id)
{
	const struct probe *probe;

	if (!work || !node)
		return TC_ACT_SHOT;
	probe = &work->probe.probe;
	work->verdict.peer = id;
	if (bpf_skb_load_bytes(ctx, work->packet.l4, &work->probe, PROBE_DATAGRAM) ||
	    probe->magic != bpf_htonl(PROBE_MAGIC) || !way_is_known(probe->way_there) ||
	    !way_is_known(probe->way_back))
		return dropped(&work->verdict, DROP_PROBE_REFUSED);
	if (probe->kind == PROBE_QUESTION)
		return probe_answer(ctx, work, node, id);
	if (probe->kind == PROBE_ANSWER)
		return probe_proof(work, node, id);
	return dropped(&work->verdict, DROP_PROBE_REFUSED);
}

#endif
#endif
