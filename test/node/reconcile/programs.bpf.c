// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Stand-ins of the data path's programs over its real maps: they let every packet pass and count
 * it in a slot of `events`, so that a test sees which build of them runs and with which maps.
 */
#include "lib/maps.h"

#ifndef VARIANT
#define VARIANT 0
#endif

static __always_inline void count(void)
{
	__u32 index = VARIANT + (veth_wire ? 1 : 0);
	__u64 *counter = bpf_map_lookup_elem(&events, &index);

	if (counter)
		*counter += 1;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("tc")
int from_host(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("tc")
int from_wire(struct __sk_buff *skb)
{
	__u32 slot = flow_slots - 1;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	count();
	return flow ? 0 : 2;
}

SEC("tc")
int from_link(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("tc")
int from_loopback(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("tc")
int to_wire(struct __sk_buff *skb)
{
	count();
	return 0;
}

SEC("xdp.frags")
int from_wire_xdp(struct xdp_md *xdp)
{
	return XDP_PASS;
}
