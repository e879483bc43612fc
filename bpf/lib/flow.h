/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Flows: `flow_index` maps both tuples of a flow to one slot of `flows`. Here they are found: in
 * the slots that the tuple's hash names, else by the index, where the generation tells a stale
 * entry.
 *
 *  flow_state.h     what packets make of a flow, and when it has expired
 *  flow_create.h    how one comes, and how it makes room
 */
#ifndef FAIRWAY_FLOW_H
#define FAIRWAY_FLOW_H

#include "flow_state.h"

struct flow_match {
	struct flow *flow; /* NULL: none */
	__u32 claim;	   /* the flow's when it was found */
	__u8 direction;	   /* enum flow_direction */
};

/* The slot that a reference means, NULL when it has been claimed for another flow since. */
static __always_inline struct flow *flow_of(const struct flow_ref *ref)
{
	__u32 slot = ref->slot;
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);

	if (!flow || flow->claim != (ref->generation << 1 | 1))
		return NULL;
	return flow;
}

#define HASH_HIGH 0x9e3779b97f4a7c15ULL
#define HASH_LOW 0xc2b2ae3d27d4eb4fULL
#define HASH_SUM 0xd6e8feb86659fd93ULL

/* A flow key as whole words, for those who hash it and compare it. */
struct key_words {
	__u64 source[2];
	__u64 destination[2];
	__u64 rest; /* source port, destination port, protocol, padding */
};

_Static_assert(sizeof(struct key_words) == sizeof(struct flow_key), "flow key size");

static __always_inline const struct key_words *key_words(const struct flow_key *key)
{
	return (const struct key_words *)key;
}

static __always_inline __u64 side_hash(const __u64 *address, __u16 port, __u64 seed)
{
	__u64 hash = (address[0] ^ seed) * HASH_HIGH ^ (address[1] ^ port ^ seed) * HASH_LOW;

	return hash ^ hash >> 32;
}

/* Spreads flows over slots, SNAT ports and tunnel source ports; see ARCHITECTURE, Tunnel. The
 * same for both directions, so that a slot that it names serves both. */
static __always_inline __u32 words_hash(const struct key_words *key, __u32 seed, bool with_ports)
{
	__u64 wide = (__u64)seed << 32 | seed;
	__u32 ports = with_ports ? key->rest : 0;
	__u64 sum = side_hash(key->source, ports, wide) +
		    side_hash(key->destination, ports >> 16, wide);

	return ((sum + (__u8)(key->rest >> 32)) * HASH_SUM) >> 32;
}

static __always_inline __u32 flow_hash(const struct flow_key *key, __u32 seed, bool with_ports)
{
	return words_hash(key_words(key), seed, with_ports);
}

/* The home slot of a flow; the second choice is its neighbour in the same 256 bytes. */
static __always_inline __u32 flow_home(__u32 hash)
{
	return ((__u64)hash * flow_slots) >> 32;
}

/* The claim of the flow in `slot` << 1 | the direction in which this tuple belongs to it; -1: it does
 * not. A translated flow is known by its reply tuple in the index alone. */
static __always_inline long flow_in_slot(__u32 slot, const struct key_words *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
	const struct key_words *own;
	__u32 ports = key->rest, claim;

	if (!flow)
		return -1;
	claim = flow->claim;
	/* What is compared now is of this claim, or flow_still tells. */
	barrier();
	if (!(claim & 1) || !flow->published)
		return -1;
	own = key_words(&flow->key);
	if (!((own->source[1] ^ key->source[1]) | (own->destination[1] ^ key->destination[1]) |
	      (own->rest ^ key->rest) | (own->source[0] ^ key->source[0]) |
	      (own->destination[0] ^ key->destination[0])))
		return (long)claim << 1 | FLOW_ORIGINAL;
	if ((own->source[1] ^ key->destination[1]) | (own->destination[1] ^ key->source[1]) |
	    (own->rest ^ (key->rest >> 32 << 32 | (__u32)(ports << 16 | ports >> 16))) |
	    (own->source[0] ^ key->destination[0]) | (own->destination[0] ^ key->source[0]) |
	    (flow->flags & FLOW_SNAT))
		return -1;
	return (long)claim << 1 | FLOW_REPLY;
}

/* `own`: the tuple may be that of a slot; else only the index is asked. */
static __always_inline struct flow_match flow_find(const struct flow_key *key, __u32 hash, bool own)
{
	__u32 slot = flow_home(hash);
	struct flow_match match = {};
	struct flow_ref *ref;
	long found = -1;

	if (own) {
		found = flow_in_slot(slot, key_words(key));
		if (found < 0) {
			slot ^= 1;
			found = flow_in_slot(slot, key_words(key));
		}
	}
	if (found < 0) {
		ref = bpf_map_lookup_elem(&flow_index, key);
		if (!ref || !flow_of(ref))
			return match;
		slot = ref->slot;
		found = (((long)ref->generation << 1 | 1) << 1) | (ref->direction & 1);
	}
	/* From here on, the verifier sees one state, wherever the flow was found. */
	hide(found);
	match.claim = found >> 1;
	match.direction = found & 1;
	match.flow = bpf_map_lookup_elem(&flows, &slot);
	return match;
}

/* True if no other flow has claimed the slot since, so the values read belong together. */
static __always_inline bool flow_still(const struct flow_match *match)
{
	barrier();
	return match->flow->claim == match->claim;
}

/* An expired flow is unknown: what begins again may be translated otherwise by now, or not at all. */
static __always_inline struct flow_match flow_lookup(const struct flow_key *key,
						     const struct node_config *node, __u64 now)
{
	struct flow_match match = flow_find(key, flow_hash(key, node->hash_seed, true), true);

	if (match.flow && flow_expired(match.flow, node, now))
		match.flow = NULL;
	return match;
}

static __always_inline struct flow *flow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&flows, &slot);
}

static __always_inline void key_reverse(struct flow_key *to, const struct flow_key *from)
{
	to->source = from->destination;
	to->destination = from->source;
	to->source_port = from->destination_port;
	to->destination_port = from->source_port;
	to->protocol = from->protocol;
	__builtin_memset(to->pad, 0, sizeof(to->pad));
}

#endif
