/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments: only the first one has ports, and for IPv6 its protocol; `fragments` keeps them for the
 * others.
 */
#ifndef FAIRWAY_FRAGMENT_H
#define FAIRWAY_FRAGMENT_H

#include "element.h"
#include "packet.h"

/* A place of the owner's share for a new key: its oldest one goes. Another CPU takes another place. */
static __always_inline void fragment_keep(const struct fragment_key *key,
					  const struct fragment *learned, __u16 owner)
{
	struct fragment *known = bpf_map_lookup_elem(&fragments, key);
	struct fragment_place place = { .owner = owner };
	struct fragment_key *oldest;
	__u32 index = owner, *turns;
	__u32 share = owner == OWNER_WIRE   ? FRAGMENTS_WIRE
		      : owner == OWNER_HOST ? FRAGMENTS_HOST
					    : FRAGMENTS_POD;

	if (known) {
		bpf_map_update_elem(&fragments, key, learned, BPF_EXIST);
		return;
	}
	turns = bpf_map_lookup_elem(&fragment_turns, &index);
	if (!turns)
		return;
	place.place = __sync_fetch_and_add(turns, 1) % share;
	oldest = bpf_map_lookup_elem(&fragment_places, &place);
	if (oldest)
		bpf_map_delete_elem(&fragments, oldest);
	if (!bpf_map_update_elem(&fragment_places, &place, key, BPF_ANY))
		bpf_map_update_elem(&fragments, key, learned, BPF_ANY);
}

/* Learns the ports and protocol from a first fragment, or gives them to a later one; when no first one was
 * seen, PACKET_PORTS_UNKNOWN is set. */
stage int fragment_ports(struct packet *packet, __u16 owner)
{
	struct fragment *known, learned = {};
	struct fragment_key key = {};

	if (!packet)
		return -1;
	key.source = packet->key.source;
	key.destination = packet->key.destination;
	key.identification = packet->identification;
	if (packet->family == 4)
		key.protocol = packet->key.protocol;
	key.owner = owner;
	if (!(packet->flags & PACKET_LATER_FRAGMENT)) {
		learned.source_port = packet->key.source_port;
		learned.destination_port = packet->key.destination_port;
		learned.protocol = packet->key.protocol;
		fragment_keep(&key, &learned, owner);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known) {
		packet->flags |= PACKET_PORTS_UNKNOWN;
		return 0;
	}
	learned = *known;
	if (!element_stays(&fragments, &key, known)) {
		packet->flags |= PACKET_PORTS_UNKNOWN;
		return 0;
	}
	packet->key.source_port = learned.source_port;
	packet->key.destination_port = learned.destination_port;
	packet->key.protocol = learned.protocol;
	return 0;
}

#endif
