// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Data paths to compare Fairway with: a switch without a bridge, bare floors, and the kernel's
 * vxlan device with a tunnel key for each packet.
 */
#include "frame.h"
#include <linux/in.h>
#include <linux/ip.h>

const volatile __u32 to_ifindex = 0;  /* the device that this instance sends to */
const volatile __u32 remote_ipv4 = 0; /* the other end of the tunnel, host byte order */
const volatile __u32 tunnel_id = 1;
const volatile __u64 destination_mac = 0; /* six bytes as on the wire, then two zero bytes */
const volatile __u64 source_mac = 0;
const volatile __u32 strip_bytes = 0; /* bare_strip: bytes before the inner Ethernet header */
/* bare_tunnel: outer Ethernet, IPv4, UDP and tunnel headers, inner Ethernet header, as on the wire */
const volatile __u64 outer_headers[8] = {};

/* dnat_*: a Service's address and ports, and its one endpoint's; host byte order, ports of TCP and UDP */
const volatile __u32 service_ipv4 = 0;
const volatile __u32 endpoint_ipv4 = 0;
const volatile __u16 service_ports[2] = {};
const volatile __u16 endpoint_ports[2] = {};
const volatile __u32 tunnelled = 0; /* dnat_send: then prepends outer_headers */

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

/* The least work for a Service: one end of a packet, constants for constants, and its checksums. `at`: 0 the
 * source, 1 the destination. False: the packet is not the Service's. */
static __always_inline _Bool translate(struct __sk_buff *ctx, int at, __u32 from,
				       const volatile __u16 *from_ports, __u32 to,
				       const volatile __u16 *to_ports)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *ports = (void *)(ip + 1), port, old_port;
	__be32 address = bpf_htonl(to), old = bpf_htonl(from);
	__u32 check, udp;
	__u64 sum;

	if (ctx->protocol != bpf_htons(ETH_P_IP) || (void *)(ports + 2) > end)
		return 0;
	udp = ip->protocol == IPPROTO_UDP;
	old_port = bpf_htons(from_ports[udp]);
	if ((at ? ip->daddr : ip->saddr) != old || ports[at] != old_port)
		return 0;
	port = bpf_htons(to_ports[udp]);
	sum = bpf_csum_diff(&old, 4, &address, 4, (__u16)~ip->check);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	if (at)
		ip->daddr = address;
	else
		ip->saddr = address;
	ports[at] = port;
	check = ETH_HLEN + sizeof(*ip) + (udp ? 6 : 16);
	sum = bpf_csum_diff(&old, 4, &address, 4, 0);
	return !bpf_l4_csum_replace(ctx, check, 0, sum,
				    BPF_F_PSEUDO_HDR | (udp ? BPF_F_MARK_MANGLED_0 : 0)) &&
	       !bpf_l4_csum_replace(ctx, check, old_port, port,
				    2 | (udp ? BPF_F_MARK_MANGLED_0 : 0));
}

/* TC ingress of the host side of a Pod's veth: a client's packet for the Service, onto the wire. */
SEC("tc")
int dnat_send(struct __sk_buff *ctx)
{
	void *data, *end;
	__u64 *words;

	if (!translate(ctx, 1, service_ipv4, service_ports, endpoint_ipv4, endpoint_ports))
		return TC_ACT_OK;
	if (!tunnelled)
		return write_macs(ctx) ? TC_ACT_SHOT : bpf_redirect(to_ifindex, 0);
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

/* TC ingress of the NIC: the endpoint's answer, into the client. */
SEC("tc")
int dnat_receive(struct __sk_buff *ctx)
{
	if (!translate(ctx, 0, endpoint_ipv4, endpoint_ports, service_ipv4, service_ports))
		return TC_ACT_OK;
	return write_macs(ctx) ? TC_ACT_SHOT : bpf_redirect_peer(to_ifindex, 0);
}

const char license_text[] SEC("license") = "Dual BSD/GPL";
