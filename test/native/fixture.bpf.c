/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The object for the addon's tests: a map of each type that Fairway uses, and programs with
 * distinguishable results. Independent of the real data path.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

/* From the list of helpers in linux/bpf.h; these numbers are kernel ABI. */
static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*output)(void *ring, void *data, __u64 size,
		      __u64 flags) = (void *)BPF_FUNC_ringbuf_output;

char license_text[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 answer = 7;
const volatile __u8 refuse = 0;

__u64 counted;

struct lpm_key {
	__u32 prefix_length;
	__u8 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} an_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} a_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} an_lru_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_key);
	__type(value, __u32);
} a_trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");

/* Returns the knob, and counts its runs in an_array[0]. */
SEC("tc")
int answer_knob(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *runs = lookup(&an_array, &zero);

	if (runs)
		__sync_fetch_and_add(runs, 1);
	counted++;
	return answer;
}

/* Returns the GSO segment size, which only a context can provide. */
SEC("tc")
int answer_gso(struct __sk_buff *skb)
{
	skb->mark = 0x1234;
	return skb->gso_size;
}

/* Writes an 8-byte record for each run: the number of runs before it. */
SEC("tc")
int emit(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *runs = lookup(&an_array, &zero);
	__u64 record;

	if (!runs)
		return 1;
	record = __sync_fetch_and_add(runs, 1);
	return output(&ring, &record, sizeof(record), 0) ? 1 : 0;
}

/* Drops packets longer than 100 bytes, and marks the rest in their first byte. */
SEC("xdp.frags")
int short_only(struct xdp_md *xdp)
{
	__u8 *data = (__u8 *)(long)xdp->data;
	__u8 *end = (__u8 *)(long)xdp->data_end;

	if (end - data > 100)
		return XDP_DROP;
	if (data + 1 > end)
		return XDP_ABORTED;
	*data = 0xee;
	return XDP_PASS;
}

SEC("xdp.frags")
int pass_all(struct xdp_md *xdp)
{
	return XDP_PASS;
}

/* With the knob, reads through a pointer that may be null, which the verifier refuses; otherwise the
 * verifier removes the branch. */
SEC("tc")
int may_be_refused(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u64 *value = lookup(&a_hash, &zero);

	return refuse ? *value : 0;
}
