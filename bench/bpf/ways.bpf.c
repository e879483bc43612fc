// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Data paths to compare Fairway with: a switch without a bridge, bare floors, and the kernel's
 * vxlan device with a tunnel key for each packet.
 */
#include "frame.h"

const volatile __u32 to_ifindex = 0;  /* the device that this instance sends to */
const volatile __u32 remote_ipv4 = 0; /* the other end of the tunnel, host byte order */
const volatile __u32 tunnel_id = 1;
const volatile __u64 destination_mac = 0; /* six bytes as on the wire, then two zero bytes */
const volatile __u64 source_mac = 0;
const volatile __u32 strip_bytes = 0; /* bare_strip: bytes before the inner Ethernet header */
/* bare_tunnel: outer Ethernet, IPv4, UDP and tunnel headers, inner Ethernet header, as on the wire */
const volatile __u64 outer_headers[8] = {};

#define TUNNEL_BYTES 50
/* Needed to encapsulate TCP GSO packets. Not every header has the kernel's macro for it. */
#define ENCAP_L2(length) (((__u64)(length) & 0xff) << 56)
#define ENCAP_FLAGS                                                                              \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | \
	 BPF_F_ADJ_ROOM_ENCAP_L2_ETH | ENCAP_L2(ETH_HLEN))

/* From one switch port to another. Other frames than the generator's go to the bridge. */
SEC("xdp")
int switch_port(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!is_generated(data, end, end - data))
		return XDP_PASS;
	return bpf_redirect(to_ifindex, 0);
}

/* The least work of XDP for a packet to a Pod: write MAC addresses, redirect. */
SEC("xdp")
int bare_redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 destination = destination_mac, source = source_mac;
	struct ethhdr *ethernet = data;

	if (!is_generated(data, end, end - data) || (void *)(ethernet + 1) > end)
		return XDP_PASS;
	__builtin_memcpy(ethernet->h_dest, &destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, &source, ETH_ALEN);
	return bpf_redirect(to_ifindex, 0);
}

/* The same, after removing tunnel headers of a fixed length without reading them. */
SEC("xdp")
int bare_strip(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 destination = destination_mac, source = source_mac;
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

/* TC ingress of the host side of a Pod's veth, the least work for a packet to another Node: write
 * constant MAC addresses, redirect. */
SEC("tc")
int bare_send(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 destination = destination_mac, source = source_mac;
	struct ethhdr *ethernet = data;

	if (!is_generated(data, end, ctx->len) || (void *)(ethernet + 1) > end)
		return TC_ACT_OK;
	__builtin_memcpy(ethernet->h_dest, &destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, &source, ETH_ALEN);
	return bpf_redirect(to_ifindex, 0);
}

/* The same with a tunnel, with headers that fit only the generator's frames. */
SEC("tc")
int bare_tunnel(struct __sk_buff *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 *words;

	if (!is_generated(data, end, ctx->len))
		return TC_ACT_OK;
	if (bpf_skb_adjust_room(ctx, TUNNEL_BYTES, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS))
		return TC_ACT_SHOT;
	words = data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(outer_headers) > end)
		return TC_ACT_SHOT;
#pragma unroll
	for (int i = 0; i < sizeof(outer_headers) / sizeof(*words); i++)
		words[i] = outer_headers[i];
	return bpf_redirect(to_ifindex, 0);
}

/* Does nothing: shows the cost of having XDP on a device. */
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

static __always_inline int write_macs(struct __sk_buff *ctx)
{
	__u64 destination = destination_mac, source = source_mac;
	__u8 macs[2 * ETH_ALEN];

	__builtin_memcpy(macs, &destination, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, &source, ETH_ALEN);
	return bpf_skb_store_bytes(ctx, 0, macs, sizeof(macs), 0);
}

/* TC ingress of the vxlan device or of the NIC: all IPv4 packets into the one Pod. */
SEC("tc")
int into_pod(struct __sk_buff *ctx)
{
	if (ctx->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	return write_macs(ctx) ? TC_ACT_SHOT : bpf_redirect_peer(to_ifindex, 0);
}

/* TC ingress of the host side of a Pod's veth: all IPv4 packets out of the NIC; destination_mac is the next hop's. */
SEC("tc")
int onto_wire(struct __sk_buff *ctx)
{
	if (ctx->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	return write_macs(ctx) ? TC_ACT_SHOT : bpf_redirect(to_ifindex, 0);
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
