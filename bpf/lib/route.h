/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where an address is: a Pod of this Node, the Node, a peer's Pods, or outside. A flow
 * remembers it of its remote side for as long as node_config.route_epoch stays the same.
 */
#ifndef FAIRWAY_ROUTE_H
#define FAIRWAY_ROUTE_H

#include "flow.h"

static __always_inline struct route route_lookup(const struct address *address)
{
	struct route_key key = { .prefix_length = 128, .address = *address };
	struct route *found = bpf_map_lookup_elem(&routes, &key);
	struct route outside = { .kind = ROUTE_OUTSIDE, .peer = NO_PEER };

	return found ? *found : outside;
}

static __always_inline void route_remember(struct flow *flow, const struct route *route,
					   const struct node_config *node)
{
	flow->route_kind = route->kind;
	flow->route_flags = route->flags;
	flow->peer = route->peer;
	flow->route_epoch = node->route_epoch;
}

/* The route of the flow's remote side, which is `address`; `flow` may be NULL. */
static __always_inline struct route route_of(struct flow *flow, const struct address *address,
					     const struct node_config *node)
{
	struct route route;

	if (flow && flow->route_epoch == node->route_epoch) {
		route.kind = flow->route_kind;
		route.flags = flow->route_flags;
		route.pad = 0;
		route.peer = flow->peer;
		return route;
	}
	route = route_lookup(address);
	if (route.kind == ROUTE_OUTSIDE && bpf_map_lookup_elem(&peer_addresses, address))
		route.flags |= ROUTE_PEER_NODE;
	if (flow)
		route_remember(flow, &route, node);
	return route;
}

static __always_inline const struct peer *peer_lookup(__u32 id, __u8 family)
{
	__u32 index = id * 2 + (family == 6);

	return bpf_map_lookup_elem(&peers, &index);
}

static __always_inline const struct endpoint *endpoint_lookup(const struct address *address)
{
	return bpf_map_lookup_elem(&endpoints, address);
}

static __always_inline const struct address *gateway_address(const struct node_config *node,
							     __u8 family)
{
	return family == 4 ? &node->gateway_address4 : &node->gateway_address6;
}

static __always_inline const struct address *snat_address(const struct node_config *node,
							  __u8 family)
{
	return family == 4 ? &node->snat_address4 : &node->snat_address6;
}

/* 224.0.0.0/24 (RFC 5771) and ff02::/16 (RFC 4291): never forwarded by a router. */
static __always_inline bool address_is_link_multicast(const struct address *address, __u8 family)
{
	if (family == 4)
		return (address->word[3] & bpf_htonl(0xffffff00)) == bpf_htonl(0xe0000000);
	return (address->word[0] & bpf_htonl(0xff0f0000)) == bpf_htonl(0xff020000) ||
	       (address->word[0] & bpf_htonl(0xff0f0000)) == bpf_htonl(0xff010000);
}

static __always_inline bool address_is_multicast(const struct address *address, __u8 family)
{
	if (family == 4)
		return (address->word[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
		       address->word[3] == 0xffffffff;
	return (address->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

static __always_inline bool address_is_link_local6(const struct address *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

#endif
