/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Geneve (RFC 8926) and VXLAN (RFC 7348) with an Ethernet payload.
 *
 *  encapsulation    writes the outer headers, for GSO packets as a whole
 *  recognition      is this a tunnel packet of a known peer, for this Node?
 *  decapsulation    removes the tunnel; the outer Ethernet header stays in front
 */
#ifndef FAIRWAY_TUNNEL_H
#define FAIRWAY_TUNNEL_H

#include "rewrite.h"
#include "route.h"
#include "verdict.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

#define GENEVE_OAM 0x80
#define GENEVE_CRITICAL 0x40
#define VXLAN_VNI_FLAG 0x08
#define TUNNEL_SOURCE_PORT_FIRST 49152
#define TUNNEL_SOURCE_PORT_MASK 0x3fff

#define ECN_MASK 3
#define ECN_NOT_ECT 0
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

/* Both tunnel headers have 8 bytes. VXLAN's flags are in the place of Geneve's version and option
 * length, and zeros in that of Geneve's protocol type. */
struct tunnel_header {
	__u8 first;	 /* Geneve: version, option length; VXLAN: flags */
	__u8 second;	 /* Geneve: OAM and critical bits */
	__be16 protocol; /* Geneve: ETH_P_TEB; VXLAN: 0 */
	__be32 vni;	 /* upper 24 bits */
};

/* Between the outer and the inner IP header: UDP, the tunnel's header, Ethernet. */
#define TUNNEL_INNER_SIZE 30
_Static_assert(sizeof(struct udp_header) + sizeof(struct tunnel_header) + ETH_HLEN ==
		       TUNNEL_INNER_SIZE,
	       "tunnel header size");

/* The first word of a header without options. */
#define GENEVE_PLAIN bpf_htonl(ETH_P_TEB)
#define VXLAN_PLAIN bpf_htonl((__u32)VXLAN_VNI_FLAG << 24)

/* With two extra bytes, for put_ethernet. */
static const struct {
	struct mac mac;
	__u16 pad;
} fairway_mac __attribute__((aligned(8))) = { .mac = { { 0x02, 0xfa, 0x1c, 0x00, 0x00, 0x01 } } };

#ifndef FAIRWAY_XDP

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

#endif

enum tunnel_kind {
	TUNNEL_NONE, /* an ordinary packet */
	TUNNEL_GENEVE,
	TUNNEL_VXLAN,
	TUNNEL_ANY,	/* on a port that is not ours: only what a Fairway Node sends */
	TUNNEL_REFUSED, /* the verdict says why */
};

static __always_inline bool is_tunnel_port(__be16 port, const struct node_config *node)
{
	return port && (port == node->geneve_port || port == node->vxlan_port);
}

/* By ports and addresses alone. */
static __always_inline enum tunnel_kind tunnel_expected(const struct packet *packet,
							const struct node_config *node, __u32 *peer,
							struct verdict *verdict)
{
	__be16 port = packet->key.destination_port;
	bool claimed, known;
	__u32 *id;

	if (packet->key.protocol != IPPROTO_UDP || packet->flags & PACKET_LATER_FRAGMENT)
		return TUNNEL_NONE;
	claimed = is_tunnel_port(port, node);
	id = bpf_map_lookup_elem(&peer_addresses, &packet->key.source);
	known = id != NULL;
	if (!claimed && (!known || packet->flags & PACKET_FRAGMENT))
		return TUNNEL_NONE;
	if (route_lookup(&packet->key.destination).kind != ROUTE_HOST)
		return TUNNEL_NONE;
	if (!known) {
		drop(verdict, DROP_TUNNEL_UNKNOWN_PEER);
		return TUNNEL_REFUSED;
	}
	if (packet->flags & PACKET_FRAGMENT) {
		drop(verdict, DROP_TUNNEL_MALFORMED);
		return TUNNEL_REFUSED;
	}
	*peer = *id;
	if (port == node->geneve_port)
		return TUNNEL_GENEVE;
	if (port == node->vxlan_port)
		return TUNNEL_VXLAN;
	return TUNNEL_ANY;
}

#define OUTER_IPV4_MAX 60

/* No stack has looked at the outer header before us. A frame that has a tunnel in it is longer than
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
 * our VNI: flannel's is 1, too. While a port or a type is changed on one Node after the other, a peer
 * uses what this Node does not know yet; every Fairway Node sends this header without options, and this
 * very MAC behind it, which no other has.
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

/* Reserved bits are ignored (RFC 7348, 5; RFC 8926, 3.4). */
static __always_inline bool geneve_header(const struct tunnel_header *header)
{
	return header->first >> 6 == 0 && !(header->second & GENEVE_OAM) &&
	       header->protocol == bpf_htons(ETH_P_TEB);
}

static __always_inline bool vxlan_header(const struct tunnel_header *header)
{
	return header->first & VXLAN_VNI_FLAG;
}

/* Reads the tunnel header. TUNNEL_NONE, TUNNEL_REFUSED, or the kind; `inner_ethernet` is then
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

static __always_inline bool is_ip(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_IP) || ethertype == bpf_htons(ETH_P_IPV6);
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

/* Parses the inner frame into `inner` and checks that its source is the peer's and its destination ours. */
static __always_inline int tunnel_inner_check(context *ctx, const struct packet *outer,
					      struct packet *inner, __u32 inner_ethernet,
					      __u32 peer, const struct node_config *node,
					      struct verdict *verdict)
{
	struct ethhdr *ethernet = bytes_at(ctx, inner_ethernet, sizeof(*ethernet));
	const struct address *gateway;
	struct route route;
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
	route = route_lookup(&inner->key.source);
	if (route.kind != ROUTE_PEER || route.peer != peer) {
		drop(verdict, DROP_TUNNEL_WRONG_SOURCE);
		return -1;
	}
	gateway = gateway_address(node, inner->family);
	if ((address_is_zero(gateway) || !address_equal(&inner->key.destination, gateway)) &&
	    route_lookup(&inner->key.destination).kind != ROUTE_LOCAL_PODS) {
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

/* Removes everything between the outer Ethernet header and the inner IP header. What XDP has stripped
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
