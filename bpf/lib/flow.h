/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Flows: both tuples of a flow lead to one slot of `flows`. The look-up tries the home slot of the tuple's hash and its
 * neighbour, then the tuple's place in `flow_hints`, then, if the counter there says that there are entries, `flow_index`.
 * In each case the slot found must have this tuple, in the expected generation.
 *
 *  flow_claim.h     ownership of slots
 *  flow_state.h     how packets change a flow's state, and when it has expired
 *  flow_create.h    creation of flows, and eviction
 */
#ifndef FAIRWAY_FLOW_H
#define FAIRWAY_FLOW_H

#include "flow_state.h"

struct flow_match {
	struct flow *flow; /* NULL: none */
	__u32 claim;	   /* the flow's when it was found, without the lock */
	__u32 slot;
	__u8 direction; /* enum flow_direction */
};

/* A flow key as whole words, for comparisons. */
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

#define HASH_SUM 0xd6e8feb86659fd93ULL

/*
 * One side of a tuple by the hash NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and
 * Secure Message Authentication", 1999): a sender that does not know the key can make two sides whose
 * hashes collide, or differ by a chosen value, only with a chance of 2^-32.
 */
static __always_inline __u64 side_hash(const __u64 *address, __u32 port, const struct hash_key *key)
{
	return (__u64)((__u32)address[0] + key->word[0]) *
		       ((__u32)(address[0] >> 32) + key->word[1]) +
	       (__u64)((__u32)address[1] + key->word[2]) *
		       ((__u32)(address[1] >> 32) + key->word[3]) +
	       (__u64)(port + key->word[4]) * key->word[5];
}

/* A plain sum of sides would stay the same when one port is raised and the other lowered. */
static __always_inline __u64 side_mixed(__u64 side)
{
	side *= HASH_SUM;
	return side ^ side >> 32;
}

/* The same for both directions, so that one slot serves both. */
static __always_inline __u32 words_hash(const struct key_words *words, const struct hash_key *key,
					bool with_ports)
{
	__u32 ports = with_ports ? words->rest : 0;
	__u64 sum = side_mixed(side_hash(words->source, ports & 0xffff, key)) +
		    side_mixed(side_hash(words->destination, ports >> 16, key));

	return ((sum + (__u8)(words->rest >> 32)) * HASH_SUM) >> 32;
}

static __always_inline __u32 flow_hash(const struct flow_key *key, const struct hash_key *secret,
				       bool with_ports)
{
	return words_hash(key_words(key), secret, with_ports);
}

/* The home slot of a flow; the second choice is its neighbour in the same 256 bytes. */
static __always_inline __u32 flow_home(__u32 hash)
{
	return ((__u64)hash * flow_slots) >> 32;
}

static __always_inline bool words_same(const struct key_words *own, const struct key_words *key)
{
	return !((own->source[1] ^ key->source[1]) | (own->destination[1] ^ key->destination[1]) |
		 (own->rest ^ key->rest) | (own->source[0] ^ key->source[0]) |
		 (own->destination[0] ^ key->destination[0]));
}

static __always_inline bool tuple_equal(const struct flow_key *one, const struct flow_key *other)
{
	return words_same(key_words(one), key_words(other));
}

/* The tuple is the one that the flow's packets of this direction carry where they come in. */
static __always_inline bool tuple_is(const struct flow *flow, __u8 direction,
				     const struct key_words *key)
{
	const __u64 *own = (const __u64 *)&flow->addresses[direction];
	__u32 ports = *(const __u32 *)&flow->ports[direction];

	return !((own[1] ^ key->source[1]) | (own[3] ^ key->destination[1]) |
		 (ports ^ (__u32)key->rest) | (flow->protocol ^ (__u32)(key->rest >> 32)) |
		 (own[0] ^ key->source[0]) | (own[2] ^ key->destination[0]));
}

/* The tuple of the flow's packets in this direction, on arrival. */
static __always_inline void flow_tuple(struct flow_key *to, const struct flow *flow, __u8 direction)
{
	to->source = flow->addresses[direction & 1].source;
	to->destination = flow->addresses[direction & 1].destination;
	to->source_port = flow->ports[direction & 1].source;
	to->destination_port = flow->ports[direction & 1].destination;
	to->protocol = flow->protocol;
	__builtin_memset(to->pad, 0, sizeof(to->pad));
}

/* Their tuple on departure: the reverse of the other direction's on arrival. */
static __always_inline void flow_target(struct flow_key *to, const struct flow *flow,
					__u8 direction)
{
	to->source = flow->addresses[!direction].destination;
	to->destination = flow->addresses[!direction].source;
	to->source_port = flow->ports[!direction].destination;
	to->destination_port = flow->ports[!direction].source;
	to->protocol = flow->protocol;
	__builtin_memset(to->pad, 0, sizeof(to->pad));
}

static __always_inline bool flow_translates(const struct flow *flow)
{
	return flow->flags & (FLOW_SNAT | FLOW_DNAT);
}

/* The client's packets, to the address of a Service: if they are from a peer, it does not count them as sent to this Node. */
static __always_inline bool flow_to_service(const struct flow *flow, __u8 direction)
{
	return flow->flags & FLOW_DNAT && direction == FLOW_ORIGINAL;
}

/* The claim of the flow in `slot` << 1 | the direction in which this tuple belongs to it; -1: it does
 * not. */
static __always_inline long flow_in_slot(__u32 slot, const struct key_words *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &slot);
	__u32 claim;

	if (!flow)
		return -1;
	claim = claim_read(flow);
	if (!claim_is_live(claim))
		return -1;
	/* The tuples compared now belong to this claim; otherwise flow_still fails. */
	keep_order();
	if (tuple_is(flow, FLOW_ORIGINAL, key))
		return (long)claim << 1 | FLOW_ORIGINAL;
	return tuple_is(flow, FLOW_REPLY, key) ? (long)claim << 1 | FLOW_REPLY : -1;
}

/* The entry of flow_hints for tuples with this home; both slots of a pair share it. */
static __always_inline struct flow_pair *pair_of(__u32 home)
{
	__u32 pair = home >> 1;

	return bpf_map_lookup_elem(&flow_hints, &pair);
}

/* The word in a tuple's place while this flow has it. */
static __always_inline __u32 owner_word(__u32 slot, __u8 direction, __u32 hash)
{
	return (slot + 1) | (__u32)(direction & 1) << PLACE_DIRECTION_SHIFT |
	       hash << PLACE_HASH_SHIFT;
}

/* The place may be that of a tuple with this hash. */
static __always_inline bool owner_fits(__u32 owner, __u32 hash)
{
	return owner && !((owner ^ hash << PLACE_HASH_SHIFT) >> PLACE_HASH_SHIFT);
}

static __always_inline __u8 owner_direction(__u32 owner)
{
	return owner >> PLACE_DIRECTION_SHIFT & 1;
}

static __always_inline __u32 owner_slot(__u32 owner)
{
	return (owner & PLACE_SLOT) - 1;
}

/* The slot that the index names for a tuple; -1: none, or one with another generation. */
static __always_inline long index_slot(const struct flow_key *key)
{
	struct flow_ref *ref = bpf_map_lookup_elem(&flow_index, key);
	__u32 slot;

	/* A removed element is reused at once, even while a program reads it: each word
	 * is read once, and the flow's own tuple is compared. */
	if (!ref)
		return -1;
	slot = read_once(ref->slot);
	return slot < flow_slots ? slot : -1;
}

/* `own`: the tuple may be that of a slot; else it is usually an answer's to a translated flow. */
static __always_inline struct flow_match flow_find(const struct flow_key *key, __u32 hash, bool own)
{
	__u32 slot = flow_home(hash), home = slot;
	struct flow_match match = {};
	struct flow_pair *pair;
	long found = -1, named;
	__u32 owner;

	if (own) {
		found = flow_in_slot(slot, key_words(key));
		if (found < 0) {
			slot ^= 1;
			found = flow_in_slot(slot, key_words(key));
		}
	}
	if (found < 0) {
		pair = pair_of(home);
		if (!pair)
			return match;
		owner = read_once(pair->owner[home & 1]);
		if (owner_fits(owner, hash)) {
			slot = owner_slot(owner);
			found = flow_in_slot(slot, key_words(key));
		}
		if (found < 0 && read_once(pair->indexed)) {
			named = index_slot(key);
			slot = named;
			if (named >= 0)
				found = flow_in_slot(slot, key_words(key));
		}
		if (found < 0 && !own && read_once(pair->at_home)) {
			slot = home;
			found = flow_in_slot(slot, key_words(key));
			if (found < 0) {
				slot ^= 1;
				found = flow_in_slot(slot, key_words(key));
			}
		}
		if (found < 0)
			return match;
	}
	/* From here on, the verifier sees one state, wherever the flow was found. */
	hide(found);
	match.claim = found >> 1;
	match.direction = found & 1;
	match.slot = slot;
	match.flow = bpf_map_lookup_elem(&flows, &slot);
	return match;
}

/* True if no other flow has claimed the slot since, so the values read belong together. */
static __always_inline bool flow_still(const struct flow_match *match)
{
	keep_order();
	return claim_read(match->flow) == match->claim;
}

static __always_inline struct flow *flow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&flows, &slot);
}

/* A tuple with this hash has no flow: fetches the lines that a new one is written to, in its home slot. The CPU waits
 * for none of these loads, and they are complete before the flow is created; a write that misses the cache would delay
 * the locked instruction after it. */
static __always_inline void flow_fetch(__u32 hash)
{
	__u32 slot = flow_home(hash);
	const struct flow_rules *rules = bpf_map_lookup_elem(&flow_rules, &slot);
	const struct flow *flow = flow_at(slot);

	if (flow)
		(void)read_once(flow->addresses[FLOW_REPLY].source.word[0]);
	if (rules)
		(void)read_once(rules->egress);
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
