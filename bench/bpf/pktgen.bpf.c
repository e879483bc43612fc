// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The generator. BPF_PROG_TEST_RUN with live frames calls it once for each frame and sends the
 * result, in batches, inside the kernel.
 *
 *  1. headers      written each time: the page may come back changed by a dataplane
 *  2. flow         ports, by the frame's number
 *  3. destination  address, by the frame's number
 *  4. out of a device of any network namespace
 */
#include "frame.h"

#define PATTERN_WORDS 32
#define FAST_PORTS 8192

struct pattern {
	__u64 word[PATTERN_WORDS]; /* the frame's first bytes, with checksums for flow 0 */
	__u32 words;		   /* written to every frame */
	__u32 flows;
	__u32 destinations;
	__u32 destination_shift; /* destination i has i << shift added to its address */
	__u32 out;		 /* key of `outputs` */
	__u16 fast_port_at;	 /* offset of the port that changes from flow to flow */
	__u16 slow_port_at;	 /* of the port that changes when that one wraps */
	__u16 l4_checksum_at;	 /* offset; 0: there is none */
	__u16 outer_port_at;	 /* offset of a tunnel's source port; 0: no tunnel */
	__u16 destination_at;	 /* offset of the last 4 bytes of the destination address */
	__u16 ip_checksum_at;	 /* offset of the IPv4 header's checksum; 0: IPv6 */
	__u16 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pattern);
} patterns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sequence SEC(".maps");

/* A device may be in another namespace: it is looked up in the namespace of the writer. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} outputs SEC(".maps");

static __always_inline __be16 *half_at(void *data, void *end, __u32 offset)
{
	__be16 *half = data + (offset & 255);

	return (void *)(half + 1) <= end ? half : NULL;
}

/* RFC 1624, for fields whose sum grew by `more`; zero means no checksum and stays. */
static __always_inline void checksum_add(__be16 *checksum, __u32 more)
{
	__u32 sum;

	if (!*checksum)
		return;
	sum = (__u16)~bpf_ntohs(*checksum) + more;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*checksum = bpf_htons((__u16)~sum);
}

static __always_inline int write_frame(struct xdp_md *ctx, const struct pattern *pattern)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 zero = 0, flow, fast, slow, destination, more = 0;
	__u64 *number = bpf_map_lookup_elem(&sequence, &zero);
	__be16 *half, *next;

	if (!number)
		return -1;
	/* 1 */
#pragma unroll
	for (int i = 0; i < PATTERN_WORDS; i++) {
		if (i >= pattern->words || data + 8 * (i + 1) > end)
			break;
		((__u64 *)data)[i] = pattern->word[i];
	}
	/* 2 */
	flow = pattern->flows > 1 ? *number % pattern->flows : 0;
	if (flow) {
		fast = flow % FAST_PORTS;
		slow = flow / FAST_PORTS;
		more = fast + slow;
		half = half_at(data, end, pattern->fast_port_at);
		next = half_at(data, end, pattern->slow_port_at);
		if (!half || !next)
			return -1;
		*half = bpf_htons(bpf_ntohs(*half) + fast);
		*next = bpf_htons(bpf_ntohs(*next) + slow);
		if (pattern->outer_port_at) {
			half = half_at(data, end, pattern->outer_port_at);
			if (!half)
				return -1;
			*half = bpf_htons(49152 + (flow & 0x3fff));
		}
	}
	/* 3 */
	if (pattern->destinations > 1) {
		destination = (*number % pattern->destinations)
			      << (pattern->destination_shift & 31);
		half = half_at(data, end, pattern->destination_at);
		next = half_at(data, end, pattern->destination_at + 2);
		if (!half || !next)
			return -1;
		/* No carry from the lower half: the base address leaves room for it. */
		*half = bpf_htons(bpf_ntohs(*half) + (destination >> 16));
		*next = bpf_htons(bpf_ntohs(*next) + (destination & 0xffff));
		destination = (destination >> 16) + (destination & 0xffff);
		more += destination;
		if (pattern->ip_checksum_at) {
			half = half_at(data, end, pattern->ip_checksum_at);
			if (!half)
				return -1;
			checksum_add(half, destination);
		}
	}
	if (more && pattern->l4_checksum_at) {
		half = half_at(data, end, pattern->l4_checksum_at);
		if (!half)
			return -1;
		checksum_add(half, more);
	}
	++*number;
	return 0;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 zero = 0;
	const struct pattern *pattern = bpf_map_lookup_elem(&patterns, &zero);

	if (!pattern || write_frame(ctx, pattern))
		return XDP_ABORTED;
	/* 4 */
	return bpf_redirect_map(&outputs, pattern->out, XDP_ABORTED);
}

/* The floor: the cost of the generator itself. */
SEC("xdp")
int generate_only(struct xdp_md *ctx)
{
	__u32 zero = 0;
	const struct pattern *pattern = bpf_map_lookup_elem(&patterns, &zero);

	return pattern && !write_frame(ctx, pattern) ? XDP_DROP : XDP_ABORTED;
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
