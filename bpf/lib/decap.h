/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Decapsulation: is this a tunnel packet of a known peer, for this Node? The outer Ethernet header stays in
 * front.
 *
 *  1. expected      by ports and addresses
 *  2. header        of the tunnel
 *  3. inner         the peer's source, a destination of ours, ECN
 *  4. decapsulate
 */
#ifndef FAIRWAY_DECAP_H
#define FAIRWAY_DECAP_H

#include "route.h"
#include "tunnel.h"
#include "verdict.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

#define ECN_MASK 3
#define ECN_NOT_ECT 0
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

enum tunnel_kind {
	TUNNEL_NONE, /* an ordinary packet */
	TUNNEL_GENEVE,
	TUNNEL_VXLAN,
	TUNNEL_ANY,	/* on another port than ours: only as a Fairway Node sends it */
	TUNNEL_REFUSED, /* the verdict has the reason */
};

/* 1 */
static __always_inline enum tunnel_kind tunnel_expected(const struct packet *packet,
							const struct node_config *node, __u32 *peer,
							struct verdict *verdict)
{
	__be16 port = packet->key.destination_port;
	struct route destination;
	bool claimed, known;
	__u32 *id;

	if (packet->key.protocol != IPPROTO_UDP || packet->flags & PACKET_LATER_FRAGMENT)
		return TUNNEL_NONE;
	claimed = is_tunnel_port(port, node);
	id = bpf_map_lookup_elem(&peer_addresses, &packet->key.source);
	known = id != NULL;
	if (known) {
		*peer = *id;
		known = element_stays(&peer_addresses, &packet->key.source, id);
	}
	if (!claimed && (!known || packet->flags & PACKET_FRAGMENT))
		return TUNNEL_NONE;
	destination = route_lookup(&packet->key.destination);
	/* A single branch, since the verifier follows both sides of each. */
	if ((destination.kind ^ ROUTE_HOST) | (destination.flags & ROUTE_NO_TUNNELS))
		return TUNNEL_NONE;
	if (!known) {
		drop(verdict, DROP_TUNNEL_UNKNOWN_PEER);
		return TUNNEL_REFUSED;
	}
	if (packet->flags & PACKET_FRAGMENT) {
		drop(verdict, DROP_TUNNEL_MALFORMED);
		return TUNNEL_REFUSED;
	}
	if (port == node->geneve_port)
		return TUNNEL_GENEVE;
	if (port == node->vxlan_port)
		return TUNNEL_VXLAN;
	return TUNNEL_ANY;
}

#define OUTER_IPV4_MAX 60

/* No stack has checked the outer header before. A frame that has a tunnel in it is longer than
 * the longest header. */
static __always_inline bool outer_checksum_right(context *ctx, const struct packet *outer)
{
	__u32 length = outer->l4 - outer->l3;
	void *header;

	if (outer->family != 4)
		return true;
	header = bytes_at(ctx, outer->l3, OUTER_IPV4_MAX);
	hide(length);
	if (!header || length > OUTER_IPV4_MAX)
		return false;
	return !csum_fold(bpf_csum_diff(NULL, 0, header, length & 0x3c, 0));
}

/*
 * Other VXLAN (flannel, Docker Swarm, EVPN) may run between the same Nodes on ports of its own, with
 * the same VNI: flannel's is 1, too. While a port or a type is changed on one Node after the other, a peer
 * may use one that this Node does not know yet. Every Fairway Node sends this header without options,
 * followed by this MAC, which no other system uses.
 */
static __always_inline enum tunnel_kind tunnel_of_fairway(const struct tunnel_header *header,
							  const struct ethhdr *inner,
							  const struct node_config *node)
{
	__be32 start = *(const __be32 *)header;

	if (header->vni != bpf_htonl(node->vni << 8) ||
	    __builtin_memcmp(inner->h_dest, &fairway_mac.mac, ETH_ALEN))
		return TUNNEL_NONE;
	return start == GENEVE_PLAIN  ? TUNNEL_GENEVE
	       : start == VXLAN_PLAIN ? TUNNEL_VXLAN
				      : TUNNEL_NONE;
}

/* 2. Reads the tunnel header. TUNNEL_NONE, TUNNEL_REFUSED, or the kind; `inner_ethernet` is then
 * the offset of the inner frame. */
static __always_inline enum tunnel_kind tunnel_parse(context *ctx, const struct packet *packet,
						     const struct node_config *node,
						     enum tunnel_kind expected,
						     __u32 *inner_ethernet, struct verdict *verdict)
{
	struct {
		struct tunnel_header tunnel;
		struct ethhdr ethernet;
	} __attribute__((packed)) *found = bytes_at(ctx, packet->l4 + 8, sizeof(*found));
	struct tunnel_header header;
	__u32 vni;

	/* Within the packet, not in the frame's padding after it. */
	if (!found || (__u32)(packet->l4 - packet->l3) + 8 + sizeof(*found) > packet->length) {
		if (expected == TUNNEL_ANY)
			return TUNNEL_NONE;
		drop(verdict, DROP_TUNNEL_MALFORMED);
		return TUNNEL_REFUSED;
	}
	header = found->tunnel;
	vni = bpf_ntohl(header.vni) >> 8;
	if (expected == TUNNEL_ANY) {
		expected = tunnel_of_fairway(&header, &found->ethernet, node);
		if (expected == TUNNEL_NONE)
			return TUNNEL_NONE;
	}
	if (!outer_checksum_right(ctx, packet) ||
	    (expected == TUNNEL_GENEVE ? !geneve_header(&header) : !vxlan_header(&header))) {
		drop(verdict, DROP_TUNNEL_MALFORMED);
		return TUNNEL_REFUSED;
	}
	if (expected == TUNNEL_GENEVE && header.second & GENEVE_CRITICAL) {
		drop(verdict, DROP_TUNNEL_CRITICAL_OPTION);
		return TUNNEL_REFUSED;
	}
	if (vni != node->vni) {
		drop(verdict, DROP_TUNNEL_BAD_VNI);
		return TUNNEL_REFUSED;
	}
	*inner_ethernet = packet->l4 + 8 + sizeof(header) +
			  (expected == TUNNEL_GENEVE ? (header.first & 0x3f) * 4 : 0);
	return expected;
}

/* RFC 6040, section 4.2: the inner ECN that follows from both headers. -1: drop. */
static __always_inline int ecn_decapsulate(__u8 outer, __u8 inner)
{
	outer &= ECN_MASK;
	inner &= ECN_MASK;
	if (outer == ECN_CE)
		return inner == ECN_NOT_ECT ? -1 : ECN_CE;
	if (outer == ECN_ECT1 && inner == ECN_ECT0)
		return ECN_ECT1;
	return inner;
}

/* 3. Parses the inner frame into `inner` and checks that its source is the peer's and its destination this Node's. */
static __always_inline int tunnel_inner_check(context *ctx, const struct packet *outer,
					      struct packet *inner, __u32 inner_ethernet,
					      __u32 peer, const struct node_config *node,
					      struct verdict *verdict)
{
	struct ethhdr *ethernet = bytes_at(ctx, inner_ethernet, sizeof(*ethernet));
	struct route source, destination;
	__be16 ethertype;

	if (!ethernet || ethernet->h_dest[0] & 1 ||
	    (ethernet->h_proto != bpf_htons(ETH_P_IP) &&
	     ethernet->h_proto != bpf_htons(ETH_P_IPV6))) {
		drop(verdict, DROP_TUNNEL_MALFORMED);
		return -1;
	}
	ethertype = ethernet->h_proto;
	if (parse(ctx, inner, inner_ethernet + ETH_HLEN, ethertype, false) ||
	    (__u32)(inner->l3 - outer->l3) + inner->length > outer->length) {
		drop(verdict, DROP_MALFORMED);
		return -1;
	}
	source = route_lookup(&inner->key.source);
	destination = route_lookup(&inner->key.destination);
	/* The peer's Node speaks to Pods by its own address, too. */
	if (destination.kind == ROUTE_LOCAL_PODS)
		route_to_peer_node(&source, &inner->key.source);
	if (source.kind != ROUTE_PEER || source.peer != peer) {
		drop(verdict, DROP_TUNNEL_WRONG_SOURCE);
		return -1;
	}
	/* To the Node's own addresses, wire_to_host takes only answers. */
	if (destination.kind != ROUTE_LOCAL_PODS && destination.kind != ROUTE_HOST) {
		drop(verdict, DROP_TUNNEL_WRONG_DESTINATION);
		return -1;
	}
	if (ecn_decapsulate(outer->tos, inner->tos) < 0) {
		drop(verdict, DROP_TUNNEL_ECN);
		return -1;
	}
	return 0;
}

/* Writes a packet's DSCP and ECN and updates IPv4's header checksum. */
static __always_inline int rewrite_tos(context *ctx, struct packet *packet, __u8 tos)
{
	if (packet->family == 4) {
		__sum16 check =
			csum_apply(packet->ip_check,
				   csum_difference16(bpf_htons(packet->tos), bpf_htons(tos), 0));

		if (store(ctx, packet->l3 + offsetof(struct iphdr, tos), &tos, 1) ||
		    store(ctx, packet->l3 + offsetof(struct iphdr, check), &check, 2))
			return -1;
		packet->ip_check = check;
	} else {
		__u8 *header = bytes_at(ctx, packet->l3, 2);
		__u8 bytes[2];

		if (!header)
			return -1;
		bytes[0] = 0x60 | tos >> 4;
		bytes[1] = (header[1] & 0x0f) | (__u8)(tos << 4);
		if (store_summed(ctx, packet->l3, bytes, 2))
			return -1;
	}
	packet->tos = tos;
	return 0;
}

#ifndef FAIRWAY_XDP

/* Takes `strip` bytes off behind the Ethernet header. The kernel's own tunnels take one from the checksums
 * that the NIC has verified, where the outer UDP header goes; the helper alone would forget all of them,
 * and the Pod would sum each packet again. */
static __always_inline int tunnel_leave(struct __sk_buff *ctx, __u32 strip, __u64 flags)
{
	int error = bpf_skb_adjust_room(ctx, -(int)strip, BPF_ADJ_ROOM_MAC,
					flags | BPF_F_ADJ_ROOM_FIXED_GSO |
						BPF_F_ADJ_ROOM_NO_CSUM_RESET);

	if (!error)
		bpf_csum_level(ctx, BPF_CSUM_LEVEL_DEC);
	return error;
}

#endif

/* 4. Removes everything between the outer Ethernet header and the inner IP header. What XDP has stripped
 * has the Node's own secret MAC as its source. */
static __always_inline int decapsulate(context *ctx, const struct packet *outer,
				       struct packet *inner, const struct node_config *node)
{
	__u32 strip = inner->l3 - ETH_HLEN;
	__be16 ethertype = inner->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	int ecn = ecn_decapsulate(outer->tos, inner->tos);

#ifdef FAIRWAY_XDP
	struct ethhdr *from = bytes_in_place(ctx, 0, sizeof(*from)), *to;
	struct ethhdr ethernet;

	if (!from)
		return -1;
	ethernet = *from;
	__builtin_memcpy(ethernet.h_source, &node->stripped_mac, ETH_ALEN);
	ethernet.h_proto = ethertype;
	if (strip > HEADERS_MAX || bpf_xdp_adjust_head(ctx, strip))
		return -1;
	to = bytes_in_place(ctx, 0, sizeof(*to));
	if (!to)
		return -1;
	*to = ethernet;
#else
	__u64 flags = 0;

	if (strip > HEADERS_MAX)
		return -1;
	if (outer->family != inner->family) {
		if (has_decap_l3) {
			flags |= inner->family == 4 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4
						    : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
		} else {
			/* Before 6.3 the protocol changes only together with the header's size. */
			if (bpf_skb_change_proto(ctx, ethertype, 0))
				return -1;
			strip += inner->family == 6
					 ? sizeof(struct ipv6hdr) - sizeof(struct iphdr)
					 : -(int)(sizeof(struct ipv6hdr) - sizeof(struct iphdr));
		}
	}
	if (tunnel_leave(ctx, strip, flags) ||
	    bpf_skb_store_bytes(ctx, offsetof(struct ethhdr, h_proto), &ethertype, 2, 0))
		return -1;
#endif
	inner->l4 -= inner->l3 - ETH_HLEN;
	inner->l3 = ETH_HLEN;
	if (ecn != (inner->tos & ECN_MASK))
		return rewrite_tos(ctx, inner, (inner->tos & ~ECN_MASK) | ecn);
	return 0;
}

#endif
