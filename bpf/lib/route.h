/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where an address is: a Pod of this Node, the Node, a peer's Pods, or outside. A flow remembers this
 * for its remote side as long as node_config.route_epoch stays the same.
 */
#ifndef FAIRWAY_ROUTE_H
#define FAIRWAY_ROUTE_H

#include "element.h"
#include "flow.h"
#include "next_hop.h"

static __always_inline struct route route_lookup(const struct address *address)
{
	struct route_key key = { .prefix_length = 128, .address = *address };
	struct route *found = bpf_map_lookup_elem(&routes, &key);
	struct route outside = { .kind = ROUTE_OUTSIDE, .peer = NO_PEER };

	return found ? *found : outside;
}

/*
 * The epoch of routes and endpoints, read before any of them: entries that are looked up afterwards are at
 * least that new. It is never 0.
 */
static __always_inline __u32 route_epoch(const struct node_config *node)
{
	__u32 epoch = read_once(node->route_epoch);

	keep_order();
	return epoch;
}

/* The resolved ends of the flow are of this epoch. */
static __always_inline bool flow_current(const struct flow *flow, __u32 epoch)
{
	return read_once(flow->route_epoch) == epoch;
}

static __always_inline __u8 flow_family(const struct flow *flow)
{
	return address_is_ipv4(&flow->addresses[FLOW_ORIGINAL].source) ? 4 : 6;
}

/* In a copy: the end whose packets travel in `direction` is this Pod. */
static __always_inline void end_remember(struct flow *flow, const struct endpoint *pod,
					 __u8 direction)
{
	flow->ifindex[direction & 1] = pod->ifindex;
	flow->mac[direction & 1] = pod->mac;
	flow->pods |= 1 << (direction & 1);
}

/* In a copy. `local` is the Pod of this Node whose packets travel in `direction`, or NULL. It is kept
 * only where the other end is remote: a pair of Pods is kept as such. */
static __always_inline void route_remember(struct flow *flow, const struct route *route,
					   __u8 family, const struct endpoint *local,
					   __u8 direction, __u32 epoch)
{
	bool remote = route->kind == ROUTE_PEER || route->kind == ROUTE_OUTSIDE;

	/* The address has become a Service's: no route; the flow ends, or keeps its old route. */
	if (route->kind == ROUTE_SERVICE)
		return;
	flow->route_epoch = epoch;
	flow->route_kind = route->kind;
	flow->route_flags = route->flags;
	flow->pods = 0;
	if (route->kind == ROUTE_PEER) {
		flow->remote = route->peer * 2 + (family == 6);
		flow->remote_epoch = route->mtu;
	} else if (route->kind != ROUTE_OUTSIDE || flow->remote < NEXT_HOP_OUTSIDE) {
		flow->remote = 0;
	}
	/* Answers that the stack has to translate go to the stack, never straight to the Pod. */
	if (local && remote && !(flow->flags & FLOW_STACK))
		end_remember(flow, local, direction);
}

/* Its remote side is a peer, or the Node's stack for a client on a peer. */
static __always_inline bool flow_has_peer(const struct flow *flow)
{
	return flow->route_kind == ROUTE_PEER || (flow->route_kind == ROUTE_HOST && flow->remote);
}

/* In a copy: both ends of a flow between two Pods of this Node, which is otherwise current. `sender`'s
 * packets travel in `direction`. */
static __always_inline void pods_remember(struct flow *flow, const struct endpoint *sender,
					  const struct endpoint *receiver, __u8 direction)
{
	end_remember(flow, sender, direction);
	end_remember(flow, receiver, !direction);
}

static __always_inline bool end_is_pod(const struct flow *flow, __u8 direction)
{
	return flow->pods & 1 << (direction & 1);
}

/* The packet, which belongs to the flow in `direction`, comes from the flow's own Pod: through its
 * interface, with its MAC. */
static __always_inline bool flow_sent_by(const struct flow *flow, __u8 direction, __u32 ifindex,
					 const struct mac *mac)
{
	return end_is_pod(flow, direction) && flow->ifindex[direction & 1] == ifindex &&
	       !__builtin_memcmp(&flow->mac[direction & 1], mac, sizeof(*mac));
}

/* The flow's source is translated to an address of the Node. Otherwise at most its port is translated: the address is
 * the client's own. */
static __always_inline bool flow_takes_address(const struct flow *flow)
{
	return flow->flags & FLOW_SNAT && !address_equal(&flow->addresses[FLOW_REPLY].destination,
							 &flow->addresses[FLOW_ORIGINAL].source);
}

/* True for a flow whose source is translated to an address that the Node has lost: answers would not arrive. Checked
 * once per epoch. */
static __always_inline bool flow_address_lost(const struct flow *flow)
{
	return flow_takes_address(flow) &&
	       route_lookup(&flow->addresses[FLOW_REPLY].destination).kind != ROUTE_HOST;
}

static __always_inline struct route route_remembered(const struct flow *flow)
{
	struct route route = {
		.kind = flow->route_kind,
		.flags = flow->route_flags,
		.peer = flow->route_kind == ROUTE_PEER ? flow->remote / 2 : NO_PEER,
		.mtu = flow->route_kind == ROUTE_PEER ? flow->remote_epoch : 0,
	};

	return route;
}

/* `index` as in peers. */
static __always_inline const struct peer *peer_at(__u32 index)
{
	return bpf_map_lookup_elem(&peers, &index);
}

static __always_inline const struct peer *peer_lookup(__u32 id, __u8 family)
{
	return peer_at(id * 2 + (family == 6));
}

/* Stores the peer's epoch in a route before the policy look-ups: everything that they read about its addresses is at
 * least that new. */
static __always_inline void route_date(struct route *route, __u8 family)
{
	const struct peer *peer;

	if (route->kind != ROUTE_PEER)
		return;
	peer = peer_lookup(route->peer, family);
	if (peer)
		route->mtu = read_once(peer->policy_epoch);
	keep_order();
}

/* The flags that the core adds to the route of `address`. */
static __always_inline void route_complete(struct route *route, const struct address *address)
{
	if (route->kind == ROUTE_OUTSIDE && bpf_map_lookup_elem(&peer_addresses, address))
		route->flags |= ROUTE_PEER_NODE;
}

/* The route of `address`, with all that the core adds. */
static __always_inline struct route route_resolve(const struct address *address)
{
	struct route route = route_lookup(address);

	route_date(&route, address_is_ipv4(address) ? 4 : 6);
	route_complete(&route, address);
	return route;
}

/* In a copy of a flow to the Node's stack, which forwards it for a client at `client`, its route: the policy_epoch of a
 * peer shows when the meaning of the client's address changes. */
static __always_inline void client_remember(struct flow *flow, const struct route *client,
					    __u8 family)
{
	if (flow->route_kind != ROUTE_HOST || !(flow->flags & FLOW_STACK) ||
	    !(flow->flags & FLOW_FORWARDED) || client->kind != ROUTE_PEER)
		return;
	flow->remote = client->peer * 2 + (family == 6);
	flow->remote_epoch = client->mtu;
}

/* If `address` is a peer's own, makes `route` a route to that peer, as for one of its Pods. */
static __always_inline void route_to_peer_node(struct route *route, const struct address *address)
{
	const __u32 *peer = bpf_map_lookup_elem(&peer_addresses, address);

	if (route->kind != ROUTE_OUTSIDE || !peer)
		return;
	route->kind = ROUTE_PEER;
	route->flags = 0;
	route->peer = *peer;
	route_date(route, address_is_ipv4(address) ? 4 : 6);
}

/* The route of `address`, the remote end of a known flow. A flow that a peer's Node began from its own address
 * stays on the peer's path. */
static __always_inline struct route route_resolve_again(const struct flow *flow,
							const struct address *address)
{
	struct route route = route_resolve(address);

	if (flow->route_kind == ROUTE_PEER && route.flags & ROUTE_PEER_NODE)
		route_to_peer_node(&route, address);
	return route;
}

static __always_inline bool peer_tunnels(const struct peer *peer)
{
	return peer->path == PATH_GENEVE || peer->path == PATH_VXLAN;
}

/* The Pod of this Node with that address, into `to`; false: there is none. */
stage bool endpoint_find(const struct address *address, struct endpoint *to)
{
	const struct endpoint *found;
	struct endpoint copy;
	struct address key;
	__u32 writes;
	int try;

	if (!address || !to)
		return false;
	/* Before 6.2 the key of a look-up cannot be in what a function was given. */
	key = *address;
	for (try = 0; try < ELEMENT_TRIES; try++) {
		writes = agent_writes_before();
		found = bpf_map_lookup_elem(&endpoints, &key);
		if (!found)
			return false;
		reader_pauses();
		copy = *found;
		if (agent_element_stays(&endpoints, &key, found, writes)) {
			*to = copy;
			return true;
		}
	}
	return false;
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

/* An address that no host has: answers to it would go to many, or to this Node (RFC 1122, 3.2.1.3; RFC 4291, 2.5). */
static __always_inline bool address_is_nobodys(const struct address *address, __u8 family)
{
	if (address_is_multicast(address, family))
		return true;
	if (family == 4)
		return !(address->word[3] & bpf_htonl(0xff000000)) ||
		       (address->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(address->word[0] | address->word[1] | address->word[2] |
		 (address->word[3] & ~bpf_htonl(1)));
}

static __always_inline bool address_is_link_local6(const struct address *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

#endif
