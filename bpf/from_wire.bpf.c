// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* from_wire at TC ingress of a NIC: after GRO, and without XDP where that is unavailable. */
#define FAIRWAY_HOOK HOOK_FROM_WIRE
#include "lib/established_forward.h"
#include "lib/link_layer.h"
#include "lib/from_wire.h"

/* Generic XDP copies a packet that has too little headroom, and the copy's skb->mac_len is 0 (seen on
 * 6.18): the packet then starts at its IP header. The skb still has the position of the Ethernet
 * header. */
static __always_inline int restore_ethernet(struct __sk_buff *ctx)
{
	struct ethhdr whole, start;

	if (bpf_skb_load_bytes_relative(ctx, 0, &whole, sizeof(whole), BPF_HDR_START_MAC) ||
	    bpf_skb_load_bytes(ctx, 0, &start, sizeof(start)) ||
	    !__builtin_memcmp(&whole, &start, sizeof(whole)))
		return 0;
	return bpf_skb_change_head(ctx, ETH_HLEN, 0) ||
	       bpf_skb_store_bytes(ctx, 0, &whole, sizeof(whole), 0);
}

SEC("tc")
int from_wire(struct __sk_buff *ctx)
{
	struct work *work;
	int result;

	if (xdp_generic && restore_ethernet(ctx))
		return TC_ACT_UNSPEC;
	if (is_bare_ip(ctx) && ethernet_push(ctx))
		return TC_ACT_UNSPEC;
	result = established_receive(ctx);
	if (result == CROSSING)
		result = established_forward(ctx);
	if (result != NOT_ESTABLISHED)
		return result;
	work = work_start();
	if (!work)
		return TC_ACT_UNSPEC;
	result = wire_receive(ctx, work);
	record(&work->verdict);
	return result;
}
