// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What packets are sent through beside Fairway: a switch without a bridge, bare floors, and a
 * tunnel by way of the kernel's vxlan device and a tunnel key for each packet.
 */
#include "frame.h"

const volatile __u32 to_ifindex = 0;  /* where this instance sends to */
const volatile __u32 remote_ipv4 = 0; /* the other end of the tunnel, host byte order */
const volatile __u32 tunnel_id = 1;
const volatile __u64 pod_mac = 0; /* six bytes as on the wire, then two zero bytes */
const volatile __u64 source_mac = 0;
const volatile __u32 strip_bytes = 0; /* bare_strip: outer headers, inner Ethernet included */

/* From one port of a switch to another. What is not the generator's goes to the bridge. */
SEC("xdp")
int switch_port(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!is_generated(data, end, end - data))
		return XDP_PASS;
	return bpf_redirect(to_ifindex, 0);
}

/* The least that an XDP program can do with a packet for a Pod: write its MACs, redirect. */
SEC("xdp")
int bare_redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 destination = pod_mac, source = source_mac;
	struct ethhdr *ethernet = data;

	if (!is_generated(data, end, end - data) || (void *)(ethernet + 1) > end)
		return XDP_PASS;
	__builtin_memcpy(ethernet->h_dest, &destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, &source, ETH_ALEN);
	return bpf_redirect(to_ifindex, 0);
}

/* The same, with a tunnel of a fixed length taken off first, unseen. */
SEC("xdp")
int bare_strip(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 destination = pod_mac, source = source_mac;
	struct ethhdr *ethernet;

	if (!is_generated(data, end, end - data))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, strip_bytes))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ethernet = data;
	if ((void *)(ethernet + 1) > end)
		return XDP_ABORTED;
	__builtin_memcpy(ethernet->h_dest, &destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, &source, ETH_ALEN);
	return bpf_redirect(to_ifindex, 0);
}

/* Nothing at all: what it costs on a device that XDP is there. */
SEC("xdp.frags")
int pass_all(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

/* TC ingress of the host side of a Pod's veth: every IPv4 packet to the other Node. */
SEC("tc")
int to_tunnel(struct __sk_buff *ctx)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = tunnel_id,
		.remote_ipv4 = remote_ipv4,
		.tunnel_ttl = 64,
	};

	if (ctx->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (bpf_skb_set_tunnel_key(ctx, &key, sizeof(key), BPF_F_ZERO_CSUM_TX))
		return TC_ACT_SHOT;
	return bpf_redirect(to_ifindex, 0);
}

/* TC ingress of the vxlan device: into the Pod. */
SEC("tc")
int from_tunnel(struct __sk_buff *ctx)
{
	__u64 destination = pod_mac, source = source_mac;
	__u8 macs[2 * ETH_ALEN];

	__builtin_memcpy(macs, &destination, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, &source, ETH_ALEN);
	if (bpf_skb_store_bytes(ctx, 0, macs, sizeof(macs), 0))
		return TC_ACT_SHOT;
	return bpf_redirect_peer(to_ifindex, 0);
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
