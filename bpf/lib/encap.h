/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Encapsulation: the outer headers are written in place, for GSO packets as a whole. Also the check
 * against tunnel headers that Pods forge.
 */
#ifndef FAIRWAY_ENCAP_H
#define FAIRWAY_ENCAP_H

#include "flow.h"
#include "tunnel.h"

#define TUNNEL_SOURCE_PORT_FIRST 49152
#define TUNNEL_SOURCE_PORT_MASK 0x3fff

/* Writes everything from the outer UDP header to the inner Ethernet header to `to`. */
static __always_inline void put_tunnel(void *to, const struct peer *peer,
				       const struct node_config *node, __u8 family, __u32 hash,
				       __u16 udp_length)
{
	bool geneve = peer->path == PATH_GENEVE;

	*(__be16 *)to = bpf_htons(TUNNEL_SOURCE_PORT_FIRST + (hash & TUNNEL_SOURCE_PORT_MASK));
	*(__be16 *)(to + 2) = peer->port;
	*(__be16 *)(to + 4) = bpf_htons(udp_length);
	*(__sum16 *)(to + 6) = 0;
	*(__be32 *)(to + 8) = geneve ? GENEVE_PLAIN : VXLAN_PLAIN;
	*(__be32 *)(to + 12) = bpf_htonl(peer->vni << 8);
	put_ethernet(to + 16, mac_to_put(&fairway_mac.mac), mac_to_put(&node->gateway_mac), family);
}

#define EALREADY 114
#define HEADER_DIFFERENCE ((int)(sizeof(struct ipv6hdr) - sizeof(struct iphdr)))

/*
 * A packet that GRO merged inside a tunnel stays marked as tunnelled after decapsulation, and so does a
 * packet that a veth delivers as its sender made it. If a Pod or the Node sends such a packet into a
 * tunnel, the kernel refuses to mark it again. The existing marks are right: a UDP tunnel, and the
 * offsets of the inner headers, which have not moved. In a UDP GSO packet, however, they may be those of
 * a tunnel that the Pod made, at other offsets. A GSO packet in a tunnel of the other family would be
 * segmented by the rules of the wrong family.
 */
static __always_inline int tunnel_room(struct __sk_buff *ctx, __u32 size, __u8 inner_family,
				       __u8 outer_family, __u8 protocol, __u64 flags)
{
	int error = bpf_skb_adjust_room(ctx, size, BPF_ADJ_ROOM_MAC, flags);
	__u32 segment;

	if (error != -EALREADY)
		return error;
	segment = ctx->gso_size;
	hide(segment);
	if (segment && (protocol != IPPROTO_TCP || inner_family != outer_family))
		return error;
	if (inner_family == outer_family)
		return bpf_skb_adjust_room(ctx, size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	/* The skb's protocol can change only together with the size of its first header. */
	error = bpf_skb_adjust_room(
		ctx, size + (outer_family == 6 ? -HEADER_DIFFERENCE : HEADER_DIFFERENCE),
		BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	if (error)
		return error;
	return bpf_skb_change_proto(
		ctx, outer_family == 6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP), 0);
}

/* Writes the outer headers before a packet of `family`, with its TOS copied; the frame's Ethernet header
 * becomes the outer one. Lengths are those of the whole GSO packet: the kernel writes each segment's
 * own. */
static __always_inline int tunnel_enter(struct __sk_buff *ctx, const struct peer *peer,
					const struct node_config *node, __u8 family, __u8 protocol,
					__u8 tos, __u32 hash)
{
	__u64 flags = BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO |
		      BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	__u32 payload = ctx->len - ETH_HLEN + TUNNEL_INNER_SIZE;
	void *data, *end;

	if (peer->outer_family == 4) {
		struct iphdr *ip;
		__be16 length = bpf_htons(payload + sizeof(*ip));
		__u32 sum = bpf_htons(0x4500 | tos) + (__u32)length + bpf_htons(IP_DF_FLAG) +
			    bpf_htons(TUNNEL_TTL << 8 | IPPROTO_UDP);
		__be32 local = peer->local.word[3], remote = peer->remote.word[3];

		if (tunnel_room(ctx, sizeof(*ip) + TUNNEL_INNER_SIZE, family, 4, protocol,
				flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
			return -1;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) + TUNNEL_INNER_SIZE > end)
			return -1;
		sum += (local & 0xffff) + (local >> 16) + (remote & 0xffff) + (remote >> 16);
		*(__be16 *)ip = bpf_htons(0x4500 | tos);
		ip->tot_len = length;
		ip->id = 0;
		ip->frag_off = bpf_htons(IP_DF_FLAG);
		*(__be16 *)&ip->ttl = bpf_htons(TUNNEL_TTL << 8 | IPPROTO_UDP);
		ip->check = csum_fold(sum);
		ip->saddr = local;
		ip->daddr = remote;
		put_tunnel(ip + 1, peer, node, family, hash, payload);
	} else {
		struct ipv6hdr *ip;

		if (tunnel_room(ctx, sizeof(*ip) + TUNNEL_INNER_SIZE, family, 6, protocol,
				flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
			return -1;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		ip = data + ETH_HLEN;
		if ((void *)(ip + 1) + TUNNEL_INNER_SIZE > end)
			return -1;
		*(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)tos << 20 | (hash & 0xfffff));
		ip->payload_len = bpf_htons(payload);
		ip->nexthdr = IPPROTO_UDP;
		ip->hop_limit = TUNNEL_TTL;
		__builtin_memcpy(&ip->saddr, &peer->local, 16);
		__builtin_memcpy(&ip->daddr, &peer->remote, 16);
		put_tunnel(ip + 1, peer, node, family, hash, payload);
	}
	return 0;
}

stage int encapsulate(struct __sk_buff *ctx, const struct packet *packet, const struct peer *peer,
		      const struct node_config *node)
{
	__u32 hash;

	if (!packet || !peer || !node)
		return -1;
	hash = flow_hash(&packet->key, &node->flow_hash, !(packet->flags & PACKET_FRAGMENT));
	return tunnel_enter(ctx, peer, node, packet->family, packet->key.protocol, packet->tos,
			    hash);
}

/*
 * After SNAT a Pod's packet comes from its Node's address, and a peer would believe a tunnel
 * header in it. So a Pod may not send one to where a peer's tunnels end: on no port, because the
 * peer's may be one that this Node does not know yet, and in no form that the peer would take there.
 * `port`: where it arrives.
 */
static __always_inline bool tunnel_forged(context *ctx, const struct packet *packet, __be16 port,
					  const struct node_config *node)
{
	__be16 *ethertype;
	struct tunnel_header *header;
	__u32 inner = packet->l4 + sizeof(struct udp_header) + sizeof(*header);

	if (packet->key.protocol != IPPROTO_UDP || packet->flags & PACKET_LATER_FRAGMENT)
		return false;
	if (port == bpf_htons(GENEVE_PORT) || port == bpf_htons(VXLAN_PORT) ||
	    is_tunnel_port(port, node))
		return true;
	header = bytes_at(ctx, packet->l4 + sizeof(struct udp_header), sizeof(*header));
	if (!header || bpf_ntohl(header->vni) >> 8 != node->vni)
		return false;
	if (geneve_header(header))
		inner += (header->first & 0x3f) * 4;
	else if (!vxlan_header(header))
		return false;
	ethertype = bytes_at(ctx, inner + 2 * ETH_ALEN, sizeof(*ethertype));
	return ethertype && is_ip(*ethertype);
}

#endif
