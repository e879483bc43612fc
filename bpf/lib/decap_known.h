/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tunnel packets of known flows on the full path: SYN, FIN, ICMP and SCTP, and at TC all that comes in a
 * tunnel of the other family. The remote end of the inner packet's flow is a peer, and the outer addresses
 * are those of that peer's tunnel: then source and destination have been checked before, in this epoch,
 * and two look-ups in `routes` and one in `peer_addresses` are saved.
 */
#ifndef FAIRWAY_DECAP_KNOWN_H
#define FAIRWAY_DECAP_KNOWN_H

#include "arrival.h"
#include "decap.h"

/* Into work.inner and work.track. False, with both empty again: needs the complete checks. */
static __always_inline bool tunnel_known_flow(context *ctx, struct work *work,
					      const struct node_config *node, __u32 epoch,
					      __u64 now)
{
	const struct packet *outer = &work->packet;
	struct packet *inner = &work->inner;
	__be16 port = outer->key.destination_port;
	struct {
		struct tunnel_header tunnel;
		struct ethhdr ethernet;
	} __attribute__((packed)) * header;
	const struct peer *peer;
	struct endpoint endpoint;
	__be16 ethertype;

	if (outer->key.protocol != IPPROTO_UDP || outer->flags & PACKET_FRAGMENT ||
	    !is_tunnel_port(port, node) || !outer_checksum_right(ctx, outer))
		return false;
	header = bytes_at(ctx, outer->l4 + sizeof(struct udp_header), sizeof(*header));
	if (!header || header->tunnel.vni != bpf_htonl(node->vni << 8) || header->tunnel.second ||
	    header->ethernet.h_dest[0] & 1)
		return false;
	if (port == node->geneve_port
		    ? header->tunnel.first || header->tunnel.protocol != bpf_htons(ETH_P_TEB)
		    : header->tunnel.first != VXLAN_VNI_FLAG || header->tunnel.protocol)
		return false;
	ethertype = header->ethernet.h_proto;
	if ((ethertype != bpf_htons(ETH_P_IP) && ethertype != bpf_htons(ETH_P_IPV6)) ||
	    parse(ctx, inner, outer->l4 + sizeof(struct udp_header) + sizeof(*header), ethertype,
		  false))
		goto unknown;
	if (inner->flags & (PACKET_FRAGMENT | PACKET_ICMP_ERROR) ||
	    (__u32)(inner->l3 - outer->l3) + inner->length > outer->length ||
	    ecn_decapsulate(outer->tos, inner->tos) < 0)
		goto unknown;
	flow_lookup(&inner->key, node, now);
	/* Packets to a Service never come in a tunnel. */
	if (!wire_known(&work->track, &work->flow, epoch, &endpoint) ||
	    work->flow.route_kind != ROUTE_PEER ||
	    flow_to_service(&work->flow, work->track.direction))
		goto unknown;
	peer = peer_at(work->flow.remote);
	if (peer && peer_tunnels(peer) && address_equal(&peer->remote, &outer->key.source) &&
	    address_equal(&peer->local, &outer->key.destination))
		return true;
unknown:
	work->track.known = 0;
	__builtin_memset(inner, 0, sizeof(*inner));
	return false;
}

#endif
