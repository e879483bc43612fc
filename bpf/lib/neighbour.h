/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ARP (RFC 826, 5227) and neighbour discovery (RFC 4861) of Pods. The Node learns a neighbour from each
 * of them and has room for about a thousand, so they are checked like other packets of a Pod: they may be
 * about the Pod's own addresses and MAC only.
 */
#ifndef FAIRWAY_NEIGHBOUR_H
#define FAIRWAY_NEIGHBOUR_H

#include "next_hop.h"
#include "route.h"

#define ARP_REQUEST 1
#define ND_HOP_LIMIT 255
#define ND_MESSAGE 24 /* solicitation and advertisement up to the target's end */
#define ND_OPTION 8
#define ND_OPTION_SOURCE 1
#define ND_OPTION_TARGET 2
#define ND_OPTION_NONCE 14 /* RFC 7527 */
#define MLD_REPORT 131
#define MLD_DONE 132
#define MLD2_REPORT 143

#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136

static __always_inline bool is_own(struct __sk_buff *ctx, const struct address *address,
				   const void *mac)
{
	struct endpoint endpoint;

	return endpoint_find(address, &endpoint) && endpoint.ifindex == ctx->ifindex &&
	       !__builtin_memcmp(&endpoint.mac, mac, ETH_ALEN);
}

/* A Pod's ARP frame is about its own address: an announcement, a request from it, or a probe for it. */
stage int arp_is_own(struct __sk_buff *ctx)
{
	__u8 *frame = bytes_at(ctx, 0, ETH_HLEN + ARP_BODY), *arp;
	struct address own;
	__be32 sender, target;
	struct mac mac;

	if (!frame)
		return false;
	arp = frame + ETH_HLEN;
	/* Ethernet and IPv4, with addresses of 6 and 4 bytes; a question or an answer. */
	if (*(__be32 *)arp != bpf_htonl(0x00010800) || *(__be16 *)(arp + 4) != bpf_htons(0x0604) ||
	    (*(__be16 *)(arp + 6) != bpf_htons(ARP_REQUEST) &&
	     *(__be16 *)(arp + 6) != bpf_htons(ARP_REPLY)))
		return false;
	if (__builtin_memcmp(frame + ETH_ALEN, arp + 8, ETH_ALEN))
		return false;
	__builtin_memcpy(&mac, arp + 8, ETH_ALEN);
	__builtin_memcpy(&sender, arp + 14, 4);
	__builtin_memcpy(&target, arp + 24, 4);
	if (!sender && *(__be16 *)(arp + 6) != bpf_htons(ARP_REQUEST))
		return false;
	address_set_ipv4(&own, sender ? sender : target);
	return is_own(ctx, &own, &mac);
}

static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	return packet->key.protocol == IPPROTO_ICMPV6 && !(packet->flags & PACKET_LATER_FRAGMENT) &&
	       packet->l4_type >= ICMPV6_ROUTER_SOLICIT &&
	       packet->l4_type <= ICMPV6_REDIRECT_MESSAGE;
}

/* Reports of multicast groups teach the Node no neighbour and may have a source that the endpoints'
 * table does not know. */
static __always_inline bool is_group_report(const struct packet *packet)
{
	return packet->key.protocol == IPPROTO_ICMPV6 && !(packet->flags & PACKET_FRAGMENT) &&
	       (packet->l4_type == MLD_REPORT || packet->l4_type == MLD_DONE ||
		packet->l4_type == MLD2_REPORT) &&
	       address_is_link_multicast(&packet->key.destination, 6);
}

/* Checks a Pod's neighbour discovery: DROP_NONE if it may go to the Node's stack. */
stage int neighbour_discovery_check(struct __sk_buff *ctx, const struct packet *packet,
				    const struct node_config *node)
{
	struct address target, source;
	__u32 length;
	__u8 *message;
	bool solicitation, probe;
	struct mac mac;

	if (!packet || !node)
		return DROP_SPOOFED_NEIGHBOUR;
	solicitation = packet->l4_type == ICMPV6_NEIGHBOUR_SOLICIT;
	if (!solicitation && packet->l4_type != ICMPV6_NEIGHBOUR_ADVERTISEMENT)
		return DROP_ROUTER_DISCOVERY;
	length = packet->length - (packet->l4 - packet->l3);
	/* RFC 4861, 7.1; RFC 6980 forbids fragments. Linux sends one option, or none. */
	if (packet->ttl != ND_HOP_LIMIT || packet->flags & PACKET_FRAGMENT ||
	    (length != ND_MESSAGE && length != ND_MESSAGE + ND_OPTION))
		return DROP_SPOOFED_NEIGHBOUR;
	if (!address_is_link_multicast(&packet->key.destination, 6) &&
	    !address_equal(&packet->key.destination, &node->gateway_address6))
		return DROP_SPOOFED_NEIGHBOUR;
	message = bytes_at(ctx, ETH_ALEN, ETH_ALEN);
	if (!message)
		return DROP_MALFORMED;
	__builtin_memcpy(&mac, message, ETH_ALEN);
	probe = solicitation && address_is_zero(&packet->key.source);
	if (length > ND_MESSAGE) {
		__u8 wanted = solicitation ? ND_OPTION_SOURCE : ND_OPTION_TARGET;

		message = bytes_at(ctx, packet->l4 + ND_MESSAGE, ND_OPTION);
		if (!message || message[1] != 1)
			return DROP_SPOOFED_NEIGHBOUR;
		/* Duplicate address detection: the sender has no address yet, so no MAC option. */
		if (message[0] != ND_OPTION_NONCE &&
		    (probe || message[0] != wanted ||
		     __builtin_memcmp(message + 2, &mac, ETH_ALEN)))
			return DROP_SPOOFED_NEIGHBOUR;
	}
	message = bytes_at(ctx, packet->l4, ND_MESSAGE);
	if (!message || message[1])
		return DROP_SPOOFED_NEIGHBOUR;
	__builtin_memcpy(&target, message + 8, sizeof(target));
	if (probe)
		return is_own(ctx, &target, &mac) || address_is_link_local6(&target)
			       ? DROP_NONE
			       : DROP_SPOOFED_NEIGHBOUR;
	/* Before 6.2 the key of a look-up cannot be in what a function was given. */
	source = packet->key.source;
	if (!is_own(ctx, &source, &mac))
		return DROP_SPOOFED_NEIGHBOUR;
	if (solicitation && address_equal(&target, &node->gateway_address6))
		return DROP_NONE;
	return is_own(ctx, &target, &mac) ? DROP_NONE : DROP_SPOOFED_NEIGHBOUR;
}

#endif
