// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The sink: counts and drops the generator's frames and passes everything else, so that neighbour
 * resolution works. At TC a packet already has an skb, at XDP not yet.
 */
#include "frame.h"

#define SAMPLE_BYTES 256

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

/* The first bytes of the last packet that `sample` saw. */
struct sample {
	__u32 length;
	__u32 pad;
	__u8 bytes[SAMPLE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sample);
} samples SEC(".maps");

static __always_inline void count(void)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&received, &zero);

	if (packets)
		++*packets;
}

SEC("tc")
int sink_tc(struct __sk_buff *ctx)
{
	if (!is_generated((void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->len))
		return TC_ACT_OK;
	count();
	return TC_ACT_SHOT;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!is_generated(data, end, end - data))
		return XDP_PASS;
	count();
	return XDP_DROP;
}

/* Like sink_tc, and keeps a copy, which the generator can send again. */
SEC("tc")
int sample(struct __sk_buff *ctx)
{
	__u32 zero = 0, length = ctx->len;
	struct sample *sample;

	if (!is_generated((void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx->len))
		return TC_ACT_OK;
	count();
	sample = bpf_map_lookup_elem(&samples, &zero);
	if (!sample)
		return TC_ACT_SHOT;
	sample->length = length;
	if (length > SAMPLE_BYTES)
		length = SAMPLE_BYTES;
	if (length < ETH_HLEN)
		return TC_ACT_SHOT;
	bpf_skb_load_bytes(ctx, 0, sample->bytes, length);
	return TC_ACT_SHOT;
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
