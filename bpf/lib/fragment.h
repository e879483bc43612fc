/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments: only the first one has ports, and for IPv6 its protocol; `fragments` keeps them for the
 * others.
 */
#ifndef FAIRWAY_FRAGMENT_H
#define FAIRWAY_FRAGMENT_H

#include "packet.h"

/* Learns the ports and protocol from a first fragment, or gives them to a later one; when no first one was
 * seen, PACKET_PORTS_UNKNOWN is set. */
stage int fragment_ports(struct packet *packet)
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
	if (!(packet->flags & PACKET_LATER_FRAGMENT)) {
		learned.source_port = packet->key.source_port;
		learned.destination_port = packet->key.destination_port;
		learned.protocol = packet->key.protocol;
		bpf_map_update_elem(&fragments, &key, &learned, BPF_ANY);
		return 0;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known) {
		packet->flags |= PACKET_PORTS_UNKNOWN;
		return 0;
	}
	packet->key.source_port = known->source_port;
	packet->key.destination_port = known->destination_port;
	packet->key.protocol = known->protocol;
	return 0;
}

#endif
