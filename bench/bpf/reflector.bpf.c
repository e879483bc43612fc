// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Simulates a thousand Nodes towards probes, at the ingress of a switch port, IPv4.
 *
 *  1. request    direct or in Geneve: answered in place, as by a peer's core, and sent back
 *  2. Pod        packets for simulated Pods, direct or in Geneve: dropped
 *  3. the rest   passes
 *
 * Answers report that every direct Pod packet has arrived. Requests for another return path or for a
 * shorter answer are dropped.
 */
/* As in bpf/lib/maps.h: libbpf's prototypes use another `struct path`. */
#define path kernel_path
#include "frame.h"
#undef path
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include "../../bpf/lib/tables.h"

const volatile __u32 pods_network = 0; /* pod CIDRs of those Nodes, host byte order */
const volatile __u32 pods_mask = 0;

enum seen {
	SEEN_DIRECT, /* requests, by path */
	SEEN_TUNNEL,
	SEEN_ANSWERED,
	SEEN_UNANSWERED, /* requests that the reflector does not answer */
	SEEN_POD,
	SEEN_COUNT,
};

struct amount {
	__u64 packets;
	__u64 bytes; /* including Ethernet headers */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SEEN_COUNT);
	__type(key, __u32);
	__type(value, struct amount);
} seen SEC(".maps");

struct headers {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

struct request {
	struct headers headers;
	struct probe probe;
} __attribute__((packed));

#define GENEVE_BYTES 8

static __always_inline void count(__u32 what, const struct __sk_buff *ctx)
{
	struct amount *amount = bpf_map_lookup_elem(&seen, &what);

	if (!amount)
		return;
	amount->packets++;
	amount->bytes += ctx->len;
}

static __always_inline _Bool is_udp(const struct headers *headers)
{
	return headers->ethernet.h_proto == bpf_htons(ETH_P_IP) && headers->ip.version == 4 &&
	       headers->ip.ihl == 5 && headers->ip.protocol == IPPROTO_UDP;
}

static __always_inline void swap(void *a, void *b, __u32 bytes)
{
	__u8 kept[ETH_ALEN];

	__builtin_memcpy(kept, a, bytes);
	__builtin_memcpy(a, b, bytes);
	__builtin_memcpy(b, kept, bytes);
}

static __always_inline int request(struct __sk_buff *ctx, struct request *request,
				   struct headers *outer)
{
	struct probe before = request->probe, probe = before;
	__u32 way = outer ? PROBE_TUNNEL : PROBE_DIRECT;
	__s64 sum;

	count(outer ? SEEN_TUNNEL : SEEN_DIRECT, ctx);
	if (probe.magic != bpf_htonl(PROBE_MAGIC) || probe.kind != PROBE_REQUEST ||
	    probe.way_there != way || probe.way_back != way ||
	    probe.answer_length != probe.length) {
		count(SEEN_UNANSWERED, ctx);
		return TC_ACT_SHOT;
	}
	probe.kind = PROBE_ANSWER;
	probe.received_packets = probe.sent_packets;
	probe.received_large = probe.sent_large;
	request->probe = probe;
	sum = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&probe, sizeof(probe),
			    (__u16)~request->headers.udp.check);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	request->headers.udp.check = ~sum;
	/* Swapping the addresses keeps the checksums valid. */
	swap(&request->headers.ip.saddr, &request->headers.ip.daddr, sizeof(__be32));
	if (outer)
		swap(&outer->ip.saddr, &outer->ip.daddr, sizeof(__be32));
	else
		outer = &request->headers;
	swap(outer->ethernet.h_source, outer->ethernet.h_dest, ETH_ALEN);
	count(SEEN_ANSWERED, ctx);
	return bpf_redirect(ctx->ifindex, 0);
}

SEC("tc")
int reflector(struct __sk_buff *ctx)
{
	struct headers *outer = NULL, *headers;
	void *data, *end;
	__u32 most = 2 * sizeof(struct headers) + GENEVE_BYTES + sizeof(struct probe);

	if (bpf_skb_pull_data(ctx, ctx->len < most ? ctx->len : most))
		return TC_ACT_OK;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	headers = data;
	if ((void *)(headers + 1) > end || !is_udp(headers))
		return TC_ACT_OK;
	if (headers->udp.dest == bpf_htons(GENEVE_PORT)) {
		outer = headers;
		headers = data + sizeof(*outer) + GENEVE_BYTES;
		if ((void *)(headers + 1) > end || !is_udp(headers))
			return TC_ACT_OK;
	}
	if (headers->udp.dest == bpf_htons(PROBE_PORT) &&
	    headers->udp.source == bpf_htons(PROBE_PORT) &&
	    (void *)headers + sizeof(struct request) <= end)
		return request(ctx, (struct request *)headers, outer);
	if ((bpf_ntohl(headers->ip.daddr) & pods_mask) != pods_network)
		return TC_ACT_OK;
	count(SEEN_POD, ctx);
	return TC_ACT_SHOT;
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
