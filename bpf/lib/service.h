/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Services: the backend of a flow's first packet, when that goes to a Service's address. A flow keeps its
 * backend, so later packets only check whether the backend still serves.
 *
 *  1. frontend    address, protocol and port, else the Node's own port
 *  2. client      may it use this Service?
 *  3. set         of the cluster's backends or of this Node's, by traffic policy
 *  4. backend     the client's own (session affinity), else a random one
 *  5. gone        a flow's backend no longer serves
 */
#ifndef FAIRWAY_SERVICE_H
#define FAIRWAY_SERVICE_H

#include "route.h"
#include "work.h"

/* Packets to this route may be for a Service. */
static __always_inline bool route_serves(const struct route *route)
{
	return route->kind == ROUTE_SERVICE ||
	       route->flags & (ROUTE_NODE_PORTS | ROUTE_SERVICE_PORTS);
}

/* Stage 5. The states of eight backends share a word. */
static __always_inline __u8 backend_state(__u32 id)
{
	__u32 word = id / 8;
	__u64 *states = bpf_map_lookup_elem(&backend_states, &word);

	return states ? read_once(*states) >> id % 8 * 8 : 0;
}

/* 0: the flow has none. */
static __always_inline __u32 flow_backend(const struct flow *flow)
{
	return (__u32)flow->backend_upper << 16 | flow->backend;
}

/* The backend sees the client's own address. */
static __always_inline bool flow_shows_client(const struct flow *flow)
{
	return address_equal(&flow->addresses[FLOW_ORIGINAL].source,
			     &flow->addresses[FLOW_REPLY].destination);
}

/* Stage 5. A connection that begins again on a flow that is over gets a new choice: the old backend may be in no
 * set any more. */
static __always_inline bool flow_begins_again(const struct flow *flow, const struct packet *packet)
{
	return flow->flags & (FLOW_BOTH_FINS | FLOW_RESETS) && packet_opens(packet);
}

/* Stage 5. Answered TCP stays with its backend to the end; everything else ends with it. */
static __always_inline bool flow_needs_backend(const struct flow *flow, __u8 direction)
{
	return direction == FLOW_ORIGINAL &&
	       (flow->protocol != IPPROTO_TCP || !(flow->flags & FLOW_REPLIED));
}

/* Stage 5. The packet's flow ends, and the packet gets a new choice. */
static __always_inline bool backend_is_gone(const struct flow *flow, __u8 direction,
					    const struct packet *packet)
{
	__u32 backend = flow_backend(flow);

	if (!backend || direction != FLOW_ORIGINAL)
		return false;
	if (flow_begins_again(flow, packet))
		return true;
	return flow_needs_backend(flow, direction) && !(backend_state(backend) & BACKEND_SERVES);
}

/* Stage 1. NULL: no port of a Service. */
static __always_inline const struct frontend *frontend_at(const struct frontend_key *key)
{
	const struct frontend *frontend = bpf_map_lookup_elem(&frontends, key);

	return frontend && frontend->service ? frontend : NULL;
}

/* Stage 1. The frontend of work.packet, whose destination's route has these flags. */
static __always_inline const struct frontend *frontend_find(const struct packet *packet, __u8 flags,
							    struct frontend_key *key)
{
	const struct frontend *frontend;

	key->address = packet->key.destination;
	key->port = packet->key.destination_port;
	key->protocol = packet->key.protocol;
	frontend = frontend_at(key);
	if (frontend || !(flags & ROUTE_NODE_PORTS))
		return frontend;
	__builtin_memset(&key->address, 0, sizeof(key->address));
	if (packet->family == 4)
		key->address.word[2] = bpf_htonl(0xffff);
	return frontend_at(key);
}

/* Stage 1 alone. */
stage bool is_service_port(__u8 flags)
{
	struct work *work = work_space();
	struct frontend_key key = {};

	return work && frontend_find(&work->packet, flags, &key);
}

/* Stage 2. */
static __always_inline bool client_in_ranges(__u32 service, const struct address *client)
{
	struct range_key key = { .prefix_length = 160, .service = service, .address = *client };

	return bpf_map_lookup_elem(&service_ranges, &key);
}

/* Stage 4. The backend belongs to this Service: an entry that is being changed may name one of another Service. */
static __always_inline const struct backend *backend_of(__u32 id, __u32 service)
{
	const struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->service == service ? backend : NULL;
}

/* Stage 4. The client's own backend, while it is young enough and in the set; 0: none. */
static __always_inline __u32 affinity_find(const struct affinity_key *key, __u32 seconds,
					   __u8 in_set, __u64 now)
{
	const struct affinity *affinity = bpf_map_lookup_elem(&service_affinity, key);
	__u32 id;

	/* Signed: another CPU may have stored a later time. */
	if (!affinity ||
	    (__s64)(now - read_once(affinity->used)) >= (__s64)(seconds * NS_PER_SECOND))
		return 0;
	id = read_once(affinity->backend);
	return backend_state(id) & in_set ? id : 0;
}

/* Stage 4, for a flow that is being created: it stores its backend. */
static __always_inline void service_begin(struct work *work)
{
	work->flow.backend = work->choice.backend;
	work->flow.backend_upper = work->choice.backend >> 16;
}

/* Stage 4, once the flow has begun. */
stage int affinity_keep(__u64 now)
{
	struct work *work = work_space();
	struct affinity_key key = {};
	struct affinity *known, made = {};

	if (!work)
		return -1;
	key.client = work->packet.key.source;
	key.service = work->choice.service;
	known = bpf_map_lookup_elem(&service_affinity, &key);
	if (known && read_once(known->backend) == work->choice.backend) {
		write_once(known->used, now);
		return 0;
	}
	made.used = now;
	made.backend = work->choice.backend;
	bpf_map_update_elem(&service_affinity, &key, &made, BPF_ANY);
	return 0;
}

/* A set is its first place in service_slots | the number of its backends << 32. */
static __always_inline __u32 set_count(__u64 set)
{
	return set >> 32;
}

static __always_inline __u32 by_chance(__u64 set)
{
	__u32 place = (__u32)set + (__u32)(((__u64)bpf_get_prandom_u32() * set_count(set)) >> 32);
	__u32 *id = bpf_map_lookup_elem(&service_slots, &place);

	return id ? read_once(*id) : 0;
}

/* Not drop reasons, which are negative. */
enum service_answer {
	SERVICE_NONE = 0,   /* the packet goes to no Service: its route applies */
	SERVICE_CHOSEN = 1, /* work.target and work.choice are the backend */
};

/*
 * Stages 1 to 4, of work.packet, whose destination has a route of this kind and these flags.
 * `from_wire`: the client is not on this Node. An enum service_answer, or a drop reason made negative.
 */
stage int service_choose(const struct node_config *node, __u8 kind, __u8 flags, bool from_wire,
			 __u64 now)
{
	const __u8 only_local = SERVICE_EXTERNAL_LOCAL;
	const struct backend *backend = NULL;
	const struct frontend *frontend;
	struct affinity_key client = {};
	struct work *work = work_space();
	const struct service *service;
	struct frontend_key key = {};
	const struct packet *packet;
	__u32 index, id = 0;
	bool local, internal;
	__u64 set;
	int try;

	if (!node || !work)
		return -DROP_MALFORMED;
	packet = &work->packet;

	/* 1 */
	frontend = frontend_find(packet, flags, &key);
	if (!frontend) {
		if (kind != ROUTE_SERVICE)
			return SERVICE_NONE;
		key.address = packet->key.destination;
		key.port = 0;
		key.protocol = 0;
		return bpf_map_lookup_elem(&frontends, &key) ? -DROP_SERVICE_UNKNOWN_PORT
							     : -DROP_SERVICE_UNKNOWN_ADDRESS;
	}

	/* 2 */
	reader_pauses();
	index = frontend->service;
	internal = frontend->kind == FRONTEND_CLUSTER_IP;
	service = bpf_map_lookup_elem(&services, &index);
	if (!service)
		return -DROP_SERVICE_NO_ENDPOINTS;
	if (internal && from_wire && !(node->flags & NODE_SERVES_CLUSTER_IPS))
		return -DROP_SERVICE_EXTERNAL_CLUSTER_IP;
	if (frontend->kind == FRONTEND_LOAD_BALANCER && service->flags & SERVICE_RANGES &&
	    !client_in_ranges(index, &packet->key.source))
		return -DROP_SERVICE_SOURCE_RANGE;

	/* 3 */
	local = internal ? service->flags & SERVICE_INTERNAL_LOCAL
			 : from_wire && service->flags & only_local;
	set = read_once(*(local ? &service->local_set : &service->cluster_set));
	if (!set_count(set))
		return local && set_count(read_once(service->cluster_set))
			       ? -DROP_SERVICE_NO_LOCAL_ENDPOINTS
			       : -DROP_SERVICE_NO_ENDPOINTS;

	/* 4 */
	if (service->affinity) {
		client.client = packet->key.source;
		client.service = index;
		id = affinity_find(&client, service->affinity,
				   local ? BACKEND_IN_LOCAL_SET : BACKEND_IN_CLUSTER_SET, now);
		backend = backend_of(id, index);
	}
	for (try = 0; try < BACKEND_TRIES && !backend; try++) {
		id = by_chance(set);
		backend = backend_of(id, index);
	}
	if (!backend)
		return -DROP_SERVICE_NO_ENDPOINTS;
	/* The Service that has the frontend now is that of the backend: neither the element nor the index belonged to
	 * another one meanwhile. */
	keep_order();
	frontend = frontend_at(&key);
	if (!frontend || frontend->service != index)
		return -DROP_SERVICE_UNKNOWN_ADDRESS;
	work->choice.service = index;
	work->choice.backend = id;
	work->choice.affinity = service->affinity;
	work->choice.external_local = !internal && service->flags & only_local;
	work->verdict.backend = id;
	work->target = packet->key;
	work->target.destination = backend->address;
	work->target.destination_port = backend->port;
	return SERVICE_CHOSEN;
}

#endif
