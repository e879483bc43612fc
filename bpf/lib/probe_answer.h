/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Probes at from_wire, which has checked their source as for any packet of a peer.
 *
 *  1. answer    a peer's request: returned to the peer, within its share of answers
 *  2. proof     the answer to a request of this Node: its token is checked, the agent is told
 */
#ifndef FAIRWAY_PROBE_ANSWER_H
#define FAIRWAY_PROBE_ANSWER_H

#include "probe.h"

/* Reports a peer that introduces itself, or announces something new, to the agent, which then probes the peer. */
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

/* One word a peer: the time up to which its share of answers is spent. Two CPUs at once may let
 * one request more pass. */
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

/* bpf_skb_adjust_room removes no more at once. */
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

/* 1 */
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
	probe->flags = (probe->flags & PROBE_REQUEST_FLAGS) | announcement(id, packet->family, node)
								      << PROBE_ANSWER_SHIFT;
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

/* Only a host that saw the request can answer it, so this is the MAC that the peer sends with. */
static __always_inline void sender_proven(__u32 index, __u64 mac)
{
	__u32 key = index * 2 + PROBE_DIRECT;
	struct path_proof *proof = bpf_map_lookup_elem(&path_proofs, &key);

	if (proof && proof->source_mac != mac)
		proof->source_mac = mac;
}

/* 2 */
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

/* 1 or 2, for a peer's packet that has the shape of a probe. */
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
	if (probe->kind == PROBE_REQUEST)
		return probe_answer(ctx, work, node, id);
	if (probe->kind == PROBE_ANSWER)
		return probe_proof(work, node, id);
	return dropped(&work->verdict, DROP_PROBE_REFUSED);
}

#endif
