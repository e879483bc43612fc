/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The headers of Geneve (RFC 8926) and VXLAN (RFC 7348) with an Ethernet payload, and where they belong.
 *
 *  encap.h    writes them
 *  decap.h    recognises, checks and removes them
 */
#ifndef FAIRWAY_TUNNEL_H
#define FAIRWAY_TUNNEL_H

#include "rewrite.h"

#define GENEVE_OAM 0x80
#define GENEVE_CRITICAL 0x40
#define VXLAN_VNI_FLAG 0x08
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

static __always_inline bool is_ip(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_IP) || ethertype == bpf_htons(ETH_P_IPV6);
}

static __always_inline bool is_tunnel_port(__be16 port, const struct node_config *node)
{
	return port && (port == node->geneve_port || port == node->vxlan_port);
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

#endif
